"""What people see: text from Reddit is shown as text, in the page and in the terminal."""

from __future__ import annotations

import pytest

from rfr.report.evaluation_page import evaluation_page
from rfr.utils.terminal import print_table

NASTY = '</script><script>alert(1)</script> <img src=x onerror="alert(2)">'


def test_the_page_shows_stories_as_text() -> None:
    figure = {"ratio": 2, "condition": "all", "accuracy": 0.5, "low": 0.4, "high": 0.6, "pairs": 3, "threads": 2}
    rows = [{**figure, "score": NASTY}, {**figure, "score": "none", "pairs": 0}]
    evaluation = {"model": NASTY, "pair_accuracy": rows, "unavailable_rewards": {"residual": NASTY}}
    stories = [{"prompt": NASTY, "response": NASTY, "quality": 0.5}]
    page = evaluation_page(evaluation, [stories], 8, {"corpus": NASTY, "command": NASTY})
    assert page.count("&lt;script&gt;alert(1)") == 9
    assert "<script" not in page
    assert "<img" not in page
    assert "–" in page


def test_a_table_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"run": "\x1b[2J[bold]x[/bold]\a"}], title="t")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\a" not in out
    assert "[bold]x[/bold]" in out
