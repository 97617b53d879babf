"""Scores stories with a reward model."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.batches import WeightedRows, batches_by_tokens, document_ends, truncate_to_block
from rfr.data.pack.best_fit import Placement
from rfr.data.pack.rows import PackedRows
from rfr.data.tokenise import Encoder
from rfr.model.attention import hidden_states
from rfr.model.positions import block_of
from rfr.objective.losses import read_scores

Story = tuple[str, str]  # prompt and response
TOKENS = 8192  # that a judge reads at once, unless it is said otherwise


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a reward model comes from.

    Args:
        folder: the one it was loaded from.
        start: a digest of the policy that its training began with; None: it is not known.
        mean_score: of held-out stories when it was trained; None: it is not known.
    """

    folder: str
    start: str | None
    mean_score: float | None


class RewardModelJudge:
    """A reward model that remembers what it gave.

    Args:
        about: where it comes from; None: that is not known.
        tokens: that it reads at once; a story that has more is read alone.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, about: Origin | None = None, tokens: int = TOKENS
    ) -> None:
        self.model, self.tokenizer, self.about, self.tokens = model, tokenizer, about, tokens
        self._known: dict[Story, float] = {}

    def __call__(self, stories: SequenceOf[Story]) -> np.ndarray:
        """A score for each, float64."""
        new = [story for story in dict.fromkeys(stories) if story not in self._known]
        if new:
            scores = story_scores(self.model, self.tokenizer, new, self.tokens)
            self._known.update(zip(new, scores.tolist(), strict=True))
        return np.array([self._known[story] for story in stories])

    def forget(self) -> None:
        """Read again what is asked again: which stories are read together, and so the rounding, then depends on these alone."""
        self._known.clear()


@torch.no_grad()
def story_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stories: SequenceOf[Story], tokens: int = TOKENS
) -> np.ndarray:
    """The score of each story, read at its end or at the end of the block that the model was trained with; float64.

    Stories are read together with others as long as they are. In fp32 a score depends on its story alone, to 1e-5.
    """
    rows = _rows(stories, Encoder(tokenizer), int(tokenizer.eos_token_id), block_of(model.config))
    longest_first = np.argsort(-(rows.stories[:, 2] - rows.stories[:, 0]), kind="stable")
    begun = WeightedRows(truncate_to_block(rows, longest_first, np.arange(len(stories))))
    scores = []
    for together in batches_by_tokens(begun.row_lengths, tokens):
        batch = begun.batch(together, together).to(model.device)
        ends_S = torch.from_numpy(document_ends(batch.documents_BT.cpu().numpy())).to(model.device)
        scores.append(read_scores(hidden_states(model, batch), model.score, ends_S).double().cpu().numpy())
    in_order = np.empty(len(stories))
    in_order[longest_first] = np.concatenate(scores)
    return in_order


def _rows(stories: SequenceOf[Story], encoder: Encoder, eos: int, block: int) -> PackedRows:
    prompts, texts = encoder.prompts([prompt for prompt, _ in stories], [text for _, text in stories])
    longest = block * 3 // 4  # of a longer prompt its end is shown: a quarter of the block is for the story
    parts = [(prompt.ids[-longest:], text.ids) for prompt, text in zip(prompts, texts, strict=True)]
    lengths = np.array([(len(prompt), len(text)) for prompt, text in parts])
    ends = np.cumsum(lengths.sum(axis=1))
    offsets = np.stack([ends - lengths.sum(axis=1), ends - lengths[:, 1], ends], axis=1)
    each = np.arange(len(stories))
    return PackedRows(
        block=block,
        context=0,
        eos=eos,
        packed=False,
        tokens=np.concatenate([ids for part in parts for ids in part]),
        stories=offsets,
        pieces=Placement(story=each, start=np.zeros_like(each), end=lengths[:, 1], row=each),
    )
