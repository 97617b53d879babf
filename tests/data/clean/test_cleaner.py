"""Cleaning: what readers would not read aloud is gone, told, and little; what is no story stays out, under its reason."""

from __future__ import annotations

import csv
import gzip
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfr.data.clean.cleaner import COMMON, FEW_COMMON, NEXT_TO_NONE, Clean, clean_story, is_english
from rfr.data.clean.markdown import Removals, plain_text
from rfr.data.clean.titles import canonical_prompt, no_story_tag, tagged_title
from rfr.records import Post, Story

STORY = (
    "The keeper of the lighthouse had been there for as long as they could remember, and she did not like it when people asked. "
    * 2
)


def _pair(**changes: object) -> Story:
    return Story(**{"thread_id": "t", "reply_id": "r", "prompt": "[WP] A.", "response": STORY, "score": 1} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("title", "prompt"),
    [
        ("[WP] You wake up.", "[WP] You wake up."),
        ("wp you are a 17yearold", "[WP] you are a 17yearold"),
        ("[EU]  Frodo\n keeps it", "[EU] Frodo keeps it"),
        ("No tag here", "[WP] No tag here"),
        ("PM says no", "[WP] PM says no"),
        ("PI day begins", "[WP] PI day begins"),
        ("eu a hobbit finds a second ring", "[EU] a hobbit finds a second ring"),  # a title robbed of its signs
        ("EU: Frodo keeps it", "[EU] Frodo keeps it"),
        ("[Wp]: a question", "[WP] a question"),
        ("[WP] Tom &amp; Jerry\u200b", "[WP] Tom & Jerry"),
    ],
)
def test_prompts_have_one_form(title: str, prompt: str) -> None:
    assert canonical_prompt(title) == prompt


@pytest.mark.parametrize(
    ("title", "flair", "tagged", "no_prompt"),
    [
        ("[WP] You wake.", None, "[WP] You wake.", None),
        ("[WP] You wake.", "Established Universe", "[EU] You wake.", None),
        ("You wake.", "[SP]", "[SP] You wake.", None),
        ("[wp] You wake.", "Weekend fun", "[wp] You wake.", None),
        ("[WP] You wake.", "Prompt Inspired", "[PI] You wake.", "PI"),
        ("[PI] You wake.", "Writing Prompt", "[WP] You wake.", None),  # a moderator knows better
        ("[ot] Sunday", None, "[ot] Sunday", "OT"),
        ("(CC) Please judge", "", "(CC) Please judge", "CC"),
        ("PI day is every day.", None, "PI day is every day.", None),
        ("News", "Mod Post", "[MOD] News", "MOD"),
    ],
)
def test_the_flair_is_the_tag(title: str, flair: str | None, tagged: str, no_prompt: str | None) -> None:
    post = Post(id="p", subreddit="s", title=title, flair=flair)
    assert (tagged_title(post), no_story_tag(post)) == (tagged, no_prompt)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A  b\u200b\x1b[31m\n\n\n\nc &lt;d&gt;\r\n", "A b[31m\n\nc <d>"),
        ("&amp;#x200B;\n\nOne", "One"),
        ("**Bold** and *slanted* and ***both***, _so_ ~~not~~ this", "Bold and slanted and both, so not this"),
        ("2 * 3 * 4 and snake_case_name stay, as does f\\*\\*\\*", "2 * 3 * 4 and snake_case_name stay, as does f***"),
        ("One\n\n***\n\nTwo\n\n\\-\\-\\-\\-\n\nThree", "One\n\nTwo\n\nThree"),
        ("# Part 1\n\n> He said", "Part 1\n\nHe said"),
        ('See [this one](https://x.y/z?a=(b) "t") or https://x.y/z.', "See this one or ."),
        ("See [this one](https://x.y/z) or <https://x.y/z>, he said", "See this one or , he said"),
        ("10^th of ^(May)", "10th of May"),
        ("`> start` and ``x`` but not `` ` ``", "> start and x but not `` ` ``"),
        ('2^10 and [spoiler](#s "he dies") and >!she too!<', "2^10 and he dies and she too"),
        ("A\x0bB\x85C", "A B C"),
        ("👩\u200d🚀 क\u094d\u200dष wo\u200drd\u200d", "👩\u200d🚀 क\u094d\u200dष word"),
        ("Z\u0310\u0311\u0312\u0313algo naïve e\u0301", "Zalgo naïve e\u0301"),
    ],
)
def test_markup_goes_and_words_stay(raw: str, clean: str) -> None:
    assert plain_text(raw) == clean


@given(st.text(max_size=400))
def test_cleaning_twice_changes_nothing_more_that_can_be_seen(text: str) -> None:
    once = plain_text(text)
    assert not any(ord(c) < 32 and c != "\n" for c in once)
    assert "\n\n\n" not in once
    assert once == once.strip()


@pytest.mark.parametrize(
    "text",
    ["\\-" * 5000 + "x", "*a " * 5000, "_" * 20_000, "[" * 20_000, "> " * 10_000 + "x", "http://" * 3000, "=" * 30_000 + "x"],
)
def test_no_pattern_takes_for_ever(text: str) -> None:
    began = time.perf_counter()
    clean_story(text)
    assert time.perf_counter() - began < 10, "linear patterns take well under a second"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"response": "too few words"}, "too short"),
        ({"response": "I wrote it here: https://x.y/z"}, "no story but a link"),
        ({"response": "01010000 " * 40}, "not in English"),
        ({"response": "Ich sah mich nach dem Licht um und fürchtete das Urteil, das kommen würde. " * 3}, "not in English"),
        ({"response": "Hi there, this post has been removed. " + STORY}, "a moderators' or bot's notice"),
        ({"response": "**Off-Topic Discussion**: reply here. " + STORY}, "a moderators' or bot's notice"),
        ({"response": STORY + "I am a bot, and this action was performed automatically."}, "a moderators' or bot's notice"),
        ({"prompt": "[WP]  "}, "no prompt"),
        ({"response": "Edit: " + STORY}, "too short"),
    ],
)  # fmt: skip
def test_a_reply_that_is_no_story_has_its_reason(changes: dict[str, object], reason: str) -> None:
    assert isinstance(Clean(min_words=20)(_pair()), Story)
    assert Clean(min_words=20)(_pair(**changes)) == reason


@pytest.mark.parametrize(
    "note",
    [
        "EDIT: thanks for the gold!", "Edit 2: typo", "*A/N: my first one, be nice.*", "Thanks for reading! More at /r/mine.",
        "/r/mine", "If you enjoyed this, [visit my sub](https://x.y/z)", "(Sorry for the formatting, I'm on mobile.)",
        "Feedback is welcome.", "Part 2 below.", "258/365", "Author's note: I wrote this in ten minutes.",
    ],
)  # fmt: skip
def test_notes_to_the_reader_go_at_both_ends_and_are_told(note: str) -> None:
    removals = Removals()
    assert clean_story(f"{note}\n\n{STORY}\n\n{note}", removals) == STORY.strip()
    assert [kind for kind, _ in removals.pieces].count("note") == 2


@pytest.mark.parametrize(
    "line",
    [
        '"Thanks for nothing," he said.',
        "Sorry was all she could say.",
        "Edith ran.",
        "Note that he never came.",
        "I hope you rot.",
    ],
)
def test_text_that_only_sounds_like_a_note_stays(line: str) -> None:
    assert clean_story(f"{line}\n\n{STORY}\n\n{line}") == f"{line}\n\n{STORY.strip()}\n\n{line}"


def _cases(folder: Path, name: str) -> list[tuple[str, str]]:
    with (folder / "cleaning" / name).open(newline="") as lines:
        return [
            (raw.replace("<URL>", "https://x.y/z"), clean.replace("<URL>", "https://x.y/z"))
            for raw, clean in list(csv.reader(lines))[1:]
        ]


def _bare(text: str) -> str:
    return " ".join(plain_text(text).split()).strip("*_ ")


@pytest.mark.parametrize("sentence", [
    "Every comment was removed from the record. I waited. ", "The prompt was removed by the teacher. ",
    '"Message the mods," she said. ',
    "Welcome aboard. I am a bot and I will be your guide on this ship. ", "Off-topic discussion, he thought. ",
])  # fmt: skip
def test_a_story_about_bots_and_notices_is_a_story(sentence: str) -> None:
    assert isinstance(Clean(min_words=20)(_pair(response=sentence + STORY)), Story)


# Each was once taken for a note to the reader.
TELLING = [
    "I'm not a hero, and I never wanted to be one.",
    "I'm new here. The other ghosts keep their distance.",
    "I wrote this letter so that somebody would know what happened.",
    "I did this. Every body in that street is mine.",
    "This was the first time he had ever seen the sea.",
    "First time I died, it hurt.",
    "First ever man on Mars, they called me.",
    '"Thank you, stranger," the king said.',
    '"Sorry I\'m late," he said, sitting down.',
    '"Forgive me, Father, for what I have written."',
    "If you want to live, run.",
    '"Did you enjoy that?" asked the demon.',
    "I hope you enjoyed your last meal, Mr. Crane.",
    "On my phone there were forty missed calls.",
    "Join us, and your story will be told here.",
    "Visit my grave when you are done writing.",
    "Note: burn this letter once you have read it.",
    "PS: I love you. Tell the children.",
    "Inspired by hatred, he lifted the sword.",
    "To be continued, he thought, that is all anyone can ask of a life.",
    "The king said that criticism was always welcome, and then hanged the critic.",
    "My website was the last one on Earth.",
    "He subscribed to three newspapers and read none of them.",
    "That was the first lie I told her.",
    "I made this town what it is.",
    "I am not a good man.",
    "Thank you for being so kind.",
]  # fmt: skip


@pytest.mark.parametrize("paragraph", TELLING)
def test_a_story_may_begin_and_end_as_notes_do(paragraph: str) -> None:
    middle = "The river froze in the second week, and nobody crossed it before the thaw."
    for story in (f"{paragraph}\n\n{middle}", f"{middle}\n\n{paragraph}"):
        assert clean_story(story) == story


@pytest.mark.parametrize(
    ("name", "at_least"), [("prune_story_test.csv", 46), ("prune_submission_test.csv", 39), ("clean_linebreaks_test.csv", 12)]
)
def test_real_cases_are_cleaned_as_people_did(shared_data: Path, name: str, at_least: int) -> None:
    cases = _cases(shared_data, name)
    right = [_bare(clean_story(raw)) in (_bare(clean), _bare(clean_story(clean))) for raw, clean in cases]
    assert sum(right) >= at_least, [raw for (raw, _), good in zip(cases, right, strict=True) if not good]
    assert len(cases) - at_least <= 5


def test_an_odd_story_in_english_is_english() -> None:
    odd = "Click. Open bank. Delete bank. Rename bank. Four active employees. Guard: asleep. Permissions: only the manager. " * 5
    common = sum(word.strip(".:").lower() in COMMON for word in odd.split()) / len(odd.split())
    assert NEXT_TO_NONE < common < FEW_COMMON
    assert is_english(odd.split())


def test_real_languages(shared_data: Path) -> None:
    cases = _cases(shared_data, "prune_language_test.csv")
    assert len(cases) == 9
    for raw, foreign in cases:
        assert is_english(raw.split()) == (foreign == "FALSE"), raw[:80]


def test_real_stories_lose_little_and_all_of_it_is_told(shared_data: Path) -> None:
    """Every fifth of them, since all take a while; what went and what stayed add up, but for white space and entities."""
    came, went = 0, 0
    left_out: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with gzip.open(shared_data / "writingprompts.jsonl.gz", "rt") as lines:
        for line in list(lines)[::5]:
            row, removals = json.loads(line), Removals()
            story = clean_story(row["body"], removals)
            came, went = came + len(row["body"]), went + len(row["body"]) - len(story)
            kinds.update({kind: len(text) for kind, text in removals.pieces})
            recorded = sum(len("".join(text.split())) for _, text in removals.pieces)
            assert len("".join(row["body"].split())) - len("".join(story.split())) <= recorded + row["body"].count("&") * 8
            outcome = Clean(min_words=20)(_pair(prompt=row["title"], response=row["body"]))
            left_out[outcome if isinstance(outcome, str) else "kept"] += 1
    assert went / came < 0.02
    assert kinds["note"] > 1000
    assert left_out["kept"] > 0.99 * left_out.total(), left_out
