"""True quality is bounded, low for garbage, depends on the prompt, and can't be raised by length or repetition alone."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rfr.demo.grammar import PROMPTS, SENTENCES, all_plots, fill, parse_prompt, true_quality, write_story

RNG = random.Random(7)
PLOTS = all_plots()


def _cases(count: int) -> list[tuple[str, str, float]]:
    cases = []
    for _ in range(count):
        plot, skill = RNG.choice(PLOTS), RNG.random()
        story = write_story(plot, skill, RNG.randint(4, 12), RNG)
        cases.append((fill(RNG.choice(PROMPTS), vars(plot), RNG), story, skill))
    return cases


CASES = _cases(300)


def test_bounded_and_spread_out() -> None:
    qualities = [true_quality(prompt, story) for prompt, story, _ in CASES]
    assert min(qualities) >= 0
    assert max(qualities) <= 1
    assert np.std(qualities) > 0.15


def test_skill_shows() -> None:
    qualities = [true_quality(prompt, story) for prompt, story, _ in CASES]
    assert np.corrcoef(qualities, [skill for _, _, skill in CASES])[0, 1] > 0.6


@pytest.mark.parametrize(
    "garbage", ["", "lorem ipsum dolor", "the the the the", "!!!", "[WP] A beekeeper finds a silver key in the old forest."]
)
def test_garbage_is_low(garbage: str) -> None:
    assert true_quality(CASES[0][0], garbage) < 0.02


def test_shuffled_words_are_garbage() -> None:
    for prompt, story, _ in CASES[:50]:
        words = story.split()
        RNG.shuffle(words)
        assert true_quality(prompt, " ".join(words)) < 0.1


def test_another_prompt_lowers_a_good_story() -> None:
    good = [(p, s) for p, s, _ in CASES if true_quality(p, s) > 0.6]
    assert len(good) > 20
    lower = [true_quality(other, s) < true_quality(p, s) for (p, s), (other, _) in zip(good, good[1:] + good[:1], strict=True)]
    assert np.mean(lower) > 0.9


def test_neither_repetition_nor_padding_pays() -> None:
    filler = " ".join(fill(t, {"name": "Mara", "hero": "smuggler", "thing": "black feather", "place": "salt desert"}, RNG)
                      for t in SENTENCES["plain"])  # fmt: skip
    checked = 0
    for prompt, story, _ in CASES:
        quality = true_quality(prompt, story)
        if quality > 0:
            checked += 1
            assert true_quality(prompt, f"{story} {story}") < quality
            assert true_quality(prompt, f"{story} {story.split('. ')[0].rstrip('.')}.") <= quality + 1e-9
            assert true_quality(prompt, f"{story} {filler}") < quality + 0.1
    assert checked > 250
    # Padding that names the prompt's own hero, thing and place can mend a story that forgot them, never a whole one.
    assert np.mean([true_quality(p, f"{s} {filler}") - true_quality(p, s) for p, s, _ in CASES]) < 0


def test_quality_does_not_depend_on_length() -> None:
    rng = random.Random(3)
    plot = PLOTS[5]
    prompt = fill(PROMPTS[0], vars(plot), rng)
    short = np.mean([true_quality(prompt, write_story(plot, 0.7, 6, rng)) for _ in range(300)])
    long = np.mean([true_quality(prompt, write_story(plot, 0.7, 12, rng)) for _ in range(300)])
    assert abs(short - long) < 0.1


def test_every_prompt_parses() -> None:
    for plot in PLOTS[:100]:
        for template in PROMPTS:
            assert parse_prompt(fill(template, vars(plot), RNG)) == plot
    assert parse_prompt("[WP] Something else entirely.") is None
