"""Text into tokens: `prompt, two newlines, story, end-of-text`. Labels are shifted here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rfr.records import IGNORE, Sequence

PROMPT_END = "\n\n"
END_OF_TEXT = "<|endoftext|>"
SENTENCE_BREAK = re.compile(r"""[.!?…]["'”’)\]]*(?=\s)|\n(?=\s*\S)""")


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A tokenised pair. `sentence_ends` and `word_starts` index `story`: a cut before that token is clean."""

    prompt: list[int]
    story: list[int]
    sentence_ends: list[int]
    word_starts: list[int]


def tokenise(tokenizer: PreTrainedTokenizerBase, prompt: str, story: str) -> Tokens:
    """Both texts as data: a literal end-of-text marker inside a story is text, not a token with a meaning."""
    encoded = tokenizer(story, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    starts = [start for start, _ in encoded["offset_mapping"]]
    breaks = [match.end() for match in SENTENCE_BREAK.finditer(story)]
    word_starts = [
        i for i, start in enumerate(starts) if i and (story[start].isspace() or (start and story[start - 1].isspace()))
    ]
    return Tokens(
        prompt=prompt_tokens(tokenizer, prompt),
        story=encoded["input_ids"],
        sentence_ends=_tokens_after(breaks, starts),
        word_starts=word_starts,
    )


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """What the model conditions on, in training and in generation."""
    return tokenizer(prompt + PROMPT_END, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _tokens_after(breaks: SequenceOf[int], starts: SequenceOf[int]) -> list[int]:
    """For each character position the index of the first token that starts there or later."""
    indices, token = [], 0
    for position in breaks:
        while token < len(starts) and starts[token] < position:
            token += 1
        if 0 < token < len(starts):
            indices.append(token)
    return sorted(set(indices))


def to_sequence(condition: SequenceOf[int], targets: SequenceOf[int], story: int) -> Sequence:
    """The one place where labels are shifted: `labels[t]` is the token that follows `input_ids[t]`."""
    tokens = [*condition, *targets]
    labels = [IGNORE] * (len(condition) - 1) + list(targets)
    return Sequence(input_ids=tokens[:-1], labels=labels, story=story)


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE like GPT-2's, fitted on the training texts: the tokenizer of models that start from nothing."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)
