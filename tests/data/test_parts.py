"""Parts of the training threads, and the hashes by which a trained folder says what it learned from."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from rfr.data.clean.cleaner import Clean
from rfr.data.pack.long_stories import Segment
from rfr.data.prepare import Prepared, Preprocess
from rfr.data.prompt_hashes import LEARNED, learned_prompts, prompt_hashes
from rfr.data.split import OTHER_PART, Split
from rfr.errors import UserError
from rfr.evaluate.judged_replies import judged_replies
from rfr.store.store import Store
from rfr.train.load_judge import load_judge
from tests.helpers.runs import train_small

WHOLE = Split(validation_share=0.2, salt="t")


def _prepare(store: Path, split: Split, tokenizer_of: Prepared, root: Path) -> Prepared:
    preprocess = Preprocess(clean=Clean(min_words=20), split=split, fit=Segment(context_tokens=16), block_size=128)
    with Store(store) as opened:
        return preprocess.prepare(opened, lambda _: tokenizer_of.tokenizer, "parts", root)


def _threads(prepared: Prepared, split: str) -> set[str]:
    return {story.thread_id for story in getattr(prepared, split).stories}


def test_parts_share_the_training_threads_out_and_leave_validation_alone(
    demo_store: Path, prepared: Prepared, tmp_path: Path
) -> None:
    parts = [_prepare(demo_store, replace(WHOLE, part=[k, 3]), prepared, tmp_path) for k in (1, 2, 3)]
    for one, other in combinations(parts, 2):
        assert not _threads(one, "train") & _threads(other, "train")
    assert set().union(*(_threads(part, "train") for part in parts)) == _threads(prepared, "train")
    assert all(_threads(part, "validation") == _threads(prepared, "validation") for part in parts)
    sizes = [len(_threads(part, "train")) for part in parts]
    assert min(sizes) >= 4, sizes
    for part in parts:
        ledger = part.ledger["train"]
        assert ledger["left_out"][OTHER_PART]["stories"] > ledger["kept"]["stories"]


def test_a_part_of_a_finer_division_lies_in_one_of_a_coarser(demo_store: Path, prepared: Prepared, tmp_path: Path) -> None:
    half, quarter = (_prepare(demo_store, replace(WHOLE, part=part), prepared, tmp_path) for part in ([1, 2], [1, 4]))
    assert _threads(quarter, "train") < _threads(half, "train")


@pytest.mark.parametrize("part", [[0, 2], [3, 2], [1], [1, 2, 3], []])
def test_a_part_that_does_not_exist_is_refused(part: list[int]) -> None:
    with pytest.raises(UserError, match=r"preprocess\.split\.part must be \[k, n\], the k-th of n parts such as \[1, 2\], not"):
        replace(WHOLE, part=part)


def test_hashes_are_of_the_prompt_whatever_its_spelling() -> None:
    one, same, other = prompt_hashes(["[WP] The door opens!", "[wp]  the Door opens", "[WP] The door closes"])
    assert one == same != other
    assert prompt_hashes([]).dtype == np.uint64


def test_a_damaged_file_of_hashes_is_told(tmp_path: Path) -> None:
    assert learned_prompts(tmp_path) is None
    np.save(tmp_path / LEARNED, np.zeros(3))
    with pytest.raises(UserError, match=r"learned_prompts\.npy is damaged"):
        learned_prompts(tmp_path)


def test_a_trained_folder_tells_what_it_and_its_start_learned_from(folders: list[str], tmp_path: Path) -> None:
    """A judge trained on one half of the threads, from a policy that had seen a quarter of the other half."""
    cloned, _ = train_small(folders, "cloned", "preprocess.split.part=[4,4]")
    start = [f"model.weights={cloned}/model", f"model.tokenizer={cloned}/model"]
    half = ["objective=reward_model", "reward=thread_rank", "preprocess.split.part=[1,2]"]
    judge, _ = train_small(folders, "half", *start, *half)
    of_policy, of_judge, of_best = (learned_prompts(judge.parent / name) for name in ("cloned/model", "half/model", "half/best"))
    assert of_policy is not None
    assert of_judge is not None
    assert of_best is not None
    np.testing.assert_array_equal(of_judge, of_best)
    assert len(of_policy) < len(of_judge)
    assert np.isin(of_policy, of_judge).all()
    assert (np.diff(of_judge.astype(object)) > 0).all(), "sorted, each once"
    assert (judge / "model" / LEARNED).stat().st_size == 128 + 8 * len(of_judge)


def test_overlap_is_found_and_told(prepared: Prepared, folders: list[str], tmp_path: Path) -> None:
    run_dir, _ = train_small(folders, "judge", "objective=reward_model", "reward=thread_rank")
    folder, stories = run_dir / "model", prepared.train.stories
    judge = load_judge(str(folder), 8192, str(tmp_path))
    scores, (overlap,) = judged_replies(judge, [str(folder)], stories)
    prompts = stories.column("prompt")
    known = learned_prompts(folder)
    assert known is not None
    seen = np.isin(prompt_hashes(prompts), known)
    assert 0 < seen.sum() < len(stories), "the fixture's split is another one than the run's"
    assert (np.isnan(scores) == seen).all()
    assert overlap == {
        "judge": str(folder), "seen_prompts": len(set(prompts[seen])), "prompts": len(set(prompts))
    }  # fmt: skip
    (folder / LEARNED).unlink()
    scores, (overlap,) = judged_replies(judge, [str(folder)], stories)
    assert overlap["seen_prompts"] is None
    assert not np.isnan(scores).any()
