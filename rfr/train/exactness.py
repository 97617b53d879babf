"""Which attention trains an architecture exactly, by the probe's cached verdict."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from rfr.errors import UserError
from rfr.generation.greedy import write_greedily
from rfr.model.probe import Verdict, probe
from rfr.model.shrink import narrow, shrink
from rfr.utils.cache import build_once
from rfr.utils.hashing import key_of

FORMAT = 3  # raise when the probe or what it probes changes
FILE = "verdict.json"
# Keys that say nothing about the architecture: where the config came from, and names of labels.
NOT_HASHED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "id2label", "label2id")


def exact_attention(config: PretrainedConfig, data_dir: str | Path, *, remedy: str | None = None) -> str:
    """The implementation of attention with which an architecture is trained, read and written exactly.

    Args:
        data_dir: the folder that caches the probe's verdict.
        remedy: given where several stories share a row: the setting to advise where they can't.

    Raises:
        UserError: no implementation is exact; the message says what differs.
    """
    verdict = _verdict_on(config, Path(data_dir) / "cache")
    if verdict.attention is None:
        raise UserError(
            f"rfr can't train model_type={config.model_type} exactly, not even with packing=off: {verdict.difference}"
        )
    if remedy is not None and not verdict.packed:
        raise UserError(f"model_type={config.model_type} is not exact where stories share a row ({verdict.difference}): {remedy}")
    return verdict.attention


def _verdict_on(config: PretrainedConfig, cache_root: Path) -> Verdict:
    """The probe's verdict on an architecture, cached."""
    about = {name: value for name, value in config.to_dict().items() if name not in NOT_HASHED}
    key = key_of("probe", FORMAT, version("transformers"), version("torch"), type(config).__name__, about)
    folder = build_once(cache_root, key, partial(_write_verdict, config))
    return Verdict(**json.loads((folder / FILE).read_text()))


def _write_verdict(config: PretrainedConfig, folder: Path) -> None:
    """Probe a small copy of the model; where none can be made, the model itself with small windows."""
    with torch.random.fork_rng(devices=[]):
        verdict = probe(_shrunken(config) or narrow(config), write_greedily)
    (folder / FILE).write_text(json.dumps(vars(verdict)) + "\n")


@torch.no_grad()
def _shrunken(config: PretrainedConfig) -> PretrainedConfig | None:
    """The small copy, where the architecture's own code reads and writes with its sizes."""
    try:
        small = shrink(config)
        model = AutoModelForCausalLM.from_config(deepcopy(small), attn_implementation="eager").eval()
        tokens = torch.tensor([[3, 4, 5, 6]])
        model(input_ids=tokens, use_cache=False)
        model.generate(input_ids=tokens, max_new_tokens=2, pad_token_id=0, do_sample=False)
    except Exception:  # whatever it is, the probe will say it of the model itself
        return None
    return small
