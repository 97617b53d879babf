"""The commands as their users meet them: help at once, every config composed, one clear line for wrong input."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from itertools import groupby, product, zip_longest
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rfr import __version__, config
from rfr.demo.source import build_demo_store
from rfr.demo.subreddit import DemoSubreddit
from rfr.runs.folder import identity, run_folder
from rfr.store.store import Store
from tests.conftest import ROOT

GROUPS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in (ROOT / "conf").glob("*/*.yaml")
    if path.parent.name not in ("_base", "source", "mode", "report")
)
JUDGING = [f"{group}={path.stem}" for group in ("judge_rule", "score") for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
MODES, SOURCES = (sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")) for group in ("mode", "source"))


@pytest.mark.parametrize(("name", "seconds"), [("collect", 0.3), ("train", 0.5), ("generate", 0.5), ("evaluate", 0.5)])
def test_help_answers_at_once(name: str, seconds: float) -> None:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, f"{name}.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - began)
    assert "usage" in done.stdout
    # The least of three: what the command needs, whatever else this machine does.
    assert min(times) < seconds, times


def _of_different_groups(choices: list[str]) -> list[list[str]]:
    """Every choice once; those of different groups share a composition, which takes a third of a second."""
    groups = [list(group) for _, group in groupby(choices, key=lambda choice: choice.split("=")[0])]
    return [[re.sub("^logger=(.*)", r"logger=[\1]", choice) for choice in row if choice] for row in zip_longest(*groups)]


def test_every_choice_composes() -> None:
    assert len(GROUPS) >= 30
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for choices in _of_different_groups(GROUPS):
            cfg = config.resolve(compose("train", choices))
            assert cfg.trainer.max_steps > 0
        precisions = [choice for choice in GROUPS if choice.startswith("precision=")]
        assert len(precisions) >= 4
        for choice in precisions:
            assert compose("evaluate", ["model.weights=x", choice]).precision == choice.split("=")[1]
        assert len(JUDGING) == 6
        for name, choices in product(("generate", "evaluate"), _of_different_groups(JUDGING)):
            config.resolve(compose(name, ["model.weights=x", *choices]))
        assert len(MODES) >= 4
        assert len(SOURCES) >= 4
        for source, mode in product(SOURCES, MODES):
            path = [] if source in ("demo", "reddit") else ["source.path=x"]
            config.resolve(compose("collect", [f"source={source}", f"mode={mode}", *path]))


def test_the_flagship_line_resolves(command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = command("train", "model=gpt2-xl", "schedule=cosine", "--cfg", "job", "--resolve")
    assert code == 0
    assert OmegaConf.create(out).model.random.n_layer == 48


def test_identity_is_what_a_run_is_not_where_it_lives() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        plain = config.resolve(compose("train", []))
        elsewhere = config.resolve(compose("train", ["runs_dir=/x", "data_dir=/y", "name=n", "group=g", "logger=csv"]))
        other = config.resolve(compose("train", ["optimizer.lr=1e-4"]))
    assert identity(plain) == identity(elsewhere) != identity(other)
    assert str(run_folder(elsewhere)) == "/x/g/n"


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (["trainer.max_steps=1000"], 20), (["trainer.max_steps=80"], 8), (["trainer.max_steps=5"], 1),
        (["trainer.max_steps=1"], 0), (["rollouts=own", "objective=rloo"], 3),
        (["trainer.max_steps=80", "schedule.warmup_steps=50"], 50),
    ],
)  # fmt: skip
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_short_run_warms_up_for_a_tenth_of_it(schedule: str, settings: list[str], steps: int) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert config.resolve(compose("train", [f"schedule={schedule}", *settings])).schedule.warmup_steps == steps


DEMO = ("model=tiny", "corpus=demo", "corpus.demo.threads=30", "logger=csv")
BAD = [
    (("corpus=writingprompts", "model=tiny"), "run collect.py first"),
    (("model=gpt3",), "Available options in 'model':.*gpt2-xl"),
    (("optimizer.learning_rate=1",), "optimizer.learning_rate"),
    ((*DEMO, "trainer.max_steps=10", "schedule.warmup_steps=20"), "schedule.warmup_steps=20 must be below"),
    (
        (*DEMO, "objective=rwr", "objective.weight.target_ess=null", "objective.weight.beta=-1"),
        "objective.weight.beta must be a number above 0, or null, not -1",
    ),
    ((*DEMO, "objective=awr", "objective.weight.beta=0"), "beta must be a number above 0, or null, not 0"),
    ((*DEMO, "objective=awr", "objective.clip=0.5"), "objective.clip must be a number above 1, or null"),
    ((*DEMO, "objective=awr", "objective.ess_floor=1"), "objective.ess_floor must be a number, 0 or more and below 1"),
    ((*DEMO, "objective=awr", "objective.baseline.shrinkage=0"), "objective.baseline.shrinkage must be a number above 0"),
    ((*DEMO, "objective=awr", "objective/baseline=prompt_value", "objective.baseline.folds=99"), "and there are .* prompts"),
    ((*DEMO, "objective=filtered_bc", "objective.weight.share=0"), "objective.weight.share must be a number above 0 and below 1"),
    ((*DEMO, "objective=linear", "objective.weight.slope=-1"), "objective.weight.slope must be a number above 0"),
    ((*DEMO, "objective=rwr", "reward=karma", "objective.ess_floor=0.5"), r"leave ESS/N = 0.3, below .*ess_floor=0.5: one of"),
    ((*DEMO, "objective=rwr", "reward=tiers", "objective.weight.target_ess=0.1"), "target_ess=0.1 is out of reach: 0.3.* tie"),
    (
        (*DEMO, "objective=rwr", "reward=tiers", "reward.cuts=[2]"),
        "reward.cuts must be a list, each a number above 0",
    ),
    ((*DEMO, "objective=rwr", "reward=residual", "reward.folds=99"), "fits on 99 folds of whole threads, and there are 2"),
    ((*DEMO, "objective=dpo", "objective.loss.beta=0"), "objective.loss.beta must be a number above 0, not 0"),
    ((*DEMO, "objective=dpo", "objective.pairing.margin=99999"), "no two replies to one post have rewards more than"),
    ((*DEMO, "objective=reward_model", "objective.pairing.group=1"), "objective.pairing.group must be a whole number, 2 or more"),
    ((*DEMO, "objective=conditional", "objective.control.count=1"), "objective.control.count must be a whole number, 2 or more"),
    ((*DEMO, "corpus.demo.threads=1"), "split is empty"),
    ((*DEMO, "precision=fp16"), "no native fp16"),
    (("corpus=demo", "corpus.demo.threads=30", "model=gpt2", "logger=csv"), "model.weights to random or a path"),
    ((*DEMO, "model.weights=pretrained"), "random or a path"),
    (("resume=nowhere",), "no run folder"),
    ((*DEMO, "optimizer._target_=os.system"), "os.system is refused"),
    ((*DEMO, "preprocess.split.validation_share=0.0001"), "validation split is empty"),
    ((*DEMO, "look=-1"), "look must be a whole number, 0 or more, not -1"),
    ((*DEMO, "look=all"), "look must be a whole number, 0 or more, not all"),
    ((*DEMO, "look=null"), "look must be a whole number, 0 or more, not null"),
    ((*DEMO, "preprocess.clean.min_words=abc"), "preprocess.clean.min_words must be a whole number, 1 or more, not abc"),
    ((*DEMO, "preprocess.clean.min_words=-1"), "preprocess.clean.min_words must be a whole number"),
    ((*DEMO, "preprocess.fit.context_tokens=1.5"), "preprocess.fit.context_tokens must be a whole number"),
    ((*DEMO, "preprocess.fit.context_tokens=null"), "preprocess.fit.context_tokens must be a whole number"),
    ((*DEMO, "preprocess.fit.context_tokens=200"), "context_tokens=200 is more than half of model.block_size=256: set it to 32"),
    ((*DEMO, "preprocess.split.validation_share=abc"), "validation_share must be a number above 0 and below 1, not abc"),
    ((*DEMO, "preprocess.split.cutoff=0"), "must be a date such as"),
    ((*DEMO, "preprocess.split.cutoff=''"), "must be a date such as"),
    ((*DEMO, "preprocess.split.part=[3,2]"), r"preprocess.split.part must be \[k, n\], the k-th of n parts"),
    ((*DEMO, "preprocess.split.part=[1,0]"), "preprocess.split.part must be a list, each a whole number, 1 or more"),
    ((*DEMO, "preprocess.scored_only=abc"), "scored_only must be true or false, not abc"),
    ((*DEMO, "model.block_size=abc"), "model.block_size must be a whole number, 16 or more, not abc"),
    ((*DEMO, "model.block_size=0"), "model.block_size must be a whole number, 16 or more, not 0"),
    (("resume=runs/some", "look=3"), "leave out -m and resume="),
    ((*DEMO, "trainer.ranks=999"), r"999 ranks on a machine with \d+ (cores|GPUs): .* set trainer.ranks to \d+ at most"),
    ((*DEMO, "strategy=deepspeed_nvme", "strategy.nvme_path=/nowhere"), "nvme_path=/nowhere is no folder: create it"),
    ((*DEMO, "preprocess=strict"), "does not fit block_size=64"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message[:24] for _, message in BAD])
def test_wrong_input_is_one_line_and_exit_2(
    command: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rfr.strategy.precision._cpu_flags", lambda: {"avx2"})
    if "preprocess=strict" in arguments:
        arguments = (*arguments, "model.block_size=64")
    code, _, err = command("train", *arguments)
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1, err
    assert re.search(message, err), err
    assert not Path("runs").exists()


def test_a_corpus_whose_karma_says_nothing(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    words = "the old king of our town had a key and she knew that it was made of rain but nobody would tell them why"

    def story(number: int) -> str:
        return " ".join(random.Random(number).choices(words.split(), k=60)).capitalize() + "."

    common = {"score": 5, "post_score": 9, "post_created_utc": None}
    rows = [
        {"post_id": f"p{n}", "title": f"[WP] Prompt number {n}.", "reply_id": f"r{n}{m}", "body": story(3 * n + m), **common}
        for n in range(40) for m in range(3)
    ]  # fmt: skip
    (tmp_path / "stories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = command("collect", "source=table", f"source.path={tmp_path / 'stories.jsonl'}", "store=real.db")
    assert code == 0, err
    real = ("corpus.path=real.db", "model=tiny", "logger=csv", "preprocess.clean.min_words=5")
    for settings, message in (
        (("objective=rwr", "reward=oracle"), "corpus=demo"),
        (("objective=rwr", "reward=oracle_residual"), "corpus=demo"),
        (("objective=rwr", "reward=karma"), "all rewards are equal, so there is nothing to prefer"),
        (("objective=awr", "reward=thread_rank"), "all rewards are equal"),
        (("objective=conditional", "reward=karma"), "all rewards are equal"),
        (("objective=dpo", "reward=karma"), "no two replies to one post have rewards more than"),
        (("objective=rwr", "reward=residual"), "reward=thread_rank"),
    ):
        code, _, err = command("train", *real, *settings)
        assert code == 2, (settings, err)
        assert len(err.strip().splitlines()) == 1, err
        assert message in err
        assert not Path("runs").exists()


def test_an_existing_run_folder_is_refused(command: Callable[..., tuple[int, str, str]]) -> None:
    Path("runs/mine").mkdir(parents=True)
    code, _, err = command("train", *DEMO, "name=mine")
    assert code == 2
    assert "exists already" in err
    assert not any(Path("runs/mine").iterdir())


def test_a_block_larger_than_the_models_positions(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, tiny_model, prepared
) -> None:
    tiny_model.save_pretrained(tmp_path / "m")
    prepared.tokenizer.save_pretrained(tmp_path / "m")
    where = (f"model.weights={tmp_path / 'm'}", f"model.tokenizer={tmp_path / 'm'}")
    code, _, err = command("train", *DEMO, *where, "model.block_size=512")
    assert code == 2
    assert "larger than the model's 128 positions" in err
    code, _, err = command("generate", f"model.weights={tmp_path / 'm'}", f"prompt={'very ' * 300}")
    assert code == 2
    assert "shorten the prompt" in err
    code, out, _ = command("generate", f"model.weights={tmp_path / 'm'}", "prompt=[WP] It's ${oc.env:HOME}, no?", "stories=2")
    assert code == 0
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["[WP] It's ${oc.env:HOME}, no?"] * 2
    code, _, err = command("generate", f"model.weights={tmp_path / 'm'}")
    assert code == 2
    assert "no prompt" in err
    code, _, err = command("generate", f"model.weights={tmp_path}", "prompt=x")
    assert code == 2
    assert "no model folder" in err
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    for name, settings in (("train", (*DEMO, *where)), ("generate", (where[0], "prompt=x"))):
        code, _, err = command(name, *settings)
        assert code == 2
        assert "holds pickled weights (pytorch_model.bin), which can run code when they are loaded" in err
        assert len(err.strip().splitlines()) == 1
    code, _, err = command("train", *DEMO, f"model.weights={tmp_path / 'm' / 'pytorch_model.bin'}")
    assert code == 2
    assert "holds pickled weights" in err


def test_offloading_says_what_it_lacks(command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    offload = (*DEMO, "strategy=deepspeed_nvme", "optimizer=cpu_adam", "name=offload")
    monkeypatch.setattr(AsyncIOBuilder, "is_compatible", lambda *_, **__: True)
    monkeypatch.setattr("rfr.strategy.nvme.shutil.disk_usage", lambda _: Namespace(free=1e6))
    code, _, err = command("train", *offload)
    assert code == 2
    assert re.search(r"offloading [\d,]+ parameters takes [\d.]+ GB in runs/offload/offload, and 0\.0 GB are free", err)
    monkeypatch.setattr(AsyncIOBuilder, "is_compatible", lambda *_, **__: False)
    code, _, err = command("train", *offload)
    assert code == 2
    assert "needs the system package libaio-dev" in err
    assert not Path("runs").exists()


def test_collect_errors(command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("praw_client_id", "praw_client_secret"):
        monkeypatch.delenv(name, raising=False)
    for arguments, message in (
        (["source=reddit"], "no Reddit credentials"),
        (["source=table", "source.path=x.csv"], "no table at"),
        (["source=table", "source.path=x.csv", "mode=refresh"], "a file can only be read once"),
        (["source=demo", "mode=refresh", "mode.ages_h=[0,2]"], "mode.ages_h must be a list, each a number above 0, not [0, 2]"),
        (["source=demo", "mode=watch", "mode.every_s=0"], "mode.every_s must be a number above 0, not 0"),
        (["source=demo", "mode=watch", "mode.ages_h=[.nan]"], "mode.ages_h must be a list, each a number above 0"),
        (["source=demo", "mode=refresh", "mode.ages_h=5"], "mode.ages_h must be a list"),
        (["source=demo", "mode=status", "mode.ages_h=[abc]"], "mode.ages_h must be a list"),
        (["source=dump"], "set source.path to an RS_ or RC_ file"),
        (["source=table"], "set source.path to a .parquet"),
        (["source=dump", "source.path=123"], "no dump at 123"),
        (["source=dump", "source.path=x", "source.subreddit="], "is no subreddit's name"),
        (["source=reddit", "source.subreddit=r/a+b"], "is no subreddit's name"),
        (["source=demo", "store=."], "is a folder"),
        (["source=demo", "store=/proc/nothing/s.db"], "No such file or directory"),
        (["source=demo", "mode=status"], "run collect.py first"),
    ):
        code, _, err = command("collect", *arguments)
        assert code == 2
        assert message in err
        assert not list(Path("data").glob("*.db*"))  # no empty store is left behind


def test_collecting_the_demo_prints_its_counts_last(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = command("collect", "source=demo", "source.demo.threads=12")
    assert code == 0
    last = json.loads(out.splitlines()[-1])
    assert last["post"] == 12
    build_demo_store(tmp_path / "other.db", DemoSubreddit(threads=12))
    assert os.path.exists(last["store"])


@pytest.mark.parametrize(
    "argument",
    [
        "source.client_secret=CANARY-1", "+source.password=CANARY-1", "praw_client_id=CANARY-1", "++token=CANARY-1",
        "+praw={client_secret:CANARY-1}", "+source.login={'praw_password': CANARY-1}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [(), ("--help",), ("--cfg", "job"), ("-m",)])
def test_credentials_on_the_command_line_are_refused_and_not_repeated(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, argument: str, more: tuple[str, ...]
) -> None:
    code, out, err = command("collect", "source=reddit", argument, *more)
    assert code == 2
    assert "does not belong on the command line" in err
    assert "CANARY" not in out + err
    assert not list(tmp_path.rglob("*"))


def test_the_version_is_rfrs(command: Callable[..., tuple[int, str, str]]) -> None:
    assert command("train", "--version")[:2] == (0, f"rfr {__version__}\n")


def test_a_failed_import_keeps_the_store_that_was_there(command: Callable[..., tuple[int, str, str]]) -> None:
    """Though it holds nothing but a reject."""
    Path("RC").write_text('{"subreddit": "WritingPrompts", "id": ""}\n{"subreddit": "cats"}\n')
    code, out, _ = command("collect", "source=dump", "source.path=RC", "store=s.db")
    assert (code, json.loads(out.splitlines()[-1])["rejected"]) == (0, 1)
    assert command("collect", "source=dump", "source.path=typo", "store=s.db")[0] == 2
    assert Path("s.db").exists()
    code, out, _ = command("collect", "source=dump", "source.path=RC", "store=s.db")
    assert json.loads(out.splitlines()[-1])["already_imported"]


def test_a_dump_of_something_else_is_told(command: Callable[..., tuple[int, str, str]]) -> None:
    Path("RC").write_text('{"subreddit": "writingprompts2", "id": "a"}\n')
    code, _, err = command("collect", "source=dump", "source.path=RC", "store=s.db")
    assert code == 0
    assert "none of the 1 lines of RC is a post of r/WritingPrompts" in err


def test_a_multirun_whose_store_is_taken_fails_and_keeps_its_parts(command: Callable[..., tuple[int, str, str]]) -> None:
    for name in "ab":
        Path(name).write_text(json.dumps({"subreddit": "WritingPrompts", "id": name, "title": "[WP] A."}) + "\n")
    sweep = ("collect", "-m", "source=dump", "source.path=a,b", "runs_dir=runs")
    with Store("s.db", write=True):
        code, _, err = command(*sweep, "store=s.db")
    assert code == 2
    assert "another process is writing to s.db" in err
    assert len(list(Path("s.db.parts").glob("*.db"))) == 2
    code, out, _ = command(*sweep, "store=s.db")
    assert (code, json.loads(out.splitlines()[-1])["post"]) == (0, 2)
    assert not Path("s.db.parts").exists()
    assert command(*sweep, "store=x/s.db,y/s.db")[0] == 0  # each job has its own
    for folder in "xy":
        with Store(f"{folder}/s.db") as store:
            assert store.counts()["post"] == 2


def test_titles_and_messages_cannot_steer_the_terminal(command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = command("collect", "source=demo", "source.demo.threads=3", "store='[/b].db'")
    assert code == 0
    code, out, _ = command("collect", "source=demo", "mode=status", "store='[/b].db'")
    assert code == 0
    assert "[/b].db" in out
    Path("t.csv").write_text("\033]0;pwned\007,b\n1,2\n")
    code, _, err = command("collect", "source=table", "source.path=t.csv")
    assert code == 2
    assert "pwned" in err
    assert "\033" not in err


def test_status_of_the_demo_has_the_demos_time(command: Callable[..., tuple[int, str, str]]) -> None:
    command("collect", "source=demo", "source.demo.threads=3")
    code, out, _ = command("collect", "source=demo", "source.demo.threads=3", "mode=status")
    assert (code, json.loads(out.splitlines()[-1])["scores_due"]) == (0, 0)


def test_a_full_disk_is_one_line(command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.parquet")

    monkeypatch.setattr("rfr.collect.export.write", full)
    assert command("collect", "source=demo", "source.demo.threads=3")[0] == 0
    code, _, err = command("collect", "source=demo", "mode=export")
    assert code == 2
    assert err == "rfr: No space left on device: out.parquet could not be written whole\n"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("collect", ("source=demo", "store=null"), "store must be a text, not null"),
        ("collect", ("source=dump", "source.path=x", "source.subreddit=null"), "source.subreddit must be a text, not null"),
        ("collect", ("source=demo", "store=a(b).db"), "type 'store=\"a(b).db\"'"),
        ("train", ("corpus=demo", "runs_dir=my (runs)"), "type 'runs_dir=\"my (runs)\"'"),
        ("evaluate", ("model.weights=runs/größe/model",), "type 'model.weights=\"runs/größe/model\"'"),
        ("generate", ("model.weights=a=b", "prompt=x"), "type 'model.weights=\"a=b\"'"),
        ("train", (*DEMO, "trainer.max_steps=0"), "trainer.max_steps must be a whole number, 1 or more, not 0"),
        ("train", (*DEMO, "trainer.gradient_clip=abc"), "trainer.gradient_clip must be a number, 0 or more, or null, not abc"),
        ("train", (*DEMO, "trainer.ranks=abc"), "trainer.ranks must be a whole number, 1 or more, not abc"),
        ("train", (*DEMO, "+trainer.step=3"), "trainer.step is no setting"),
        ("generate", ("model.weights=m", "prompt=x", "stories=ten"), "stories must be a whole number, 1 or more, not ten"),
        ("evaluate", ("model.weights=m", "micro_batch=0"), "micro_batch must be a whole number, 1 or more, not 0"),
        (
            "evaluate",
            ("report=karma", "rewards.residual.folds=1"),
            "rewards.residual.folds must be a whole number, 2 or more",
        ),
    ],
)
def test_a_wrong_value_is_told_before_work_begins(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = command(name, *arguments)
    assert code == 2, err
    assert message in err
    assert len(err.strip().splitlines()) == 1, err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_name_of_digits_is_a_name(command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = command("collect", "source=demo", "source.demo.threads=3", "store=2024")
    assert (code, json.loads(out.splitlines()[-1])["store"]) == (0, "2024"), err
