"""Train a policy, or with -m a sweep of them: `python train.py --help`."""

from rfr.cli import train

if __name__ == "__main__":
    train()
