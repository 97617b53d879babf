"""What `make bench` compares with, each in a process of its own: TRL's SFTTrainer and a plain Hugging Face loop.

`python -m bench.lib.baselines trl|loop stories.jsonl tokenizer steps settings` prints the seconds and the tokens of
each step but the first.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)

BLOCK, RATE = 1024, 5e-5
Steps = list[dict[str, float]]  # seconds and tokens of each


def gpt2(tokenizer: PreTrainedTokenizerBase) -> GPT2LMHeadModel:
    """124 M random parameters in fp32, no dropout."""
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    return GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end))


class Clock:
    """Tokens seen and the time, at the end of each optimizer step."""

    def __init__(self) -> None:
        self.tokens, self.marks = 0, [(0.0, 0)]

    def mark(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), self.tokens))

    def steps(self) -> Steps:
        """The first step, which warms up, is left out."""
        (_, _), *marks = self.marks
        return [{"seconds": b[0] - a[0], "tokens": b[1] - a[1]} for a, b in pairwise(marks)]


def trl(stories: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, steps: int, settings: dict[str, Any]) -> Steps:
    """SFTTrainer with packing, under bf16 autocast; what `settings` doesn't say stays as TRL has it."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    clock = Clock()

    class Counted(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            clock.tokens += int(inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel())
            return super().compute_loss(model, inputs, *rest, **named)

    class Marked(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.mark()

    with tempfile.TemporaryDirectory() as folder:
        trainer = Counted(
            gpt2(tokenizer),
            SFTConfig(
                output_dir=folder, report_to="none", use_cpu=not torch.cuda.is_available(), bf16=True, packing=True,
                max_length=BLOCK, max_steps=steps, learning_rate=RATE, save_strategy="no", disable_tqdm=True, **settings,
            ),
            train_dataset=Dataset.from_list(stories), processing_class=tokenizer, callbacks=[Marked()],
        )  # fmt: skip
        trainer.train()
    return clock.steps()


def loop(stories: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, steps: int, settings: dict[str, Any]) -> Steps:
    """The loop that everybody writes: texts joined and cut into rows, documents seeing one another, loss from all logits."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _model(tokenizer, settings.get("weights")).train()
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    rows, clock = _rows(stories, tokenizer), Clock()
    for _ in range(steps):
        for _ in range(settings["accumulate"]):
            batch = torch.stack([next(rows) for _ in range(settings["micro_batch"])]).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                loss = model(input_ids=batch, labels=batch).loss
            (loss / settings["accumulate"]).backward()
            clock.tokens += batch.numel()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.mark()
    return clock.steps()


def _model(tokenizer: PreTrainedTokenizerBase, weights: str | None) -> PreTrainedModel:
    """GPT-2, or what a folder holds."""
    return gpt2(tokenizer) if weights is None else AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)


def _rows(stories: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> Iterator[torch.Tensor]:
    tokens: list[int] = []
    for story in stories:
        tokens += [*tokenizer(story["prompt"] + story["completion"], truncation=False)["input_ids"], tokenizer.eos_token_id]
        while len(tokens) >= BLOCK:
            yield torch.tensor(tokens[:BLOCK])
            tokens = tokens[BLOCK:]


def main(which: str, stories: Path, tokenizer: str, steps: int, settings: str) -> None:
    texts = [json.loads(line) for line in stories.read_text().splitlines()]
    timed = {"trl": trl, "loop": loop}[which](texts, AutoTokenizer.from_pretrained(tokenizer), steps, json.loads(settings))
    print(json.dumps(timed), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
