"""Attention on a CPU, one document at a time: the cost is the square of a document's length, not of the row's.

torch's own attention for CPUs reaches a fifth of the rate of its matrix products, and less in the backward pass and in short
documents. Heads that share keys (grouped queries) stand as H groups of G: shapes are H G L D for queries, H L D for keys and
values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import pad

BLOCK_QUERIES = 128  # their scores are held at once and stay in the processor's cache
LENGTH_STEP = 32  # documents are padded to a multiple of it: oneDNN compiles and caches a kernel per shape


class Rule(NamedTuple):
    """How an architecture turns the product of a query and a key into a score, and which keys a query sees."""

    scaling: float
    window: int | None  # the number of tokens that a token sees, itself included
    softcap: float | None  # scores are squeezed between minus and plus this


@torch.compiler.disable  # it would be compiled anew for every row of other documents
def attend_by_document(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sinks: torch.Tensor | None,
    documents_BT: torch.Tensor,
    rule: Rule,
) -> torch.Tensor:
    """Causal attention within documents; (B, heads, T, D) to (B, T, heads, D).

    Args:
        sinks: for each query head the score of a sink, which takes a share of the attention and adds nothing to the output.
        documents_BT: the document of each token.
    """
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # as SDPA does
        query, key, value = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (query, key, value))
    with torch.autocast(kind, enabled=False):
        return _DocumentAttention.apply(query, key, value, sinks, list(_spans(documents_BT)), rule)


def _spans(documents_BT: torch.Tensor) -> Iterator[tuple[int, slice]]:
    """The row of each document and its place in it; none where only shapes are worked out."""
    if isinstance(documents_BT, FakeTensor):
        return
    for row, documents in enumerate(documents_BT):
        end = 0
        for length in torch.unique_consecutive(documents, return_counts=True)[1].tolist():
            start, end = end, end + length
            yield row, slice(start, end)


class _DocumentAttention(torch.autograd.Function):
    """Some queries at a time attend to the keys before them; the backward pass computes their probabilities again."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, sinks: Any, spans: Any, rule: Rule) -> torch.Tensor:
        output = value.new_empty(*query.transpose(1, 2).shape[:3], value.shape[-1])
        for row, span in spans:
            document = _Document.cut((query, key, value), sinks, row, span, rule)
            result = output.transpose(1, 2)[row, :, span].unflatten(0, document.q.shape[:2])
            for block in _blocks(document, rule):
                _copy_unpadded(result[:, :, block.rows], torch.bmm(block.probabilities, document.v[:, block.seen]))
        ctx.save_for_backward(query, key, value, sinks)
        ctx.spans, ctx.rule = spans, rule
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Any) -> Any:
        query, key, value, sinks = ctx.saved_tensors
        grads = [torch.empty_like(tensor.transpose(1, 2)).transpose(1, 2) for tensor in (query, key, value)]
        grad_sinks = None if sinks is None else torch.zeros_like(sinks, dtype=torch.float32)
        with torch.autocast(query.device.type, enabled=False):
            for row, span in ctx.spans:
                document = _Document.cut((query, key, value), sinks, row, span, ctx.rule)
                of_output = _padded(grad_output.transpose(1, 2)[row, :, span].to(document.k.dtype))
                _put_gradients(document, of_output, ctx.rule, [grad[row, :, span] for grad in grads], grad_sinks)
        return *grads, None if grad_sinks is None else grad_sinks.to(sinks.dtype), None, None


class _Document(NamedTuple):
    q: torch.Tensor  # H G L D, scaled
    k: torch.Tensor  # H L D
    v: torch.Tensor  # H L D
    sinks: torch.Tensor | None  # H G 1, fp32

    @classmethod
    def cut(cls, heads: tuple[torch.Tensor, ...], sinks: torch.Tensor | None, row: int, span: slice, rule: Rule) -> _Document:
        """CPUs are slow at fp16, so it is turned to fp32.

        In bf16 the mean of the keys is taken off where only differences between a query's scores count: probabilities stay as
        they are, while smaller scores lose less when they are rounded (Zhang et al. 2024, SageAttention).

        Args:
            heads: queries, keys and values, (B, heads, T, D).
        """
        dtype = torch.float32 if heads[0].dtype == torch.float16 else heads[0].dtype
        q, k, v = (tensor[row, :, span].to(dtype) for tensor in heads)
        if dtype == torch.bfloat16 and sinks is None and rule.softcap is None:
            k = k - k.mean(1, keepdim=True)
        q, k, v = (_padded(tensor) for tensor in (q * rule.scaling, k, v))
        return cls(q.unflatten(0, (len(k), -1)), k, v, None if sinks is None else sinks.float().view(len(k), -1, 1))


class _Block(NamedTuple):
    """Some queries of a document and what they make of its keys."""

    rows: slice  # where the queries are
    seen: slice  # where the keys are that they see
    queries: torch.Tensor  # H, G * rows, D
    probabilities: torch.Tensor  # H, G * rows, keys
    tanh: torch.Tensor | None  # of the scores over their cap, of the same shape
    of_sinks: torch.Tensor | None  # their probabilities, H, G * rows, 1, fp32


def _blocks(document: _Document, rule: Rule) -> Iterator[_Block]:
    q, k, _, sinks = document
    length = q.shape[2]
    k_HDL = k.transpose(1, 2).contiguous()
    future = torch.full((min(BLOCK_QUERIES, length),) * 2, -torch.inf, dtype=q.dtype).triu(1)
    for start in range(0, length, BLOCK_QUERIES):
        rows = slice(start, min(start + BLOCK_QUERIES, length))
        first = 0 if rule.window is None else max(0, start - rule.window + 1) // LENGTH_STEP * LENGTH_STEP
        seen, size = slice(first, rows.stop), rows.stop - start
        queries = q[:, :, rows].flatten(1, 2).contiguous()
        scores = torch.bmm(queries, k_HDL[:, :, seen])
        tanh = None if rule.softcap is None else scores.div_(rule.softcap).tanh_()
        scores = scores if rule.softcap is None else scores * rule.softcap
        by_head = scores.unflatten(1, (-1, size))
        by_head[..., start - first :] += future[:size, :size]
        if rule.window is not None and rows.stop - first > rule.window:
            by_head += torch.full((size, rows.stop - first), -torch.inf, dtype=q.dtype).tril(start - first - rule.window)
        probabilities = scores.softmax(-1)
        of_sinks = None if sinks is None else _give_to_sinks(scores, probabilities, sinks)
        yield _Block(rows, seen, queries, probabilities, tanh, of_sinks)


def _give_to_sinks(scores: torch.Tensor, probabilities: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """Take the sinks' probabilities, (H, G * rows, 1), from those of the keys, in place.

    A softmax with the sink as one more score is the keys' own softmax times `sigmoid(log-sum-exp of their scores - sink)`.
    """
    sinks = sinks.expand(-1, -1, scores.shape[1] // sinks.shape[1]).reshape(len(sinks), -1, 1)
    log_sum_exp = scores.amax(-1, keepdim=True).float() - probabilities.amax(-1, keepdim=True).float().log()
    probabilities.mul_(torch.sigmoid(log_sum_exp - sinks).to(probabilities.dtype))
    return torch.sigmoid(sinks - log_sum_exp)


def _put_gradients(
    document: _Document, grad_output: torch.Tensor, rule: Rule, grads: list[torch.Tensor], grad_sinks: torch.Tensor | None
) -> None:
    """Put those of a document's queries, keys and values into `grads`; add the sinks'."""
    q, k, v, _ = document
    grad_output, grad_q = (tensor.unflatten(0, q.shape[:2]) for tensor in (grad_output, grads[0]))
    sum_k, sum_v = (torch.zeros_like(tensor, dtype=torch.float32) for tensor in (k, v))
    v_HDL = v.transpose(1, 2).contiguous()
    for block in _blocks(document, rule):
        rows, seen = block.rows, block.seen
        grad_block = grad_output[:, :, rows].flatten(1, 2).contiguous()
        sum_v[:, seen] += torch.bmm(block.probabilities.transpose(1, 2), grad_block)
        grad_probabilities = torch.bmm(grad_block, v_HDL[:, :, seen])
        if grad_sinks is not None and block.of_sinks is not None:
            # The sink is one more score of the softmax; it gives nothing, so the gradient of its own probability is 0.
            lost = (grad_probabilities * block.probabilities).sum(-1, keepdim=True, dtype=torch.float32)
            grad_sinks -= (block.of_sinks * lost).view(*q.shape[:2], -1).sum(-1).flatten()
        grad_scores = torch._softmax_backward_data(grad_probabilities, block.probabilities, -1, block.probabilities.dtype)
        if block.tanh is not None:
            grad_scores = grad_scores.mul_(1 - block.tanh.square())
        _copy_unpadded(grad_q[:, :, rows], torch.bmm(grad_scores, k[:, seen]).mul_(rule.scaling))
        sum_k[:, seen] += torch.bmm(grad_scores.transpose(1, 2), block.queries)
    for grad, total in zip(grads[1:], (sum_k, sum_v), strict=True):
        grad.copy_(total[:, : grad.shape[1]])


def _padded(heads: torch.Tensor) -> torch.Tensor:
    """(heads, L, D) with zeros to the next multiple of `LENGTH_STEP`; no token sees them, for they come last."""
    return pad(heads, (0, 0, 0, -heads.shape[1] % LENGTH_STEP))


def _copy_unpadded(target_HGLD: torch.Tensor, product: torch.Tensor) -> None:
    target_HGLD.copy_(product.unflatten(1, (target_HGLD.shape[1], -1))[:, :, : target_HGLD.shape[2]])
