"""Write stories with a policy: `python generate.py --help`."""

from rfr.cli import generate

if __name__ == "__main__":
    generate()
