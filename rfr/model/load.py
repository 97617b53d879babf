"""Loads models and tokenizers: pretrained by Hugging Face name, random, or from a path."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, get_session
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rfr.errors import UserError
from rfr.model.attention import NAME as ATTENTION
from rfr.model.dropout import set_dropout
from rfr.model.embedding import replace_ends
from rfr.model.load_checks import READING, draw_embeddings, load_weights, require_files, require_tokenizer, require_whole

MakeConfig = Callable[[], PretrainedConfig]

REMEDY = {"model.weights": "random or a path", "model.tokenizer": "corpus or a path"}


def _never() -> PretrainedConfig:
    raise AssertionError("these weights are loaded from a path, never drawn at random")


@dataclass(frozen=True)
class WeightSource:
    """Where a model's weights come from.

    Args:
        weights: `pretrained` (from `hub_name`), `random`, or a path to a Hugging Face model folder.
        make_config: makes the config of random weights.
    """

    weights: str
    hub_name: str | None = None
    make_config: MakeConfig = _never


def build_model(
    source: WeightSource,
    *,
    seed: int = 0,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
    new_tokens: SequenceOf[int] = (),
    attention: str = ATTENTION,
) -> PreTrainedModel:
    """A causal language model.

    Args:
        seed: seeds random weights and new embeddings.
        attention: an implementation with which the architecture is exact (see `rfr.model.probe`).
        dropout: the rate of every kind of dropout. Fine-tuning wants 0: dropout halves CPU speed, and karma is noise enough.
        new_tokens: ids that pretrained weights do not have, above all that they have; their embeddings are drawn.

    Raises:
        UserError: the weights can't be reached, or are no safetensors.
    """
    if source.weights == "random":
        torch.manual_seed(seed)
        config = source.make_config()
        # Drawn in fp32 and then cast, one parameter after the other: all precisions begin with the same policy.
        drawn = AutoModelForCausalLM.from_config(config, attn_implementation=attention).float().to(dtype)
        return replace_ends(_with_dropout(drawn, dropout))
    weights, hub_name = source.weights, source.hub_name
    location, options = _locate("model.weights", weights, hub_name)
    config = pretrained_config(weights, hub_name)
    if is_reward_model(config):
        raise UserError(f"model.weights={weights} is a reward model: it scores stories and can't write them")
    try:
        model = load_weights(location, config, attention, dtype, options)
    except UserError:
        raise
    except READING as error:
        raise _unreachable("model.weights", weights, location, error) from error
    if "gguf_file" in options:
        model = _without_quantisation(model)
    if new_tokens:
        draw_embeddings(model, new_tokens, seed)
    return replace_ends(_with_dropout(model, dropout))


def _with_dropout(model: PreTrainedModel, rate: float) -> PreTrainedModel:
    if skipping := set_dropout(model, rate):
        print(f"warning: {', '.join(skipping)} skips whole layers, which model.dropout does not: set to 0", flush=True)
    return model


def pretrained_config(weights: str, hub_name: str | None) -> PretrainedConfig:
    """The config of the model at a path, or of the `pretrained` one.

    Raises:
        UserError: it can't be loaded.
    """
    source, options = _locate("model.weights", weights, hub_name)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    except READING as error:
        if "custom code" in str(error) or "trust_remote_code" in str(error):
            raise UserError(f"{source} needs code of its own (auto_map in its config.json), and rfr runs none") from error
        raise _unreachable("model.weights", weights, source, error) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise UserError(f"{source} is no causal language model: its config.json says model_type {config.model_type}")
    return with_fused_gelu(config)


def require_whole_weights(weights: str, hub_name: str | None, attention: str) -> None:
    """Raises UserError where a weight is missing, unknown, of another shape or not finite. A package's are taken as whole."""
    source, options = _locate("model.weights", weights, hub_name)
    if "gguf_file" in options:
        return
    try:
        require_whole(source, pretrained_config(weights, hub_name), attention)
    except READING as error:
        raise error if isinstance(error, UserError) else _unreachable("model.weights", weights, source, error) from error


def require_weights(weights: str, hub_name: str | None) -> None:
    """Raises UserError where there are none, or a part of them is missing."""
    if weights != "random":
        require_files(Path(_locate("model.weights", weights, hub_name)[0]))


def build_tokenizer(tokenizer: str, hub_name: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer `pretrained` (from `hub_name`) or at a path.

    Raises:
        UserError: it can't be loaded.
    """
    source, options = _locate("model.tokenizer", tokenizer, hub_name)
    try:
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:  # a damaged file makes its library raise whatever it comes upon
        raise _unreachable("model.tokenizer", tokenizer, source, error) from error
    require_tokenizer(source, loaded)
    return loaded


PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def refuse_pickles(where: Path) -> None:
    """Raises UserError where weights are pickled: loading them runs the code that is in them."""
    files = [where] if where.is_file() else list(where.glob("*")) if where.is_dir() else []
    pickles = [path.name for path in files if path.suffix in PICKLED]
    if pickles and not any(path.suffix == ".safetensors" for path in files):
        raise UserError(
            f"model.weights={where} holds pickled weights ({pickles[0]}), which can run code when they are loaded: rfr takes "
            "safetensors only, so save the model as such where you trust it (save_pretrained does)"
        )


def _locate(key: str, where: str, hub_name: str | None) -> tuple[str, dict[str, Any]]:
    """The source for `from_pretrained`, and extra options for it."""
    if where != "pretrained":
        if key == "model.weights":
            refuse_pickles(Path(where))
        if not Path(where).is_dir():  # Hugging Face would take it for a name and ask the hub
            raise UserError(
                f"no model folder at {where}: train.py leaves one in runs/<name>/model; otherwise set {key} to {REMEDY[key]}"
            )
        return where, {}
    if hub_name is None:
        raise UserError(f"this model has nothing pretrained: set {key} to {REMEDY[key]}")
    package, _, gguf = hub_name.partition(":")  # `package:file.gguf`: weights that a Python package ships
    if not gguf:
        return hub_name, {"local_files_only": not _hub_answers()}
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {package} is not installed: run `make smollm2`, or set model.weights to random or a path")
    return spec.submodule_search_locations[0], {"gguf_file": gguf}


@cache
def _hub_answers() -> bool:
    """One try; without it the hub's client repeats its requests for a minute before it takes what lies in its cache."""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # the client's HTTP library, and so the error's class, changes between its versions
        return False
    return True


def _unreachable(key: str, value: str, source: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    hint = "is the network there?" if value == "pretrained" else "is the folder whole?"
    return UserError(f"can't load {source} ({reason}): {hint} Otherwise set {key} to {REMEDY[key]}")


def with_fused_gelu(config: PretrainedConfig) -> PretrainedConfig:
    """GPT-2's own GELU as one operation instead of eight; the same formula."""
    if getattr(config, "activation_function", None) == "gelu_new":
        config.activation_function = "gelu_pytorch_tanh"
    return config


def _without_quantisation(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a fresh model: one loaded from GGUF carries a quantiser that refuses to be saved."""
    attention = model.config._attn_implementation
    fresh = AutoModelForCausalLM.from_config(model.config, attn_implementation=attention).to(model.dtype)
    fresh.load_state_dict(model.state_dict())
    fresh.generation_config = model.generation_config
    return fresh


def no_random_weights(**_: object) -> PretrainedConfig:
    """Stands where a size would, for model=auto.

    Raises:
        UserError: always; an architecture can't be guessed.
    """
    raise UserError("model=auto has no random weights: set model.weights to a path, or choose model=tiny or model=gpt2")


def load_policy(
    weights: str, attention: Callable[[PretrainedConfig], str] = lambda _: ATTENTION
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:  # fmt: skip
    """Model (on the GPU where there is one, in evaluation mode) and tokenizer of a Hugging Face folder.

    Args:
        attention: from the model's config to the implementation of attention.

    Raises:
        UserError: there is no model in the folder.
    """
    if not (Path(weights) / "config.json").is_file():
        raise UserError(f"no model folder at {weights}: train.py leaves one in runs/<name>/model")
    tokenizer, chosen = build_tokenizer(weights, None), attention(pretrained_config(weights, None))
    model = build_model(WeightSource(weights), attention=chosen)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]
    return model.eval(), tokenizer


def is_reward_model(config: PretrainedConfig) -> bool:
    """Whether it gives a score in the place of logits."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
