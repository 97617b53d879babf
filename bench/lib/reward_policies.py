"""What each reward makes of a policy, on the demo subreddit: equally many steps, judged by the true quality."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from bench.lib.report import ROOT, Figure
from rfr.demo.grammar import true_quality
from rfr.evaluate.paired_gain import PairedGain, ScoredStory, paired_gain
from rfr.generation.sampling import Sampling, sample
from rfr.model.load import load_policy
from rfr.runs.folder import load
from rfr.train.build import prepare
from rfr.train.recipe import Recipe

RWR = ["objective=rwr", "objective.weight.target_ess=0.3"]
POLICIES = {
    "bc": ["objective=bc"],
    **{f"rwr_{name}": [*RWR, f"reward={reward}"] for name, reward in (
        ("karma", "karma"), ("residual", "residual"), ("oracle", "oracle_residual"), ("quality", "oracle"),
    )},
}  # fmt: skip
MEANINGS = {
    "bc": "cloned", "rwr_karma": "raw karma", "rwr_residual": "residual", "rwr_quality": "the true quality itself",
    "rwr_oracle": "an oracle regression, which knows how karma comes about",
}  # fmt: skip
STEPS = (("rwr_karma", "bc"), ("rwr_residual", "rwr_karma"), ("rwr_oracle", "rwr_residual"))
STORIES = 36  # of each policy on each held-out prompt
SAMPLING = Sampling(max_new_tokens=200, temperature=0.7, slots=256)


def policies(seeds: int, folder: Path) -> list[Figure]:
    """Train, write and judge, all that is not there yet; what is finished is kept in `folder`."""
    judged: dict[str, list[list[ScoredStory]]] = {name: [] for name in POLICIES}
    for seed in range(seeds):
        common = [f"runs_dir={folder / f'seed-{seed}'}", f"data_dir={folder / f'seed-{seed}'}", f"corpus.demo.seed={seed}",
                  f"seed={seed}", "strategy=single", "trainer.keep_best=false"]  # fmt: skip
        _train(["experiment=demo_start", *common])
        for name, settings in POLICIES.items():
            _train(["experiment=demo", *common, *settings, f"name={name}", "evaluation.stories=0"])
            judged[name].append(_judge(folder / f"seed-{seed}" / "demo" / name, seed))
        mean_scores = {name: mean(story.score for story in stories[-1]) for name, stories in judged.items()}
        print(f"seed {seed}: " + ", ".join(f"{name} {quality:.3f}" for name, quality in mean_scores.items()), flush=True)
    return _figures(judged)


def _train(overrides: Sequence[str]) -> None:
    """As a sweep of one: finished runs are skipped, interrupted ones go on."""
    subprocess.run([sys.executable, "train.py", "-m", *overrides], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _judge(run_dir: Path, seed: int) -> list[ScoredStory]:
    """Stories on the held-out prompts, and their true quality."""
    kept = run_dir / "judged.json"
    if not kept.exists():
        cfg = load(run_dir)
        held_out = prepare(Recipe.of(cfg)).validation.stories
        prompts = list(dict.fromkeys(story.prompt for story in held_out)) * STORIES
        model, tokenizer = load_policy(str(run_dir / "model"))
        stories = [story.text for story in sample(model, tokenizer, prompts, Sampling(**{**vars(SAMPLING), "seed": seed}))]
        evaluations = [
            {"prompt": prompt, "words": len(story.split()), "score": true_quality(prompt, story)}
            for prompt, story in zip(prompts, stories, strict=True)
        ]
        kept.write_text(json.dumps(evaluations))
    return [ScoredStory(**story) for story in json.loads(kept.read_text())]


def _figures(judged: dict[str, list[list[ScoredStory]]]) -> list[Figure]:
    seeds = len(judged["bc"])
    quality = {name: mean(mean(story.score for story in of_seed) for of_seed in stories) for name, stories in judged.items()}
    steps = {(one, other): paired_gain(judged[one], judged[other]) for one, other in STEPS}
    share = (quality["rwr_residual"] - quality["bc"]) / (quality["rwr_oracle"] - quality["bc"])
    above = paired_gain(judged["rwr_residual"], judged["rwr_oracle"])
    about = f"true quality of stories on held-out prompts, mean of {seeds} subreddits"
    means = [Figure(name=f"quality_{n}", value=quality[n], target="", meaning=f"{about}; {MEANINGS[n]}") for n in POLICIES]
    return [
        *means,
        *(figure for (one, other), gain in steps.items() for figure in _gains(one, other, gain)),
        Figure(name="residual_share_of_oracle_gain", value=share, target=">= 0.8", meaning="of the gains over bc"),
        Figure(name="gain_rwr_residual_over_rwr_oracle_low", value=above.low, target="<= 0",
               meaning="residual is not significantly better than the oracle"),
    ]  # fmt: skip


def _gains(one: str, other: str, gain: PairedGain) -> list[Figure]:
    name, target = f"gain_{one}_over_{other}", "" if one == "rwr_oracle" else "> 0"
    paired = f"{MEANINGS[one]} over {MEANINGS[other]}, paired by seeds and prompts"
    return [
        Figure(name=name, value=gain.gain, target="", meaning=paired),
        Figure(name=f"{name}_low", value=gain.low, target=target, meaning="lower end of its 95 % interval"),
        Figure(
            name=f"{name}_length_controlled", value=gain.length_controlled, target="", meaning="between stories of one length"
        ),
    ]
