"""Splits threads into train and validation, by a hash of the normalised prompt or by a cutoff date.

The hash keeps reposts on one side, and in a growing store no story changes sides. With a date, all training stories are older
than the validation stories.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from rfr.data.clean.titles import canonical_prompt, without_tag
from rfr.errors import UserError
from rfr.ranges import Count, Share
from rfr.records import Post

SPLITS = ("train", "validation")
NO_TIME = "no posting time, which the split goes by"
OTHER_PART = "another part of the training threads"


@dataclass(frozen=True, kw_only=True)
class Split:
    """`validation_share` of the prompts, chosen by hash (`salt` draws another choice); or, with a `cutoff` (a date, UTC), the
    threads posted from then on. A prompt that was posted on both sides of it is left out of training (`filtering.py`).

    Args:
        part: [k, n] keeps, of the training threads, the k-th of n parts, by a second hash of the prompt; None: all. What learns
            from one part has not seen another's threads.
    """

    validation_share: Share
    salt: str
    cutoff: str | None = None
    part: list[Count] | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.validation_share, float) and 0 < self.validation_share < 1):
            raise UserError(f"preprocess.split.validation_share must lie between 0 and 1, not {self.validation_share}")
        if self.part is not None and not (len(self.part) == 2 and 1 <= self.part[0] <= self.part[1]):
            raise UserError(f"preprocess.split.part must be [k, n], the k-th of n parts such as [1, 2], not {list(self.part)}")
        _ = self._cutoff_utc

    @property
    def _cutoff_utc(self) -> float | None:
        try:
            if self.cutoff is None:
                return None
            day = datetime.fromisoformat(self.cutoff)
            return (day if day.tzinfo else day.replace(tzinfo=UTC)).timestamp()
        except (TypeError, ValueError):
            raise UserError(f"preprocess.split.cutoff must be a date such as 2023-06-01, not {self.cutoff}") from None

    def __call__(self, post: Post) -> tuple[str, str | None]:
        """One of SPLITS, and why the thread can't be in it, or None."""
        if self.cutoff is not None and post.created_utc is None:
            return "train", NO_TIME
        if self.holds_out(post.title, post.created_utc):
            return "validation", None
        return "train", None if self._in_part(post.title) else OTHER_PART

    def holds_out(self, title: str, created_utc: float | None) -> bool:
        """Whether the thread of this post is in the validation split."""
        cutoff = self._cutoff_utc
        if cutoff is None:
            return self.place(title) < self.validation_share
        return created_utc is not None and created_utc >= cutoff

    def place(self, title: str) -> float:
        """A number in [0, 1), the same for all spellings of a prompt: a validation share above it holds the prompt out."""
        return self._place(title)

    def _in_part(self, title: str) -> bool:
        """The places of a second hash, independent of the first, so that parts are alike."""
        return self.part is None or int(self._place(title, "\0part") * self.part[1]) + 1 == self.part[0]

    def _place(self, title: str, more: str = "") -> float:
        digest = hashlib.sha256(f"{self.salt}{more}\0{normalise(title)}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def held_out_by(self, titles: Iterable[str], count: int) -> float | None:
        """The least share, in hundredths, that holds out so many of these threads; None: there are too few, or a date decides."""
        places = sorted(map(self.place, titles))
        if self.cutoff is not None or len(places) < count:
            return None
        hundredths = math.floor(100 * places[count - 1]) + 1
        return hundredths / 100 if hundredths < 100 else None


def normalise(title: str) -> str:
    """Lower-case words only, whatever the tag: what two spellings of one prompt share. Without words, the title as it is."""
    bare = without_tag(canonical_prompt(title))
    return " ".join(["wp", *(re.findall(r"\w+", bare.lower()) or [bare])])
