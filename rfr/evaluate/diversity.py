"""Measures how much stories differ from one another, repeat themselves, and copy the training stories."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from itertools import chain
from statistics import mean

import numpy as np
from torchmetrics.functional.text import bleu_score

DISTINCT, REPEATED, MOST_COMPARED = (1, 2, 3), 4, 64
MULTIPLIER = np.uint64(6364136223846793005)  # of the rolling hash; odd, so that it can be undone
INVERSE = np.uint64(pow(6364136223846793005, -1, 2**64))


def diversity(stories: SequenceOf[str]) -> dict[str, float]:
    """distinct-n (Li et al. 2016), self-BLEU (Zhu et al. 2018; of 64 stories at most) and the share of 4-grams within a story
    that stood in it before."""
    words = [story.lower().split() for story in stories]
    distinct = {f"distinct_{n}": distinct_share(stories, n) for n in DISTINCT}
    repeated = mean(1 - _distinct(ngrams(story, REPEATED)) for story in words)
    return {**distinct, "self_bleu": _self_bleu([" ".join(story) for story in words[:MOST_COMPARED]]), "repetition": repeated}


def distinct_share(stories: SequenceOf[str], n: int) -> float:
    """Different runs of n words, as a share of all runs of n words in the stories; 1 where there are none."""
    return _distinct(list(chain.from_iterable(ngrams(story.lower().split(), n) for story in stories)))


def ngrams(words: SequenceOf[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def _distinct(grams: list[tuple[str, ...]]) -> float:
    return len(set(grams)) / len(grams) if grams else 1.0


def _self_bleu(stories: list[str]) -> float:
    if len(stories) < 2:
        return 0.0
    others = (stories[:index] + stories[index + 1 :] for index in range(len(stories)))
    return mean(float(bleu_score([story], [rest])) for story, rest in zip(stories, others, strict=True))


def longest_copies(stories: SequenceOf[np.ndarray], corpus: np.ndarray) -> np.ndarray:
    """The longest run of each story's tokens that the corpus contains too; int64 of shape (stories,).

    Works length by length: a stretch is copied only where its beginning is, so that ever fewer positions of the corpus are
    searched. Stretches are compared by a 64-bit hash.

    Args:
        stories: token ids of each.
        corpus: token ids of all that was trained on, one after the other.
    """
    of_corpus, of_story = RollingHashes(corpus), [RollingHashes(story) for story in stories]
    longest, starts = np.zeros(len(stories), np.int64), np.arange(len(corpus))
    open_ = [number for number, story in enumerate(stories) if len(story)]
    for length in range(1, 1 + max(map(len, stories), default=0)):
        hashes = [of_story[number].hashes(length) for number in open_]
        wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes]))
        starts = starts[starts + length <= len(corpus)]
        if not len(wanted) or not len(starts):
            break
        corpus_hashes = of_corpus.hashes(length, starts)
        nearest = wanted[np.searchsorted(wanted, corpus_hashes).clip(max=len(wanted) - 1)]
        starts, copied = starts[nearest == corpus_hashes], np.unique(corpus_hashes[nearest == corpus_hashes])
        open_ = [number for number, own in zip(open_, hashes, strict=True) if np.isin(own, copied).any()]
        longest[open_] = length
    return longest


class RollingHashes:
    """Hashes of the stretches of a sequence of token ids, in time that doesn't grow with their length.

    The hash of a stretch is the sum of f(token) * M^position modulo 2^64: the difference of two prefix sums, moved to position 0
    (Karp & Rabin 1987).
    """

    def __init__(self, tokens: np.ndarray) -> None:
        length = len(tokens)
        with np.errstate(over="ignore"):
            self._back = np.cumprod(np.full(length, INVERSE, np.uint64)) * MULTIPLIER  # M^-position
            powers = np.cumprod(np.full(length, MULTIPLIER, np.uint64)) * INVERSE
            self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_spread(tokens) * powers, dtype=np.uint64)])

    def hashes(self, length: int, starts: np.ndarray | None = None) -> np.ndarray:
        """The hashes of the stretches of `length` tokens, 1 or more, from these starts, or from all; uint64."""
        if starts is None:
            starts = np.arange(len(self._sums) - length)
        with np.errstate(over="ignore"):
            return (self._sums[starts + length] - self._sums[starts]) * self._back[starts]


def _spread(tokens: np.ndarray) -> np.ndarray:
    """Token ids over 64 bits (splitmix64), so that neighbours have nothing in common."""
    with np.errstate(over="ignore"):
        value = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
