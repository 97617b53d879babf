"""The comparison of runs: its rows, its groups over seeds, and the page as a browser shows it."""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rfr.errors import UserError
from rfr.loggers.loggers import MetricsCsv
from rfr.loggers.wandb_run import WandbLog
from rfr.report.comparison import Comparison, comparison_page
from rfr.runs.best import best_groups, metric_of
from rfr.runs.curves import curves, samples
from rfr.runs.results import ResultTable
from rfr.train.best_model import SaveBest

RATES, SCHEDULES, OBJECTIVES, SEEDS = (
    (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    ("Constant", "Cosine", "Linear", "Wsd"),
    ("bc", "rwr"),
    range(5),
)
EVIL = "</script><script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">"


def _runs() -> ResultTable:
    """200 of them, whose best rate is 1e-3 and whose rwr is better by 0.1; some have failed."""
    luck, rows = random.Random(0), []
    for index, (rate, schedule, objective, seed) in enumerate(itertools.product(RATES, SCHEDULES, OBJECTIVES, SEEDS)):
        loss = 2.5 + 0.3 * abs(math.log10(rate / 1e-3)) - 0.1 * (objective == "rwr") + luck.gauss(0, 0.01)
        failed = index % 37 == 5
        rows.append({
            "run": f"run-{index:03d}", "state": "failed" if failed else "finished", "optimizer.lr": rate, "schedule": schedule,
            "objective.name": objective, "seed": seed, "val/nll_per_token": None if failed else loss, "ess": 1.0,
        })  # fmt: skip
    varied = ["optimizer.lr", "schedule", "objective.name", "seed"]
    return ResultTable(rows=rows, run_dirs=[], varied=varied, figures=["val/nll_per_token", "ess"])


def _page(runs: ResultTable, points: int) -> str:
    columns = {
        "step": [float(step) for step in range(points)], "train/loss": [5 * math.exp(-step / 99) + 2 for step in range(points)],
        "lr": [1e-3 * (1 - step / points) for step in range(points)],
    }  # fmt: skip
    failures = ["the loss is nan" if row["state"] == "failed" else None for row in runs.rows]
    stories = [{"run": index, "step": points, "text": f"{EVIL} of {row['run']}"} for index, row in enumerate(runs.rows)]
    comparison = Comparison(
        rows=runs.rows, varied=runs.varied, figures=runs.figures, metric=metric_of(runs), best=best_groups(runs),
        failures=failures, curves=[columns] * len(runs.rows), samples=[{"prompt": f"[WP] {EVIL}", "stories": stories}],
    )  # fmt: skip
    return comparison_page(f"runs/<{EVIL}>", comparison)


def test_the_best_of_each_is_told_with_an_interval_over_seeds() -> None:
    runs = _runs()
    best = best_groups(runs)
    assert len(best) == len(RATES) + len(SCHEDULES) + len(OBJECTIVES)
    by_name = {row["of"]: row for row in best}
    assert by_name["objective.name=bc"]["with"].startswith("optimizer.lr=0.001")
    assert by_name["optimizer.lr=0.01"]["mean"] == pytest.approx(2.7, abs=0.02)
    first = best[0]
    assert first["of"] == "optimizer.lr=0.001"
    assert first["low"] < first["mean"] < first["high"]
    assert all(row["runs"] in (4, 5) for row in best), "failed runs have no part in a mean"


def test_runs_are_ranked_by_a_figure_that_all_finished_ones_have() -> None:
    runs = _runs()
    assert metric_of(runs) == "val/nll_per_token"
    for row in runs.rows:
        row["quality"] = 0.5 if row["objective.name"] == "bc" else 0.6
    assert metric_of(runs) == "quality"
    assert best_groups(runs)[-2]["of"] == "objective.name=rwr", "more quality is better"
    runs.rows[0].pop("quality")
    assert metric_of(runs) == "val/nll_per_token"


def test_curves_keep_every_validation_and_no_more_rows_than_can_be_seen(tmp_path: Path) -> None:
    assert curves(tmp_path) == {}
    lines = ["step,train/loss,val/nll_per_token,step_seconds,other"]
    lines += [f"{step},{1 / (step + 1)},{'' if step % 777 else 2.5},0.5,9" for step in range(5000)]
    lines.append("5000,nan,,0.5,9")
    (tmp_path / "metrics.csv").write_text("\n".join(lines))
    columns = curves(tmp_path)
    assert set(columns) == {"step", "seconds", "train/loss", "val/nll_per_token"}
    assert 800 <= len(columns["step"]) <= 1010
    assert sum(value is not None for value in columns["val/nll_per_token"]) == 7
    assert columns["seconds"][-1] == pytest.approx(2500.5)
    assert columns["train/loss"][-1] is None


DAMAGED = [b"step,lr\nx,y\n", b"\xff\xfe", b"step,lr\n1,2,3\n"]


@pytest.mark.parametrize("content", DAMAGED[:2])
def test_curves_name_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics.csv is damaged .*: copy it again, or remove it"):
        curves(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"step": 1}\n', b"[1]\n"])
def test_samples_name_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "samples.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"samples.jsonl is damaged"):
        samples([tmp_path])


@pytest.mark.parametrize("content", DAMAGED)
def test_loggers_name_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content + b"2,3\n")
    with pytest.raises(UserError, match=r"metrics.csv is damaged"):
        WandbLog(None, -1, corpus_text=False).backfill(tmp_path / "metrics.csv")
    if content != DAMAGED[2]:
        with pytest.raises(UserError, match=r"metrics.csv is damaged"):
            MetricsCsv(tmp_path)


def test_the_best_policys_damaged_figures_are_named(tmp_path: Path) -> None:
    (tmp_path / "rfr.json").write_text("{")
    with pytest.raises(UserError, match=r"rfr.json is damaged"):
        SaveBest(tmp_path, None, "val/nll_per_token", {})  # type: ignore[arg-type]


def test_the_last_whole_story_of_each_run_is_shown(tmp_path: Path) -> None:
    run_dirs = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for run_dir in run_dirs:
        run_dir.mkdir()
    rows = [{"step": step, "prompt": "p", "response": f"at {step}"} for step in (1, 2)]
    (run_dirs[0] / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "pro')
    (run_dirs[2] / "samples.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (sample,) = samples(run_dirs)
    assert sample["prompt"] == "p"
    assert sample["stories"] == [{"run": 0, "step": 2, "text": "at 2"}, {"run": 2, "step": 1, "text": "at 1"}]


def test_a_value_that_is_no_number_does_not_break_the_page() -> None:
    runs = ResultTable(
        rows=[{"run": "a", "state": "finished", "lr": math.inf, "val/nll_per_token": math.nan}], run_dirs=[], varied=["lr"],
        figures=["val/nll_per_token"],
    )  # fmt: skip
    page = _page(runs, 2)
    data = page.split("<script type=application/json id=data>")[1].split("</script>")[0]
    assert json.loads(data)["rows"] == [{"run": "a", "state": "finished", "lr": "inf", "val/nll_per_token": "nan"}]


CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("takes chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """200 runs of 1,000 points in a browser; at the end nothing was complained of and nothing was asked for."""
    file = tmp_path / "comparison.html"
    file.write_text(_page(_runs(), 1000))
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page
    assert complaints == []
    assert asked == [file.as_uri()]
    page.close()


def _first_cells(page: Any, column: int) -> list[str]:
    return page.locator(f"#runs tbody tr:visible td:nth-child({column + 2})").all_inner_texts()


def test_the_page_of_200_runs_is_ready_within_two_seconds(shown: Any) -> None:
    assert float(shown.evaluate("document.documentElement.dataset.ready")) < 2000
    assert shown.locator("#runs tbody tr").count() == 200
    assert shown.locator("figure").count() == 2
    redraw = "(() => {const t = performance.now(); charts.forEach(c => c.draw({axis: 'step', smooth: 0, log: false})); " \
             "return performance.now() - t})()"  # fmt: skip
    assert shown.evaluate(redraw) < 200


def test_a_click_on_a_heading_sorts(shown: Any) -> None:
    heading = shown.locator("#runs th button", has_text="validation loss, nats per token")
    heading.click()
    losses = [float(text) for text in _first_cells(shown, 6) if text]
    assert len(losses) == 194
    assert losses == sorted(losses)
    heading.click()
    assert [float(text) for text in _first_cells(shown, 6) if text] == sorted(losses, reverse=True)
    assert _first_cells(shown, 6)[-1] == "", "failed runs stay last"
    assert heading.locator("..").get_attribute("aria-sort") == "descending"


def test_runs_can_be_hidden_and_found(shown: Any) -> None:
    assert "200 shown" in shown.inner_text("#summary")
    drawn = shown.evaluate("charts[0].canvas.toDataURL()")
    shown.locator("#runs tbody input").first.click()
    assert "199 shown" in shown.inner_text("#summary")
    shown.click("#none")
    shown.wait_for_function("!charts[0].canvas.getContext('2d').getImageData(0, 0, 400, 200).data.some(Boolean)")
    shown.click("#top")
    assert "10 shown" in shown.inner_text("#summary")
    shown.wait_for_function(f"charts[0].canvas.toDataURL() !== {json.dumps(drawn)}")
    shown.fill("#find", "cosine rwr")
    assert shown.locator("#runs tbody tr:visible").count() == 25
    assert "25 shown" in shown.inner_text("#summary")
    shown.fill("#find", "")
    assert "200 shown" in shown.inner_text("#summary")


def test_dragging_along_an_axis_keeps_the_runs_that_pass_there(shown: Any) -> None:
    canvas = shown.locator("#coordinates")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x = box["x"] + shown.evaluate("coordinates(document.getElementById('coordinates').clientWidth, 0).across(2)")
    shown.mouse.move(x, box["y"] + 30)
    shown.mouse.down()
    shown.mouse.move(x, box["y"] + 90, steps=4)  # the upper end: rwr
    shown.mouse.up()
    assert "100 shown" in shown.inner_text("#summary")
    shown.mouse.click(x, box["y"] + 200)
    assert "200 shown" in shown.inner_text("#summary")


def test_on_a_phone_rows_are_blocks_and_axes_lie(shown: Any) -> None:
    shown.set_viewport_size({"width": 400, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") == 400, "nothing is scrolled sideways"
    cell = shown.locator("#runs tbody tr").first.locator("td[data-of='validation loss, nats per token']")
    assert cell.bounding_box()["width"] > 300
    canvas = shown.locator("#coordinates")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    y = box["y"] + shown.evaluate("coordinates(400, 0).across(2)")
    shown.mouse.move(box["x"] + box["width"] - 30, y)
    shown.mouse.down()
    shown.mouse.move(box["x"] + box["width"] - 5, y, steps=4)  # the right end: rwr
    shown.mouse.up()
    assert "100 shown" in shown.inner_text("#summary")


def test_stories_are_text_whatever_they_hold(shown: Any) -> None:
    shown.fill("#find", "run-007")
    assert shown.locator("#stories article").count() == 1
    assert shown.locator("#stories article p").inner_text() == f"{EVIL} of run-007"
    assert EVIL in shown.inner_text("h1")
    assert "evil" not in shown.title().split("document.title")[0]
    assert shown.locator("#stories img").count() == 0
