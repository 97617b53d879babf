"""cfg -> objects: all that a run is made of, before the first file is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.strategies import SingleDeviceStrategy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.config import checked
from rfr.data.control_tokens import add_controls, control_ids
from rfr.data.ledger import ledger_rows, notes, shift_rows
from rfr.data.pack.packing import BestFit
from rfr.data.prepare import Prepared
from rfr.data.tokenise import content_of, train_bpe
from rfr.errors import UserError
from rfr.model.load import build_tokenizer, pretrained_config, require_weights, require_whole_weights
from rfr.model.reward_model import reward_model
from rfr.objective.training_data import Compared, Material, Weighted
from rfr.optimizer.adamw import StochasticAdamW
from rfr.optimizer.split_adamw import SplitAdamW
from rfr.records import Pair
from rfr.strategy.deepspeed import Layout
from rfr.strategy.nvme import require_room
from rfr.strategy.precision import PURE
from rfr.strategy.precision import resolve as resolve_precision
from rfr.strategy.ranks import ranks
from rfr.train.checkpoints import about, newest_whole, require_match, step_of
from rfr.train.exactness import exact_attention
from rfr.train.policy import build_policy, random_config, require_fit
from rfr.train.reference import Reference
from rfr.train.settings import Train
from rfr.utils.malloc import frugal
from rfr.utils.terminal import print_table

SOME_TOKENS = 512  # of a vocabulary that is not known yet; how many there are, an architecture does not depend on


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a training run is made of, before the first file is written."""

    cfg: DictConfig
    run_dir: Path
    precision: str
    layout: Layout
    prepared: Prepared
    objective: Weighted | Compared
    material: Material
    model: PreTrainedModel
    quality: Any
    resume_from: Path | None  # a checkpoint
    about: dict[str, Any]  # what a checkpoint of this run must have in common with it


def check(cfg: DictConfig) -> str:
    """Check what needs neither data nor the machine of the run, before a store is read for an hour; returns the implementation of
    attention with which the model is trained exactly.

    Raises:
        ValueError: a value is wrong, weights are missing, or the model can't be trained exactly.
    """
    cfg = require_settings(cfg)
    require_weights(cfg.model.weights, cfg.model.hub_name)
    pretrained = cfg.model.weights != "random"
    config = pretrained_config(cfg.model.weights, cfg.model.hub_name) if pretrained else random_config(cfg, SOME_TOKENS)
    remedy = None
    if isinstance(instantiate(cfg.objective), Compared):
        remedy = f"objective={cfg.objective.name} compares stories of one row, so take another, such as bc or rwr"
    elif isinstance(instantiate(cfg.preprocess).packing, BestFit):
        remedy = "set packing=off"
    attention = exact_attention(config, cfg.data_dir, remedy=remedy)
    of_corpus = cfg.model.tokenizer == "corpus"
    tokenizer = None if of_corpus else build_tokenizer(cfg.model.tokenizer, cfg.model.hub_name)
    if pretrained:
        require_fit(cfg, config, tokenizer)
        require_whole_weights(cfg.model.weights, cfg.model.hub_name, attention)
    return attention


def require_settings(cfg: DictConfig) -> DictConfig:
    """The config with every value checked, alone and beside the others.

    Raises:
        ValueError: one is wrong; the message names its key.
    """
    cfg = checked(cfg, Train)
    instantiate(cfg.schedule)(0, cfg.trainer.max_steps)  # raises where the warm-up is too long
    for part in ("corpus", "preprocess", "objective", "reward", "optimizer", "strategy", "logger"):
        instantiate(cfg[part])
    for settings in (cfg.samples.sampling, cfg.evaluation.sampling):
        instantiate(settings)
    return cfg


def build(cfg: DictConfig, run_dir: Path) -> Job:
    """Config into objects; everything that can be checked is checked here."""
    cfg = require_settings(cfg)
    attention = check(cfg)
    precision, objective = resolve_precision(cfg.precision), instantiate(cfg.objective)
    layout = instantiate(cfg.strategy)(precision, run_dir)
    require_masters(instantiate(cfg.optimizer).func, precision, layout)
    resume_from = newest_whole(run_dir / "checkpoints")
    corpus = corpus_of(cfg)
    prepared = prepare(cfg, corpus)
    material = objective.material(prepared, instantiate(cfg.reward))
    with frugal():
        model = build_policy(cfg, prepared.tokenizer, layout.dtype, attention)
    if objective.loss.needs_reference:
        material = material.with_reference(Reference(model, precision, Path(cfg.data_dir) / "cache"))
    if not objective.loss.is_policy:
        model = reward_model(model, cfg.seed, cfg.model.block_size)
    facts = about(model, rows_per_step(cfg))
    if resume_from is not None:
        require_match(resume_from, facts)
    if layout.scratch is not None:
        require_room(layout.scratch, model.num_parameters())
    _say_what_starts(cfg, run_dir, resume_from, precision, prepared, material, model)
    return Job(
        cfg=cfg, run_dir=run_dir, precision=precision, layout=layout, prepared=prepared, objective=objective, material=material,
        model=model, quality=corpus.quality, resume_from=resume_from, about=facts,
    )  # fmt: skip


def require_masters(optimizer: Any, precision: str, layout: Layout) -> None:
    """Say it where small updates of bf16 parameters would be lost.

    Raises:
        UserError: the optimizer is for bf16 parameters, and they are in fp32; or the strategy can't exchange its gradients.
    """
    if optimizer is SplitAdamW and precision != PURE:
        raise UserError(
            f"optimizer=split_adamw is for precision={PURE}, not {precision}, which has masters: take optimizer=adamw"
        )
    if optimizer is SplitAdamW and not isinstance(layout.strategy, SingleDeviceStrategy):
        raise UserError(
            "optimizer=split_adamw gathers gradients in fp32 beside bf16 parameters, which only strategy=single can: here take "
            "precision=bf16 optimizer=adamw, whose masters are the parameters"
        )
    if precision == PURE and optimizer not in (SplitAdamW, StochasticAdamW) and ranks().rank == 0:
        print(
            f"warning: {optimizer.__name__} rounds bf16 parameters to the nearest, so updates below a 256th of one are lost: "
            "take optimizer=split_adamw (fp32 masters) or stochastic_adamw (fewer bytes)", flush=True,
        )  # fmt: skip


def splits_masters(cfg: DictConfig) -> bool:
    """Whether the optimizer keeps fp32 masters beside bf16 parameters."""
    return instantiate(cfg.optimizer).func is SplitAdamW


def rows_per_step(cfg: DictConfig) -> int:
    """Of one optimizer step, over all ranks."""
    here = ranks()
    world = here.per_node * here.nodes if here.launched else cfg.trainer.ranks
    return int(world * cfg.trainer.micro_batch * cfg.trainer.accumulate)


def corpus_of(cfg: DictConfig) -> Any:
    """What `open()` gives a store of."""
    return instantiate(cfg.corpus)


def prepare(cfg: DictConfig, corpus: Any) -> Prepared:
    control = instantiate(cfg.objective.get("control"))

    def make_tokenizer(pairs: Iterable[Pair]) -> PreTrainedTokenizerBase:
        if cfg.model.tokenizer == "corpus":
            texts = (text for pair in pairs for text in (pair.prompt, pair.response))
            tokenizer: PreTrainedTokenizerBase = train_bpe(texts, cfg.model.corpus_vocabulary)
        else:
            tokenizer = build_tokenizer(cfg.model.tokenizer, cfg.model.hub_name)
        return tokenizer if control is None else add_controls(tokenizer, control.count)

    told = [] if control is None else [control.count]
    about = cfg.model.corpus_vocabulary if cfg.model.tokenizer == "corpus" else content_of(make_tokenizer([]))
    identity = OmegaConf.to_container(cfg.preprocess), about, *told
    with corpus.open() as store:
        return instantiate(cfg.preprocess).prepare(store, make_tokenizer, identity, Path(cfg.data_dir) / "cache")


def _say_what_starts(
    cfg: DictConfig, run_dir: Path, resume_from: Path | None, precision: str, prepared: Prepared, material: Material,
    model: PreTrainedModel,
) -> None:  # fmt: skip
    if ranks().rank > 0:
        return
    train_ledger = prepared.ledger["train"]
    facts = {
        "run": f"{run_dir}, going on from step {step_of(resume_from)}" if resume_from else run_dir, "precision": precision,
        "parameters": f"{model.num_parameters():,}",
        "pairs": f"{train_ledger['kept']['pairs']:,} of {train_ledger['came_in']['pairs']:,} replies (training threads)",
        "rows": f"{train_ledger['rows']:,} of {cfg.model.block_size} tokens, {train_ledger['packing_efficiency']:.1%} full",
        **material.shown, **({"told before each prompt": "the best quantile"} if _tells_the_best(cfg, prepared) else {}),
    }  # fmt: skip
    print_ledger(prepared, cfg.preprocess.min_age_h)
    print_table([facts], title=f"{cfg.objective.name} on {len(prepared.train.threads)} threads", vertical=True)


def _tells_the_best(cfg: DictConfig, prepared: Prepared) -> bool:
    """The policy was conditional before, and this objective does not tell stories apart."""
    return bool(control_ids(prepared.tokenizer)) and cfg.objective.get("control") is None


def print_ledger(prepared: Prepared, min_age_h: float) -> None:
    """Where the replies went, what is missing, and what leaving out long stories did, where that was done."""
    print_table(ledger_rows(prepared.ledger), title="where the replies went")
    for line in notes(prepared.ledger, min_age_h):
        print(line, flush=True)
    if shift := shift_rows(prepared.ledger):
        print_table(shift, title="what leaving out long stories did")
