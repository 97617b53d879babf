"""What a light text model reads of stories, and what is taken out of its predictions."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
from scipy import sparse
from scipy.stats import rankdata
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import SplineTransformer

FEATURES = 2**16  # words are hashed into so many columns, so that memory is bounded whatever the vocabulary
DENSE_SCALE = 0.3  # standard deviation of the columns that are no words; a story's TF-IDF row has length 1
KNOTS = 5


def text_features(texts: SequenceOf[str], prompts: SequenceOf[str], group: np.ndarray) -> sparse.csr_matrix:
    """TF-IDF of the words, and three columns more: how much of the prompt the story takes up, how much of the story that is,
    and how little the story repeats its words. float32 of shape (stories, FEATURES + 3).

    Args:
        texts: one per story.
        prompts: one per thread.
        group: the thread of each story.
    """
    vectorizer = HashingVectorizer(n_features=FEATURES, alternate_sign=False, norm=None, dtype=np.float32)
    counts, asked = vectorizer.transform(texts), vectorizer.transform(prompts).sign()
    words, distinct = np.maximum(1, counts.sum(axis=1).A1), np.diff(counts.indptr)
    shared = counts.multiply(asked[group])
    prompt_words = np.maximum(1, np.diff(asked.indptr))[group]
    dense = np.column_stack([np.diff(shared.tocsr().indptr) / prompt_words, shared.sum(axis=1).A1 / words, distinct / words**0.8])
    deviation = dense.std(axis=0)
    dense = DENSE_SCALE * (dense - dense.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    tfidf = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    return sparse.hstack([tfidf, sparse.csr_matrix(dense.astype(np.float32))], format="csr")


def splines(values: np.ndarray) -> np.ndarray:
    """Cubic splines of the values' ranks, and whether a value is known; float64 of shape (values, columns)."""
    known = ~np.isnan(values)
    at = np.full(len(values), 0.5)
    at[known] = (rankdata(values[known]) - 0.5) / max(1, known.sum())
    columns = SplineTransformer(n_knots=KNOTS, include_bias=False, knots=np.linspace(0, 1, KNOTS)[:, None]).fit_transform(
        at[:, None]
    )
    return np.column_stack([columns, known]) if not known.all() else columns


def between_threads_removed(columns: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Columns less their thread's means, shape (stories, columns)."""
    sizes = np.bincount(group)
    means = np.column_stack([np.bincount(group, column) / sizes for column in columns.T])
    return columns - means[group]
