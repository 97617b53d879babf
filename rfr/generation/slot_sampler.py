"""Writes many stories at once: a fixed number of slots; a story that ends gives its slot to the next prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from rfr.generation.lanes import Shared, in_lanes
from rfr.generation.slot_attention import LENGTH_STEP
from rfr.generation.slot_attention import NAME as ATTENTION
from rfr.generation.slot_cache import PrefixCache, SlotCache, require_memory
from rfr.generation.token_draw import Tokens, Truncation, draw_tokens
from rfr.generation.written_out import written_out
from rfr.model.attention import body_of

LANES_BELOW = 10_000_000  # parameters; operations of smaller models are too short to be shared out among threads
PROMPTS_AT_ONCE, PROMPT_STEP = 8, 8  # prompts are read so many at a time, padded to a multiple of so many tokens


@dataclass(frozen=True, kw_only=True)
class Request:
    """A story to write.

    Args:
        index: its place among all requests.
        prompt_ids: the tokens that the policy conditions on.
        limit: the most tokens that it may have.
        uniforms: the random numbers of its tokens, in [0, 1); of shape (limit,).
    """

    index: int
    prompt_ids: tuple[int, ...]
    limit: int
    uniforms: np.ndarray


_Read = tuple[Request, PrefixCache, int]  # a request, the cache that holds its prompt, and the row in it


@dataclass(frozen=True, kw_only=True)
class WrittenTokens:
    """A story's tokens, the end token with them where it was drawn.

    Args:
        index: that of its request.
        logprobs: of each token under the policy at temperature 1; fp32.
        drawn_logprobs: of each token in the distribution that it was drawn from; fp32.
        ended: it was not cut off.
    """

    index: int
    ids: np.ndarray
    logprobs: np.ndarray
    drawn_logprobs: np.ndarray
    ended: bool


class SlotSampler:
    """The sampler of policies whose modules take a cache and a mask from outside, as GPT-2's and Llama's do.

    Every forward pass has the same shape, and no row reads another: what a story becomes depends on its request, not on what is
    written beside it. On a CPU the slots of a small model are shared out over lanes, each of which writes its stories on one
    thread; a large one's operations are shared out over the threads.

    Args:
        eos: the token that ends a story.
        slots: stories that are written at once.
        lanes: None: for a small model as many as torch has threads.
    """

    def __init__(
        self, model: PreTrainedModel, eos: int, truncation: Truncation, slots: int, lanes: int | None = None
    ) -> None:  # fmt: skip
        self._model, self._eos, self._truncation = model, eos, truncation
        self._body, self._head = body_of(model), model.get_output_embeddings()
        compiled = written_out(model)
        of_size = torch.get_num_threads() if model.num_parameters() < LANES_BELOW else 1
        self._lanes = 1 if compiled is None else min(lanes or of_size, slots)
        self._slots = -(-slots // self._lanes)  # of a lane
        self._pass = None if compiled is None else compiled(self._slots)

    def __call__(self, asked: SequenceOf[Request]) -> Iterator[WrittenTokens]:
        """The stories as they end. Short prompts come first, the requests of one prompt one after the other."""
        in_order = sorted(asked, key=lambda request: (len(request.prompt_ids), request.prompt_ids, request.index))
        if not in_order:
            return
        room = max(len(request.prompt_ids) + request.limit for request in in_order)
        size = (self._slots, -(-room // LENGTH_STEP) * LENGTH_STEP, max(request.limit for request in in_order))
        require_memory(self._model.config, self._model.dtype, self._slots * self._lanes, size[1], self._model.device, self._lanes)
        waiting = Shared(self._read(in_order))
        with _attention(self._model, "sdpa"):
            yield from in_lanes(lambda stop: self._write(_Slots(*size, self._model.device), waiting, stop), self._lanes)

    @torch.no_grad()
    def _write(self, slots: _Slots, waiting: Iterator[_Read], stop: Callable[[], bool]) -> Iterator[WrittenTokens]:
        """The stories of one lane, as they end."""
        if self._pass is not None:
            slots.cache.allocate(*self._pass.cache_shape, self._model.dtype)
        for slot in range(self._slots):
            self._begin(slots, slot, waiting)
        while slots.running and not stop():
            drawn = draw_tokens(self._logits(slots), slots.uniforms(), self._truncation)
            for slot in slots.take(drawn, self._eos):
                yield slots.written(slot, self._eos)
                self._begin(slots, slot, waiting)

    def _begin(self, slots: _Slots, slot: int, waiting: Iterator[_Read]) -> None:
        """Give a slot to the next request, or to none."""
        following = next(waiting, None)
        if following is None:
            slots.leave(slot)
        else:
            slots.begin(slot, *following)

    @torch.no_grad()
    def _read(self, in_order: SequenceOf[Request]) -> Iterator[_Read]:
        """Each request with the cache that holds its prompt, and the row in it; some prompts are read at a time."""
        begin = 0
        while begin < len(in_order):
            width, prompts = _padded(len(in_order[begin].prompt_ids) - 1), dict[tuple[int, ...], int]()
            end = begin
            while end < len(in_order) and _padded(len(ids := in_order[end].prompt_ids) - 1) == width:
                if ids not in prompts and len(prompts) == PROMPTS_AT_ONCE:
                    break
                prompts.setdefault(ids, len(prompts))
                end += 1
            prefix = self._prefixes(list(prompts), width)
            for request in in_order[begin:end]:
                yield request, prefix, prompts[request.prompt_ids]
            begin = end

    def _prefixes(self, prompts: SequenceOf[tuple[int, ...]], width: int) -> PrefixCache:
        """All tokens of the prompts but the last, which a slot reads first. Padding comes behind and is never seen."""
        prefix = PrefixCache()
        if width:
            ids_PT = torch.zeros(PROMPTS_AT_ONCE, width, dtype=torch.int64)
            for row, ids in enumerate(prompts):
                ids_PT[row, : len(ids) - 1] = torch.tensor(ids[:-1])
            order_PT = torch.arange(width, device=self._model.device).expand(PROMPTS_AT_ONCE, -1)
            causal = (order_PT[:, None, :] <= order_PT[:, :, None])[:, None]
            places_PT = order_PT.clamp(max=max(map(len, prompts)) - 2)  # padding may lie beyond the model's positions
            self._forward(ids_PT.to(self._model.device), places_PT, prefix, causal)
        return prefix

    def _logits(self, slots: _Slots) -> torch.Tensor:
        """Of the next token of each story, (slots, V)."""
        if self._pass is not None:
            return self._pass.logits(slots.ids_S, slots.cache)
        with _attention(self._model, ATTENTION):
            places = slots.cache.places_S[:, None]
            hidden = self._forward(slots.ids_S[:, None], places, slots.cache, places[:, :, None, None])
        return self._head(hidden[:, 0])

    def _forward(
        self, ids: torch.Tensor, places: torch.Tensor, cache: PrefixCache | SlotCache, mask: torch.Tensor | None
    ) -> torch.Tensor:
        read = self._body(input_ids=ids, cache=cache, attention_mask=mask, position_ids=places, use_cache=True)
        return read.last_hidden_state


class _Slots:
    """The stories that are being written; on the model's device what it reads, in main memory what became of it."""

    def __init__(self, slots: int, length: int, limit: int, device: torch.device) -> None:
        self.cache = SlotCache(slots, length, device)
        self.ids_S = torch.zeros(slots, dtype=torch.int64, device=device)  # that the model reads next
        self._requests: list[Request | None] = [None] * slots
        self._uniforms = np.zeros((slots, limit))
        self._ids = np.zeros((slots, limit), np.int32)
        self._logprobs, self._drawn_logprobs = (np.zeros((slots, limit), np.float32) for _ in range(2))
        self._counts, self._limits, self._all = np.zeros(slots, np.int64), np.ones(slots, np.int64), np.arange(slots)
        self._busy = np.zeros(slots, bool)

    @property
    def running(self) -> bool:
        return bool(self._busy.any())

    def begin(self, slot: int, request: Request, prefix: PrefixCache, row: int) -> None:
        known = len(request.prompt_ids) - 1
        self.cache.begin(slot, prefix, row, known)
        self.cache.places_S[slot], self.ids_S[slot] = known, request.prompt_ids[-1]
        self._requests[slot], self._counts[slot], self._limits[slot], self._busy[slot] = request, 0, request.limit, True
        self._uniforms[slot, : request.limit] = request.uniforms

    def leave(self, slot: int) -> None:
        """What an empty slot reads and draws is thrown away."""
        self._requests[slot], self._busy[slot], self._counts[slot] = None, False, 0
        self.cache.places_S[slot] = 0

    def uniforms(self) -> torch.Tensor:
        """Of the tokens to be drawn, (slots,)."""
        return torch.from_numpy(self._uniforms[self._all, self._counts]).to(self.ids_S.device)

    def take(self, drawn: Tokens, eos: int) -> np.ndarray:
        """Put the drawn tokens behind the stories; the slots whose story is at its end."""
        ids, logprobs, drawn_logprobs = (values.cpu().numpy() for values in drawn)
        for rows, values in ((self._ids, ids), (self._logprobs, logprobs), (self._drawn_logprobs, drawn_logprobs)):
            rows[self._all, self._counts] = values
        self._counts += self._busy
        self.ids_S = drawn.ids_S
        self.cache.places_S += torch.from_numpy(self._busy).to(self.ids_S.device)
        return np.flatnonzero(self._busy & ((ids == eos) | (self._counts == self._limits)))

    def written(self, slot: int, eos: int) -> WrittenTokens:
        request, count = self._requests[slot], self._counts[slot]
        assert request is not None
        ids, logprobs, drawn = (rows[slot, :count].copy() for rows in (self._ids, self._logprobs, self._drawn_logprobs))
        return WrittenTokens(index=request.index, ids=ids, logprobs=logprobs, drawn_logprobs=drawn, ended=bool(ids[-1] == eos))


def _padded(tokens: int) -> int:
    return -(-tokens // PROMPT_STEP) * PROMPT_STEP


@contextmanager
def _attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """The implementation of attention for the passes within."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before
