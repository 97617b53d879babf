"""rfr: is the karma that strangers give a story a good enough reward to train a language model on?"""

__version__ = "0.1.0"
