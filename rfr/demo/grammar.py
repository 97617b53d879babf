"""The demo subreddit's language: a story grammar, and the true quality of any text under it.

A prompt names a hero, a thing and a place. A good story is about those three, follows one named character
through opening, conflict, turn and ending, shows rather than states, and repeats nothing.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

ROLES: dict[str, tuple[str, ...]] = {
    "hero": (
        "lighthouse keeper", "clockmaker", "smuggler", "retired witch", "cartographer", "night nurse", "grave digger",
        "young dragon", "court jester", "beekeeper", "space pilot", "librarian",
    ),
    "thing": (
        "silver key", "broken compass", "paper crown", "glass heart", "stolen map", "music box", "black feather",
        "rusted sword", "talking mirror", "jar of stars", "last candle", "sealed letter",
    ),
    "place": (
        "drowned city", "salt desert", "empty castle", "moon colony", "old forest", "floating market", "frozen harbor",
        "silent school", "tower of ash", "underground river", "burning library", "abandoned station",
    ),
}  # fmt: skip
NAMES = ("Mara", "Tobias", "Ilse", "Anselm", "Wren", "Odette", "Cassian", "Juno", "Bram", "Petra", "Silas", "Noor")
PAINT = ("copper", "ash", "thunder", "honey", "old snow", "wet stone", "smoke", "violets", "iron", "salt")

PROMPTS = (
    "[WP] A {hero} finds a {thing} in the {place}.",
    "[WP] In the {place}, a {hero} is handed a {thing} by a stranger.",
    "[WP] The {thing} chose a {hero}, and the {place} will never be the same.",
    "[WP] You are a {hero}. Everyone in the {place} wants your {thing}.",
    "[WP] Nobody returns from the {place}, except one {hero} with a {thing}.",
)
# The order of the beats is the order of a good story; the kinds after them belong anywhere.
BEATS = ("opening", "conflict", "turn", "ending")
SENTENCES: dict[str, tuple[str, ...]] = {
    "opening": (
        "{name} had been the {hero} of the {place} for eleven years.",
        "Every {hero} in the {place} knew the name of {name}.",
        "{name} the {hero} came to the {place} with nothing but a {thing}.",
        "The {thing} was waiting when {name} the {hero} reached the {place}.",
    ),
    "conflict": (
        "Then someone in the {place} asked {name} for the {thing}.",
        "But the {thing} had begun to whisper to {name} at night.",
        "{name} could keep the {thing} or save the {place}, not both.",
        "They came for {name} and the {thing} before dawn.",
    ),
    "turn": (
        "Only then did {name} understand what the {thing} was for.",
        "So {name} did what no {hero} had ever done.",
        "{name} broke the {thing} and everything stopped.",
        "It was {name} who had hidden the {thing} all along.",
    ),
    "ending": (
        "The {place} kept its secret, and {name} kept the {thing}.",
        "{name} never spoke of the {place} again.",
        "In the end a {hero} is only what the {place} remembers.",
        "And {name} walked out of the {place}, smiling.",
    ),
    "vivid": (
        "The air tasted of {paint} and {paint}.",
        "{name} felt the {thing} go cold as {paint}.",
        "Light the color of {paint} pooled on the floor of the {place}.",
        "Somewhere in the {place} a bell rang like {paint}.",
        "The {thing} smelled of {paint} and rain.",
        "{name} counted nine breaths and the taste of {paint}.",
    ),
    "plain": (
        "{name} looked at the {thing} for a while.",
        "The {hero} walked across the {place}.",
        "{name} thought about the {thing} and the {place}.",
        "There was nothing else to do in the {place}.",
        "{name} said something and sat down.",
        "The {hero} waited.",
    ),
    "cliche": (
        "It was a dark and stormy night in the {place}.",
        "Little did {name} know what was coming.",
        "Time stood still for {name}.",
        "{name} woke up and it was all a dream.",
        "Suddenly, out of nowhere, something happened.",
        "{name} let out a breath they did not know they were holding.",
    ),
}
SLOTS: dict[str, tuple[str, ...]] = {**ROLES, "name": NAMES, "paint": PAINT}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def _pattern(template: str) -> re.Pattern[str]:
    """The template as a regex; a slot that occurs twice gets a numbered group."""
    parts, counts = re.split(r"\{(\w+)\}", template), dict.fromkeys(SLOTS, 0)
    pattern = re.escape(parts[0])
    for slot, text in zip(parts[1::2], parts[2::2], strict=True):
        counts[slot] += 1
        pattern += f"(?P<{slot}_{counts[slot]}>{'|'.join(SLOTS[slot])}){re.escape(text)}"
    return re.compile(pattern)


PATTERNS = [(kind, _pattern(template)) for kind, templates in SENTENCES.items() for template in templates]
PROMPT_PATTERNS = [_pattern(template) for template in PROMPTS]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """The hero, thing and place that a prompt asks for."""

    hero: str
    thing: str
    place: str


def all_plots() -> list[Plot]:
    return [Plot(hero=h, thing=t, place=p) for h, t, p in product(*ROLES.values())]


def fill(template: str, slots: dict[str, str], rng: random.Random) -> str:
    """Fill a template; `{paint}` is drawn afresh each time it occurs."""
    return re.sub(r"\{(\w+)\}", lambda m: rng.choice(PAINT) if m[1] == "paint" else slots[m[1]], template)


@lru_cache(maxsize=2**16)
def parse_sentence(sentence: str) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    """The kind of a grammatical sentence and its (slot, filler) pairs; None for anything else."""
    for kind, pattern in PATTERNS:
        if match := pattern.fullmatch(sentence):
            return kind, tuple((slot.split("_")[0], filler) for slot, filler in match.groupdict().items())
    return None


def parse_prompt(prompt: str) -> Plot | None:
    for pattern in PROMPT_PATTERNS:
        if match := pattern.fullmatch(prompt.strip()):
            return Plot(hero=match["hero_1"], thing=match["thing_1"], place=match["place_1"])
    return None


def true_quality(prompt: str, story: str) -> float:
    """The quality of any text as an answer to a prompt, in [0, 1].

        quality = valid^2 * steady * (0.35 relevance + 0.35 arc + 0.30 craft)

    A grammatical sentence counts once, where it first stands. valid: share of the story's words inside those.
    steady: share of name mentions that go to the most mentioned character. relevance: over the three roles,
    right mentions / mentions (0 where a role is never mentioned). arc: longest chain of beats told in order / 4.
    craft: vivid sentences up to two fifths of the story, less the share of cliches. All are shares, so neither
    length nor repetition raises them. Prompts outside the grammar give 0.
    """
    plot = parse_prompt(prompt)
    sentences = dict.fromkeys(s for s in SENTENCE_END.split(story.strip()) if s)
    parsed = {sentence: result for sentence in sentences if (result := parse_sentence(sentence))}
    if plot is None or not parsed:
        return 0.0
    kinds = [kind for kind, _ in parsed.values()]
    fillers = [story for _, stories in parsed.values() for story in stories]
    valid = sum(len(sentence.split()) for sentence in parsed) / len(story.split())
    relevance = sum(_share(fillers, role, getattr(plot, role)) for role in ROLES) / len(ROLES)
    craft = min(1.0, kinds.count("vivid") / len(kinds) / 0.4) - kinds.count("cliche") / len(kinds)
    blend = 0.35 * relevance + 0.35 * _longest_chain(kinds) / len(BEATS) + 0.30 * max(0.0, craft)
    return valid**2 * _steadiness(fillers) * blend


def _share(fillers: list[tuple[str, str]], role: str, wanted: str) -> float:
    mentions = [filler for slot, filler in fillers if slot == role]
    return mentions.count(wanted) / len(mentions) if mentions else 0.0


def _steadiness(fillers: list[tuple[str, str]]) -> float:
    names = [filler for slot, filler in fillers if slot == "name"]
    return max(map(names.count, names)) / len(names) if names else 0.5


def _longest_chain(kinds: list[str]) -> int:
    """Length of the longest strictly increasing run of beats, other sentences between them allowed."""
    best = [0] * len(BEATS)
    for kind in kinds:
        if kind in BEATS:
            beat = BEATS.index(kind)
            best[beat] = max(best[beat], 1 + max(best[:beat], default=0))
    return max(best)


def write_story(plot: Plot, skill: float, sentences: int, rng: random.Random, *, plain: float = 0.0) -> str:
    """A story by a writer of `skill` in [0, 1]: the less skill, the more each aspect of quality suffers.

    Args:
        plain: the share of the vivid sentences that are plain ones instead.
    """
    slots = {"hero": plot.hero, "thing": plot.thing, "place": plot.place, "name": rng.choice(NAMES)}
    beats = [beat for beat in BEATS if rng.random() < 0.35 + 0.65 * skill]
    if rng.random() > 0.4 + 0.6 * skill:
        rng.shuffle(beats)
    colour = 0.1 + 0.8 * skill
    mix = (colour * (1 - plain), 0.5 + colour * plain, 0.9 - 0.8 * skill)
    others = rng.choices(("vivid", "plain", "cliche"), mix, k=max(1, sentences - len(beats)))
    kinds = _interleave(beats, others, rng)
    story: list[str] = []
    for kind in kinds:
        if story and rng.random() < 0.12 * (1 - skill):
            story.append(rng.choice(story))  # repeats a sentence
            continue
        story.append(fill(rng.choice(SENTENCES[kind]), _stray(slots, skill, rng), rng))
    return " ".join(_slip(sentence, rng) if rng.random() < 0.1 * (1 - skill) else sentence for sentence in story)


def _interleave(beats: list[str], others: list[str], rng: random.Random) -> list[str]:
    """Both lists, each in its own order, mixed at random; the first beat stays first."""
    order = [True] * max(0, len(beats) - 1) + [False] * len(others)
    rng.shuffle(order)
    rest, fillers = iter(beats[1:]), iter(others)
    return beats[:1] + [next(rest) if is_beat else next(fillers) for is_beat in order]


def _stray(slots: dict[str, str], skill: float, rng: random.Random) -> dict[str, str]:
    """The slots, each now and then replaced by another filler: a writer losing the thread."""
    lapse = 0.3 * (1 - skill)
    return {slot: rng.choice(SLOTS[slot]) if rng.random() < lapse else filler for slot, filler in slots.items()}


def _slip(sentence: str, rng: random.Random) -> str:
    """The sentence with one word lost: no longer grammatical."""
    words = sentence.split()
    del words[rng.randrange(len(words) - 1)]
    return " ".join(words)
