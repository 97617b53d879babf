"""A dump like Reddit's (zstd, 2 GiB window, one line in a hundred ours), and what importing it is measured against."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import zstandard

NAME = "WritingPrompts"
OURS, BAD = 100, 50_000  # one line in so many
# The fields of a comment of January 2024 that say nothing, which are most of its bytes.
NOTHING = (
    "approved_at_utc", "approved_by", "associated_award", "author_flair_background_color", "author_flair_css_class",
    "author_flair_template_id", "author_flair_text", "author_flair_text_color", "banned_at_utc", "banned_by",
    "collapsed_because_crowd_control", "collapsed_reason", "collapsed_reason_code", "comment_type", "distinguished", "likes",
    "mod_note", "mod_reason_by", "mod_reason_title", "num_reports", "removal_reason", "report_reasons", "top_awarded_type",
    "unrepliable_reason",
)  # fmt: skip
FALSE = (
    "archived", "author_is_blocked", "author_patreon_flair", "author_premium", "can_gild", "can_mod_post", "collapsed", "edited",
    "is_submitter", "locked", "saved", "score_hidden", "stickied",
)  # fmt: skip
ZERO = ("controversiality", "downs", "gilded", "total_awards_received")
LISTS = ("all_awardings", "author_flair_richtext", "awarders", "mod_reports", "treatment_tags", "user_reports")
EMPTY: dict[str, object] = {
    **dict.fromkeys(NOTHING), **dict.fromkeys(FALSE, False), **dict.fromkeys(ZERO, 0), **{name: [] for name in LISTS},
    "author_flair_type": "text", "gildings": {}, "no_follow": True, "replies": "", "send_replies": True,
    "subreddit_type": "public",
}  # fmt: skip
VOCABULARY, LETTERS = 40_000, "etaoinshrdlucmfwypvbgk"


def write_dump(path: Path, raw_mib: int) -> dict[str, int]:
    """Comments of Zipf-distributed words in the fields of January 2024, 1,900 bytes each, as those have.

    Returns how many lines there are, how many to be kept, filtered and rejected, and the raw bytes.
    """
    rng, words = np.random.default_rng(0), _vocabulary()
    chances = 1 / np.arange(1, VOCABULARY + 1)
    chances /= chances.sum()
    counts = {"read": 0, "kept": 0, "filtered": 0, "rejected": 0}
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    size = 0
    with path.open("wb") as file, zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file) as out:
        while size < raw_mib << 20:
            pool = words[rng.choice(VOCABULARY, size=400_000, p=chances)]
            lengths = np.minimum(2000, rng.lognormal(2.6, 1.1, size=4000).astype(int) + 1)
            starts = rng.integers(0, len(pool) - 2000, size=4000)
            lines = []
            for start, length in zip(starts, lengths, strict=True):
                lines.append(_line(counts, " ".join(pool[start : start + length]), int(rng.integers(1, 3000))))
            chunk = "".join(lines).encode()
            out.write(chunk)
            size += len(chunk)
    return {**counts, "raw_bytes": size}


def _vocabulary() -> np.ndarray:
    draw = random.Random(0)
    return np.array(["".join(draw.choices(LETTERS, k=draw.randint(2, 9))) for _ in range(VOCABULARY)], dtype=object)


def _line(counts: dict[str, int], body: str, score: int) -> str:
    number = counts["read"]
    counts["read"] += 1
    ours = number % OURS == 0
    if ours and number % BAD == 0:
        counts["rejected"] += 1
        return f'{{"subreddit": "{NAME}", "id": "b{number}"\n'
    counts["kept" if ours else "filtered"] += 1
    subreddit = NAME if ours else f"subreddit{number % 997}"
    post, name = f"p{number // 700:x}", f"k{number:x}"
    created = 1_704_067_200 + number // 80
    return json.dumps(EMPTY | {
        "_meta": {"retrieved_2nd_on": created + 129_600}, "author": f"user_{number % 90_001}",
        "author_fullname": f"t2_{number % 90_001:x}", "body": body, "created": float(created), "created_utc": float(created),
        "id": name, "link_id": f"t3_{post}", "name": f"t1_{name}", "parent_id": f"t3_{post}",
        "permalink": f"/r/{subreddit}/comments/{post}/_/{name}/", "retrieved_on": created + 15, "score": score,
        "subreddit": subreddit, "subreddit_id": f"t5_{number % 997:x}", "subreddit_name_prefixed": f"r/{subreddit}",
        "updated_on": created + 30, "ups": score,
    }) + "\n"  # fmt: skip


def zstd_alone(path: Path) -> float:
    """Seconds of `zstd -d` into nothing."""
    began = time.perf_counter()
    subprocess.run(["zstd", "-d", "--long=31", "-q", "-c", str(path)], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def json_loop(path: Path) -> float:
    """Seconds of the straightforward way: every line through json.loads, ours kept in a list."""
    began = time.perf_counter()
    kept = []
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            try:
                comment = json.loads(line)
            except ValueError:
                continue
            if comment["subreddit"] == NAME:
                kept.append(comment)
    assert kept
    return time.perf_counter() - began


def import_once(path: Path, store: Path) -> dict[str, float]:
    """The import in a process of its own: its seconds, its peak memory, and its account of the lines."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.lib.synthetic_dumps", str(path), str(store)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def _import(path: Path, store_path: Path) -> None:
    from rfr.collect.files.dumps import import_dump
    from rfr.store.store import Store

    began = time.perf_counter()
    with Store(store_path, write=True) as store:
        state = import_dump(store, path, NAME)
    seconds = time.perf_counter() - began
    # Of this program alone: `ru_maxrss` begins with what the process that started it held, which has written the dump.
    rss_mib = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line) / 1024
    counts = {"read": state.read, "kept": state.kept, "filtered": state.filtered, "rejected": state.rejected}
    print(json.dumps({"seconds": seconds, "rss_mib": rss_mib, **counts}))


if __name__ == "__main__":
    _import(Path(sys.argv[1]), Path(sys.argv[2]))
