"""Generates the demo subreddit: stories of known true quality whose karma has known causes.

The model of karma, per thread. A post draws `popularity` (lognormal) readers, spread over log-spaced rounds of its
first two days. In a round each story already posted gets the share of readers

    share ~ (1 + votes so far) ^ herding * max(1, words / 80) ^ length_bias

A reader votes up with probability sigmoid(-3 + quality_effect * z(quality) + noise * eps), eps one standard normal
per story (taste, fame, luck), and down with probability `downvotes`. Early stories meet the crowd before it leaves;
herding turns a small lead into a large one.

Two traps for who reads merit off the text, off by default (`TextTraps`): stories that come early are shorter and plainer, and
authors whose stories got votes add a note of thanks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from rfr.demo.grammar import NAMES, PROMPTS, Plot, all_plots, fill, true_quality, write_story
from rfr.ranges import Count, Fraction, Seed
from rfr.records import Observation, Post, Reply, Thread

SUBREDDIT = "rfr_demo"
EPOCH = 1_700_000_000  # the first post's time; fixed, so that a seed gives the same subreddit on any day
QUALITY_MEAN, QUALITY_SD = 0.421, 0.237  # of stories by `write_story`, so that quality_effect is per standard deviation
ROUNDS_H = np.geomspace(0.25, 48.0, 24)  # hours after the post at which the rounds of voting happen
LogMean = Annotated[float, Ge(-20), Le(20)]  # what can still be drawn
LogDeviation = Annotated[float, Ge(0), Le(3)]
Effect = Annotated[float, Ge(-20), Le(20)]


@dataclass(frozen=True, kw_only=True)
class KarmaModel:
    """Every cause of karma. The defaults are set beside the real corpus (`bench/calibrate.py` prints both)."""

    popularity_log_mean: LogMean = 10.3
    popularity_log_sd: LogDeviation = 0.4
    thread_size_log_mean: Annotated[float, Ge(-20), Le(6)] = 2.64  # larger threads than any
    thread_size_log_sd: Annotated[float, Ge(0), Le(2)] = 0.6
    delay_log_mean: LogMean = 1.0  # of the reply's delay in hours
    delay_log_sd: LogDeviation = 0.9
    quality_effect: Effect = 0.8
    herding: Effect = 0.75
    length_bias: Effect = 0.05
    noise: Annotated[float, Ge(0), Le(20)] = 1.0
    downvotes: Fraction = 0.002
    deleted_share: Fraction = 0.03
    bot_share: Fraction = 0.3  # of threads that carry a sticky moderator comment


@dataclass(frozen=True, kw_only=True)
class TextTraps:
    """Text that predicts karma although it is no merit.

    Args:
        hurry: how much shorter and plainer the first story is than the last one: 1: half as long, and nothing vivid in it.
        thanks: how often the author of the thread's best story thanks for the votes; the others by the share that they beat.
    """

    hurry: Fraction = 0.0
    thanks: Fraction = 0.0


THANKS = (
    "EDIT: Wow, thank you all for the upvotes!",
    "Edit: Thanks for the gold, kind stranger!",
    "Edit 2: This blew up overnight. Thank you so much, everyone!",
    "EDIT: My first gold! Part two is in the comments below.",
    "Thank you all for reading! If you liked it, there is more at r/{name}_writes.",
    "Thanks for the silver and for all the kind words, guys.",
)


@dataclass(frozen=True, kw_only=True)
class DemoSubreddit:
    """Deterministic by seed: the same arguments give the same threads, text and karma."""

    threads: Count = 480
    seed: Seed = 0
    karma: KarmaModel = field(default_factory=KarmaModel)
    text: TextTraps = field(default_factory=TextTraps)

    def __iter__(self) -> Iterator[Thread]:
        plots = all_plots()
        random.Random(self.seed).shuffle(plots)
        for index in range(self.threads):
            yield self._thread(index, plots[index % len(plots)])

    def _thread(self, index: int, plot: Plot) -> Thread:
        rng = random.Random(f"{self.seed}/{index}")
        generator = np.random.default_rng([self.seed, index])
        model = self.karma
        size = max(1, round(math.exp(rng.gauss(model.thread_size_log_mean, model.thread_size_log_sd))))
        prompt = fill(rng.choice(PROMPTS), vars(plot), rng)
        delays_h = np.exp(generator.normal(model.delay_log_mean, model.delay_log_sd, size))
        stories = [self._story(plot, hurry, rng) for hurry in self.text.hurry * _earliness(delays_h)]
        scores = draw_karma(prompt, stories, delays_h, model, generator)
        if self.text.thanks:
            stories = _with_thanks(stories, scores, self.text.thanks, random.Random(f"{self.seed}/{index}/thanks"))
        return self._as_reddit_shows_it(index, prompt, stories, delays_h, scores, rng)

    @staticmethod
    def _story(plot: Plot, hurry: float, rng: random.Random) -> str:
        skill, sentences = rng.betavariate(1.6, 1.6), rng.randint(4, 12)
        return write_story(plot, skill, round(sentences * (1 - hurry / 2)), rng, plain=hurry)

    def _as_reddit_shows_it(
        self, index: int, prompt: str, stories: list[str], delays_h: np.ndarray, scores: np.ndarray, rng: random.Random
    ) -> Thread:
        created = float(EPOCH + index * 1800)
        post = Post(
            id=_base36(index, "d"),
            subreddit=SUBREDDIT,
            title=prompt,
            author=f"prompter_{index}",
            created_utc=created,
            flair="Writing Prompt",
        )
        replies = [
            _reply(f"{index:04d}{number:03d}", post, story, created + 3600 * delay, self.karma.deleted_share, rng)
            for number, (story, delay) in enumerate(zip(stories, delays_h, strict=True))
        ]
        if rng.random() < self.karma.bot_share:
            replies.append(_moderator_note(index, post))
        by_id = dict(zip([reply.id for reply in replies], [int(s) for s in scores] + [1], strict=False))
        post_score, seen_at = int(scores.clip(0).sum() * 2 + rng.randint(20, 400)), created + 30 * 86400
        readings = {
            item: Observation(kind="reply", item_id=item, seen_at=seen_at, source="demo", score=score)
            for item, score in by_id.items()
        }
        of_post = Observation(kind="post", item_id=post.id, seen_at=seen_at, source="demo", score=post_score)
        return Thread(post=post, replies=tuple(replies), observations=readings, post_observation=of_post)


def _earliness(delays_h: np.ndarray) -> np.ndarray:
    """1 for the first story of the thread, 0 for the last."""
    return 1 - np.argsort(np.argsort(delays_h)) / max(1, len(delays_h) - 1)


def _with_thanks(stories: list[str], scores: np.ndarray, thanks: float, rng: random.Random) -> list[str]:
    beaten = (scores[:, None] > scores).mean(1)
    return [
        f"{story}\n\n{rng.choice(THANKS).format(name=rng.choice(NAMES).lower())}" if rng.random() < thanks * share else story
        for story, share in zip(stories, beaten, strict=True)
    ]


def draw_karma(
    prompt: str, stories: list[str], delays_h: np.ndarray, model: KarmaModel, generator: np.random.Generator
) -> np.ndarray:
    """Scores of one thread's stories under the model in this file's docstring: int array, one per story."""
    quality = np.array([true_quality(prompt, story) for story in stories])
    words = np.array([len(story.split()) for story in stories])
    luck = generator.normal(size=len(stories))
    return vote(quality, luck, words, delays_h, model, generator)


def vote(
    quality: np.ndarray,
    luck: np.ndarray,
    words: np.ndarray,
    delays_h: np.ndarray,
    model: KarmaModel,
    generator: np.random.Generator,
) -> np.ndarray:
    """Scores of one thread's stories, or of many draws of it.

    Args:
        quality, luck: shape (stories,) or (draws, stories); the true quality, and a standard normal.
        words, delays_h: shape (stories,).
    """
    appeal = model.quality_effect * (quality - QUALITY_MEAN) / QUALITY_SD + model.noise * luck
    upvote = 1 / (1 + np.exp(3 - appeal))
    readers = generator.lognormal(model.popularity_log_mean, model.popularity_log_sd, (*appeal.shape[:-1], 1))
    votes = np.zeros(appeal.shape)
    ups, downs = votes.copy(), votes.copy()
    for hour in ROUNDS_H:
        share = (1 + votes) ** model.herding * np.maximum(1, words / 80) ** model.length_bias * (delays_h <= hour)
        if share.sum() == 0:
            continue
        views = readers * _attention(hour) * share / share.sum(-1, keepdims=True)
        ups += generator.poisson(views * upvote)
        downs += generator.poisson(views * model.downvotes)
        votes = np.maximum(0, ups - downs)
    return (1 + ups - downs).astype(int)


def _attention(hour: float) -> float:
    """Share of a post's readers that come in the round at `hour`; sums to 1 over ROUNDS_H."""
    weights = ROUNDS_H * np.exp(-ROUNDS_H / 8)  # log-spaced rounds of a crowd that leaves with a time constant of 8 h
    return float(hour * math.exp(-hour / 8) / weights.sum())


def _reply(number: str, post: Post, story: str, created: float, deleted_share: float, rng: random.Random) -> Reply:
    gone = rng.random() < deleted_share
    body = rng.choice(("[deleted]", "[removed]")) if gone else story
    author = None if gone else f"writer_{rng.randrange(900)}"
    return Reply(id=_base36(int(number), "c"), post_id=post.id, body=body, author=author, created_utc=created)


def _moderator_note(index: int, post: Post) -> Reply:
    return Reply(
        id=_base36(index, "m"),
        post_id=post.id,
        author="AutoModerator",
        created_utc=post.created_utc,
        body="**Off-Topic Discussion**: all top-level comments must be stories. Reply here for other comments.",
        stickied=True,
        distinguished="moderator",
    )


def _base36(number: int, prefix: str) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return f"{prefix}{digits or '0'}"
