"""Attention within documents. On a GPU SDPA takes a mask; on a CPU each document is attended to by itself, which costs the square
of its own length and not of the row's.

Architectures differ in what else they ask of attention: a window, a cap on the scores, a sink. What this module does not know (or
an architecture does not ask of it, having an attention of its own) `rfr.model.probe` finds out before anything is trained.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from rfr.records import Batch, PairBatch

NAME = "isolated_documents"
ADDITIVE = "additive_mask"  # for architectures with an attention of their own, which add the mask to their scores
IMPLEMENTATIONS = (NAME, "sdpa", "eager", ADDITIVE)  # the fastest first
QUERIES = 128  # whose scores are held at once on a CPU, so that they stay in its cache
STEP = 32  # documents are filled up to a multiple: of every new shape oneDNN would compile and keep products of its own


def hidden_states(model: PreTrainedModel, batch: Batch | PairBatch) -> torch.Tensor:
    """The hidden states that the output layer reads, shape (B, T, width); no document sees another.

    With other attention than this module's, transformers makes the masks itself: where positions restart, a document begins.
    """
    arguments: dict[str, Any] = {"attention_mask": _mask(model, batch.documents_BT)}
    body = body_of(model)
    if "position_ids" in inspect.signature(body.forward).parameters:
        arguments["position_ids"] = batch.positions_BT
    return body(input_ids=batch.input_ids_BT, use_cache=False, **arguments).last_hidden_state


def _mask(model: PreTrainedModel, documents_BT: torch.Tensor) -> torch.Tensor | None:
    if model.config._attn_implementation == NAME:
        return document_mask(documents_BT)
    if model.config._attn_implementation == ADDITIVE:
        nothing = torch.zeros((), dtype=model.dtype, device=documents_BT.device)
        return nothing.masked_fill(~dense_mask(documents_BT), torch.finfo(model.dtype).min)
    return None


def body_of(model: PreTrainedModel) -> torch.nn.Module:
    """The model without its output layer."""
    return model.model if model.base_model is model else model.base_model  # some have another prefix than their attribute


def document_mask(documents_BT: torch.Tensor) -> torch.Tensor:
    """What the model takes as its attention mask: on a GPU the dense one, on a CPU the document ids, (B, 1, 1, T)."""
    return dense_mask(documents_BT) if documents_BT.is_cuda else documents_BT[:, None, None, :]


def dense_mask(documents_BT: torch.Tensor) -> torch.Tensor:
    """True where a token may look: itself and earlier tokens of its own document; shape (B, 1, T, T).

    Restarting positions alone would not isolate documents. Padding is a document too, so no row of the mask is empty.
    """
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTT.tril()[:, None]


def isolated_documents(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, sliding_window: int | None = None, softcap: float | None = None,
    s_aux: torch.Tensor | None = None, **named: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """transformers' attention function; (B, heads, T, D) to (B, T, heads, D). Other masks than document ids are SDPA's, and so is
    dropout, which is slow anyhow.

    Args:
        sliding_window: so many tokens are seen, the token itself counted.
        softcap: scores are squeezed between minus and plus this.
        s_aux: per head the score of a sink, which takes its share of the attention and gives nothing.
    """
    plain = softcap is None and s_aux is None
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if attention_mask is not None and attention_mask.dtype == torch.int64:
        documents_BT = attention_mask[:, 0, 0]
        if plain and not dropout:
            return _by_document(query, key, value, documents_BT, scaling, sliding_window), None
        attention_mask = dense_mask(documents_BT)
    if attention_mask is not None and sliding_window is not None and attention_mask.shape[-2] == attention_mask.shape[-1]:
        attention_mask = attention_mask.triu(1 - sliding_window)  # the mask of a generation's step has the window in it
    if plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **named)
    return _capped_or_sinking(query, key, value, attention_mask, dropout, scaling, softcap, s_aux), None


def _capped_or_sinking(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, dropout: float, scaling: float,
    softcap: float | None, sinks_H: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """Attention with a cap or a sink, for which SDPA has no argument; probabilities are in fp32, as in transformers."""
    key, value = (repeat_kv(tensor, query.shape[1] // tensor.shape[1]) for tensor in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:  # a generation's first step without padding
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(scores.shape[-1] - scores.shape[-2])
    scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    if sinks_H is not None:
        sink = sinks_H.float().view(1, -1, 1, 1).expand(len(scores), -1, scores.shape[2], 1)
        scores = torch.cat([scores, sink], dim=-1)
    probabilities = torch.nn.functional.dropout(scores.softmax(-1), dropout)[..., : key.shape[2]]
    return (probabilities.to(value.dtype) @ value).transpose(1, 2)


@torch.compiler.disable  # it would be compiled anew for every row of other documents
def _by_document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents_BT: torch.Tensor, scaling: float, window: int | None
) -> torch.Tensor:  # fmt: skip
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # as SDPA does
        query, key, value = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (query, key, value))
    with torch.autocast(kind, enabled=False):
        return _ByDocument.apply(query, key, value, list(_spans(documents_BT)), scaling, window)


def _spans(documents_BT: torch.Tensor) -> Iterator[tuple[int, slice]]:
    """The row of each document and its place in it; none where only shapes are worked out."""
    if isinstance(documents_BT, FakeTensor):
        return
    for row, documents in enumerate(documents_BT):
        end = 0
        for length in torch.unique_consecutive(documents, return_counts=True)[1].tolist():
            start, end = end, end + length
            yield row, slice(start, end)


class _ByDocument(torch.autograd.Function):
    """Causal attention, some queries at a time, to the keys before them; for the gradient, probabilities are worked out again.

    torch's own for CPUs reaches a fifth of the rate of its matrix products, and less in the backward pass and in short documents.
    Heads that share keys (grouped queries) stand as H groups of G: shapes are H G L D for queries, H L D for keys and values.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, spans: Any, scaling: float, window: Any) -> torch.Tensor:
        output = value.new_empty(*query.transpose(1, 2).shape[:3], value.shape[-1])
        for row, span in spans:
            q, k, v = _document(query, key, value, row, span, scaling)
            result = output.transpose(1, 2)[row, :, span].unflatten(0, q.shape[:2])
            for rows, seen, _, probabilities in _blocks(q, k, window):
                _fill(result[:, :, rows], torch.bmm(probabilities, v[:, seen]))
        ctx.save_for_backward(query, key, value)
        ctx.spans, ctx.scaling, ctx.window = spans, scaling, window
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Any) -> Any:
        query, key, value = ctx.saved_tensors
        grads = [torch.empty_like(tensor.transpose(1, 2)).transpose(1, 2) for tensor in (query, key, value)]
        with torch.autocast(query.device.type, enabled=False):
            for row, span in ctx.spans:
                document = _document(query, key, value, row, span, ctx.scaling)
                of_output = _filled_up(grad_output.transpose(1, 2)[row, :, span].to(document[0].dtype))
                _put_gradients(document, of_output, ctx.scaling, ctx.window, [grad[row, :, span] for grad in grads])
        return *grads, None, None, None


def _put_gradients(
    document: tuple[torch.Tensor, ...], grad_output: torch.Tensor, scaling: float, window: int | None, grads: list[torch.Tensor]
) -> None:  # fmt: skip
    """Put those of a document's queries, keys and values into `grads`."""
    q, k, v = document
    grad_output, grad_q = (tensor.unflatten(0, q.shape[:2]) for tensor in (grad_output, grads[0]))
    sum_k, sum_v = (torch.zeros_like(tensor, dtype=torch.float32) for tensor in (k, v))
    v_HDL = v.transpose(1, 2).contiguous()
    for rows, seen, block, probabilities in _blocks(q, k, window):
        grad_block = grad_output[:, :, rows].flatten(1, 2).contiguous()
        sum_v[:, seen] += torch.bmm(probabilities.transpose(1, 2), grad_block)
        grad_probabilities = torch.bmm(grad_block, v_HDL[:, :, seen])
        grad_scores = torch._softmax_backward_data(grad_probabilities, probabilities, -1, probabilities.dtype)
        _fill(grad_q[:, :, rows], torch.bmm(grad_scores, k[:, seen]).mul_(scaling))
        sum_k[:, seen] += torch.bmm(grad_scores.transpose(1, 2), block)
    for grad, total in zip(grads[1:], (sum_k, sum_v), strict=True):
        grad.copy_(total[:, : grad.shape[1]])


def _document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, row: int, span: slice, scaling: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Its queries, scaled, its keys and its values. CPUs are slow at fp16, so it is turned to fp32.

    In bf16, keys go without their mean: it adds the same to all scores of a query, so that probabilities stay as they are, while
    smaller scores lose less when they are rounded (Zhang et al. 2024, SageAttention).
    """
    dtype = torch.float32 if query.dtype == torch.float16 else query.dtype
    q, k, v = (tensor[row, :, span].to(dtype) for tensor in (query, key, value))
    if dtype == torch.bfloat16:
        k = k - k.mean(1, keepdim=True)
    q, k, v = (_filled_up(tensor) for tensor in (q * scaling, k, v))
    return q.unflatten(0, (len(k), -1)), k, v


def _filled_up(heads: torch.Tensor) -> torch.Tensor:
    """(heads, L, D) with zeros to the next multiple of `STEP`; no token sees them, for they come last."""
    return pad(heads, (0, 0, 0, -heads.shape[1] % STEP))


def _fill(target_HGLD: torch.Tensor, product: torch.Tensor) -> None:
    """Without what was filled up."""
    target_HGLD.copy_(product.unflatten(1, (target_HGLD.shape[1], -1))[:, :, : target_HGLD.shape[2]])


def _blocks(q: torch.Tensor, k: torch.Tensor, window: int | None) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor]]:
    """Where some of the queries are, where the keys are that they see, the queries themselves, (H, G * rows, D), and their
    probabilities, (H, G * rows, keys)."""
    length = q.shape[2]
    k_HDL = k.transpose(1, 2).contiguous()
    future = torch.full((min(QUERIES, length),) * 2, -torch.inf, dtype=q.dtype).triu(1)
    for start in range(0, length, QUERIES):
        rows = slice(start, min(start + QUERIES, length))
        first = 0 if window is None else max(0, start - window + 1) // STEP * STEP
        seen, size = slice(first, rows.stop), rows.stop - start
        block = q[:, :, rows].flatten(1, 2).contiguous()
        scores = torch.bmm(block, k_HDL[:, :, seen])
        by_head = scores.unflatten(1, (-1, size))
        by_head[..., start - first :] += future[:size, :size]
        if window is not None and rows.stop - first > window:
            by_head += torch.full((size, rows.stop - first), -torch.inf, dtype=q.dtype).tril(start - first - window)
        yield rows, seen, block, scores.softmax(-1)


AttentionInterface.register(NAME, isolated_documents)
AttentionMaskInterface.register(NAME, sdpa_mask)
AttentionInterface.register(ADDITIVE, sdpa_attention_forward)
AttentionMaskInterface.register(ADDITIVE, eager_mask)
