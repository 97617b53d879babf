"""Negative log-likelihood from hidden states, in fp32 whatever the model computes in, without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch

CHUNK, CHUNK_ON_CPU = 1024, 256  # rows whose logits are held at once, in the model's precision: on a CPU few enough for malloc
PART = 64  # rows of them that are turned to fp32 at once on a CPU, where they should stay in its cache


def weighted_nll(
    hidden_ND: torch.Tensor, unembedding_VD: torch.Tensor, labels_N: torch.Tensor, weights_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum of w * -log p(label), differentiable in the first two, and -log p of each label; fp32, shapes () and (N,).

    Rows of V logits are the largest tensor of a step by far. So they are worked off in chunks, and the gradient, which
    is (p - 1[label]) * w per logit, is taken at once instead of keeping them for the backward pass.
    """
    return _WeightedNLL.apply(hidden_ND, unembedding_VD, labels_N, weights_N)


class _WeightedNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Any, unembedding_VD: Any, labels_N: Any, weights_N: Any) -> Any:
        dtype = torch.get_autocast_dtype(hidden_ND.device.type) if _autocasts(hidden_ND) else unembedding_VD.dtype
        hidden, unembedding = hidden_ND.to(dtype), unembedding_VD.to(dtype)
        nll_N = torch.empty(len(labels_N), dtype=torch.float32, device=hidden.device)
        wanted = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if wanted else None
        grad_unembedding = torch.zeros_like(unembedding_VD) if wanted else None
        with torch.autocast(hidden.device.type, enabled=False):
            size = CHUNK if hidden.is_cuda else CHUNK_ON_CPU
            for start in range(0, len(labels_N), size):
                rows = slice(start, start + size)
                logits_CV = hidden[rows] @ unembedding.T
                _to_gradient(logits_CV, labels_N[rows], weights_N[rows], nll_N[rows], wanted)
                if grad_hidden is not None:
                    torch.mm(logits_CV, unembedding, out=grad_hidden[rows])
                    grad_unembedding += logits_CV.T @ hidden[rows]
        ctx.dtype = hidden_ND.dtype
        ctx.save_for_backward(grad_hidden, grad_unembedding)
        ctx.mark_non_differentiable(nll_N)
        return (weights_N * nll_N).sum(), nll_N

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any) -> Any:
        grad_hidden, grad_unembedding = ctx.saved_tensors
        return grad_hidden.to(ctx.dtype).mul_(grad), grad_unembedding.mul_(grad), None, None


def _autocasts(tensor: torch.Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


def _to_gradient(
    logits_CV: torch.Tensor, labels_C: torch.Tensor, weights_C: torch.Tensor, nll_C: torch.Tensor, wanted: bool
) -> None:
    """Fill in the nll; where `wanted`, put the gradient of w * nll in the logits' place."""
    size = len(labels_C) if logits_CV.is_cuda else PART
    for start in range(0, len(labels_C), size):
        rows = slice(start, start + size)
        logprobs = torch.log_softmax(logits_CV[rows], dim=-1, dtype=torch.float32)
        labels = labels_C[rows, None]
        nll_C[rows] = -logprobs.gather(1, labels)[:, 0]
        if wanted:
            gradient = logprobs.exp_()
            gradient.scatter_add_(1, labels, torch.full_like(gradient[:, :1], -1.0))
            torch.mul(gradient, weights_C[rows, None], out=gradient)
            logits_CV[rows] = gradient
