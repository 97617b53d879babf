"""The chunked loss: negative log-likelihood from hidden states, in fp32, without holding all logits."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad

# Rows whose logits are held at once, in the model's precision: on a CPU few enough for malloc.
CHUNK_ROWS, CHUNK_ROWS_ON_CPU = 1024, 256
ROW_MULTIPLE = 32  # rows are padded to a multiple: oneDNN compiles and caches a kernel for each shape
PART_ROWS = 16  # rows of them that are turned to fp32 at once on a CPU, where they should stay in its cache
ADDED_ROWS = 1024  # rows of a gradient that are turned to fp32 at once
NO_GRADIENTS = (None,) * 4  # for labels, weights, transform and chunks


class LogitTransform(NamedTuple):
    """A change of the logits z behind the output layer: cap * tanh(scale * z / cap), or without a cap scale * z.

    The cap is that of Gemma 2 (Gemma Team 2024, section 2)."""

    scale: float = 1.0
    cap: float | None = None

    def apply(self, z: torch.Tensor) -> torch.Tensor:
        """The logits, in fp32, of any shape."""
        scaled = z.to(torch.float32, copy=True).mul_(self.scale)
        return scaled if self.cap is None else scaled.div_(self.cap).tanh_().mul_(self.cap)

    def pull_back(self, gradient: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The gradient of z, made in the place of that of the logits."""
        if self.cap is not None:
            gradient.mul_(1 - (logits / self.cap) ** 2)
        return gradient.mul_(self.scale)


IDENTITY = LogitTransform()


class BufferPool:
    """Large tensors that the next step will need again. Given back to malloc they would cost their pages anew every time, or come
    to lie between activations and leave holes."""

    def __init__(self) -> None:
        self._tensors: list[torch.Tensor] = []

    def take(self, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
        for index, tensor in enumerate(self._tensors):
            if tensor.shape == (rows, columns) and tensor.dtype == like.dtype and tensor.device == like.device:
                return self._tensors.pop(index)
        return like.new_empty(rows, columns)

    def give(self, tensor: torch.Tensor) -> None:
        self._tensors.append(tensor)


class Unembedding(NamedTuple):
    """The map from hidden states to the logits that a model's probabilities follow from."""

    matrix_VD: torch.Tensor
    bias_V: torch.Tensor | None = None
    transform: LogitTransform = IDENTITY


class _Chunks(NamedTuple):
    """How the logits are worked off: the buffers to do it in, and whether gradients are wanted."""

    pool: BufferPool
    grad: bool


def weighted_nll(
    hidden_ND: torch.Tensor,
    unembedding: Unembedding,
    labels_N: torch.Tensor,
    weights_N: torch.Tensor,
    pool: BufferPool | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum of w * -log p(label), differentiable in the hidden states, matrix and bias, and -log p of each label.

    Both are fp32, of shapes () and (N,).

    Rows of V logits are the largest tensor of a step by far. So they are worked off in chunks, and the gradient, which
    is (p - 1[label]) * w per logit, is taken at once instead of keeping them for the backward pass. Where the unembedding's
    `.grad` is there already, in fp32, its gradient is added to that directly, as fused gradient accumulation does (Shoeybi et
    al. 2019): else autograd would hold it, in fp32, until the embedding's has come, and add up the three.
    """
    count = len(labels_N)
    missing = max(1, math.ceil(count / ROW_MULTIPLE)) * ROW_MULTIPLE - count
    labels, weights = pad(labels_N, (0, missing)), pad(weights_N, (0, missing))  # weights of 0
    matrix_VD, bias_V, transform = unembedding
    chunks = _Chunks(pool or BufferPool(), torch.is_grad_enabled())
    loss, nll = _WeightedNLL.apply(pad(hidden_ND, (0, 0, 0, missing)), matrix_VD, bias_V, labels, weights, transform, chunks)
    return loss, nll[:count]


class _WeightedNLL(torch.autograd.Function):
    @staticmethod
    def forward(  # autograd takes each tensor as an argument of its own
        ctx: Any,
        hidden_ND: Any,
        unembedding_VD: Any,
        bias_V: Any,
        labels_N: Any,
        weights_N: Any,
        transform: LogitTransform,
        chunks: _Chunks,
    ) -> Any:
        dtype = (
            torch.get_autocast_dtype(hidden_ND.device.type)
            if torch.is_autocast_enabled(hidden_ND.device.type)
            else unembedding_VD.dtype
        )
        hidden, unembedding = hidden_ND.to(dtype), unembedding_VD.to(dtype)
        nll_N = torch.empty(len(labels_N), dtype=torch.float32, device=hidden.device)
        wanted = chunks.grad and any(ctx.needs_input_grad[:3])  # needs_input_grad is set where gradients are off, too
        grad_hidden = torch.empty_like(hidden) if wanted else None
        grad_unembedding = chunks.pool.take(len(unembedding), unembedding.shape[1], like=unembedding_VD) if wanted else None
        size = CHUNK_ROWS if hidden.is_cuda else CHUNK_ROWS_ON_CPU
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if wanted and bias_V is not None else None
        chunk_CV = chunks.pool.take(size, len(unembedding), like=hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(labels_N), size):
                rows = slice(start, start + size)
                logits_CV = torch.mm(hidden[rows], unembedding.T, out=chunk_CV[: len(labels_N[rows])])
                if bias_V is not None:
                    logits_CV += bias_V
                _to_gradient(logits_CV, labels_N[rows], weights_N[rows], nll_N[rows], transform, wanted)
                if grad_bias is not None:
                    grad_bias += logits_CV.sum(0, dtype=torch.float32)
                if grad_hidden is not None:
                    torch.mm(logits_CV, unembedding, out=grad_hidden[rows])
                    _add_product(grad_unembedding, logits_CV.T, hidden[rows], first=start == 0)
        chunks.pool.give(chunk_CV)
        ctx.dtype, ctx.unembedding, ctx.pool = hidden_ND.dtype, unembedding_VD, chunks.pool
        ctx.save_for_backward(grad_hidden, grad_unembedding, grad_bias)
        ctx.mark_non_differentiable(nll_N)
        return (weights_N * nll_N).sum(), nll_N

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any) -> Any:
        grad_hidden, grad_unembedding, grad_bias = ctx.saved_tensors
        grad_hidden = grad_hidden.to(ctx.dtype).mul_(grad)
        grad_bias = None if grad_bias is None else (grad_bias * grad).to(ctx.unembedding.dtype)
        if not ctx.needs_input_grad[1] or not accumulates_in_place(ctx.unembedding):
            return grad_hidden, grad_unembedding.mul_(grad), grad_bias, *NO_GRADIENTS
        for total, part in zip(ctx.unembedding.grad.split(ADDED_ROWS), grad_unembedding.split(ADDED_ROWS), strict=True):
            total.addcmul_(part.to(total.dtype), grad)
        ctx.pool.give(grad_unembedding)
        return grad_hidden, None, grad_bias, *NO_GRADIENTS


def accumulates_in_place(parameter: torch.Tensor) -> bool:
    """Whether its gradient is there and in fp32, so that it can be added to piece by piece."""
    return parameter.is_leaf and parameter.grad is not None and parameter.grad.dtype == torch.float32


def _add_product(total: Any, left: torch.Tensor, right: torch.Tensor, *, first: bool) -> None:
    """total += left @ right, or = where it is the first; without a product beside the total where they are of one type."""
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, beta=0 if first else 1, out=total)
    elif first:
        total.copy_(left @ right)
    else:
        total += left @ right


def _to_gradient(
    logits_CV: torch.Tensor,
    labels_C: torch.Tensor,
    weights_C: torch.Tensor,
    nll_C: torch.Tensor,
    transform: LogitTransform,
    wanted: bool,
) -> None:
    """Fill in the nll; where `wanted`, put the gradient of w * nll in the logits' place."""
    size = len(labels_C) if logits_CV.is_cuda else PART_ROWS
    for start in range(0, len(labels_C), size):
        rows = slice(start, start + size)
        transformed = logits_CV[rows] if transform == IDENTITY else transform.apply(logits_CV[rows])
        logprobs = torch.log_softmax(transformed, dim=-1, dtype=torch.float32)
        labels = labels_C[rows, None]
        nll_C[rows] = -logprobs.gather(1, labels)[:, 0]
        if wanted:
            gradient = logprobs.exp_()
            gradient.scatter_add_(1, labels, torch.full_like(gradient[:, :1], -1.0))
            torch.mul(gradient, weights_C[rows, None], out=gradient)
            logits_CV[rows] = gradient if transform == IDENTITY else transform.pull_back(gradient, transformed)
