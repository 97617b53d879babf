"""The keys of train.py's config that belong to no group with a `_target_`.

Keys that other keys refer to come first, so that a wrong value is reported under the key that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

from annotated_types import Ge, Le

from rfr.ranges import MOST, AboveZero, Block, Count, Fraction, Seed, Whole, ZeroOrMore
from rfr.utils.typecheck import Called

Gpu = Literal["A100-80", "A100-40", "V100-32", "V100-16", "24GiB", "H100"]
Precision = Literal["auto", "fp16", "bf16", "bf16_pure", "fp32"]


class SuggestedJudge(TypedDict):
    lr: AboveZero
    max_steps: Count
    validate_every: Count


class SuggestedAgent(TypedDict):
    lr: AboveZero


class Suggested(TypedDict):
    lr: AboveZero
    micro_batch: Count
    accumulate: Count
    max_steps: Count
    agent: SuggestedAgent
    judge: SuggestedJudge


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """`conf/model/`, without what its `random` and `suggested` say."""

    hub_name: str | None
    weights: str  # pretrained, random, or a path
    tokenizer: str  # pretrained, corpus, or a path
    corpus_vocabulary: Annotated[int, Ge(257), Le(MOST)]  # a token for each byte, and end-of-text
    block_size: Block
    dropout: Fraction
    activation_checkpointing: bool
    compile: bool


@dataclass(frozen=True, kw_only=True)
class Model(ModelSettings):
    """`conf/model/`."""

    random: Called
    suggested: Suggested


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """`conf/trainer/`; a row is one packed sequence."""

    max_steps: Count
    micro_batch: Count
    accumulate: Count | None  # null: as many as a round's stories take
    ranks: Count
    gradient_clip: ZeroOrMore | None  # 0 and null: none
    validate_every: Count
    validate_first: bool
    validation_rows: Count | None
    checkpoint_every: Count
    keep_checkpoints: Count
    keep_best: bool
    patience: Count | None = None  # validations; None: no early stop

    @property
    def micro_batches(self) -> int:
        """Those of a rank in an optimizer step."""
        assert self.accumulate is not None, "the recipe fills it in"
        return self.accumulate


class Samples(TypedDict):
    prompts: Whole
    sampling: Called


class Evaluation(TypedDict):
    stories: Whole
    sampling: Called


class TrainConfig(TypedDict):
    """`conf/train.yaml`."""

    data_dir: str
    runs_dir: str
    seed: Seed
    look: Whole
    plan: bool | Gpu | None
    find_lr: Annotated[int, Ge(20), Le(MOST)] | None
    preview: bool
    resume: str | None
    name: str | None
    group: str | None
    judge: str | list[str] | None
    metric: str
    derived: list[str]
    threads: Count | None
    precision: Precision
    model: Model
    corpus: Called
    preprocess: Called
    reward: Called
    judge_rule: Called
    score: Called
    rollouts: Called
    objective: Called
    optimizer: Called
    schedule: Called
    strategy: Called
    trainer: TrainerSettings
    logger: dict[str, Called]
    samples: Samples
    evaluation: Evaluation
