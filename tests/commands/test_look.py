"""Looking at pairs: what is shown is what the rows hold, and stories stay text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rfr.collect.quotes import QuoteFinder
from rfr.commands.look import CONTEXT, END, PADDING, PROMPT, STORY, Look, Segment, Span, looks_at
from rfr.data.prepare import Prepared
from rfr.records import Story
from rfr.report.look_page import look_page, print_looks
from rfr.store.store import Store


@pytest.fixture(scope="module")
def looks(prepared: Prepared, demo_store: Path) -> list[Look]:
    with Store(demo_store) as store:
        return list(looks_at(prepared.train, prepared.tokenizer, store, 6))


def test_the_page_shows_the_tokens_of_the_rows(looks: list[Look], prepared: Prepared) -> None:
    assert len(looks) == len({look.story.reply_id for look in looks}) == 6
    assert sum(len(look.segments) > 1 for look in looks) == 3
    for look in looks:
        assert "".join(segment.text for segment in look.segments) == look.story.response
        for segment in look.segments:
            spans = look.rows[segment.row]
            assert segment.text in [span.text for span in spans if span.kind == STORY]
            documents = max(span.document for span in spans)
            assert sum(span.tokens for span in spans) - documents == 128  # the last token of each is only a label
            assert {span.kind for span in spans} <= {PROMPT, CONTEXT, STORY, END, PADDING}
            assert [span.document for span in spans if span.kind == PROMPT] == list(range(1, documents + 1))
    shown = looks[0].rows[looks[0].segments[0].row]
    tokens = prepared.train.rows.take(np.array([looks[0].segments[0].row])).input_ids[0]
    assert str(prepared.tokenizer.decode(tokens)).startswith(shown[0].text + shown[1].text[:20])


def test_the_raw_text_is_reddits(looks: list[Look], demo_store: Path) -> None:
    with Store(demo_store) as store:
        for look in looks:
            assert store.rows("SELECT body FROM reply WHERE id = ?", (look.story.reply_id,)) == [(look.raw,)]


EVIL = "</pre><script>alert(1)</script> & \x1b[31mred [bold]"
OFFSET = Look(
    raw_title=EVIL, raw=EVIL, story=Story(thread_id="t", reply_id="r", prompt=EVIL, response=EVIL), removed=[("link", EVIL)],
    segments=[Segment(start=0, end=3, row=0, text=EVIL)],
    rows={0: [Span(kind=STORY, document=1, text=EVIL, tokens=3), Span(kind=PADDING, document=0, text="", tokens=9)]},
)  # fmt: skip


def test_stories_are_text_on_the_page(prepared: Prepared, looks: list[Look]) -> None:
    page = look_page([OFFSET, *looks], prepared.ledger, "six <of> them")
    assert "<script" not in page
    assert "six &lt;of&gt; them" in page
    assert all(QuoteFinder([look.raw]).found_in(page) for look in looks), "a purge finds what it has to remove"
    assert not QuoteFinder(["A story that nobody ever wrote, and that is on no page."]).found_in(page)
    assert page.count("<article>") == 7
    assert "karma unknown" in page
    for split in prepared.ledger.values():
        for histogram in split["histograms"].values():
            assert all(f"before: {count:,}" in page for count in histogram["came_in"])


def test_stories_are_text_in_the_terminal(capsys: pytest.CaptureFixture[str], looks: list[Look]) -> None:
    print_looks([OFFSET, *looks])
    out = capsys.readouterr().out
    assert "\x1b[31mred" not in out
    assert "[bold]" in out
    assert "document 1, prompt" in out


def test_histograms_count_every_story(prepared: Prepared) -> None:
    account = prepared.ledger["train"]
    for histogram in account["histograms"].values():
        assert sum(histogram["came_in"]) == account["came_in"]["stories"]  # the demo's karma is all known
        assert sum(histogram["kept"]) == account["kept"]["stories"]
        assert len(histogram["bins"]) == len(histogram["came_in"]) == len(histogram["kept"])
    assert json.loads(json.dumps(account)) == account
