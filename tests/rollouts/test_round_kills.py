"""kill -9 at ten random moments of a run with rounds, in writing, judging, learning and saving: its stories and weights are, to
the bit, those of a run that was never killed; and several ranks write what one writes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rfr.rollouts.round_stories import load_round
from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, largest_difference, last_json
from tests.rollouts.test_rounds import ROUNDS

FOUR_ROUNDS = [*SMALL, *ROUNDS, "rollouts.rounds=4", "trainer.max_steps=8", "trainer.checkpoint_every=1"]
# What is killed in, and how often it is called in a round at least; `save` leaves half a file.
PHASES = {
    "write": ("rfr.generation.slot_sampler._Slots", "take", 10),
    "judge": ("rfr.rollouts.story_writer.StoryWriter", "score", 2),
    "learn": ("rfr.train.learner.Learner", "training_step", 4),
    "save": ("pyarrow.parquet", "write_table", 2),
    "keep": ("rfr.train.checkpoints", "write_manifest", 2),
}
KILLED = """
import os, signal, sys
from hydra.utils import get_object
owner, name, left = get_object(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real = getattr(owner, name)
def counted(*arguments, **named):
    global left
    left -= 1
    if left < 0:
        if name == "write_table":
            open(arguments[1], "wb").write(b"PAR1 half of it")
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
setattr(owner, name, counted)
from rfr import cli
sys.argv = ["train.py", *sys.argv[4:]]
cli.train()
"""


@pytest.fixture(scope="module")
def judged(folders: list[str]) -> list[str]:
    """A cloned policy and its judge."""
    cloned = last_json(command(["train.py", *SMALL, *folders, "name=cloned", "trainer.max_steps=40"]))["run_dir"]
    policy = [f"model.weights={cloned}/model", f"model.tokenizer={cloned}/model"]
    judge = ["objective=reward_model", "reward=oracle", "name=judge", "evaluation.stories=0"]
    run_dir = last_json(command(["train.py", *SMALL, *folders, *policy, *judge]))["run_dir"]
    return [*policy, f"judge={run_dir}/model", "objective=rloo"]


@pytest.mark.slow
def test_ten_kills_leave_no_trace(folders: list[str], judged: list[str], tmp_path: Path) -> None:
    generator = random.Random(0)
    where = [folders[0], f"runs_dir={tmp_path}"]
    whole = Path(last_json(command(["train.py", *FOUR_ROUNDS, *where, *judged, "name=whole"]))["run_dir"])
    run_dir, phases = tmp_path / "killed", list(PHASES) * 2
    generator.shuffle(phases)
    for phase in phases:
        owner, name, calls = PHASES[phase]
        begun = (run_dir / "config.yaml").exists()
        asked = [f"resume={run_dir}"] if begun else [*FOUR_ROUNDS, *where, *judged, "name=killed"]
        killed = [sys.executable, "-c", KILLED, owner, name, str(generator.randrange(calls)), *asked]
        done = subprocess.run(killed, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == -signal.SIGKILL, f"{phase}: {done.stdout[-500:]} {done.stderr[-2000:]}"
    last_json(command(["train.py", f"resume={run_dir}"]))
    assert largest_difference(whole, run_dir) == 0
    files = sorted(path.name for path in (whole / "rounds").iterdir())
    assert len(files) == 4 + 5
    assert files == sorted(path.name for path in (run_dir / "rounds").iterdir())
    for file in files:
        assert (whole / "rounds" / file).read_bytes() == (run_dir / "rounds" / file).read_bytes(), file
    for name in ("train/loss", "round/score", "held_out/kl", "tokens"):
        assert column(whole, name) == column(run_dir, name), name


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "deepspeed_3"])
def test_several_ranks_do_what_one_does(folders: list[str], judged: list[str], tmp_path: Path, strategy: str) -> None:
    settings = [*FOUR_ROUNDS, folders[0], f"runs_dir={tmp_path}", *judged, "rollouts.rounds=2", "trainer.max_steps=4"]
    one = Path(last_json(command(["train.py", *settings, "name=one"]))["run_dir"])
    two = Path(last_json(command(["train.py", *settings, f"strategy={strategy}", "trainer.ranks=2", "name=two"]))["run_dir"])
    for number in range(2):
        alone, shared = (load_round(run_dir / "rounds" / f"learned-{number + 1:04d}.parquet") for run_dir in (one, two))
        assert alone.prompts == shared.prompts
        same = np.mean([a == b for a, b in zip(alone.texts, shared.texts, strict=True)])
        assert same == 1 if number == 0 else same > 0.9, "later rounds are written by policies that rounded otherwise"
        if number == 0:
            np.testing.assert_allclose(alone.score, shared.score, atol=1e-5)
            np.testing.assert_allclose(alone.weight, shared.weight, atol=1e-5)
    assert column(one, "grad_norm")[:2] == pytest.approx(column(two, "grad_norm")[:2], rel=1e-3)
    assert largest_difference(one, two) < 1e-3
