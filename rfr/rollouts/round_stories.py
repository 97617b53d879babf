"""The stories of a round and what is known of each; in the run's folder they are Parquet, so that people can read a round."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rfr.data.pack.best_fit import Placement
from rfr.data.pack.rows import PackedRows
from rfr.errors import as_user_error
from rfr.utils.files import new_file

ROUNDS = "rounds"  # the folder in a run's
LISTS = ("ids", "logprobs")
SCORE_OF = "score of "  # a judge, in the name of a column


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundStories:
    """N stories, those on one prompt one after the other. Arrays have the shape (N,).

    Args:
        prompts, texts: of each story.
        numbers: of each story, among those on its prompt in all rounds; int64.
        prompt_ids: the tokens that the policy conditioned on, int32 arrays.
        ids: the tokens that were drawn, end-of-text with them where it was drawn; int32 arrays.
        logprobs: of each token under the policy, as it was drawn; fp32 arrays.
        ended: false: the story was cut off.
        policy_logprob, start_logprob: of the whole story under the policy that wrote it and under the start policy, as training
            finds them; float64.
        drawn_logprob, reference_logprob: the same in the precision of the training, for ratios and for dpo's reference.
        kl: the Kullback-Leibler divergences from the start policy of the next tokens' distributions, summed along the story.
        entropy: of these distributions, summed likewise; in nats.
        score: by the judge, or by the judges' rule. `by_judge`: by each alone.
        quality: the true quality; NaN where nobody knows it.
        watch: the score of the watch judge; NaN where there is none.
        reward: the shaped score.
        weight: in the loss; of rloo the advantage.
    """

    prompts: list[str]
    texts: list[str]
    numbers: np.ndarray
    prompt_ids: list[np.ndarray]
    ids: list[np.ndarray]
    logprobs: list[np.ndarray]
    ended: np.ndarray
    policy_logprob: np.ndarray
    start_logprob: np.ndarray
    drawn_logprob: np.ndarray
    reference_logprob: np.ndarray
    kl: np.ndarray
    entropy: np.ndarray
    score: np.ndarray
    by_judge: Mapping[str, np.ndarray]
    quality: np.ndarray
    watch: np.ndarray
    reward: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each story, without end-of-text; int64."""
        return np.array([len(ids) for ids in self.ids], np.int64) - self.ended


def story_rows(
    prompts: SequenceOf[np.ndarray], stories: SequenceOf[np.ndarray], cut_off: np.ndarray, block: int, eos: int
) -> PackedRows:
    """A row per story, the shortest first.

    Args:
        stories: their tokens, without end-of-text.
        cut_off: bool, of each story.
    """
    lengths = np.array([(len(prompt), len(story)) for prompt, story in zip(prompts, stories, strict=True)])
    ends = np.cumsum(lengths.sum(axis=1))
    places = lengths.sum(axis=1) - cut_off  # in a row
    order = np.argsort(places, kind="stable")
    return PackedRows(
        block=max(block, int(places.max())),  # stories may use all positions of a model, blocks fewer
        context=0,
        eos=eos,
        packed=False,
        tokens=np.concatenate([ids for pair in zip(prompts, stories, strict=True) for ids in pair]).astype(np.int32),
        stories=np.stack([ends - lengths.sum(axis=1), ends - lengths[:, 1], ends], axis=1),
        pieces=Placement(story=order, start=np.zeros_like(order), end=lengths[order, 1], row=np.arange(len(order))),
        cut_off=cut_off,
    )


def save_round(stories: RoundStories, path: Path, number: int) -> None:
    """Write the stories as Parquet; the file is complete or absent.

    Args:
        number: of the round.
    """
    columns: dict[str, Any] = {field.name: getattr(stories, field.name) for field in fields(stories) if field.name != "by_judge"}
    columns["stop"] = ["end" if ended else "length" for ended in columns.pop("ended")]
    columns["round"] = np.full(len(stories), number)
    for name in ("prompt_ids", *LISTS):
        columns[name] = pa.array(columns[name], pa.list_(pa.float32() if name == "logprobs" else pa.int32()))
    columns |= {SCORE_OF + judge: scores for judge, scores in stories.by_judge.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as partial:
        pq.write_table(pa.table(columns), partial)


def load_round(path: Path) -> RoundStories:
    """
    Raises:
        UserError: the file is damaged.
    """
    damaged = as_user_error(
        f"{path} is damaged", pa.ArrowException, OSError, KeyError, TypeError, remedy="copy it again, or start the run anew"
    )
    with damaged:
        table = pq.read_table(path)
        columns: dict[str, Any] = {name: table[name].combine_chunks() for name in table.column_names}
        of_judges = {name.removeprefix(SCORE_OF): columns.pop(name).to_numpy() for name in list(columns) if SCORE_OF in name}
        del columns["round"]
        ended = np.array([stop == "end" for stop in columns.pop("stop").to_pylist()])
        texts: dict[str, Any] = {name: columns.pop(name).to_pylist() for name in ("prompts", "texts")}
        arrays: dict[str, Any] = {
            name: [np.array(one.as_py(), np.float32 if name == "logprobs" else np.int32) for one in columns.pop(name)]
            for name in ("prompt_ids", *LISTS)
        }
        rest = {name: column.to_numpy(zero_copy_only=False) for name, column in columns.items()}
        return RoundStories(**texts, **arrays, **rest, ended=ended, by_judge=of_judges)
