"""generate.py: prompts from files, stories that are gone on with, the best of several by a judge; bad input ends in its line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedModel

from rfr.data.prepare import Prepared
from rfr.demo.grammar import true_quality
from rfr.demo.subreddit import DemoSubreddit
from tests.conftest import ROOT

Command = Callable[..., tuple[int, str, str]]

SMALL = ["sampling.max_new_tokens=24", "sampling.slots=16"]


@pytest.fixture
def policy(tiny_model: PreTrainedModel, prepared: Prepared, tmp_path: Path) -> Path:
    return _saved(tiny_model, prepared, tmp_path / "policy")


@pytest.fixture
def judge(prepared: Prepared, tmp_path: Path) -> Path:
    return _saved(AutoModelForSequenceClassification.from_config(_judge_config()), prepared, tmp_path / "judge")


def _judge_config() -> GPT2Config:
    config = GPT2Config(vocab_size=640, n_layer=1, n_head=2, n_embd=32, n_positions=128, bos_token_id=0, eos_token_id=0)
    config.num_labels, config.pad_token_id = 1, 0
    config.block_size = 128
    return config


def _saved(model: PreTrainedModel, prepared: Prepared, folder: Path) -> Path:
    model.save_pretrained(folder)
    prepared.tokenizer.save_pretrained(folder)
    return folder


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_many_stories_of_many_prompts_go_into_a_file(command: Command, policy: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "new" / "stories.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"[WP] Door {number}.", "other": 1}) + "\n" for number in (1, 2, 1)))
    asked = ["generate", f"model.weights={policy}", f"prompts={prompts}", "stories=3", f"out={out}", *SMALL]
    code, said, err = command(*asked)
    assert code == 0, err
    assert json.loads(said.splitlines()[-1])["stories"] == 9
    rows = _lines(out.read_text())
    keys = [(row["prompt"], row["number"]) for row in rows]
    assert sorted(keys) == sorted(
        [("[WP] Door 1.", number) for number in range(6)] + [("[WP] Door 2.", number) for number in range(3)]
    )
    assert {row["stop"] for row in rows} <= {"end", "length"}
    assert all(row["logprob"] < 0 and row["tokens"] <= 24 for row in rows)
    # Half of the stories are lost, one of them in the middle of its line: the same command brings them back.
    out.write_text("".join(json.dumps(row) + "\n" for row in rows[:4]) + json.dumps(rows[4])[:50])
    _, said, _ = command(*asked)
    assert json.loads(said.splitlines()[-1])["drawn"] == 5
    assert _by_key(_lines(out.read_text())) == _by_key(rows)
    code, _, err = command(*asked, "sampling.temperature=0.5")
    assert code == 2
    assert "holds stories drawn with other settings (temperature)" in err


def _by_key(rows: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    assert len({(row["prompt"], row["number"]) for row in rows}) == len(rows), "every story once"
    return {(row["prompt"], row["number"]): row["response"] for row in rows}


def test_prompts_come_from_standard_input(command: Command, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = b"[WP] It's ${oc.env:HOME}, no?\n\n[WP] Another.\n"
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(given)))
    code, said, err = command("generate", f"model.weights={policy}", "prompts=-", *SMALL)
    assert code == 0, err
    assert {row["prompt"] for row in _lines(said)} == {"[WP] It's ${oc.env:HOME}, no?", "[WP] Another."}


def test_the_best_of_several_is_the_judges_choice(command: Command, policy: Path, judge: Path) -> None:
    asked = ["generate", f"model.weights={policy}", "prompt=[WP] A door.", *SMALL]
    code, said, err = command(*asked, "best_of=4", f"judge={judge}", "stories=2")
    assert code == 0, err
    rows = _lines(said)
    assert sorted(row["number"] for row in rows) == [0, 1]
    every = {row["number"]: row["response"] for row in _lines(command(*asked, "stories=8", "sampling.slots=8")[1])}
    for row in rows:
        assert len(row["scores"]) == 4
        assert row["score"] == max(row["scores"])
        assert row["response"] == every[4 * row["number"] + row["scores"].index(row["score"])]


def test_several_judges_and_the_truth_choose_one_way(
    command: Command, policy: Path, judge: Path, prepared: Prepared, tmp_path: Path
) -> None:
    second = _saved(AutoModelForSequenceClassification.from_config(_judge_config()), prepared, tmp_path / "second")
    prompt = prepared.validation.stories[0].prompt
    asked = ["generate", f"model.weights={policy}", f"prompt={prompt}", "best_of=4", *SMALL]
    each = [_lines(command(*asked, f"judge={folder}")[1])[0]["scores"] for folder in (judge, second)]
    code, said, err = command(*asked, f"judge=[{judge},{second}]")
    assert code == 0, err
    row = _lines(said)[0]
    assert row["scores"] == pytest.approx([(one + other) / 2 for one, other in zip(*each, strict=True)], abs=1e-6)
    assert row["settings"]["score"]["judge"] == [str(judge), str(second)]
    code, _, err = command(*asked, f"judge=[{judge},{second}]", "judge_rule=averaged_weights")
    assert code == 2
    assert "don't say which weights they began with" in err
    row = _lines(command(*asked, "score=truth")[1])[0]
    assert row["score"] == true_quality(row["prompt"], row["response"])
    assert row["settings"]["score"] == {"_target_": "rfr.demo.Truth", "judge": None}


def test_bad_input_ends_in_its_line(command: Command, policy: Path, judge: Path, tmp_path: Path) -> None:
    long, empty, binary = tmp_path / "long.txt", tmp_path / "empty.txt", tmp_path / "binary.txt"
    long.write_text(f"[WP] Short.\n\n{'very ' * 300}\n")
    empty.write_text("\n \n")
    binary.write_bytes(b"\xff\xfe\x00text")
    latin = tmp_path / "latin.txt"
    latin.write_bytes("\xe9t\xe9".encode("latin-1"))
    bare, broken = tmp_path / "bare.jsonl", tmp_path / "broken.jsonl"
    bare.write_text('{"title": "x"}\n')
    broken.write_text('{"prompt": "x"}\n{"prompt"\n')
    cases = {
        f"prompts={long}": f"{long}, line 3: the prompt has",
        f"prompts={empty}": "holds no prompt",
        f"prompts={binary}": "is no text",
        f"prompts={latin}": "is no text in UTF-8",
        f"prompts={bare}": 'line 1 has no "prompt"',
        f"prompts={broken}": "line 2 is no JSON",
        f"prompts={tmp_path / 'none.txt'}": "there is no file",
        f"prompts={tmp_path}": "there is no file",
        "best_of=4": "best_of=4 needs a judge",
        f"judge={judge}": "a judge chooses the best of several stories",
        f"judge={policy} best_of=2": "no reward model at",
        f"judge=[{judge},{judge}] best_of=2": "names a folder twice",
        "best_of=2 score=truth": "score=truth knows the demo's prompts only, not '[WP] A door.'",
        "score=truth": "a judge chooses the best of several stories",
        f"best_of=2 score=truth judge={judge}": "score=truth takes the place of a judge",
        "best_of=2 judge=[x] judge_rule=spread judge_rule.penalty=-1": "judge_rule.penalty must be",
        "precision=int8": "Could not find 'precision/int8'",
        f"model.weights={judge}": "is a reward model",
        f"out={long}": "line 1 is no story of generate.py",
        "sampling.temperature=0": "sampling.temperature must be a number above 0",
        "sampling.top_p=0": "sampling.top_p must be",
        "sampling.top_p=1.2": "sampling.top_p must be",
        "sampling.max_new_tokens=0": "sampling.max_new_tokens must be",
    }
    for settings, line in cases.items():
        given = [] if settings.startswith("prompts=") else ["prompt=[WP] A door."]
        small = [] if settings.startswith("sampling") else SMALL
        code, _, err = command("generate", f"model.weights={policy}", *given, *settings.split(" "), *small)
        assert code == 2, (settings, err)
        assert line in err, (settings, err)
        assert err.count("\n") == 1, err


@pytest.mark.slow
def test_killed_five_times_it_writes_what_an_uninterrupted_run_writes(policy: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    titles = list(dict.fromkeys(thread.post.title for thread in DemoSubreddit(threads=1200, seed=3)))[:1000]
    prompts.write_text("\n".join(titles))

    def asked(out: Path) -> list[str]:
        weights, more = f"model.weights={policy}", ["sampling.max_new_tokens=80", "sampling.slots=16"]
        return [sys.executable, "generate.py", weights, f"prompts={prompts}", f"out={out}", *more]

    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    subprocess.run(asked(whole), cwd=ROOT, check=True, capture_output=True)
    for time_killed in range(1, 6):
        running = subprocess.Popen(asked(killed), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while running.poll() is None and (not killed.exists() or killed.read_bytes().count(b"\n") < 150 * time_killed):
            time.sleep(0.01)
        assert running.poll() is None, "it was done before it was killed"
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    subprocess.run(asked(killed), cwd=ROOT, check=True, capture_output=True)
    one, other = _by_key(_lines(whole.read_text())), _by_key(_lines(killed.read_text()))
    assert len(one) == 1000
    assert one == other
