"""The records that rooms hand to one another: frozen, keyword-only, with shapes in the names of tensors.

Shape suffixes: B rows, S stories and P pairs of a micro-batch, T tokens of a row (the block), N rows of a split; in a model D its
width, V its vocabulary and N targets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    import torch

DELETED = "[deleted]"
NOT_REDDITS = "~"  # begins an id that Reddit does not know: a table's own, or one that was made up
Kind = Literal["post", "reply"]  # of an item: the ids of posts and of replies are two name spaces
IGNORE = -100  # a label that is no target; torch's cross_entropy uses the same number
# "[deleted]", "[ Removed by Reddit ]", "[deleted by user]", "[Comment removed by moderator]" ...: what is shown for a lost text
_PLACEHOLDER = re.compile(
    r"\s*\\?\[\s*(?:(?:this|the) )?(?:(?:content|comment|post|submission|prompt|story|text|title) (?:(?:has been|was|is) )?)?"
    r"(?:deleted|removed)\b[^\[\]\n]{0,200}\]\s*",
    re.IGNORECASE,
)


def is_gone(text: str | None) -> bool:
    """Whether a title, a body or an author's name is nothing but a placeholder for what was deleted or removed."""
    return text is not None and "]" in text[-9:] and _PLACEHOLDER.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Post:
    """A writing prompt as Reddit returned it, unjudged. Times are Unix seconds, UTC."""

    id: str
    subreddit: str
    title: str
    body: str = ""
    author: str | None = None  # DELETED: the account is gone, or its name; None: unknown to the source
    created_utc: float | None = None
    flair: str | None = None
    stickied: bool = False
    distinguished: str | None = None
    seen_at: float | None = None  # when this text was read; None: the source does not say
    deleted: bool = False  # the source says that it was deleted after it was read; its text is not kept


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A top-level reply to a post, as Reddit returned it, unjudged."""

    id: str
    post_id: str
    body: str
    author: str | None = None
    created_utc: float | None = None
    stickied: bool = False
    distinguished: str | None = None
    seen_at: float | None = None
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One reading of a score. Karma is a time series, so an item has many of these."""

    kind: Kind
    item_id: str
    seen_at: float | None  # None: the source does not say when it read the score
    source: str
    score: int | None
    hidden: bool = False  # Reddit shows 1 instead of the score
    missing: bool = False  # asked for, and Reddit did not give it
    archived: bool = False  # the score can't change any more
    num_comments: int | None = None  # of a post, at all depths
    import_number: int | None = None  # of a reading without a time: which import of a table it came with; the highest counts


@dataclass(frozen=True, kw_only=True)
class Thread:
    """A post, all its top-level replies, and the newest usable observation of each (of replies by their ids)."""

    post: Post
    replies: tuple[Reply, ...]
    observations: dict[str, Observation]
    post_observation: Observation | None = None


@dataclass(frozen=True, kw_only=True)
class Story:
    """One prompt, one response and what a reward may look at. No tokens, no reward."""

    thread_id: str
    reply_id: str
    prompt: str
    response: str
    score: int | None = None  # None: nobody knows it
    post_score: int | None = None
    delay_s: float | None = None  # from the post to the reply
    created_utc: float | None = None
    score_age_s: float | None = None  # from the reply to the reading of its score


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N rows of exactly T tokens. All arrays are int32 of shape (N, T).

    `labels[t]` is the token after `input_ids[t]`, or IGNORE where that token is prompt or context, or none of the document's.
    `documents` is 0 on padding and counts from 1 within a row; `positions` restart with each document;
    `stories` is the index into the split's stories (0 on padding, where no label is a target).
    """

    input_ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    documents: np.ndarray
    stories: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _OnDevice:
    """Frozen tensors, shapes in their names."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        shaped = {name: value for name, value in vars(self).items() if name.rpartition("_")[2].isupper()}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in shaped.items()})


@dataclass(frozen=True, kw_only=True)
class Batch(_OnDevice):
    """The input of a model step. All tensors have shape (B, T).

    `target_tokens` is the number of target tokens in the *global optimizer batch* this micro-batch belongs
    to (all accumulation steps, all ranks): the one denominator that makes the loss exact. A rank that ran out
    of rows receives rows without targets.
    """

    input_ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    positions_BT: torch.Tensor
    documents_BT: torch.Tensor
    weights_BT: torch.Tensor
    target_tokens: int


@dataclass(frozen=True, kw_only=True)
class AdvantageBatch(_OnDevice):
    """The input of a policy-gradient step. `documents_BT` is 0 on padding and else counts the stories of the batch from 1 to S.

    Of story s + 1, `advantage_S[s]` says how much better than expected it is, and `drawn_S[s]` its log-probability under the
    policy that wrote it, NaN where that policy is the one that learns; without `has_ratios` that is so for all stories of the
    run. `stories` and `target_tokens` are those of the *global optimizer batch*. A rank that ran out of rows receives rows
    without targets.
    """

    input_ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    positions_BT: torch.Tensor
    documents_BT: torch.Tensor
    advantage_S: torch.Tensor
    drawn_S: torch.Tensor
    has_ratios: bool
    stories: int
    target_tokens: int


@dataclass(frozen=True, kw_only=True)
class PreferenceBatch(_OnDevice):
    """The input of a pairwise model step: some stories of one thread per row, and which of them did better.

    `documents_BT` is 0 on padding and else counts the stories of the batch from 1 to S. Of story s + 1, `ends_S[s]` is the place
    of its last token in the flattened rows and `reference_S[s]` the log-probability of its targets under the policy that training
    began with (0 where nobody asked). Story `chosen_P[p] + 1` did better than `rejected_P[p] + 1`.

    `pairs` and `target_tokens` are those of the *global optimizer batch*. A rank that ran out of rows receives rows without
    pairs and targets.
    """

    input_ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    positions_BT: torch.Tensor
    documents_BT: torch.Tensor
    ends_S: torch.Tensor
    reference_S: torch.Tensor
    chosen_P: torch.Tensor
    rejected_P: torch.Tensor
    pairs: int
    target_tokens: int


AnyBatch = Batch | AdvantageBatch | PreferenceBatch
