"""Strategies and precisions begin with the same loss and follow one curve, to the tolerances in docs/training.md."""

from __future__ import annotations

from pathlib import Path

import pytest

import rfr.strategy.precision
from rfr.errors import UserError
from rfr.strategy.precision import native_precisions
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, last_json, train_small

CURVE = ["objective=rwr", "trainer.max_steps=20", "trainer.validate_every=20", "samples.prompts=0", "trainer.keep_best=false"]
BRIEF = [
    "trainer.max_steps=1",
    "schedule.warmup_steps=0",
    "trainer.validate_every=1",
    "trainer.validation_rows=1",
    "samples.prompts=0",
    "evaluation.stories=0",
]
# Relative, of the first loss and of each of 20, to those of one process in fp32; printed in docs/training.md.
TOLERANCES = {"fp32": (1e-5, 1e-4), "bf16": (1e-3, 5e-3), "bf16_pure": (1e-3, 5e-3), "fp16": (1e-3, 5e-3)}
OFFLOADED = [["strategy=deepspeed_offload", "optimizer=cpu_adam"], ["strategy=deepspeed_offload_all", "optimizer=cpu_adam"]]
ZERO = [["strategy=deepspeed_1"], ["strategy=deepspeed_2"], ["strategy=deepspeed_3"]]
TWO_RANKS = ["strategy=ddp", "trainer.ranks=2", "trainer.micro_batch=2"]
CHECKPOINTED = ["model.activation_checkpointing=true", "trainer.micro_batch=2", "trainer.accumulate=2"]
COMPILED = ["model.compile=true", "model.activation_checkpointing=true"]
RUNS = [  # in fp32, test_exact.py has ZeRO and several ranks, test_nvme.py has offloading
    *[("fp32", layout) for layout in (CHECKPOINTED, COMPILED)],
    *[("bf16", layout) for layout in ([], *ZERO, *OFFLOADED, TWO_RANKS, CHECKPOINTED)],
    *[("fp16", layout) for layout in ([], ["strategy=deepspeed_2"])],
    ("bf16_pure", ["optimizer=split_adamw"]),
    ("bf16_pure", ["optimizer=split_adamw", *CHECKPOINTED]),
]


@pytest.fixture(scope="module")
def plain(folders: list[str]) -> list[float]:
    """The losses of one process in fp32."""
    return column(train_small(folders, "plain", *CURVE)[0], "train/loss")


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "layout"), RUNS, ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_every_strategy_follows_one_curve(
    folders: list[str], tmp_path: Path, plain: list[float], precision: str, layout: list[str]
) -> None:
    if precision.removesuffix("_pure") not in native_precisions():
        pytest.skip(f"this processor has no native {precision}")
    settings = [*CURVE, f"precision={precision}", f"name=precision-{tmp_path.name}", *layout]
    losses = column(Path(last_json(command(["train.py", *SMALL, *folders, *settings]))["run_dir"]), "train/loss")
    first, each = TOLERANCES[precision]
    assert len(set(losses)) == len(plain) == 20
    if precision != "fp32":
        assert losses != plain, "it was not computed in that precision"
    assert losses[0] == pytest.approx(plain[0], rel=first)
    assert losses == pytest.approx(plain, rel=each)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["precision=fp32"], "is for precision=bf16_pure, not fp32, which has masters: take optimizer=adamw"),
        (["precision=bf16_pure", "strategy=ddp"], "which only strategy=single can: here take precision=bf16 optimizer=adamw"),
        (
            ["precision=bf16_pure", "strategy=deepspeed_2"],
            "is for strategy=single and strategy=ddp: DeepSpeed keeps fp32 masters",
        ),
    ],
)
def test_split_masters_are_refused_where_they_can_t_be(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    monkeypatch.setattr(rfr.strategy.precision, "native_precisions", lambda: ["bf16", "fp32"])
    with pytest.raises(UserError, match=message):
        train_small(folders, "refused", "optimizer=split_adamw", *settings)


def test_bf16_without_masters_is_warned_of(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rfr.strategy.precision, "native_precisions", lambda: ["bf16"])  # slow where it is emulated, but right
    train_small(folders, "warned", "precision=bf16_pure", *BRIEF)
    assert "warning: torch_adamw rounds bf16 parameters to the nearest, so updates below a 256th" in capsys.readouterr().out
    train_small(folders, "not-warned", "precision=bf16_pure", "optimizer=stochastic_adamw", *BRIEF)
    assert "warning" not in capsys.readouterr().out


def test_the_tolerances_are_the_documented_ones() -> None:
    table = (ROOT / "docs" / "training.md").read_text()
    for precision, (first, each) in TOLERANCES.items():
        assert f"| `{precision}` | {first:g} | {each:g} |" in table
