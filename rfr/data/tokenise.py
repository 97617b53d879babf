"""Tokenises `prompt, two newlines, story, end-of-text`, with a control token in front where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rfr.data.control_tokens import control_ids
from rfr.errors import UserError
from rfr.utils.hashing import key_of

PROMPT_END = "\n\n"
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A text's token ids and where each token begins, in bytes of its UTF-8; int32 arrays of equal length."""

    ids: np.ndarray
    starts: np.ndarray


class Encoder:
    """Texts into tokens, as data: a literal end-of-text marker inside a story is text, not a token with a meaning.

    In a byte-level vocabulary the bytes of each token are known, so that no offsets have to be worked out; for any other the
    tokenizer's own offsets are taken.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend: Tokenizer = tokenizer.backend_tokenizer
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self._is_of_bytes = isinstance(self._backend.decoder, decoders.ByteLevel) and self._backend.normalizer is None
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._bytes = np.array([len(piece or "") for piece in pieces], np.int32)
        self._best = np.array(control_ids(tokenizer)[-1:], np.int32)

    def __call__(self, texts: SequenceOf[str]) -> list[Tokens]:
        """All texts; the tokenizer's own threads share the work."""
        fast = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._tokens(text, encoding) for text, encoding in zip(texts, fast, strict=True)]

    def prompts(self, prompts: SequenceOf[str], stories: SequenceOf[str] = ()) -> tuple[list[Tokens], list[Tokens]]:
        """Prompt tokens (the best quantile's control token first, where there is one) and story tokens, in one fast batch."""
        tokens = self([*(prompt + PROMPT_END for prompt in prompts), *stories])
        conditions = [
            Tokens(ids=np.append(self._best, prompt.ids), starts=np.append(np.zeros_like(self._best), prompt.starts))
            for prompt in tokens[: len(prompts)]
        ]
        return conditions, tokens[len(prompts) :]

    def _tokens(self, text: str, encoding: Encoding) -> Tokens:
        ids = np.array(encoding.ids, np.int32)
        ends = np.cumsum(self._bytes[ids], dtype=np.int32)
        if self._is_of_bytes and (ends[-1] if len(ends) else 0) == len(text.encode()):
            return Tokens(ids=ids, starts=ends - self._bytes[ids])
        slow = self._backend.encode(text, add_special_tokens=False)
        starts = byte_positions(text, [start for start, _ in slow.offsets])
        return Tokens(ids=np.array(slow.ids, np.int32), starts=starts.astype(np.int32))


def byte_positions(text: str, positions: SequenceOf[int]) -> np.ndarray:
    """Positions in a text's characters as positions in its UTF-8."""
    if text.isascii():
        return np.asarray(positions, np.int64)
    encoded = np.frombuffer(text.encode(), np.uint8)
    characters = np.flatnonzero((encoded & 0xC0) != 0x80)  # the bytes that begin one
    return np.append(characters, len(encoded))[np.asarray(positions, np.int64)]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, quantile: int | None = None) -> list[int]:
    """The tokens that the model conditions on, in training and in generation.

    Args:
        quantile: the quantile that a conditional policy writes for, 1 being the worst; None: the best.

    Raises:
        UserError: the policy knows no such quantile.
    """
    controls = control_ids(tokenizer)
    if quantile is not None and quantile not in range(1, len(controls) + 1):
        known = f"quantiles 1 to {len(controls)}" if controls else "no quantiles: objective=conditional did not train it"
        raise UserError(f"sampling.quantile={quantile}: this policy has {known}")
    control = controls[-1:] if quantile is None else [controls[quantile - 1]]
    return control + tokenizer(prompt + PROMPT_END, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def content_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of all that decides what tokens a text is made of, and how a story ends; wherever the tokenizer came from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return key_of(type(tokenizer).__name__, rules, tokenizer.eos_token_id, control_ids(tokenizer))


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE like GPT-2's, fitted on the training texts: the tokenizer of models that start from nothing."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT)
