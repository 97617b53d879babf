"""Inputs on which rfr once went wrong (`tests/cases/`), by the numbers of the reports they stand for: each kind stays mended."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rfr.store.store import Store
from tests.conftest import ROOT

CASES = ROOT / "tests" / "cases"
BEGINNINGS = {
    "The ash": "ash", "Birch": "birch", "Cedar": "cedar", "A door": "door", "Every evening": "lamp", "Frost": "frost",
    "The giant": "giant", "He sold": "shadow", "The moon": "moon",
}  # fmt: skip
MIN = [f"source.columns.{name}=null" for name in ("post_id", "reply_id", "post_score", "post_created_utc")]
NO_POST = MIN[2:]
Command = Callable[..., tuple[int, str, str]]


class Case:
    """The commands of one case, in an empty folder, with one store."""

    def __init__(self, command: Command) -> None:
        self._command = command

    def collect(self, *arguments: str, code: int = 0, file: str | None = None, store: str = "x.db") -> dict:
        """The JSON line of a collect command; `err` has what it said beside it."""
        path = [f"source.path={CASES / file}"] if file else []
        got, out, err = self._command("collect", f"store={store}", "data_dir=d", "runs_dir=r", *path, *arguments)
        assert got == code, err
        if code:
            assert len(err.strip().splitlines()) == 1, err
        lines = [line for line in out.splitlines() if line.startswith("{")]
        return {**(json.loads(lines[-1]) if lines else {}), "err": err, "out": out}

    def dump(self, file: str, code: int = 0) -> dict:
        return self.collect("source=dump", file=file, code=code)

    def table(self, file: str | None, *arguments: str, code: int = 0, store: str = "x.db") -> dict:
        return self.collect("source=table", *arguments, file=file, code=code, store=store)

    def train(self, *arguments: str, code: int = 0) -> tuple[Counter[str], str]:
        """Where the replies of both splits went, and all that was said."""
        got, out, err = self._command(
            "train", "model=tiny", "look=1", "corpus.path=x.db", "data_dir=d", "runs_dir=r", *arguments
        )  # fmt: skip
        assert got == code, err
        where: Counter[str] = Counter()
        for _, stage, count in re.findall(r"│ (train|validation) +│ (.+?) +│ ([\d,]+) ", out):
            where[stage] += int(count.replace(",", ""))
        return where, out + err

    def karma(self, store: str = "x.db") -> dict[str, int | None]:
        """What training takes, by the word that a story begins with."""
        with Store(store) as opened:
            by_title = {}
            for thread in opened.threads():
                for reply in thread.replies:
                    reading = thread.observations.get(reply.id)
                    by_title[word(reply.body)] = None if reading is None else reading.score
            return by_title

    def counts(self) -> tuple[int, int, int]:
        with Store("x.db") as store:
            return tuple(store.counts().values())  # type: ignore[return-value]

    def rejects(self) -> list[dict]:
        path = Path("x.db.rejects.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def text_is_gone(self, *texts: str) -> bool:
        return not any(text.encode() in path.read_bytes() for text in texts for path in Path().glob("x.db*"))


def word(body: str) -> str:
    return next((name for beginning, name in BEGINNINGS.items() if body.startswith(beginning)), body)


@pytest.fixture
def case(command: Command) -> Case:
    return Case(command)


# --- tables


def test_88_a_field_without_a_column_is_read_from_none(case: Case) -> None:
    figures = case.table("88_index.csv")
    assert (figures["kept"], figures["post"], figures["reply"]) == (6, 2, 6)
    assert case.karma() == {"ash": 3, "birch": 1, "cedar": 24, "door": 7, "shadow": 0, "giant": 12}
    with Store("x.db") as store:
        assert set(store.rows("SELECT author, created_utc FROM reply")) == {(None, None)}
        assert set(store.rows("SELECT body FROM post")) == {("",)}


def test_88f_an_index_column_changes_nothing(case: Case) -> None:
    digests = {
        case.table(f"88f_{kind}_index.csv", *MIN, store=f"{kind}.db")["digest"] for kind in ("with", "without")
    }  # fmt: skip
    assert len(digests) == 1
    assert case.karma("with.db") == {"ash": 3, "birch": 1, "cedar": 24, "door": 7, "shadow": 0, "giant": 12}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_88_in_every_kind_of_file_and_with_two_index_columns(case: Case, kind: str) -> None:
    with (CASES / "88_index.csv").open(newline="") as lines:
        rows = [{"Unnamed: 0": str(100 + n), **row} for n, row in enumerate(csv.DictReader(lines))]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), "t.parquet")
    elif kind == "jsonl":
        Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with Path("t.csv").open("w", newline="") as table:
            writer = csv.DictWriter(table, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    case.table(None, f"source.path=t.{kind}")
    with Store("x.db") as store:
        assert set(store.rows("SELECT author, created_utc FROM reply")) == {(None, None)}
    assert case.karma()["cedar"] == 24


def test_154_a_message_needs_no_column_that_is_not_mapped(case: Case) -> None:
    figures = case.table("154_empty_key.jsonl", *MIN)
    assert (figures["kept"], figures["post"], figures["reply"]) == (4, 2, 4)
    assert case.karma() == {"ash": 3, "birch": 1, "cedar": 24, "door": 7}


def test_89_ids_of_posts_and_of_replies_are_two_name_spaces(case: Case) -> None:
    figures = case.table("89_numbered.jsonl")
    assert (figures["post"], figures["reply"]) == (2, 5)
    assert case.karma() == {"ash": 3, "birch": 7, "door": 9, "shadow": 1, "giant": 2}
    with Store("x.db") as store:
        assert {t.post_observation.score for t in store.threads() if t.post_observation} == {40, 5000}


@pytest.mark.parametrize("of", [str, int, float])
def test_89_ids_may_be_numbers_or_texts(case: Case, of: Callable[[object], object]) -> None:
    rows = [json.loads(line) for line in (CASES / "89_numbered.jsonl").read_text().splitlines()]
    changed = [{**row, "post_id": of(row["post_id"]), "reply_id": of(row["reply_id"])} for row in rows]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
    case.table(None, "source.path=t.jsonl")
    assert case.karma()["ash"] == 3
    with Store("x.db") as store:
        assert {item for (item,) in store.rows("SELECT id FROM post")} == {"~1", "~2"}


def test_89_a_reply_with_its_posts_id_in_a_dump_and_in_an_export(case: Case) -> None:
    post = {"subreddit": "WritingPrompts", "id": "a1", "title": "[WP] A.", "score": 50, "created_utc": 1609459200}
    reply = {**post, "body": "The ash tree.", "score": 3, "link_id": "t3_a1", "parent_id": "t3_a1", "created_utc": 1609462800}
    del reply["title"]
    Path("RC").write_text("".join(json.dumps({**row, "retrieved_on": 1610462800}) + "\n" for row in (post, reply)))
    case.collect("source=dump", "source.path=RC")
    assert case.karma() == {"ash": 3}
    case.collect("source=dump", "mode=export")
    readings = pq.read_table("x-parquet/observation.parquet").to_pylist()
    assert {(row["kind"], row["item_id"], row["score"]) for row in readings} == {("post", "a1", 50), ("reply", "a1", 3)}


def test_101_a_purge_leaves_a_tables_own_rows_alone(case: Case) -> None:
    case.collect("source=demo", "source.demo.threads=12")
    case.table("101_own_ids.jsonl", *NO_POST)
    assert case.collect("source=demo", "source.demo.threads=12", "mode=purge", "mode.apart_h=0")["newly_erased"] == 5
    assert {"ash": 3, "birch": 7, "door": 9, "shadow": 1}.items() <= case.karma().items()


def test_101_ids_of_reddits_are_asked_for(case: Case) -> None:
    case.collect("source=demo", "source.demo.threads=12")
    case.table("101_own_ids.jsonl", *NO_POST, "source.ids=reddit")
    assert case.collect("source=demo", "source.demo.threads=12", "mode=purge", "mode.apart_h=0")["newly_erased"] == 11


def test_75_files_that_do_not_belong_together_leave_nothing(case: Case) -> None:
    first = case.collect("source=source_target", file="75_late/train.wp_source", code=2)
    assert "different numbers of lines, 2,003 and 2,004" in first["err"]
    assert not Path("x.db").exists()
    shutil.copytree(CASES / "75_late", "m")
    lines = Path("m/train.wp_source").read_text().split("\n")
    Path("m/train.wp_source").write_text("\n".join([*lines[:11], "00b", *lines[11:]]))
    figures = case.collect("source=source_target", "source.path=m/train.wp_source")
    assert (figures["kept"], figures["post"], figures["reply"]) == (2004, 2004, 2004)
    with Store("x.db") as store:
        stories = [(t.post.title, reply.body) for t in store.threads() for reply in t.replies]
    assert all(title.split()[-1] == body.split()[-1] for title, body in stories)


@pytest.mark.parametrize("folder", ["71_cr", "71b_cr_both"])
def test_71_a_line_ends_at_a_newline_alone(case: Case, folder: str) -> None:
    figures = case.collect("source=source_target", file=f"{folder}/train.wp_source")
    assert (figures["kept"], figures["post"]) == (4, 4)
    targets = (CASES / folder / "train.wp_target").read_bytes().decode().split("\n")[:4]
    sources = (CASES / folder / "train.wp_source").read_bytes().decode().split("\n")[:4]
    with Store("x.db") as store:
        texts = {t.post.title: t.replies[0].body for t in store.threads()}
    assert texts == {s.strip(): t.strip().replace("<newline>", "\n") for s, t in zip(sources, targets, strict=True)}
    assert any("\r" in text for text in [*texts, *texts.values()])


def test_71_a_carriage_return_ends_no_line_of_json_or_of_a_dump(case: Case) -> None:
    for ending in ("\n", "\r\n"):
        rows = [{"title": "[WP] A.", "body": f"{name}", "score": 1} for name in "ab"]
        Path("t.jsonl").write_bytes("".join(json.dumps(row) + ending for row in rows).encode())
        assert case.table(None, "source.path=t.jsonl", *MIN)["kept"] == 2


def test_50_each_reading_of_a_file_has_its_own_rejects(case: Case) -> None:
    for letter in "AB":
        figures = case.table(
            "50_shp.jsonl", "source.columns.title=history", f"source.columns.body=human_ref_{letter}",
            f"source.columns.score=score_{letter}", f"source.columns.reply_id=c_root_id_{letter}", *NO_POST,
        )  # fmt: skip
        assert figures["rejected"] == 2
    assert len(case.rejects()) == 4


def test_51_two_files_of_one_name_have_their_own_rejects(case: Case) -> None:
    for month in ("jan", "feb"):
        assert case.table(f"51_{month}/train.jsonl", *MIN)["rejected"] == 1
    rejects = case.rejects()
    assert [row["offset"] for row in rejects] == [2, 2]
    assert len({row["file"] for row in rejects}) == 2


def test_52_a_mended_file_has_no_rejects_any_more(case: Case) -> None:
    for name, rejected in (("broken", 1), ("mended", 0)):
        shutil.copy(CASES / f"52_{name}.jsonl", "t.jsonl")
        case.table(None, "source.path=t.jsonl", *MIN)
        assert len(case.rejects()) == rejected
    status = case.collect("source=table", "mode=status")
    assert (status["rejects"], status["posts"], status["replies"]) == (0, 2, 3)
    assert case.karma() == {"ash": 3, "birch": 7, "door": 9}


def test_53_of_scores_without_a_time_the_last_import_counts(case: Case) -> None:
    outputs = []
    for day, ash, door in ((1, 400, 5), (2, 380, 9), (1, 400, 5)):
        outputs.append(case.table(f"53_day{day}.jsonl", *MIN)["err"])
        karma = case.karma()
        assert (karma["ash"], karma["birch"], karma["door"]) == (ash, 12, door)
    assert "order of import" not in outputs[0]
    assert all("source.seen_at" in err and "order of import" in err for err in outputs[1:])


def test_53_reading_a_file_again_changes_nothing(case: Case) -> None:
    digests = [case.table("53_day1.jsonl", *MIN)["digest"] for _ in range(3)]
    assert len(set(digests)) == 1


@pytest.mark.parametrize("given", ["20240131", '"20240131"', "2024-01-31", "1706659200"])
def test_54_eight_digits_are_a_date(case: Case, given: str) -> None:
    case.table("54_seen_at.jsonl", *MIN, f"source.seen_at={given}")
    assert case.collect("source=table", "mode=status")["newest_reading"] == "2024-01-31 00:00"


def test_64_two_posts_of_one_title_are_two_threads(case: Case) -> None:
    figures = case.collect("source=threads", file="64_reposts.parquet")
    assert (figures["kept"], figures["post"], figures["reply"], figures["repeated_titles"]) == (6, 3, 6, 1)
    assert "1 title occurs twice" in figures["err"]
    with Store("x.db") as store:
        threads = [
            {word(reply.body): thread.observations[reply.id].score for reply in thread.replies} for thread in store.threads()
        ]
    assert {"ash": 3, "birch": 7} in threads
    assert {"ash": 310, "giant": 45} in threads
    assert {"door": 9, "shadow": 1} in threads
    assert case.collect("source=threads", file="64_reposts.parquet")["digest"] == figures["digest"]


def test_62c_a_column_that_nobody_named_may_be_missing(case: Case) -> None:
    figures = case.collect("source=threads", file="62c_old.parquet")
    assert sorted(case.karma().values()) == [3, 7, 24]  # type: ignore[type-var]
    assert "comment_times" in figures["err"]
    output = case.collect(
        "source=threads", "source.columns.created_utc=comment_times", file="62c_old.parquet", code=2
    )["err"]  # fmt: skip
    assert "it has " in output
    assert output.strip().endswith("source.columns.created_utc=null")


def test_40_a_table_of_ones_own_comes_in_at_the_first_try(case: Case) -> None:
    figures = case.table("40_min.jsonl")
    assert figures["kept"] == figures["read"] > 0
    missing = next(line for line in figures["err"].splitlines() if "has no" in line)
    assert all(name in missing for name in ("post_id", "reply_id", "post_score", "post_created_utc", "told apart by"))
    assert figures["err"].splitlines()[-1] == "python train.py corpus.path=x.db"
    message = case.table("40_min.jsonl", "source.columns.author=writer", code=2)["err"]
    assert message.strip().endswith("source.columns.author=null")
    message = case.table("40_min.jsonl", "source.columns.score=karma", code=2)["err"]
    assert "no column for score: karma; it has title, body, score" in message
    message = case.table("40_min.jsonl", "source.columns.score=null", code=2)["err"]
    assert "must map score" in message
    assert "which has title, body, score" in message


@pytest.mark.parametrize(("file", "named"), [("41_cp1252.csv", "line 3"), ("41b_utf16.csv", "UTF-16")])
def test_41_another_encoding_is_named(case: Case, file: str, named: str) -> None:
    message = case.table(file, *MIN, code=2)["err"]
    assert "UTF-8" in message
    assert named in message
    assert not Path("x.db").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_41_a_wrong_byte_far_behind_leaves_nothing(case: Case, kind: str) -> None:
    rows = [b"title,body,score"] * (kind == "csv")
    rows += [b"[WP] A.,one,3" if kind == "csv" else b'{"title": "[WP] A.", "body": "one", "score": 3}'] * 2500
    rows.append(rows[-1].replace(b"one", b"\xe9migr\xe9"))
    Path(f"t.{kind}").write_bytes(b"\n".join(rows) + b"\n")
    assert f"line {len(rows)}" in case.table(None, f"source.path=t.{kind}", *MIN, code=2)["err"]
    assert not Path("x.db").exists()


def test_42_what_pandas_writes_for_nothing_is_nothing(case: Case) -> None:
    figures = case.table("42_scores.csv", *MIN)
    assert (figures["kept"], figures["rejected"]) == (8, 4)
    scores = [score for score in case.karma().values() if score is not None]
    assert sorted(scores) == [-3, 1000]
    shown = " ".join(row["reason"] for row in case.rejects())
    assert all(value in shown for value in ("'1,234'", "'1.2k'", "'12 points'", "'True'"))


def test_43_a_broken_line_is_one_reject(case: Case) -> None:
    figures = case.table("43_broken_line.jsonl", *MIN)
    assert (figures["read"], figures["kept"], figures["rejected"]) == (5, 4, 1)
    assert [row["offset"] for row in case.rejects()] == [3]


@pytest.mark.parametrize("at", [1, 2999, 3000])
def test_43_wherever_it_stands(case: Case, at: int) -> None:
    lines = [json.dumps({"title": "[WP] A.", "body": f"story {n}", "score": n}) for n in range(3000)]
    lines[at - 1] = lines[at - 1][:20]
    Path("t.jsonl").write_text("\n".join(lines))
    assert case.table(None, "source.path=t.jsonl", *MIN)["kept"] == 2999
    assert [row["offset"] for row in case.rejects()] == [at]


def test_43b_a_file_that_is_mostly_broken_is_another_kind_of_file(case: Case) -> None:
    message = case.table("43b_mostly_broken.jsonl", *MIN, code=2)["err"]
    assert "3 of 5 lines" in message
    assert "are no JSON, the first is line 2" in message
    assert not Path("x.db").exists()


def test_79_the_cause_of_an_error_is_the_one_that_is_told(case: Case) -> None:
    message = case.collect("source=source_target", file="79_latin1/train.wp_source", code=2)["err"]
    assert "not UTF-8" in message
    assert "line 2" in message
    assert "train.wp_" in message
    assert case.collect("source=source_target", file="79b_gz/train.wp_source.gz")["kept"] == 3


@pytest.mark.parametrize(("column", "karma"), [("Öl", [3, 7, 9]), ("x=y", [30, 70, 90])])
def test_83_a_value_that_hydra_refuses_is_given_back_as_it_is_typed(case: Case, column: str, karma: list[int]) -> None:
    message = case.table("83_names.csv", *MIN, f"source.columns.score={column}", code=2)["err"]
    typed = f'source.columns.score="{column}"'
    assert message.strip().endswith(f"'{typed}'")
    case.table("83_names.csv", *MIN, typed)
    assert sorted(case.karma().values()) == karma  # type: ignore[type-var]


# --- dumps, and tables beside dumps


@pytest.mark.parametrize("ids", [(), ("source.ids=reddit",)])
def test_80_a_full_names_prefix_is_no_part_of_the_id(case: Case, ids: tuple[str, ...]) -> None:
    case.dump("80_dump.jsonl")
    mapping = ("source.columns.post_id=link_id", "source.columns.reply_id=name")
    figures = case.table("80_table.jsonl", *mapping, *NO_POST, *ids)
    assert (figures["post"], figures["reply"]) == (1, 2)
    assert case.karma() == {"ash": 3, "birch": 7}


def test_80_upper_case_and_the_id_of_a_dump(case: Case) -> None:
    lines = (CASES / "80_dump.jsonl").read_text()
    case.dump("80_dump.jsonl")
    upper = re.sub(r'"id": "(\w+)"', lambda m: f'"id": "{"T3" if m[1].startswith("p") else "T1"}_{m[1].upper()}"', lines)
    assert upper != lines
    Path("RC_upper").write_text(upper)
    figures = case.collect("source=dump", "source.path=RC_upper")
    assert (figures["post"], figures["reply"]) == (1, 2)


def test_02_the_post_is_link_ids_where_there_is_no_parent(case: Case) -> None:
    figures = case.dump("02_parent_null.jsonl")
    assert (figures["kept"], figures["filtered"], figures["rejected"]) == (3, 1, 1)


def test_04_numbers_sent_as_texts(case: Case) -> None:
    figures = case.dump("04_bigquery_strings.jsonl")
    assert (figures["kept"], figures["rejected"]) == (3, 1)
    assert case.karma() == {"ash": 3, "birch": -7}
    assert "score '24 points' is no whole number" in figures["err"]
    assert "04_bigquery_strings.jsonl" in figures["err"]
    assert "the first at byte" in figures["err"]


def test_05_flags_sent_as_texts(case: Case) -> None:
    figures = case.dump("05_bool_strings.jsonl")
    assert (figures["kept"], figures["rejected"]) == (6, 1)
    assert "maybe" in figures["err"]
    assert {"ash": 3, "birch": 7, "moon": 5}.items() <= case.karma().items()
    where, _ = case.train()
    assert (where["moderator"], where["kept"]) == (1, 3)


def test_06_nan_is_null(case: Case) -> None:
    figures = case.dump("06_nan.jsonl")
    assert (figures["kept"], figures["rejected"]) == (3, 0)
    with Store("x.db") as store:
        bodies = [body for (body,) in store.rows("SELECT body FROM reply")]
    assert any('"score": NaN,' in body for body in bodies)
    assert sorted(map(str, case.karma().values())) == ["7", "None"]


def test_06_infinity_is_no_number(case: Case) -> None:
    text = (CASES / "06_nan.jsonl").read_text().replace('"score": NaN, "retrieved', '"score": Infinity, "retrieved')
    Path("RC").write_text(text)
    assert case.collect("source=dump", "source.path=RC")["rejected"] == 1


def test_08_an_id_without_a_prefix_is_what_its_field_says(case: Case) -> None:
    figures = case.dump("08_no_prefix.jsonl")
    assert (figures["kept"], figures["filtered"]) == (3, 2)
    assert case.karma() == {"ash": 3, "birch": 7}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_10_a_byte_order_mark_is_skipped(case: Case, pack: Callable[[bytes], bytes]) -> None:
    Path("RC").write_bytes(pack((CASES / "10_bom.jsonl").read_bytes()))
    figures = case.collect("source=dump", "source.path=RC")
    assert (figures["read"], figures["kept"]) == (3, 3)


def test_100_what_was_deleted_later_is_deleted(case: Case) -> None:
    case.dump("100_was_deleted_later.jsonl")
    where, _ = case.train()
    assert (where["kept"], where["deleted or removed"], where["prompt deleted or removed"]) == (2, 1, 1)
    assert case.collect("source=dump", "mode=purge", "mode.ask=false")["newly_erased"] == 2
    assert case.text_is_gone("Birch bark", "A door stands alone")


def test_100_a_deletion_wins_in_whatever_order_it_comes(case: Case) -> None:
    deleted = (CASES / "100_was_deleted_later.jsonl").read_text()
    Path("RC_deleted").write_text(deleted)
    alive = [json.loads(line) for line in deleted.splitlines()]
    Path("RC_alive").write_text(
        "".join(json.dumps({k: v for k, v in row.items() if k != "_meta"} | {"retrieved_on": 1620000000}) + "\n" for row in alive)
    )
    digests = set()
    for name, order in (("a", ("RC_deleted", "RC_alive")), ("b", ("RC_alive", "RC_deleted"))):
        for path in order:
            figures = case.collect("source=dump", f"source.path={path}", store=f"{name}.db")
        digests.add(figures["digest"])
        with Store(f"{name}.db") as store:
            assert store.rows("SELECT body FROM reply WHERE id = 'ra2'") == [("[deleted]",)]
    assert len(digests) == 1


def test_113_replies_without_their_posts_are_told(case: Case) -> None:
    figures = case.dump("113_RC_only.jsonl")
    assert figures["replies_without_post"] == 6
    assert "6 of 6 replies lack their posts" in figures["err"]
    assert case.collect("source=dump", "mode=status")["replies_without_post"] == 6
    _, message = case.train(code=2)
    assert "6 of 6 replies lack their posts: import the RS_ file" in message
    case.dump("113_RS_half.jsonl")
    where, message = case.train()
    assert (where["came in"], where["kept"], where["post unknown"]) == (6, 3, 3)
    assert "3 of 6 replies lack their posts: import the RS_ file" in message


def test_113_the_missing_file_is_named(case: Case) -> None:
    shutil.copy(CASES / "113_RC_only.jsonl", "RC_2021-01.jsonl")
    assert "import RS_2021-01 too" in case.collect("source=dump", "source.path=RC_2021-01.jsonl")["err"]


def test_114_scores_read_at_once_are_no_karma(case: Case) -> None:
    assert case.dump("114_read_at_once.jsonl")["kept"] == 7
    where, message = case.train("objective=rwr")
    assert "3 of 5 scores were read within an hour of posting: they are not karma yet" in message
    assert (where["no score"], where["kept"]) == (3, 2)
    assert case.train("objective=rwr", "preprocess.min_age_h=0")[0]["kept"] == 5
    assert case.train("objective=bc", "preprocess.scored_only=false")[0]["kept"] == 5


def test_152_a_file_that_grew_has_its_rejects_once(case: Case) -> None:
    for name in ("morning", "evening"):
        shutil.copy(CASES / f"152_{name}.jsonl", "RC_a")
        figures = case.collect("source=dump", "source.path=RC_a")
    assert (figures["read"], figures["post"], figures["reply"]) == (5, 1, 3)
    assert len(case.rejects()) == 1
    digest = figures["digest"]
    Path("RC_b.gz").write_bytes(gzip.compress((CASES / "152_evening.jsonl").read_bytes()))
    assert case.collect("source=dump", "source.path=RC_b.gz")["digest"] == digest  # does not say how often one looked


# --- texts


@pytest.mark.parametrize(("file", "kept"), [("96_entity.jsonl", 5), ("96b_entity_title.jsonl", 4)])
def test_96_an_entity_of_any_length_is_one_character(case: Case, file: str, kept: int) -> None:
    case.table(file, *MIN)
    assert case.train()[0]["kept"] == kept


def test_97_placeholders_of_any_wording_are_removals(case: Case) -> None:
    case.table("97_placeholders.jsonl", *MIN)
    where, _ = case.train()
    assert (where["prompt deleted or removed"], where["deleted or removed"], where["kept"]) == (3, 3, 3)
    assert case.collect("source=table", "mode=purge", "mode.ask=false")["newly_erased"] == 6
    with Store("x.db") as store:
        assert [body for (body,) in store.rows("SELECT body FROM reply WHERE body LIKE '[Removed by hand%'")]


def test_99_a_purge_finishes_for_every_text(case: Case) -> None:
    case.dump("99_before.jsonl")
    case.dump("99_after.jsonl")
    assert case.collect("source=dump", "mode=purge", "mode.ask=false")["newly_erased"] == 1
    with Store("x.db") as store:
        assert store.rows("SELECT * FROM residue") == []
    assert case.text_is_gone("The giant was so tired")


def test_c1_notices_are_no_stories_and_stories_are_no_notices(case: Case) -> None:
    case.table("c1_notices.jsonl", *MIN, "source.columns.author=author")
    where, _ = case.train()
    assert (where["kept"], where["bot"], where["a moderators' or bot's notice"]) == (3, 1, 3)


def test_c3_escaped_underscores(case: Case) -> None:
    case.table("c3_underscores.jsonl", *MIN)
    _, page = case.train("look=3")
    assert "do_not_wake" in page
    assert "was _only_ a door" in page


@pytest.mark.parametrize("pattern", [">!", "^("])
def test_c6_a_text_of_nothing_but_markup_costs_no_time(case: Case, pattern: str) -> None:
    def seconds() -> float:
        """Of three tries the best: others may be busy."""
        taken = []
        for _ in range(3):
            shutil.rmtree("d/cache", ignore_errors=True)
            began = time.perf_counter()
            case.train()
            taken.append(time.perf_counter() - began)
        return min(taken)

    case.table("c3_underscores.jsonl", *MIN)
    without = seconds()
    row = {"title": "[WP] The ash tree asks not to be cut down.", "body": pattern * 20_000, "score": 5}
    Path("c6.jsonl").write_text((CASES / "c3_underscores.jsonl").read_text() + json.dumps(row) + "\n")
    case.table(None, "source.path=c6.jsonl", *MIN)
    assert seconds() < without + 0.5


# --- commands


AWKWARD = ("RC_2021-01 (1).jsonl", "RC_[2021].jsonl", "RC_{2021}.jsonl", "month=01.jsonl", "a,b.jsonl", "it's.jsonl",
           'the "best".jsonl', "no #1.jsonl", "~old.jsonl", "größe.jsonl")  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_90_awkward_names_are_given_back_as_they_are_typed(case: Case, name: str) -> None:
    Path("f").mkdir()
    shutil.copy(CASES / "10_bom.jsonl", f"f/{name}")
    message = case.collect("source=dump", f"source.path=f/{name}", code=2)["err"]
    typed = message.strip().rpartition(" type ")[2]
    (argument,) = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {typed}"], capture_output=True, text=True, check=True
    ).stdout.split("\0")[:1]
    assert argument.startswith('source.path="f/')
    assert case.collect("source=dump", argument)["kept"] == 3


def test_90_what_cannot_be_typed_is_to_be_renamed(case: Case) -> None:
    shutil.copy(CASES / "10_bom.jsonl", "${x}.jsonl")
    for typed in ("source.path=${x}.jsonl", 'source.path="\\${x}.jsonl"'):
        message = case.collect("source=dump", typed, code=2)["err"]
        assert typed in message
        assert "rename the file or the column" in message


def test_93b_a_reader_that_has_seen_enough_is_no_failure(case: Case) -> None:
    case.collect("source=demo", "source.demo.threads=12")
    where = Path.cwd()
    line = f"{sys.executable} collect.py store={where}/x.db source=demo mode=status | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_111_a_wrong_number_makes_no_store(case: Case, value: str) -> None:
    message = case.collect("source=demo", f"source.demo.threads={value}", code=2)["err"]
    assert message == f"rfr: source.demo.threads must be a whole number, 1 or more, not {value}\n"
    assert not Path("x.db").exists()


@pytest.mark.parametrize(
    "argument",
    ["mode.every_s=abc", "mode.threads=ten", "mode.threads=2.5", "mode.slack_s=abc", "source.limit=ten", "source.limit=2.5"],
)
def test_l4_numbers_are_checked_before_anything_is_asked(case: Case, argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("client_id", "client_secret", "user_agent"):
        monkeypatch.setenv(f"praw_{name}", "x")
    monkeypatch.setattr("rfr.reddit.client.connect", lambda *_, **__: pytest.fail("something was asked"))
    source = "source=reddit" if "limit" in argument else "source=demo"
    message = case.collect(source, "mode=watch", argument, code=2)["err"]
    assert message.startswith(f"rfr: {argument.partition('=')[0]} must be a ")
    assert message.strip().endswith(f"not {argument.partition('=')[2]}")
