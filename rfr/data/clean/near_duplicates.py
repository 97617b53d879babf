"""Finds stories that repeat another one, exactly or nearly: MinHash signatures, compared band by band.

A. Broder (1997), "On the resemblance and containment of documents": of two texts' smallest hashed shingles, the share that agrees
estimates how many of all their shingles they have in common (Jaccard). Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets",
chapter 3: with BANDS bands of ROWS hashes, texts that have four fifths in common meet in some band with probability 0.9998.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

SHINGLE_WORDS = 5
BANDS, ROWS = 16, 4
HASHES = BANDS * ROWS
SHINGLES_AT_ONCE = 1 << 14  # all hashes of a text of a megabyte would take half a gigabyte
LEAST_IN_COMMON = 0.7  # estimated share of the shingles; the estimate errs by 0.1, so stories that share four fifths are found
WORD = re.compile(r"\w+")
_RANDOM = np.random.default_rng(20230816)
_FACTORS = _RANDOM.integers(1, 2**63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_TERMS = _RANDOM.integers(0, 2**63, HASHES, dtype=np.uint64)
_MIX = np.uint64(0x9E3779B97F4A7C15)


def signature(text: str) -> np.ndarray:
    """The smallest hashes of a text's runs of five words (of all its words, if fewer); uint32 of shape (HASHES,).

    A text without any word, such as a row of emoji, counts as one word.
    """
    words = np.fromiter(map(zlib.crc32, map(str.encode, WORD.findall(text.lower()) or [text])), np.uint64)
    length = min(SHINGLE_WORDS, len(words))
    shingles = np.zeros(max(1, len(words) - length + 1), np.uint64)
    for offset in range(length):
        shingles = shingles * _MIX + words[offset : offset + len(shingles)]
    shingles = (shingles ^ (shingles >> np.uint64(29))) * _MIX
    smallest = np.full(HASHES, np.iinfo(np.uint64).max)
    for start in range(0, len(shingles), SHINGLES_AT_ONCE):
        # Multiply-shift, one per column.
        hashed = (shingles[start : start + SHINGLES_AT_ONCE, None] * _FACTORS + _TERMS) >> np.uint64(32)
        smallest = np.minimum(smallest, hashed.min(axis=0))
    return smallest.astype(np.uint32)


def repeated(signatures: np.ndarray, order: np.ndarray) -> np.ndarray:
    """For each place in `order` the earlier place whose text it repeats, -1 for none.

    Args:
        signatures: uint32 of shape (N, HASHES); may be memory-mapped, since a few columns are read at a time.
        order: int64, the rows of the texts to compare; of two that are alike the first stays.
    """
    repeats = np.full(len(order), -1, np.int64)
    for band in range(BANDS):
        keys = signatures[:, band * ROWS : (band + 1) * ROWS][order].view(np.uint64)
        by_key = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: within a group the indices ascend
        same = np.append(False, (keys[by_key][1:] == keys[by_key][:-1]).all(axis=1))
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(by_key))))  # of each group
        others = np.flatnonzero(same)
        earlier, later = by_key[first[others]], by_key[others]
        alike = (signatures[order[earlier]] == signatures[order[later]]).mean(axis=1) >= LEAST_IN_COMMON
        earlier, later = earlier[alike], later[alike]
        better = (repeats[later] < 0) | (earlier < repeats[later])
        repeats[later[better]] = earlier[better]
    return repeats
