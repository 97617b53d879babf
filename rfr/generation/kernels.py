"""Compiles what the sampler does on a CPU: it draws tokens, attends to stories, and computes whole models in one call."""

from __future__ import annotations

import os
import sys
from functools import cache, partial
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import torch

from rfr.utils.cache import build_once
from rfr.utils.hashing import key_of

NAME = "rfr_kernels"
SOURCES = ("kernels.cpp", "story_attention.cpp", "decoders.cpp")
FLAGS = ["-O3", "-march=native", "-ffast-math", "-fopenmp-simd"]


def kernels_for(device: torch.device) -> Any:
    """The compiled functions; None for other devices than CPUs, and where they can't be compiled."""
    return _compiled() if device.type == "cpu" else None


@cache
def _compiled() -> Any:
    """Compiled once per user, torch and processor, which takes a minute."""
    sources = [Path(__file__).with_name(name) for name in SOURCES]
    processor = torch.cpu.get_capabilities()
    key = key_of(NAME, [source.read_text() for source in sources], FLAGS, torch.__version__, processor)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rfr"
    try:
        folder = build_once(root, key, partial(_compile, sources))
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        print(f"warning: the sampler's kernels can't be compiled ({reason}): sampling is slower", file=sys.stderr, flush=True)
        return None
    loader = ExtensionFileLoader(NAME, str(folder / f"{NAME}.so"))
    spec = spec_from_loader(NAME, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _compile(sources: list[Path], folder: Path) -> None:
    from torch.utils.cpp_extension import load

    print("compiling the sampler's kernels, once: a minute", file=sys.stderr, flush=True)
    load(NAME, [str(source) for source in sources], extra_cflags=FLAGS, build_directory=str(folder), is_python_module=False)
    for path in folder.iterdir():
        if path.suffix != ".so":
            path.unlink()
