"""A run that learns from its own stories: what it leaves behind, its control, its watch judge, and that it goes on to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
from hydra.errors import InstantiationException

from rfr.data.tokenise import prompt_tokens
from rfr.errors import UserError
from rfr.model.load import load_policy
from rfr.report.comparison import WORDS
from rfr.rollouts.round_stories import RoundStories, load_round
from rfr.rollouts.story_writer import StoryWriter
from rfr.runs.curves import HELD_OUT, IN_ROUNDS, curves
from rfr.runs.folder import load, run_folder
from rfr.train.build import prepare
from rfr.train.recipe import Recipe
from rfr.train.run import train
from rfr.utils.exits import remedy
from tests.helpers.runs import column, largest_difference, small_config, stopped_at, train_small

ROUNDS = [
    "rollouts=own", "rollouts.rounds=3", "rollouts.prompts=6", "rollouts.stories=4", "rollouts.steps=2",
    "schedule.warmup_steps=0", "rollouts.held_out.prompts=3", "rollouts.held_out.stories=2", "trainer.micro_batch=4",
    "rollouts.sampling.max_new_tokens=24", "rollouts.shaping.standardise.stories=20", "trainer.max_steps=6",
    "trainer.validate_every=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def start(folders: list[str]) -> list[str]:
    """A cloned policy, and two judges that learned from different halves of the threads."""
    cloned, _ = train_small(folders, "cloned", "trainer.max_steps=40", "trainer.validate_every=40")
    policy = [f"model.weights={cloned}/model", f"model.tokenizer={cloned}/model"]
    for half in (1, 2):
        train_small(
            folders, f"judge-{half}", *policy, "objective=reward_model", "reward=oracle", f"preprocess.split.part=[{half},2]",
            "evaluation.stories=8", f"seed={half}",
        )  # fmt: skip
    return policy


def _judges(start: list[str]) -> list[str]:
    runs = Path(start[0].partition("=")[2]).parent.parent
    return [str(runs / f"judge-{half}" / "model") for half in (1, 2)]


@pytest.fixture(scope="module")
def agent(folders: list[str], start: list[str]) -> tuple[Path, dict]:
    judge, watch = _judges(start)
    return train_small(folders, "agent", *start, *ROUNDS, "objective=rwr", f"judge={judge}", f"rollouts.watch={watch}")


def _learned(run_dir: Path) -> list[RoundStories]:
    return [load_round(path) for path in sorted((run_dir / "rounds").glob("learned-*.parquet"))]


def _held_out(run_dir: Path) -> list[RoundStories]:
    return [load_round(path) for path in sorted((run_dir / "rounds").glob("held-out-*.parquet"))]


def test_a_round_can_be_read(agent: tuple[Path, dict]) -> None:
    run_dir, result = agent
    learned, held_out = _learned(run_dir), _held_out(run_dir)
    assert (len(learned), len(held_out), result["steps"]) == (3, 4, 6)
    model, tokenizer = load_policy(str(Path(str(load(run_dir).model.weights))))
    for stories in learned:
        assert len(stories) == 24
        assert len(set(stories.prompts)) == 6
        np.testing.assert_allclose(stories.policy_logprob, [one.sum() for one in stories.logprobs], atol=1e-3)
        assert (stories.kl >= 0).all()
        assert stories.weight.reshape(6, 4).sum(axis=1) == pytest.approx([stories.weight.sum() / 6] * 6)
        for prompt, ids, text, ended in zip(stories.prompts, stories.ids, stories.texts, stories.ended, strict=True):
            assert str(tokenizer.decode(ids, skip_special_tokens=True)).strip() == text
            assert (ids[-1] == tokenizer.eos_token_id) == ended
            assert prompt_tokens(tokenizer, prompt)
    assert model is not None
    np.testing.assert_allclose(held_out[0].kl, 0, atol=1e-5)
    assert held_out[3].kl.mean() > 0.001, "the policy has moved"
    assert len({tuple(stories.numbers) for stories in learned}) == 3, "a prompt that comes again gets other random numbers"
    assert {tuple(stories.prompts) for stories in held_out} == {tuple(held_out[0].prompts)}


def test_no_validation_prompt_is_learned_from(agent: tuple[Path, dict]) -> None:
    run_dir, _ = agent
    prepared = prepare(Recipe.of(load(run_dir)))
    training, validation = (set(split.stories.column("prompt")) for split in (prepared.train, prepared.validation))
    prompts = {prompt for stories in _learned(run_dir) for prompt in stories.prompts}
    assert len(prompts) == 18
    assert prompts <= training - validation
    assert {prompt for stories in _held_out(run_dir) for prompt in stories.prompts} <= validation - training


def test_health_is_logged_each_round(agent: tuple[Path, dict]) -> None:
    run_dir, _ = agent
    for name in ("score", "score_spread", "kl", "kl_error", "entropy_per_token", "length", "cut_off", "distinct_2", "self_bleu",
                 "copied_tokens", "ess_within_prompts", "quality", "truth_correlation", "watch"):  # fmt: skip
        assert len(column(run_dir, f"round/{name}")) == 3, name
    for name in ("score", "kl", "watch", "quality", "length"):
        assert len(column(run_dir, f"held_out/{name}")) == 4, name
    assert column(run_dir, "held_out/start_length_slope")
    stories = _learned(run_dir)[1]
    assert column(run_dir, "round/score")[1] == pytest.approx(stories.score.mean())
    assert column(run_dir, "round/cut_off")[1] == pytest.approx(1 - stories.ended.mean())


def test_the_comparison_page_draws_the_rounds(agent: tuple[Path, dict]) -> None:
    columns = curves(agent[0])
    told = {name: [value for value in column if value is not None] for name, column in columns.items()}
    assert all(len(told[name]) == 4 for name in HELD_OUT)
    assert all(len(told[name]) == 3 for name in IN_ROUNDS)
    assert set(HELD_OUT + IN_ROUNDS) <= set(WORDS), "each has words for people"


def test_the_watch_judge_chooses_the_best(agent: tuple[Path, dict]) -> None:
    run_dir, _ = agent
    scores = [float(stories.watch.mean()) for stories in _held_out(run_dir)]
    info = json.loads((run_dir / "best" / "rfr.json").read_text())
    assert info["round"] == int(np.argmax(scores))
    assert info["watch"] == pytest.approx(max(scores))
    assert info["step"] == 2 * info["round"]


def test_without_a_watch_judge_it_is_said_that_nobody_watches(
    folders: list[str], start: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    judge, _ = _judges(start)
    run_dir, _ = train_small(folders, "unwatched", *start, *ROUNDS, "objective=filtered_bc", f"judge={judge}",
                             "rollouts.rounds=1", "trainer.max_steps=2")  # fmt: skip
    said = capsys.readouterr().out
    assert "nobody watches" in said
    assert f"{judge} learned from" in said
    assert not (run_dir / "best").exists()
    kept = _learned(run_dir)[0].weight.reshape(6, 4)
    assert ((kept > 0).sum(axis=1) == 1).all()


def test_a_run_ends_when_the_watch_judge_has_long_found_nothing_better(
    folders: list[str], start: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, watch = _judges(start)
    settings = [*start, *ROUNDS, "objective=rwr", f"judge={judge}", f"rollouts.watch={watch}"]
    recipe = Recipe.of(small_config(folders, "patient", *settings, "rollouts.patience=1", "rollouts.rounds=4"))
    run_dir = run_folder(small_config(folders, "patient", *settings))
    real, asked = StoryWriter.score, list[int]()

    def ever_worse(self: StoryWriter, texts: Sequence[tuple[str, str]], device: Any) -> dict[str, np.ndarray]:
        asked.append(len(texts))
        return real(self, texts, device) | {"watch": np.full(len(texts), -float(len(asked)))}

    monkeypatch.setattr(StoryWriter, "score", ever_worse)
    result = train(recipe, run_dir)
    assert result["steps"] == 2
    assert len(_held_out(run_dir)) == 2


# --- what is learned


class _PrefersAWord:
    """A judge that counts a letter."""

    given: ClassVar[bool] = True
    folders: ClassVar[tuple[str, ...]] = ()
    name: ClassVar[str] = "the letter e"
    label: ClassVar[str] = "letter"
    key: ClassVar[str] = "letter"

    def load(self, _: Any) -> Callable[[Sequence[tuple[str, str]]], np.ndarray]:
        return lambda stories: np.array([100 * text.count("e") / max(1, len(text)) for _, text in stories])

    def require(self, prompts: Sequence[str]) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["rwr", "rloo", "dpo"])
def test_a_judge_that_prefers_a_letter_makes_an_agent_that_writes_it(
    folders: list[str], start: list[str], objective: str
) -> None:
    more = ["rollouts.rounds=6", "rollouts.prompts=12", "rollouts.stories=8", "trainer.max_steps=12"]
    cfg = small_config(folders, f"letter-{objective}", *start, *ROUNDS, *more, f"objective={objective}", "score=truth",
                       "optimizer.lr=3e-3", "rollouts.shaping.cut_off.penalty=0")  # fmt: skip
    train(replace(Recipe.of(cfg), score=_PrefersAWord()), run_folder(cfg))
    shares = column(run_folder(cfg), "round/score")
    assert len(shares) == 6
    assert shares[-1] > 1.2 * shares[0], shares
    assert column(run_folder(cfg), "held_out/kl")[-1] > 0.3


def test_the_control_shuffles_scores_within_prompts_and_nothing_else(
    folders: list[str], start: list[str], agent: tuple[Path, dict]
) -> None:
    judge, watch = _judges(start)
    penalty = "rollouts.shaping.kl.beta=0.5"
    settings = [*start, *ROUNDS, "objective=rwr", f"judge={judge}", f"rollouts.watch={watch}"]
    one_dir, _ = train_small(folders, "penalised", *settings, penalty)
    twin_dir, _ = train_small(folders, "twin", *settings, penalty, "rollouts.selection=random")
    (one, *_), (twin, *_), (free, *_) = (_learned(run_dir) for run_dir in (one_dir, twin_dir, agent[0]))
    assert one.texts == twin.texts == free.texts
    np.testing.assert_array_equal(one.score, twin.score)
    kl = 0.5 * (one.policy_logprob - one.start_logprob)
    np.testing.assert_allclose(one.reward + kl, free.reward, atol=1e-9)
    shaped, shuffled = (one.reward + kl).reshape(6, 4), (twin.reward + kl).reshape(6, 4)
    np.testing.assert_allclose(np.sort(shaped, axis=1), np.sort(shuffled, axis=1), atol=1e-9)
    assert (np.abs(shaped - shuffled).max(axis=1) > 1e-9).sum() >= 4
    assert [stories.prompts for stories in _learned(one_dir)] == [stories.prompts for stories in _learned(twin_dir)]


@pytest.mark.parametrize("objective", ["rwr", "rloo", "dpo"])
def test_peoples_stories_can_be_mixed_in(folders: list[str], start: list[str], objective: str) -> None:
    judge, _ = _judges(start)
    settings = [*start, *ROUNDS, "rollouts.rounds=1", "trainer.max_steps=2", "reward=thread_rank", f"objective={objective}",
                f"judge={judge}"]  # fmt: skip
    run_dir, result = train_small(folders, f"mixed-{objective}", *settings, "rollouts.mix=0.25")
    plain, _ = train_small(folders, f"plain-{objective}", *settings)
    assert result["steps"] == 2
    assert _learned(run_dir)[0].texts == _learned(plain)[0].texts
    assert column(run_dir, "tokens")[-1] > 1.1 * column(plain, "tokens")[-1]


# --- going on


def test_an_interrupted_run_goes_on_to_the_bit(folders: list[str], start: list[str], agent: tuple[Path, dict]) -> None:
    judge, watch = _judges(start)
    settings = [*start, *ROUNDS, "objective=rwr", f"judge={judge}", f"rollouts.watch={watch}",
                "trainer.checkpoint_every=1"]  # fmt: skip
    for step in (2, 3):  # between rounds, and within one
        name = f"stopped-{step}"
        with stopped_at(step):
            train_small(folders, name, *settings)
        run_dir, _ = train_small(folders, name, *settings)
        assert largest_difference(run_dir, agent[0]) == 0
        for path in sorted((run_dir / "rounds").iterdir()):
            assert path.read_bytes() == (agent[0] / "rounds" / path.name).read_bytes(), path.name
        assert (run_dir / "best" / "rfr.json").read_text() == (agent[0] / "best" / "rfr.json").read_text()
        for name in ("round/score", "held_out/watch", "train/loss"):
            assert column(run_dir, name) == column(agent[0], name)


@pytest.mark.slow
def test_rounds_of_a_lost_future_are_drawn_again(folders: list[str], start: list[str], agent: tuple[Path, dict]) -> None:
    """The run went on for a round that no checkpoint knows of."""
    judge, watch = _judges(start)
    settings = [*start, *ROUNDS, "objective=rwr", f"judge={judge}", f"rollouts.watch={watch}"]
    with stopped_at(2):
        train_small(folders, "lost", *settings)
    rounds = run_folder(small_config(folders, "lost", *settings)) / "rounds"
    (rounds / "learned-0003.parquet").write_bytes(b"of another policy")
    (rounds / "learned-0002.parquet.partial").write_bytes(b"half")
    run_dir, _ = train_small(folders, "lost", *settings)
    assert largest_difference(run_dir, agent[0]) == 0
    assert not list(rounds.glob("*.partial"))


# --- wrong input


def _refused(folders: list[str], *overrides: str) -> str:
    with pytest.raises((UserError, InstantiationException)) as refused:
        train_small(folders, "refused", *ROUNDS, *overrides)
    assert not (Path(folders[1].partition("=")[2]) / "refused" / "config.yaml").exists()
    return str(remedy(refused.value))


def test_what_cannot_be_learned_is_refused(folders: list[str], start: list[str], tmp_path: Path) -> None:
    judge, watch = (f"judge={_judges(start)[0]}", f"rollouts.watch={_judges(start)[1]}")
    rwr = [*start, "objective=rwr", judge]
    assert "needs a judge" in _refused(folders, *start, "objective=rwr")
    assert "rollouts.stories must be 2 or more, not 1" in _refused(folders, *rwr, "rollouts.stories=1")
    same = f"rollouts.watch={_judges(start)[0]}/../model"
    assert "is the judge itself" in _refused(folders, *rwr, same)
    copied = shutil.copytree(_judges(start)[0], tmp_path / "copied")
    assert "common prompts, so they err alike" in _refused(folders, *rwr, f"rollouts.watch={copied}")
    assert "target_ess=0.3 is out of reach with rollouts.stories=2" in _refused(folders, *rwr, "rollouts.stories=2", watch)
    assert "follows from a round's stories" in _refused(folders, *rwr, "trainer.accumulate=4")
    dpo = [*start, judge, "objective=dpo", "rollouts.steps=12", "trainer.max_steps=12"]
    assert "rollouts.steps=12 must not be above rollouts.prompts=6" in _refused(folders, *dpo)
    assert "begins with a policy that can write" in _refused(folders, "objective=rwr", judge)
    assert "objective=reward_model can't learn" in _refused(folders, *start, "objective=reward_model", judge)
    assert "objective=conditional can't learn" in _refused(folders, *start, "objective=conditional", judge)
    assert "no multiple of rollouts.steps=2" in _refused(folders, *rwr, "trainer.max_steps=5")
    assert "prompts=500, and the training threads have" in _refused(folders, *rwr, "rollouts.prompts=500")
    assert "can't be dealt over rollouts.steps=40" in _refused(folders, *rwr, "rollouts.steps=40", "trainer.max_steps=40")
    assert "goes by the watch judge" in _refused(folders, *rwr, "rollouts.patience=2")
    for distribution in ("rollouts.sampling.temperature=0.8", "rollouts.sampling.top_p=0.9", "rollouts.sampling.top_k=5"):
        assert "from the policy as it is" in _refused(folders, *start, judge, "objective=rloo", distribution)
        assert "from the policy as it is" in _refused(folders, *rwr, "rollouts.shaping.kl.beta=0.1", distribution)
    config = "+rollouts.sampling.use_generation_config=true"
    assert "from the policy as it is" in _refused(folders, *start, judge, "objective=rloo", config)
    with pytest.raises(UserError, match="add rollouts=own"):
        train_small(folders, "refused", *start, "objective=rloo")
    with pytest.raises(UserError, match="add rollouts=own, or leave out judge= "):
        train_small(folders, "refused", *start, judge)


@pytest.fixture
def chain(
    command: Callable[..., tuple[int, str, str]], folders: list[str], start: list[str], agent: tuple[Path, dict], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """`report=chain` of the cloned policy and its agent."""
    judge, gold = _judges(start)
    small = [
        "corpus=demo", "corpus.demo.threads=40", "preprocess.fit.context_tokens=16", "report.stories=2", "report.best_of=4",
        "report.sampling.max_new_tokens=24",
    ]  # fmt: skip
    policies = [start[0], f"against=[{start[0].partition('=')[2]},{agent[0]}/best]", f"judge={judge}", f"gold={gold}"]

    def report(*overrides: str) -> tuple[int, str, str]:
        return command("evaluate", "report=chain", *small, *folders, *policies, f"out={tmp_path / 'out'}", *overrides)

    return report


def test_a_chain_is_told_in_tables_and_a_picture(
    chain: Callable[..., tuple[int, str, str]], start: list[str], agent: tuple[Path, dict], tmp_path: Path
) -> None:
    code, out, err = chain()
    assert code == 0, err
    report = json.loads((tmp_path / "out" / "chain.json").read_text())
    cloned, learned = start[0].partition("=")[2], f"{agent[0]}/best"
    rows = {(row["policy"], row["temperature"]): row for row in report["policies"]}
    best = f"best of 4 of {cloned}"
    assert list(rows) == [(name, at) for name in (cloned, best, learned) for at in (0.8, 1.0)]
    assert {key for key, row in rows.items() if "quality_gain" not in row} == {(cloned, 0.8), (cloned, 1.0)}
    assert {key for key, row in rows.items() if "kl" in row} == {(cloned, 1.0), (learned, 1.0)}
    assert rows[cloned, 1.0]["kl"] == 0
    assert rows[best, 1.0]["score"] > rows[cloned, 1.0]["score"], "the judge chose by it"
    gain = rows[learned, 0.8]["quality_gain"]["gain"]
    assert gain == pytest.approx(rows[learned, 0.8]["quality"] - rows[cloned, 0.8]["quality"], abs=2e-4)
    assert [(row["run"], row["round"]) for row in report["rounds"]] == [(str(agent[0]), number) for number in range(4)]
    assert report["rounds"][2]["score"] == pytest.approx(_held_out(agent[0])[2].score.mean(), abs=1e-4)
    files = sorted((tmp_path / "out" / "stories").iterdir())
    written = {key: load_round(file) for key, file in zip(rows, files, strict=True)}
    assert written[learned, 1.0].quality.mean() == pytest.approx(rows[learned, 1.0]["quality"], abs=1e-4)
    page, svg = (tmp_path / "out" / "chain.html").read_text(), (tmp_path / "out" / "chain.svg").read_text()
    assert svg in page
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert f"{report['prompts']} prompts, 20 are needed" in out
    assert "<h2>Round by round</h2>" in page
    levels = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]
    assert {str(agent[0]), cloned, best} <= set(levels), "an agent is a line, the others are levels"
    assert learned not in levels


def test_what_cannot_be_told_of_a_chain_is_refused(
    chain: Callable[..., tuple[int, str, str]], start: list[str], tmp_path: Path
) -> None:
    judge = _judges(start)[0]
    copied = shutil.copytree(judge, tmp_path / "copied")
    for overrides, told in (
        (("model.weights=null",), "no policy that the chain begins with"),
        (("judge=null",), "give judge= with the folder of a reward model, or score=truth"),
        (("report.temperatures=[]",), "report.temperatures must name a temperature"),
        ((f"gold={judge}",), "gold=" + judge + " is the judge itself"),
        ((f"gold={copied}",), "common prompts, so they err alike"),
        ((f"against=[{judge}]",), "is a reward model"),
    ):
        code, _, err = chain(*overrides)
        assert code == 2, (overrides, err)
        assert told in err, (overrides, err)
