"""One process or several, one machine or two, at once or in parts: the same gradients and the same losses.

Token counts are ragged and story weights unequal; one step of plain SGD shows the gradient itself, which Adam would hide.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.helpers.runs import SMALL, column, command, largest_difference, last_json, train_small, weights

FIRST = [
    "~optimizer", "+optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 1.0, weight_decay: 0.0}", "objective=rwr",
    "schedule=constant", "schedule.warmup_steps=0", "trainer.max_steps=1", "trainer.gradient_clip=null",
    "trainer.keep_best=false", "samples.prompts=0", "trainer.validation_rows=4",
]  # fmt: skip
CURVE = ["objective=rwr", "trainer.max_steps=20", "trainer.validate_every=20", "samples.prompts=0", "trainer.keep_best=false"]
WHOLE = ["trainer.micro_batch=4", "trainer.accumulate=1"]
IN_PARTS = ["trainer.micro_batch=1", "trainer.accumulate=4"]
HALVES = ["trainer.micro_batch=2", "trainer.accumulate=1"]
LAYOUTS = {"in-parts": IN_PARTS, "two-ranks": ["trainer.micro_batch=1", "trainer.accumulate=2", "trainer.ranks=2"]}


@pytest.fixture(scope="module")
def reference(folders: list[str]) -> dict[str, Path]:
    """One process, the global batch at once."""
    return {kind: train_small(folders, f"exact-{kind}", *settings, *WHOLE)[0] for kind, settings in KINDS.items()}


KINDS = {"first": FIRST, "curve": CURVE}
CASES = [
    (layout, strategy, kind)
    for layout in LAYOUTS
    for strategy in ("single", "ddp", "deepspeed_1", "deepspeed_2", "deepspeed_3")
    for kind in KINDS
    if not (layout == "two-ranks" and strategy == "single")
    and not (layout == "in-parts" and strategy in ("deepspeed_1", "deepspeed_2") and kind == "curve")  # two ranks show theirs
]


def _check(reference: dict[str, Path], kind: str, run_dir: Path, start: dict[str, torch.Tensor]) -> None:
    if kind == "curve":
        losses = column(reference["curve"], "train/loss")
        assert len(losses) == len(set(losses)) == 20
        assert column(run_dir, "train/loss") == pytest.approx(losses, rel=1e-4)
        norms, expected_norms = column(run_dir, "grad_norm"), column(reference["curve"], "grad_norm")
        assert norms[0] == pytest.approx(expected_norms[0], rel=1e-5)
        assert norms == pytest.approx(expected_norms, rel=2e-3)
        # ZeRO adds up gradients in another order; Adam's first steps turn a rounding of nothing into a sign.
        assert largest_difference(reference["curve"], run_dir) < 2e-3
        return
    expected, actual = weights(reference["first"]), weights(run_dir)
    assert len(expected) > 20
    for name, begun in start.items():
        gradient, other = begun - expected[name], begun - actual[name]
        assert gradient.norm() > 0, name
        assert (gradient - other).norm() <= 1e-5 * gradient.norm() + 1e-9, name


@pytest.fixture(scope="module")
def start(folders: list[str]) -> dict[str, torch.Tensor]:
    """The weights that every run begins with: no step changes anything at a rate of 0."""
    return weights(train_small(folders, "exact-start", *FIRST, *WHOLE, "optimizer.lr=0.0")[0])


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "strategy", "kind"), CASES)
def test_layouts_are_exact(
    folders: list[str], reference: dict[str, Path], start: dict[str, torch.Tensor], strategy: str, layout: str, kind: str
) -> None:
    name = f"exact-{kind}-{strategy}-{layout}"
    done = command(["train.py", *SMALL, *folders, f"name={name}", *KINDS[kind], *LAYOUTS[layout], f"strategy={strategy}"])
    _check(reference, kind, Path(last_json(done)["run_dir"]), start)


# --- two machines: network namespaces with addresses of their own

ADDRESSES = ["10.77.7.1", "10.77.7.2"]


@contextmanager
def _two_machines() -> Iterator[list[str]]:
    """Two network namespaces joined by a cable; their names."""
    names = [f"rfr-node-{os.getpid()}-{number}" for number in (0, 1)]
    ends = [f"rfr{os.getpid() % 100000}{letter}" for letter in "ab"]
    ip = [["link", "add", ends[0], "type", "veth", "peer", "name", ends[1]]]
    for name, end, address in zip(names, ends, ADDRESSES, strict=True):
        ip += [["netns", "add", name], ["link", "set", end, "netns", name]]
        ip += [["-n", name, *rest] for rest in (["addr", "add", f"{address}/24", "dev", end], ["link", "set", end, "up"],
                                                ["link", "set", "lo", "up"])]  # fmt: skip
    try:
        for arguments in ip:
            done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"SKIPPED LOUDLY: no network namespaces here ({done.stderr.strip()})")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _launched(launcher: str, node: int, arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """What starts the rank of a machine, and its environment."""
    if launcher == "torchrun":
        rendezvous = [f"--rdzv-endpoint={ADDRESSES[0]}:29411", "--rdzv-backend=c10d", "--rdzv-id=rfr"]
        rendezvous.append(f"--rdzv-conf=is_host={int(node == 0)}")  # both have this machine's name, by which they'd tell
        many = ["--nnodes=2", f"--node-rank={node}", f"--local-addr={ADDRESSES[node]}", "--nproc-per-node=1"]
        return [sys.executable, "-m", "torch.distributed.run", *many, *rendezvous, *arguments], {}
    slurm = {"NTASKS": "2", "NNODES": "2", "PROCID": str(node), "NODEID": str(node), "LOCALID": "0", "JOB_ID": "77",
             "JOB_NAME": "rfr", "NTASKS_PER_NODE": "1", "JOB_NODELIST": "-".join(ADDRESSES[:1])}  # fmt: skip
    where = {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29412"}
    return [sys.executable, *arguments], {**{f"SLURM_{name}": value for name, value in slurm.items()}, **where}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "strategy", "kind"),
    [
        ("torchrun", "ddp", "first"),
        ("torchrun", "deepspeed_2", "first"),
        ("torchrun", "deepspeed_2", "curve"),
        ("slurm", "ddp", "first"),
        ("slurm", "ddp", "curve"),
    ],
)
def test_two_machines_are_exact(
    folders: list[str], reference: dict[str, Path], start: dict[str, torch.Tensor], launcher: str, strategy: str, kind: str
) -> None:
    name = f"nodes-{kind}-{launcher}-{strategy}"
    settings = ["train.py", *SMALL, *folders, f"name={name}", *KINDS[kind], *HALVES, f"strategy={strategy}"]
    with _two_machines() as machines:
        ranks = []
        for node, machine in enumerate(machines):
            words, environment = _launched(launcher, node, settings)
            interface = subprocess.run(["ip", "-n", machine, "-o", "-4", "addr", "show"], capture_output=True, text=True).stdout
            link = next(line.split()[1] for line in interface.splitlines() if ADDRESSES[node] in line)
            ranks.append(subprocess.Popen(
                ["ip", "netns", "exec", machine, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, env={**os.environ, **environment, "GLOO_SOCKET_IFNAME": link, "OMP_NUM_THREADS": "1"},
            ))  # fmt: skip
        try:
            said = [rank.communicate(timeout=300) for rank in ranks]
        finally:
            for rank in ranks:
                if rank.poll() is None:
                    os.killpg(rank.pid, signal.SIGKILL)
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert sorted("run_dir" in output for output, _ in said) == [False, True], "the first rank, wherever it is, tells the result"
    _check(reference, kind, Path(folders[1].removeprefix("runs_dir=")) / name, start)
