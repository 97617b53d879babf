"""Fixtures: a small demo store, its prepared rows, a tiny policy; and the rule that unit tests never leave the machine."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel

from rfr import cli
from rfr.data.clean.cleaner import Clean
from rfr.data.pack.long_stories import Segment
from rfr.data.prepare import Prepared, Preprocess
from rfr.data.split import Split
from rfr.data.tokenise import train_bpe
from rfr.demo.source import build_demo_store
from rfr.demo.subreddit import DemoSubreddit
from rfr.model.attention import NAME as ATTENTION
from rfr.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"


# The files that take longest come first, so that no process is left with one of them when the others are done.
LONG = ("sweep/test_failures", "test_readme", "train/test_train_kill", "strategy/test_nvme", "strategy/test_exact",
        "commands/test_config_values", "rollouts/test_round_kills", "rollouts/test_rounds")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files = [f"{ROOT / 'tests' / name}.py" for name in LONG]
    items.sort(key=lambda item: files.index(str(item.path)) if str(item.path) in files else len(files))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple):
            assert address[0] in {"127.0.0.1", "::1", "localhost"}, f"a unit test tried to reach {address}"
        real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo subreddit of 40 threads, collected by the real collector."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    build_demo_store(path, DemoSubreddit(threads=40))
    return path


@pytest.fixture(scope="session")
def prepared(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The demo store in rows of 128 tokens."""
    preprocess = Preprocess(
        clean=Clean(min_words=20), split=Split(validation_share=0.2, salt="t"), fit=Segment(context_tokens=16), block_size=128
    )

    def make_tokenizer(stories: list) -> object:
        return train_bpe((text for story in stories for text in (story.prompt, story.response)), 600)

    with Store(demo_store) as store:
        return preprocess.prepare(store, make_tokenizer, "test", tmp_path_factory.mktemp("cache"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Data and run folders, shared by a module's tests so that the demo is collected once."""
    root = tmp_path_factory.mktemp("train")
    return [f"data_dir={root}/data", f"runs_dir={root}/runs"]


@pytest.fixture
def tiny_model(prepared: Prepared) -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=640, n_layer=2, n_head=2, n_embd=32, n_positions=128, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder; its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            getattr(cli, name)()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the clone."""
    if not SHARED.is_dir():
        pytest.skip("SKIPPED LOUDLY: the real data is not beside this clone")
    return SHARED
