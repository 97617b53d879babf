"""`make bench-models-speed`: how fast rfr trains ten families of models beside a plain Hugging Face loop.

`python -m bench.models_speed [stories.jsonl.gz] [tokenizer]`; both lie beside the clone where the real data is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from bench.lib.report import ROOT, Figure, record, require_bf16
from bench.lib.train_costs import BLOCK, RFR, Corpus, Run, train
from bench.train import LOOP, Others, corpus_settings, write_stories

WINDOW = BLOCK // 4
STEPS, ROUNDS, ROWS = 3, 2, 4  # optimizer steps, the first not timed; runs of each; rows of a global batch
OURS = [f"trainer.max_steps={STEPS}", "trainer.micro_batch=1", f"trainer.accumulate={ROWS}"]
SIZES: dict[str, Any] = {"num_hidden_layers": 12, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024,
                         "max_position_embeddings": BLOCK}  # fmt: skip
GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 64}
WINDOWED: dict[str, Any] = {**GROUPED, "sliding_window": WINDOW}
# What is not the same in all: heads that share keys, windows, experts.
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt_neox": {}, "phi": {}, "llama": GROUPED, "qwen2": GROUPED, "qwen3": GROUPED, "mistral": WINDOWED, "phi3": WINDOWED,
    "gemma2": WINDOWED, "gemma3_text": WINDOWED, "gpt_oss": {**WINDOWED, "num_local_experts": 4, "num_experts_per_tok": 2},
}  # fmt: skip


def write_model(model_type: str, tokenizer: str, folder: Path) -> int:
    """Save a random model for a tokenizer; gives how many parameters it has."""
    known = AutoTokenizer.from_pretrained(tokenizer)
    end = known.eos_token_id
    of_tokens: dict[str, Any] = {
        "vocab_size": -(-len(known) // 64) * 64, "bos_token_id": end, "eos_token_id": end, "pad_token_id": None
    }  # fmt: skip
    config = CONFIG_MAPPING[model_type](**SIZES, **FAMILIES[model_type], **of_tokens)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return int(model.num_parameters())


def compare(model_type: str, corpus: Corpus, others: Others) -> list[Figure]:
    """rfr and the loop in turn; medians of the rounds' ratios."""
    folder = corpus.folder / model_type
    parameters = write_model(model_type, corpus.tokenizer, folder)
    settings = [*OURS, "model=auto", f"model.weights={folder}"]
    rounds: list[tuple[Run, Run]] = []
    for number in range(ROUNDS):
        ours = train(corpus, f"{model_type}-{number}", settings)
        loop = others.run("loop", STEPS, {**LOOP, "accumulate": ROWS, "weights": str(folder)})
        rounds.append((ours, loop))
        print(f"{model_type}: rfr {ours.tokens_per_second:,.0f} tokens/s, the loop {loop.tokens_per_second:,.0f}", flush=True)
    speed = median(ours.tokens_per_second / loop.tokens_per_second for ours, loop in rounds)
    memory = median(ours.peak_gib / loop.peak_gib for ours, loop in rounds)
    tokens = median(ours.tokens_per_second for ours, _ in rounds)
    return [
        Figure(name=f"{model_type}_vs_loop", value=speed, target=">= 1",
               meaning=f"speed; rfr {tokens:,.0f} tokens/s, {parameters:,} parameters"),
        Figure(name=f"{model_type}_memory_vs_loop", value=memory, target="", meaning="peak memory of all processes"),
    ]  # fmt: skip


def main(table: Path, tokenizer: str) -> None:
    require_bf16()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="rfr-bench-") as scratch:
        corpus, stories = Corpus.collect(table, tokenizer, Path(scratch)), Path(scratch) / "stories.jsonl"
        write_stories(corpus.store, stories)
        others = Others(stories=stories, tokenizer=tokenizer, python=RFR)
        figures = [figure for model_type in FAMILIES for figure in compare(model_type, corpus, others)]
    about = {
        "models": f"12 layers of width 256, random weights, 50,304 tokens; windows of {WINDOW} where a family has them",
        "rfr": " ".join(corpus_settings()),
        "loop": "a plain Hugging Face loop, autocast to bf16, its default attention, documents not isolated, no recomputation",
        "global batch": f"{ROWS} rows of {BLOCK:,} tokens, one at a time", "rounds": str(ROUNDS),
    }  # fmt: skip
    record("models-speed", figures, ["torch", "transformers", "pytorch-lightning"], about)


if __name__ == "__main__":
    shared = ROOT.parent / "shared" / "data"
    paths = sys.argv[1:] or [str(shared / "writingprompts.jsonl.gz"), str(shared / "gpt2_tokenizer")]
    main(Path(paths[0]), paths[1])
