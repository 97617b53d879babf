"""Checks pretrained weights and tokenizers: a folder is taken whole or refused.

transformers fills in some missing weights, and ignores unknown ones, without a word; here one line names the file and the defect.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from rfr.errors import UserError

INDEX = "model.safetensors.index.json"
_WHOLE: set[tuple[str, tuple]] = set()
READING = (OSError, ValueError, ImportError, RuntimeError, SafetensorError)  # what transformers raises where it can't load


def load_weights(source: str, config: PretrainedConfig, attention: str, dtype: Any, options: dict[str, Any]) -> PreTrainedModel:
    """A causal language model with exactly the weights that `source` has.

    Args:
        source: a folder or a hub's name.
        options: more arguments of `from_pretrained`.

    Raises:
        UserError: a file or a weight is missing, unknown, of another shape or not finite.
    """
    folder = Path(source)
    require_files(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            attn_implementation=attention,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except SafetensorError as error:
        raise UserError(f"{source} has a damaged file of weights ({error}): copy it again") from error
    model, about = loaded
    for name, ours, theirs in sorted(about["mismatched_keys"]):
        raise UserError(f"{_where(folder, name)} has {name} of shape {_shape(ours)}, and config.json asks for {_shape(theirs)}")
    _refuse(source, "lacks", about["missing_keys"], "the config asks for it, and it would be drawn at random")
    for name in sorted(about["unexpected_keys"]):
        _refuse(_where(folder, name), "has", about["unexpected_keys"], f"a {config.model_type} knows no such weight")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            kind = "NaN" if bool(tensor.isnan().any()) else "infinite"
            raise UserError(f"{_where(folder, name)} has {kind} values in {name}: it can't be trained")
    assert isinstance(model, PreTrainedModel)
    return model


def require_whole(source: str, config: PretrainedConfig, attention: str) -> None:
    """Load the weights to see that they are whole, once for as long as no file changes; see `load_weights`."""
    state = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(Path(source).glob("*")))
    if (source, state) not in _WHOLE:
        load_weights(source, config, attention, "auto", {})
        _WHOLE.add((source, state))


def require_files(folder: Path) -> None:
    """Raises UserError where a file of weights is missing, or shorter than it says."""
    index = folder / INDEX
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{index} is damaged: copy it again") from error
        for shard in shards:
            if not (folder / shard).is_file():
                raise UserError(f"{folder} lacks {shard}, which {INDEX} lists: copy it, too")
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}): copy it again") from error


def require_tokenizer(source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UserError where a tokenizer knows no words, or no end of a story."""
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(f"the tokenizer in {source} has no words: is the folder whole?")
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer in {source} has no eos_token, with which stories end: set it in tokenizer_config.json")


@torch.no_grad()
def draw_embeddings(model: PreTrainedModel, tokens: SequenceOf[int], seed: int) -> None:
    """Draw the embeddings of new tokens, as far apart as the others are.

    Untrained rows have all moved in the same direction, and the rows that transformers adds are equal: a policy could
    hardly tell them apart for many steps.
    """
    torch.manual_seed(seed)
    if max(tokens) >= model.config.vocab_size:
        model.resize_token_embeddings(max(tokens) + 1)
    rows = model.get_input_embeddings().weight
    assert isinstance(rows, torch.Tensor)
    known = rows[: min(tokens)].float()
    rows[list(tokens)] = (known.mean(0) + known.std(0) * torch.randn(len(tokens), rows.shape[1])).to(rows.dtype)


def _refuse(where: str, verb: str, names: Iterable[str], why: str) -> None:
    weights = sorted(names)
    if weights:
        more = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
        raise UserError(f"{where} {verb} the weight {weights[0]}{more}: {why}")


def _where(folder: Path, weight: str) -> str:
    """The file that has a weight, as far as that can be told by its name."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            if weight in weights.keys():  # noqa: SIM118
                return str(path)
    return str(folder)


def _shape(size: Iterable[int]) -> str:
    return f"({', '.join(map(str, size))})"
