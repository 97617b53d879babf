"""Input that a library refuses is the user's error: one line that names it, exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedModel

from rfr import cli
from rfr.data.prepare import Prepared
from rfr.errors import UserError
from rfr.generation.sampling import Sampling, sample
from rfr.loggers.loggers import RunInfo, wandb_logger
from rfr.model.reward_model import load_reward_model
from rfr.objective.baselines import PromptValue
from rfr.records import Story
from rfr.reddit.credentials import check_url
from rfr.strategy.deepspeed import CPUDeepSpeedStrategy


def _exit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The last line of train.py, which must end with 2."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "model=tiny", "corpus=demo"])
    with pytest.raises(SystemExit) as stop:
        cli.train()
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return shown.strip().splitlines()[-1]


@pytest.mark.parametrize("target", ["rfr.reward.Nope", "rfr..x"])
def test_a_target_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    assert f"reward._target_={target} can't be imported" in _exit(monkeypatch, capsys, f"reward._target_={target}", "plan=true")


@pytest.mark.parametrize("content", [b"seed: [1\n", b"# \xe9\nseed: 1\n"])
def test_a_sweeps_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "bad.yaml").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert "a config can't be read" in _exit(monkeypatch, capsys, "-m", "+sweep=bad")


@pytest.mark.parametrize(("seeds", "why"), [("range(1,5,0)", "divided into points"), ("range(1,1)", "the sweep has no points")])
def test_a_sweep_without_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], seeds: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert why in _exit(monkeypatch, capfd, "-m", f"seed={seeds}")


def test_a_zero_setting_that_deepspeed_does_not_know() -> None:
    with pytest.raises(UserError, match=r"strategy\.zero has settings that DeepSpeed does not take .*foo"):
        CPUDeepSpeedStrategy(zero={"foo": 1}, stage=2)


@pytest.mark.parametrize(
    "config",
    ["{", "{}", json.dumps({"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"], "n_embd": 8, "n_head": 2})],
)
def test_a_damaged_reward_model(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=r"can't load the reward model at .*: copy the folder again"):
        load_reward_model(str(tmp_path))


def test_a_generation_config_that_cannot_be_used(tiny_model: PreTrainedModel, prepared: Prepared) -> None:
    before = tiny_model.generation_config.stop_strings
    tiny_model.generation_config.stop_strings = ["The end"]
    try:
        with pytest.raises(UserError, match=r"generation_config.json can't be used .*: set sampling.use_generation_config=false"):
            sample(tiny_model, prepared.tokenizer, ["[WP] a"], Sampling(max_new_tokens=4, use_generation_config=True))
    finally:
        tiny_model.generation_config.stop_strings = before


def test_prompts_without_words_have_no_value() -> None:
    stories = [
        Story(thread_id=str(number), reply_id=str(number), prompt="?" * number, response="a", score=number)
        for number in range(1, 9)
    ]
    with pytest.raises(UserError, match=r"no value of a prompt can be fitted .*: take objective/baseline=thread_mean"):
        PromptValue(folds=2)(np.arange(8.0), stories)


@pytest.mark.parametrize(("name", "value", "project"), [("WANDB_MODE", "bogus", "rfr"), ("WANDB_MODE", "offline", "a/b")])
def test_settings_that_wandb_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, project: str
) -> None:
    monkeypatch.setenv(name, value)
    info = RunInfo(run_id="x", name="x", config={}, tags=[], group=None)
    with pytest.raises(UserError, match="W&B refuses its settings"):
        wandb_logger(tmp_path, info, project=project)


def test_a_url_that_is_none() -> None:
    with pytest.raises(UserError, match="is no URL"):
        check_url("https://[::1")
