"""Fill a store with prompts, responses and karma: `python collect.py --help`."""

from rfr.cli import collect

if __name__ == "__main__":
    collect()
