"""A defective model folder is refused in a line with the file and its fault, before a store is read; a healthy one trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DistilBertConfig, LlamaConfig

from rfr.data.tokenise import content_of, train_bpe
from rfr.errors import UserError
from rfr.generation.sampling import Sampling, sample
from rfr.model.attention import NAME as ATTENTION
from rfr.model.load import WeightSource, build_model, build_tokenizer, load_policy
from rfr.train.policy import require_trainable
from rfr.train.recipe import Recipe
from tests.helpers.runs import small_config, train_small

WEIGHTS = "model.safetensors"
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "healthy"
    tokenizer = train_bpe(["the king and the door of the moon"] * 20, 300)
    config = LlamaConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "model"))


def _change(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _settings(folder: Path, file: str, **settings: object) -> None:
    known = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(known | settings))


def _cut(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def _without_a_shard(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / WEIGHTS).unlink(missing_ok=True)
    next(folder.glob("model-00002-of-*.safetensors")).unlink()


def _without_a_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


def _with_an_empty_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"], tokenizer["model"]["merges"], tokenizer["added_tokens"] = {}, [], []
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def _without_an_end(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("eos_token", "bos_token"):
        settings.pop(name, None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for path in folder.glob("special_tokens_map.json"):
        path.unlink()


def _with_a_larger_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<new-{number}>" for number in range(60)])
    tokenizer.save_pretrained(folder)


DEFECTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a weight is missing": (lambda f: _change(f, lambda w: w.pop(UP)), rf"model lacks the weight {UP}: .*drawn at random"),
    "two weights are missing": (
        lambda f: _change(f, lambda w: (w.pop(UP), w.pop("model.norm.weight"))), rf"lacks the weight {UP} and 1 more",
    ),
    "an unknown weight": (
        lambda f: _change(f, lambda w: w.update({"model.layers.7.foo": torch.zeros(3)})),
        r"model.safetensors has the weight model.layers.7.foo: a llama knows no such weight",
    ),
    "another shape": (
        lambda f: _change(f, lambda w: w.update({"model.norm.weight": torch.ones(3)})),
        r"model.safetensors has model.norm.weight of shape \(3\), and config.json asks for \(32\)",
    ),
    "NaN": (lambda f: _change(f, lambda w: w[UP][3].fill_(torch.nan)), rf"model.safetensors has NaN values in {UP}"),
    "infinite": (lambda f: _change(f, lambda w: w[UP][3].fill_(torch.inf)), rf"model.safetensors has infinite values in {UP}"),
    "a cut file": (_cut, r"model.safetensors is damaged .*: copy it again"),
    "no weights at all": (lambda f: (f / WEIGHTS).unlink(), r"can't load .*model .*: is the folder whole"),
    "a shard is missing": (_without_a_shard, r"model lacks model-00002-of-0000\d.safetensors, which .*index.json lists"),
    "no tokenizer": (_without_a_tokenizer, r"set model.tokenizer to corpus or a path|the tokenizer in .* has no"),
    "an empty tokenizer": (_with_an_empty_tokenizer, r"the tokenizer in .* has no words|can't load .*model"),
    "a damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"model": 1'), r"can't load .*model .*model.tokenizer"),
    "no end of text": (_without_an_end, r"the tokenizer in .*model has no eos_token, with which stories end"),
    "a larger tokenizer": (_with_a_larger_tokenizer, r"the tokenizer has 3\d\d tokens and the model knows 320"),
    "code of its own": (
        lambda f: _settings(f, "config.json", model_type="mine", auto_map={"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}),
        r"model needs code of its own \(auto_map in its config.json\), and rfr runs none",
    ),
    "an encoder": (
        lambda f: DistilBertConfig().save_pretrained(f), r"model is no causal language model: .*model_type distilbert",
    ),
}  # fmt: skip


def _check(folders: list[str], folder: Path, *overrides: str) -> str:
    where = ["model=auto", f"model.weights={folder}", f"model.tokenizer={folder}", "model.block_size=64"]
    return require_trainable(Recipe.of(small_config(folders, "never", *_auto(where), *overrides)))


def _auto(where: list[str]) -> list[str]:
    """The tiny model's own sizes are no settings of another."""
    return ["~model.random.n_embd", "~model.random.n_head", *where[1:]]


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_named_before_a_store_is_read(
    folders: list[str], folder: Path, defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = DEFECTS[defect]
    make(folder)
    monkeypatch.setattr("rfr.demo.source.DemoCorpus.open", lambda _: pytest.fail("the store was opened"))
    with pytest.raises(UserError, match=message) as refusal:
        _check(folders, folder)
    assert "\n" not in str(refusal.value)


def test_a_healthy_folder_passes(folders: list[str], healthy: Path) -> None:
    assert _check(folders, healthy) == ATTENTION


@pytest.mark.parametrize("kind", ["sharded", "tied", "fp16", "added tokens that fit"])
def test_healthy_variants_are_loaded(healthy: Path, folder: Path, kind: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(healthy)
    if kind == "sharded":
        model.save_pretrained(folder, max_shard_size="20KB")
        (folder / WEIGHTS).unlink()
    if kind == "tied":
        model.config.tie_word_embeddings = True
        model.tie_weights()
        model.save_pretrained(folder)
    if kind == "fp16":
        model.half().save_pretrained(folder)
    if kind == "added tokens that fit":
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["<one>", "<two>"])
        tokenizer.save_pretrained(folder)
    loaded = build_model(WeightSource(str(folder)))
    assert loaded.dtype == torch.float32
    tied = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert tied == (kind == "tied")
    ours = loaded.state_dict()[UP]
    assert torch.equal(ours, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()[UP])


def test_another_end_of_text_is_told_and_the_export_agrees(
    folders: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = build_tokenizer(str(folder), None).eos_token_id
    _settings(folder, "config.json", eos_token_id=7)
    _settings(folder, "generation_config.json", eos_token_id=[8, 9])
    where = [f"model.weights={folder}", f"model.tokenizer={folder}", "trainer.max_steps=3", "model.block_size=512"]
    run_dir, _ = train_small(folders, "other-end", *_auto(["", *where]))
    out = capsys.readouterr().out
    assert f"config.json ends texts with token 7, the tokenizer with {end} (<|endoftext|>)" in out
    assert "generation_config.json ends texts with token [8, 9]" in out
    for name in ("config.json", "generation_config.json"):
        assert json.loads((run_dir / "model" / name).read_text())["eos_token_id"] == end


def test_sampling_uses_the_folders_own_settings_only_when_asked_to(folder: Path) -> None:
    plain = load_policy(str(folder))
    _settings(folder, "generation_config.json", repetition_penalty=9.0, suppress_tokens=list(range(200)), num_beams=3, top_k=1)
    odd = load_policy(str(folder))
    sampling = Sampling(max_new_tokens=12)
    (own,) = sample(*plain, ["[WP] A door"], sampling)
    assert sample(*odd, ["[WP] A door"], sampling)[0].text == own.text
    assert odd[0].generation_config.num_beams == 3
    (asked,) = sample(*odd, ["[WP] A door"], replace(sampling, use_generation_config=True))
    assert asked.text != own.text


def test_a_tokenizer_is_known_by_its_content(healthy: Path, folder: Path) -> None:
    same, other = (AutoTokenizer.from_pretrained(path) for path in (healthy, folder))
    assert content_of(same) == content_of(other)
    other.add_tokens(["<one>"])
    assert content_of(same) != content_of(other)
