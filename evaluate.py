"""Judge a policy: `python evaluate.py --help`."""

from rfr.cli import evaluate

if __name__ == "__main__":
    evaluate()
