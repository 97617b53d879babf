"""`make bench-models`: every causal architecture of the installed transformers, tiny, with random weights: exact or refused?

Each is saved as a folder and goes the way of every model: the probe's verdict, loading, the likelihood of stories in shared rows.
That must be the likelihood which transformers' own model finds of each story alone.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from bench.lib.report import ROOT, Figure, record
from rfr.data.pack.best_fit import Placement
from rfr.data.pack.rows import PackedRows
from rfr.errors import UserError
from rfr.evaluate.perplexity import story_nll
from rfr.generation.sampling import has_slots
from rfr.model.load import WeightSource, build_model, pretrained_config
from rfr.model.probe import draw_weights
from rfr.model.shrink import shrink
from rfr.train.exactness import exact_attention

TOLERANCE = 1e-4  # of a story's negative log-likelihood
MOST_PARAMETERS = 3_000_000  # of what counts as tiny
PACKED, UNPACKED, REFUSED, WRONG, NOT_BUILT = "exact packed", "exact unpacked", "refused", "wrong", "not built"
STORIES = 6
# Named in the issue tracker of every trainer: what people use.
FAMILIES = (
    "mistral", "gemma2", "gemma3_text", "phi3", "qwen2", "starcoder2", "exaone4", "gpt_oss", "phi", "gptj", "codegen", "granite",
    "cohere", "gpt_neo", "falcon",
)  # fmt: skip
# What a default config leaves out, or what makes it the kind of model that people use.
HYBRID: dict[str, Any] = {"layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]}, "granitemoehybrid": HYBRID, "ministral": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128}, "hunyuan_v1_moe": {"head_dim": 128}, "nemotron": {"num_key_value_heads": 8},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4},
    "bailing_hybrid": {"num_experts": 8, "n_group": 1, "topk_group": 1},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "reformer": {"is_decoder": True, "axial_pos_embds": False}, "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "bert": {"is_decoder": True}, "roberta": {"is_decoder": True},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result for one architecture. `disagrees`: transformers' default attention gives other likelihoods than eager."""

    model_type: str
    state: str
    attention: str = ""
    note: str = ""
    written: str = ""
    disagrees: bool = False


def tiny(model_type: str) -> PreTrainedModel:
    """A small random model, as transformers builds it; raises whatever its code does."""
    config = shrink(CONFIG_MAPPING[model_type](**SETTINGS.get(model_type, {})))
    with torch.device("meta"):
        count = AutoModelForCausalLM.from_config(deepcopy(config)).num_parameters()
    if count > MOST_PARAMETERS:
        raise ValueError(f"{count:,} parameters")
    torch.manual_seed(0)
    model = draw_weights(AutoModelForCausalLM.from_config(config, dtype=torch.float32)).eval()
    with torch.no_grad():
        model(input_ids=torch.tensor([[3, 4, 5]]), use_cache=False)
    return model


def tried(model_type: str, data_dir: Path) -> Row:
    try:
        model = tiny(model_type)
        folder = data_dir / model_type
        model.save_pretrained(folder)
    except Exception as error:
        return Row(model_type=model_type, state=NOT_BUILT, note=_in_a_line(error))
    try:
        return _as_trained(model_type, folder, data_dir)
    except UserError as error:
        state = WRONG if "\n" in str(error) else REFUSED
        return Row(model_type=model_type, state=state, note=str(error).replace(str(folder), "its folder").replace("|", "/"))
    except Exception as error:
        return Row(model_type=model_type, state=WRONG, note=_in_a_line(error))


def _as_trained(model_type: str, folder: Path, data_dir: Path) -> Row:
    config = pretrained_config(str(folder), None)
    attention, packed, note = exact_attention(config, data_dir), True, ""
    try:
        exact_attention(config, data_dir, remedy="set packing=off")
    except UserError as error:
        packed, note = False, str(error)
    model = build_model(WeightSource(str(folder)), attention=attention).eval()
    rows = _rows(len(model.get_input_embeddings().weight), packed)
    ours, _ = story_nll(model, rows, micro_batch=2)
    eager, default = (_alone(folder, rows, **options) for options in ({"attn_implementation": "eager"}, {}))
    if not _alike(ours, eager):
        apart = np.abs(ours / eager - 1).max()
        return Row(model_type=model_type, state=WRONG, attention=attention, note=f"likelihoods are apart by {apart:.1g}")
    state = PACKED if packed else UNPACKED
    written = "slots" if has_slots(model) else "generate"
    return Row(
        model_type=model_type, state=state, attention=attention, note=note, written=written, disagrees=not _alike(ours, default)
    )


def _never() -> PretrainedConfig:
    raise AssertionError("every model is loaded")


def _rows(vocabulary: int, packed: bool) -> PackedRows:
    """Random stories after random prompts, longer than any window, in two rows or in one row each."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(12, 30, STORIES)
    ends = np.cumsum(lengths)
    stories = np.stack([ends - lengths, ends - lengths + 4, ends], axis=1)
    each = np.arange(STORIES)
    plan = Placement(story=each, start=np.zeros_like(each), end=lengths - 4, row=each // 3 if packed else each)
    tokens = rng.integers(3, min(vocabulary, 90), int(ends[-1])).astype(np.int32)
    return PackedRows(block=96, context=0, eos=2, packed=packed, tokens=tokens, stories=stories, pieces=plan)


@torch.no_grad()
def _alone(folder: Path, rows: PackedRows, **options: str) -> np.ndarray:
    """Each story's negative log-likelihood by transformers' own model, nothing beside the story."""
    model, likelihoods = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval(), []
    for piece in range(STORIES):
        document, targets = rows.document(piece)
        tokens = torch.from_numpy(document.astype(np.int64))[None]
        logprobs = model(input_ids=tokens[:, :-1], use_cache=False).logits[0].double().log_softmax(-1)
        likelihoods.append(-float(logprobs.gather(1, tokens[0, 1:, None])[-targets:].sum()))
    return np.array(likelihoods)


def _alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool(np.isfinite(ours).all() and (np.abs(ours - theirs) <= TOLERANCE * np.abs(theirs)).all())


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:150]}"


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        rows = [tried(model_type, Path(scratch)) for model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    minutes = (time.monotonic() - began) / 60
    counts = Counter(row.state for row in rows)
    missing = [family for family in FAMILIES if all((row.model_type, row.state) != (family, PACKED) for row in rows)]
    figures = [
        Figure(name="architectures_tried", value=len(rows) - counts[NOT_BUILT], target="> 100",
               meaning=f"of {len(rows)} causal ones; the others can't be built with tiny sizes"),
        Figure(name="exact_packed", value=counts[PACKED], target=">= 50", meaning="stories share rows"),
        Figure(name="families_not_packed", value=len(missing), target="0",
               meaning=", ".join(missing) or "of those that people use"),
        Figure(name="exact_unpacked", value=counts[UNPACKED], target="", meaning="with packing=off"),
        Figure(name="refused_in_a_line", value=counts[REFUSED], target="", meaning="docs/models.md says why"),
        Figure(name="wrong_or_traceback", value=counts[WRONG], target="0",
               meaning=", ".join(row.model_type for row in rows if row.state == WRONG) or "other likelihoods, or no clear line"),
        Figure(name="exact_and_hf_disagree", value=sum(row.disagrees for row in rows), target="",
               meaning="exact by transformers' eager attention, which its own default attention is not: "
                       + (", ".join(row.model_type for row in rows if row.disagrees) or "none")),
        Figure(name="minutes", value=round(minutes, 1), target="<= 30", meaning="for all of them"),
    ]  # fmt: skip
    record("models", figures, ["transformers", "torch"], {})
    (ROOT / "docs" / "models.md").write_text(_page(rows))


def _page(rows: list[Row]) -> str:
    shown = [row for row in rows if row.state != NOT_BUILT]
    lines = [
        "# Architectures", "",
        "Written by `make bench-models`: every causal architecture of transformers that can be built with tiny sizes, with",
        "random weights. *Exact* means that the likelihood of each story is the one which transformers' own model finds of",
        f"that story alone, to {TOLERANCE:g}. `train.py` finds the same out about your model before it prepares anything.",
        "How fast ten families are, beside a plain Hugging Face loop: [bench-models-speed.md](bench-models-speed.md).", "",
        "Stories are written with rfr's *slots* or, more slowly, with transformers' *generate*: [sampling.md](sampling.md).", "",
        "| model_type | verdict | attention | stories by | why not |", "| --- | --- | --- | --- | --- |",
        *(f"| {row.model_type} | {row.state} | {row.attention} | {row.written} | {row.note} |" for row in shown), "",
        "Not built: " + ", ".join(row.model_type for row in rows if row.state == NOT_BUILT) + ".",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
