"""The callbacks of a training: throughput, samples, a graceful stop, progress lines."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from transformers import PreTrainedTokenizerBase

from rfr.generation.sampling import Sampling, sample
from rfr.records import IGNORE, AnyBatch
from rfr.strategy.loss_scale import loss_scale
from rfr.strategy.ranks import ranks
from rfr.train.checkpoints import inside_accumulation
from rfr.train.flops import peak_flops, training_flops_per_token
from rfr.train.learner import Learner
from rfr.utils.malloc import memory_gib


class Throughput(Callback):
    """Logs, at every optimizer step, what it cost and how it went: learning rate, loss scale, useful (non-padding) tokens per
    second, the share of the processor's peak that they stand for, and memory.

    Training alone counts, waiting for data included. What other callbacks do (validation, samples, checkpoints) does not: the
    clock stops before they begin, so this is the first of the callbacks, and `clock` starts it again as the last. Rates leave out
    the first step of an attempt, which compiles kernels and makes the optimizer's states, unless it is the only one.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.tokens, self.seconds = 0, 0.0
        self.total_tokens = 0  # of all attempts
        self.clock: Callback = _Clock(self)
        self._dtype, self._peak, self._flops = dtype, 0.0, 0.0
        self._since: float | None = None  # None: the clock is stopped
        self._at_last_step = 0.0
        self._first_step: tuple[int, float] | None = None  # its tokens and seconds

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Learner)
        self._peak = peak_flops(module.device, self._dtype) * trainer.world_size
        self._flops = training_flops_per_token(module.model.num_parameters())

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        module.log("lr", trainer.optimizers[0].param_groups[0]["lr"])  # logged before the step: afterwards it is the next step's
        if (scale := loss_scale(trainer)) is not None:
            module.log("loss_scale", scale)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, _: Any, batch: AnyBatch, __: int) -> None:
        assert isinstance(module, Learner)
        self._stop_clock()
        if module.grad_norm is not None:
            module.log("grad_norm", module.grad_norm)
        stands_in_B1 = (batch.labels_BT == IGNORE).all(dim=1, keepdim=True)  # for a row that was not there
        tokens = int(((batch.documents_BT > 0) & ~stands_in_B1).sum()) * trainer.world_size
        self.tokens, self.total_tokens = self.tokens + tokens, self.total_tokens + tokens
        module.log("tokens", float(self.total_tokens))
        module.log("optimizer_steps", float(trainer.lr_scheduler_configs[0].scheduler.last_epoch))
        module.log("tokens_per_second", self.tokens_per_second)
        module.log("mfu", self.tokens_per_second * self._flops / self._peak)
        module.log("memory_gib", memory_gib(module.device))
        if not inside_accumulation(trainer):
            module.log("step_seconds", self.seconds - self._at_last_step)
            self._at_last_step = self.seconds
            self._first_step = self._first_step or (self.tokens, self.seconds)

    def state_dict(self) -> dict[str, Any]:
        return {"total_tokens": self.total_tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total_tokens = state["total_tokens"]

    def on_validation_start(self, *_: Any) -> None:
        self._stop_clock()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still inside, and then goes on if it went before."""
        went = self._since is not None
        self._stop_clock()
        yield
        if went:
            self.start_clock()

    def start_clock(self) -> None:
        self._since = time.perf_counter()

    def _stop_clock(self) -> None:
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None

    @property
    def tokens_per_second(self) -> float:
        tokens, seconds = self._first_step or (0, 0.0)
        if self.tokens == tokens:
            tokens, seconds = 0, 0.0
        return (self.tokens - tokens) / (self.seconds - seconds) if self.seconds > seconds else 0.0


class _Clock(Callback):
    """Starts a throughput's clock when all other callbacks are done."""

    def __init__(self, throughput: Throughput) -> None:
        self._throughput = throughput

    def on_train_start(self, *_: Any) -> None:
        self._throughput.start_clock()

    def on_train_batch_end(self, *_: Any) -> None:
        self._throughput.start_clock()

    def on_validation_end(self, *_: Any) -> None:
        self._throughput.start_clock()


class LogSamples(Callback):
    """At each validation, stories on the same prompts, appended to `samples.jsonl`; W&B gets a table of them."""

    def __init__(self, run_dir: Path, prompts: list[str], tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> None:
        self._path, self._prompts, self._tokenizer, self._sampling = run_dir / "samples.jsonl", prompts, tokenizer, sampling

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        """Steps that a resumed run takes again will be sampled again."""
        if trainer.is_global_zero and self._path.exists():
            known = [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            self._path.write_text("".join(line for line in known if json.loads(line)["step"] <= trainer.global_step))

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Learner)
        if trainer.sanity_checking or not self._prompts:
            return
        stories = sample(module.model, self._tokenizer, self._prompts, self._sampling)  # on every rank: ZeRO-3 gathers parameters
        if trainer.is_global_zero:
            rows = [
                {"step": trainer.global_step, "prompt": story.prompt, "response": story.text, "stop": story.stop}
                for story in stories
            ]
            with self._path.open("a") as lines:
                lines.writelines(json.dumps(row) + "\n" for row in rows)
            for logger in trainer.loggers:
                if hasattr(logger, "log_samples"):
                    logger.log_samples(rows, trainer.global_step - 1)


class GracefulStop(Callback):
    """Ctrl-C and SIGTERM end the run after the optimizer step in progress; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.stopped = False
        self._signalled_at: float | None = None
        self._before: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)

    def on_train_start(self, *_: Any) -> None:
        """Lightning has installed its own SIGTERM handler by now; it would stop without a checkpoint."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, _: Any) -> None:
        if self._signalled_at is None:
            self.stopped, self._signalled_at = True, time.monotonic()
            if ranks().rank == 0:
                print("\nstopping after this step (again: at once) ...", flush=True)
        elif number == signal.SIGINT and time.monotonic() - self._signalled_at > 1.0:
            # Within a second it is the same stop, delivered to the process and to its group; a SIGTERM may also follow a Ctrl-C.
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if inside_accumulation(trainer):
            return
        if _any_rank(self.stopped, trainer):
            self.stopped = True
            trainer.should_stop = True
        elif trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # at max_steps alone Lightning would end without a last validation

    def on_fit_end(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _any_rank(flag: bool, trainer: pl.Trainer) -> bool:
    if trainer.world_size == 1:
        return flag
    total = trainer.strategy.reduce(torch.tensor(float(flag), device=trainer.strategy.root_device), reduce_op="sum")
    return bool(total > 0)


class LogProgress(Callback):
    """The progress display where there is no terminal: a line per validation and one a minute, so that logs stay readable."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if time.monotonic() - self._told_at > 60 and not inside_accumulation(trainer):
            self._tell(trainer, {"train/loss": ".4f", "tokens_per_second": ",.0f"})

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Learner)
        if not trainer.sanity_checking:
            reported = [name for name in module.validated if name.startswith("val/")]
            self._tell(trainer, dict.fromkeys(reported, ".4f") | {"train/loss": ".4f", "tokens_per_second": ",.0f"})

    def _tell(self, trainer: pl.Trainer, figures: dict[str, str]) -> None:
        self._told_at = time.monotonic()
        if trainer.is_global_zero:
            text = "  ".join(f"{name} {trainer.callback_metrics[name]:{form}}" for name, form in figures.items())
            print(f"step {trainer.global_step}/{trainer.max_steps}  {text}", flush=True)


def progress_display() -> Callback:
    """A bar on a terminal, lines elsewhere."""
    return TQDMProgressBar() if sys.stderr.isatty() else LogProgress()
