"""The rounds of a run with `rollouts=own`: draws each, and measures the policy between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from transformers import PreTrainedModel

from rfr.data.loader import Batching, RowDataModule
from rfr.errors import UserError
from rfr.objective.own_stories import RewardedStories, RoundData
from rfr.rollouts.dealing import DealtRound, RoundLoader, deal
from rfr.rollouts.health import round_health, round_line
from rfr.rollouts.people_stories import PeopleStories, people_rows, with_people
from rfr.rollouts.reward_shaping import RewardShaping
from rfr.rollouts.round_stories import ROUNDS, RoundStories, load_round, save_round
from rfr.rollouts.story_writer import Computing, Policy, Share
from rfr.strategy.deepspeed import gathered_parameters
from rfr.strategy.gather import gather_lists
from rfr.strategy.precision import computing_in
from rfr.train.build import Run
from rfr.train.checkpoints import inside_accumulation
from rfr.train.policy import start_policy
from rfr.train.watch import Watch
from rfr.utils.files import remove
from rfr.utils.malloc import give_back_freed_memory

FILE = re.compile(r"(learned|held-out)-(\d+)\.parquet")
Pause = Callable[[], AbstractContextManager[None]]


class Rounds(Callback):
    """The rounds of one run, in files of its folder: `rounds/learned-N.parquet` has what is learned from in round N, the first of
    which is 1, and `rounds/held-out-N.parquet` what the policy writes on validation prompts after N rounds. A resumed run keeps
    those that it has come to.

    Args:
        batching: of the run.
        start_step: optimizer steps already done, when resuming.
        pause: stops the clock that measures training.
    """

    def __init__(self, run: Run, batching: Batching, start_step: int, pause: Pause) -> None:
        assert run.agent is not None
        self._run, self._agent, self._settings, self._pause = run, run.agent, run.agent.settings, pause
        self._batching, self._start_step = batching, start_step
        self._shaping = RewardShaping(self._settings.shaping, self._settings.selection == "random", run.recipe.seed)
        self._people = PeopleStories(run.prepared.train.rows, run.data.train, self._settings.people, run.recipe.seed)
        self._watch = Watch(run) if run.agent.settings.watch else None
        self._spare: PreTrainedModel | None = None  # holds the policy's weights whole and in fp32, where the policy does not
        self._trainer: pl.Trainer | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of a round."""
        return self._settings.steps

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self._trainer = trainer
        if trainer.is_global_zero:
            self._remove_later_files()
        trainer.strategy.barrier()
        for number in range(self._start_step // self.steps + 1):
            self._measure(number, trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not inside_accumulation(trainer) and trainer.global_step % self.steps == 0:
            self._measure(trainer.global_step // self.steps, trainer)

    def open(self, number: int) -> DealtRound:
        """A round's rows: of its file, or of stories that the policy writes now.

        Args:
            number: of the round, counted from 0 as the loader counts.
        """
        trainer, path = self._trainer, self._path("learned", number + 1)
        assert trainer is not None
        with self._pause():
            if self._is_there(path, number * self.steps, trainer):
                stories = load_round(path)
                data = self._round_data(stories, number)
            else:
                stories = self._write(trainer, self._prompts_of(number), number * self._settings.stories, self._settings.stories)
                stories = replace(stories, reward=self._shaping(stories, number))
                data = self._round_data(stories, number)
                stories = replace(stories, weight=data.weights)
                self._save(stories, path, number + 1, trainer)
            self._tell(f"round {number + 1}", "round", stories, data.figures, trainer, number * self.steps)
        return deal(data, self.steps, self._run.recipe.model.block_size, self._batching, trainer.world_size, number)

    def _measure(self, number: int, trainer: pl.Trainer) -> None:
        """What the policy writes on validation prompts after so many rounds."""
        path = self._path("held-out", number)
        with self._pause():
            is_new = not self._is_there(path, number * self.steps, trainer)
            if is_new:
                stories = self._write(trainer, self._agent.held_out, 0, self._settings.held_out["stories"])
            else:
                stories = load_round(path)
            figures = self._fit_shaping(stories) if number == 0 else {}
            if self._watch is not None:
                self._watch(float(stories.watch.mean()), trainer, is_new=is_new)
            if is_new:
                self._save(replace(stories, reward=self._shaping(stories)), path, number, trainer)
            if is_new or number == self._start_step // self.steps:  # else it was told long ago
                title, step = f"after {number} round{'s' * (number != 1)}", max(0, number * self.steps - 1)
                self._tell(title, "held_out", stories, figures, trainer, step)

    def _is_there(self, path: Path, step: int, trainer: pl.Trainer) -> bool:
        """Whether a file is there, or is to be made now.

        Args:
            step: after which it is made.

        Raises:
            UserError: the file is gone, and the policy that wrote it too.
        """
        if not path.exists() and step != trainer.global_step:
            raise UserError(f"{path} is missing, by which the run goes on: put it back, or start the run anew")
        return path.exists()

    def _fit_shaping(self, start: RoundStories) -> dict[str, float]:
        score = self._agent.writer.score
        return self._shaping.fit(self._agent.people, start, lambda texts: score(texts, self._device)["score"])

    def _prompts_of(self, number: int) -> list[str]:
        """Those of a round; a prompt comes again when all have come, but for a few that would not fill a round."""
        prompts, of_round = self._agent.prompts, self._settings.prompts
        epoch, place = divmod(number, len(prompts) // of_round)
        order = np.random.default_rng([self._run.recipe.seed, epoch]).permutation(len(prompts))
        return [prompts[index] for index in order[place * of_round : (place + 1) * of_round]]

    def _write(self, trainer: pl.Trainer, prompts: list[str], first: int, stories: int) -> RoundStories:
        share = Share(rank=trainer.global_rank, ranks=trainer.world_size, gather=gather_lists)
        give_back_freed_memory()  # what training left is no use to writing, nor the other way round
        written = self._agent.writer(self._policy(trainer), prompts, first, stories, share)
        give_back_freed_memory()
        return written

    def _policy(self, trainer: pl.Trainer) -> Policy:
        """The policy to write with, and to read its stories with in fp32."""
        model = self._run.model
        in_parts = any(hasattr(parameter, "ds_id") for parameter in model.parameters())  # by ZeRO-3
        computing = self._computing
        if not in_parts and model.dtype == torch.float32:
            return Policy(writes=model, reads=model, trains=model, computing=computing)
        with gathered_parameters(trainer):
            weights = {name: tensor.detach().float().clone() for name, tensor in model.state_dict().items()}
        if self._spare is None:
            self._spare = start_policy(self._run.recipe, self._run.prepared.tokenizer)
        assert self._spare is not None
        self._spare.to(model.device).load_state_dict(weights)  # type: ignore[arg-type]
        whole = self._spare if in_parts else model
        return Policy(writes=whole, reads=self._spare, trains=whole, computing=computing)

    def _round_data(self, stories: RoundStories, number: int) -> RoundData:
        people, block = self._people(number), self._run.recipe.model.block_size
        eos, objective = int(self._run.prepared.tokenizer.eos_token_id), self._run.recipe.objective
        of_people = np.full(len(people.weights), np.nan)
        if objective.loss.needs_reference and len(of_people):
            of_people = self._agent.writer.reference_logprobs(people_rows(people, block, eos), self._device, self._computing)
        own = RewardedStories(
            rows=with_people(stories, people, block, eos),
            rewards_PK=stories.reward.reshape(-1, self._settings.stories),
            policy_logprobs=stories.drawn_logprob,
            start_logprobs=np.append(stories.reference_logprob, of_people),
            steps=self.steps,
            people_weights=people.weights,
        )
        return objective.round_data(own)

    def _tell(
        self, title: str, prefix: str, stories: RoundStories, more: dict[str, float], trainer: pl.Trainer, step: int
    ) -> None:  # fmt: skip
        """Log how the policy does, and print a line of it."""
        if not trainer.is_global_zero:
            return
        corpus, draws_the_policy = np.asarray(self._run.prepared.train.rows.tokens), self._settings.draws_the_policy
        figures = round_health(stories, corpus, draws_the_policy=draws_the_policy) | more
        for logger in trainer.loggers:
            logger.log_metrics({f"{prefix}/{name}": value for name, value in figures.items()}, step)
        print(f"{title}: {round_line(figures)}", flush=True)

    def _save(self, stories: RoundStories, path: Path, number: int, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            save_round(stories, path, number)

    def _path(self, kind: str, number: int) -> Path:
        return self._run.run_dir / ROUNDS / f"{kind}-{number:04d}.parquet"

    def _remove_later_files(self) -> None:
        """Those that another attempt wrote after the step that this one goes on from."""
        for path in (self._run.run_dir / ROUNDS).glob("*"):
            match = FILE.fullmatch(path.name)
            rounds_before = int(match[2]) - (match[1] == "learned") if match else 0
            if match is None or rounds_before * self.steps > self._start_step:
                remove(path)

    @property
    def _computing(self) -> Computing | None:
        """The training's precision; None: it is fp32."""
        precision = self._run.precision
        return None if precision == "fp32" else partial(computing_in, precision, self._device.type)

    @property
    def _device(self) -> torch.device:
        return self._run.model.device


class RoundDataModule(RowDataModule):
    """The rows of rounds to learn from, people's to validate on."""

    def __init__(self, rounds: Rounds, *settings: Any) -> None:
        super().__init__(None, *settings)
        self._rounds = rounds

    def train_dataloader(self) -> Any:
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        return RoundLoader(self._rounds.open, self._rounds.steps, self._batching, self._start, rank, world)
