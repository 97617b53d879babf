"""What `train.py` takes beside what its groups' classes declare themselves. Settings that others refer to come first."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from annotated_types import Ge, Le

from rfr.ranges import MOST, AboveZero, Block, Count, Fraction, Seed, Whole, ZeroOrMore
from rfr.utils.typecheck import Called

Gpu = Literal["A100-80", "A100-40", "V100-32", "V100-16", "24GiB", "H100"]
Precision = Literal["auto", "fp16", "bf16", "bf16_pure", "fp32"]


class Suggested(TypedDict):
    lr: AboveZero
    micro_batch: Count
    accumulate: Count
    max_steps: Count


class Model(TypedDict, total=False):
    hub_name: str | None
    weights: str
    tokenizer: str
    corpus_vocabulary: Annotated[int, Ge(257), Le(MOST)]  # a byte each, and end-of-text
    block_size: Block
    dropout: Fraction
    activation_checkpointing: bool
    compile: bool
    random: Called
    suggested: Suggested


class Trainer(TypedDict):
    max_steps: Count
    micro_batch: Count
    accumulate: Count
    ranks: Count
    gradient_clip: ZeroOrMore | None  # 0 and null: none
    validate_every: Count
    validate_first: bool
    validation_rows: Count | None
    checkpoint_every: Count
    keep_checkpoints: Count
    keep_best: bool


class Samples(TypedDict):
    prompts: Whole
    sampling: Called


class Evaluation(TypedDict):
    stories: Whole
    sampling: Called


class Train(TypedDict):
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
    metric: str
    derived: list[str]
    precision: Precision
    model: Model
    corpus: Called
    preprocess: Called
    reward: Called
    objective: Called
    optimizer: Called
    schedule: Called
    strategy: Called
    trainer: Trainer
    logger: dict[str, Called]
    samples: Samples
    evaluation: Evaluation
