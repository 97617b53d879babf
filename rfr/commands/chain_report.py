"""`report=chain`: what each policy of a chain writes on held-out prompts, from cloning to an agent and its rounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rfr.data.corpus import Corpus
from rfr.data.prepare import Preprocess
from rfr.data.tokenise import content_of
from rfr.errors import UserError
from rfr.evaluate.score import Score
from rfr.generation.sampling import Sampling
from rfr.model.load import load_policy
from rfr.model.positions import block_of
from rfr.ranges import AboveZero, Count, Whole
from rfr.report.chain_findings import chain_findings
from rfr.report.chain_page import chain_page, round_rows, summary_rows
from rfr.report.report_files import ABOUT, HEAD, head, report_folder, require_place, write_report
from rfr.rollouts.chain import chain_figures, gain_over, held_out_rounds
from rfr.rollouts.independence import require_independent, tell_overlap
from rfr.rollouts.round_stories import ROUNDS, RoundStories, save_round
from rfr.rollouts.story_writer import Judges, Policy, Share, StoryWriter
from rfr.runs.folder import load
from rfr.strategy.thread_count import set_threads
from rfr.train.exactness import exact_attention
from rfr.train.load_judge import load_judges
from rfr.utils.terminal import print_table, printable


@dataclass(frozen=True, kw_only=True)
class ChainReport:
    """The report on a chain of policies; see `conf/report/chain.yaml`."""

    start: str | None
    against: list[str]
    score: Score
    gold: str | list[str] | None
    best_of: Count
    stories: Count
    shown_prompts: Whole
    temperatures: list[AboveZero]
    allow_overlap: bool
    sampling: Sampling
    corpus: Corpus
    preprocess: Preprocess
    threads: Count | None
    data_dir: str
    out: str | None

    def run(self) -> None:
        """Leave `chain.json`, `chain.html`, `chain.svg` and the stories as Parquet, print tables and one JSON line.

        Raises:
            UserError: a policy or judge is missing or does not fit, or the output folder holds another report.
        """
        start, golds = self._checked()
        out = Path(self.out) if self.out else report_folder(Path(start).parent / "reports", f"{self.corpus.name}-chain")
        about = {"start": start, "corpus": self.corpus.name}
        require_place(out, "chain.json", about)
        judges = load_judges(self.score, golds, self.corpus.quality, self.data_dir)
        policies, tokenizer = self._load(start)
        prompts = self._held_out(tokenizer, block_of(policies[start].config))
        tell_overlap([*self.score.folders, *golds], prompts)
        written = self._write(start, policies, tokenizer, judges, prompts)
        for number, ((name, temperature), stories) in enumerate(written.items()):
            save_round(stories, out / "stories" / f"{number:02d}-{_file_name(name)}-at-{temperature:g}.parquet", 0)
        figures: dict[str, list[dict[str, Any]]] = {
            "policies": [
                {"policy": name, "temperature": temperature,
                 **chain_figures(stories, draws_the_policy=name in policies and self._draws_the_policy(temperature)),
                 **gain_over(written[start, temperature], stories)}
                for (name, temperature), stories in written.items()
            ],
            "rounds": [row for run_dir in dict.fromkeys(Path(name).parent for name in policies) for row in _rounds(run_dir)],
        }  # fmt: skip
        top = head(
            corpus=self.corpus.name,
            simulated=self.corpus.simulated,
            start=start,
            judge=self.score.name,
            gold=", ".join(golds) or None,
            sampling=f"{self.stories} stories on each of {len(prompts)} held-out prompts, top-p {self.sampling.top_p:g}, at most "
            f"{self.sampling.max_new_tokens} tokens",
        )
        report = {ABOUT: about, HEAD: top, "start": start, "gold": ", ".join(golds), "prompts": len(prompts), **figures}
        _print(report)
        print(json.dumps({"out": str(out), "policies": len(written), "rounds": len(figures["rounds"])}), flush=True)
        shown = {name: stories for (name, temperature), stories in written.items() if temperature == self.temperatures[0]}
        page, picture = chain_page(report, shown, self.shown_prompts)
        files = {"chain.json": json.dumps(report, indent=2) + "\n", "chain.html": page}
        write_report(out, files | ({"chain.svg": picture} if picture else {}))

    def _checked(self) -> tuple[str, tuple[str, ...]]:
        """The start policy's folder and gold's.

        Raises:
            UserError: something is missing.
        """
        if self.start is None:
            raise UserError("no policy that the chain begins with: set model.weights to its folder, such as runs/<name>/model")
        if not self.score.given:
            raise UserError("report=chain scores stories: give judge= with the folder of a reward model, or score=truth")
        if not self.temperatures:
            raise UserError("report.temperatures must name a temperature, such as [1.0]")
        golds = (self.gold,) if isinstance(self.gold, str) else tuple(self.gold or ())
        require_independent(self.score.folders, golds, "gold", None if self.allow_overlap else "report.allow_overlap=true")
        return self.start, golds

    def _load(self, start: str) -> tuple[dict[str, PreTrainedModel], PreTrainedTokenizerBase]:
        """The policies by their folders, in the order of the table, in fp32; and their tokenizer."""
        names = self.against if start in self.against else [start, *self.against]
        policies: dict[str, PreTrainedModel] = {}
        tokenizers: dict[str, PreTrainedTokenizerBase] = {}
        for name in dict.fromkeys(names):
            model, tokenizers[name] = load_policy(name, partial(exact_attention, data_dir=self.data_dir))
            policies[name] = model.float().eval()
        for name, tokenizer in tokenizers.items():
            if tokenizer.get_vocab() != tokenizers[start].get_vocab():
                raise UserError(f"{name} and {start} have different tokenizers, so their divergence means nothing")
        return policies, tokenizers[start]

    def _held_out(self, tokenizer: PreTrainedTokenizerBase, block: int) -> list[str]:
        """The prompts of the held-out threads, each once."""
        with self.corpus.open() as store:
            preprocess = replace(self.preprocess, block_size=block)
            prepared = preprocess.prepare(store, lambda _: tokenizer, [content_of(tokenizer)], Path(self.data_dir) / "cache")
        prompts = list(dict.fromkeys(prepared.validation.stories.column("prompt").tolist()))
        self.score.require(prompts)
        return prompts

    def _write(
        self,
        start: str,
        policies: Mapping[str, PreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
        judges: Judges,
        prompts: SequenceOf[str],
    ) -> dict[tuple[str, float], RoundStories]:
        """The stories of each policy at each temperature, and the best of several of the start's."""
        set_threads(self.threads, policies[start].num_parameters())
        written: dict[tuple[str, float], RoundStories] = {}
        for name, model in policies.items():
            policy = Policy(writes=model, reads=model, trains=model, computing=None)
            best_of = {name: 1} | ({f"best of {self.best_of} of {name}": self.best_of} if name == start else {})
            for shown_name, of in best_of.items():
                for temperature in self.temperatures:
                    sampling = replace(self.sampling, temperature=temperature)
                    writer = StoryWriter(tokenizer, sampling, policies[start], judges, block_of(model.config))
                    written[shown_name, temperature] = writer(policy, prompts, 0, self.stories, Share(), of)
                    print(f"{shown_name} at temperature {temperature:g}: {len(prompts) * self.stories:,} stories", flush=True)
        return written

    def _draws_the_policy(self, temperature: float) -> bool:
        """Whether stories are drawn from the policy as it is, so that the divergence from the start is known."""
        return replace(self.sampling, temperature=temperature).truncation == (1.0, 0, 1.0)


def _rounds(run_dir: Path) -> list[dict[str, Any]]:
    """Of a run with rounds, the figures after each."""
    if not (run_dir / ROUNDS).is_dir():
        return []
    drawn = load(run_dir).rollouts.sampling
    own_config = drawn.get("use_generation_config", False)
    draws_the_policy = (drawn.temperature, drawn.top_k, drawn.top_p) == (1.0, 0, 1.0) and not own_config
    rows = held_out_rounds(run_dir / ROUNDS, draws_the_policy=draws_the_policy)
    return [{**row, "temperature": drawn.temperature} for row in rows]


def _file_name(name: str) -> str:
    """Of a policy's stories: the last two parts of its folder."""
    return re.sub(r"[^\w.-]+", "-", "-".join(Path(name).parts[-2:]))


def _print(report: Mapping[str, Any]) -> None:
    for temperature, rows in summary_rows(report):
        print_table(rows, title=f"on {report['prompts']} held-out prompts, temperature {temperature:g}")
    if rows := round_rows(report):
        print_table(rows, title="after each round, at the temperature of the rounds")
    for sentence in chain_findings(report):
        print(f"- {printable(sentence)}")
