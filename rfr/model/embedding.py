"""The embedding and output layer of a policy, which often share their weights.

The output layer also gives the negative log-likelihood of tokens without holding their logits. Weights that both share are the
largest of the model, so both layers add their gradients without a copy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, linear
from transformers import PreTrainedModel

from rfr.errors import UserError
from rfr.model.experts import pad_experts
from rfr.model.logit_transform import measure_transform
from rfr.model.output_layer import IDENTITY, BufferPool, LogitTransform, Unembedding, accumulates_in_place, weighted_nll


class Head(nn.Linear):
    """Hidden states to logits; given labels and weights, to the weighted sum of -log p and each -log p.

    Logits are neither scaled nor capped here, since the model's own forward pass does that; -log p is that of the final logits.
    A layer of its own, so that ZeRO-3, which gathers a layer's parameters when it is called, gathers these too.
    """

    def __init__(self, *arguments: Any, transform: LogitTransform = IDENTITY, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pool = BufferPool()
        self._transform = transform

    def forward(self, hidden: torch.Tensor, labels_N: torch.Tensor | None = None, weights_N: torch.Tensor | None = None) -> Any:
        if labels_N is None or weights_N is None:
            return linear(hidden, self.weight, self.bias)
        unembedding = Unembedding(self.weight, self.bias, self._transform)
        return weighted_nll(hidden, unembedding, labels_N, weights_N, self._pool)

    def final_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits that the model's probabilities follow from, in fp32."""
        return self._transform.apply(self(hidden))


class Embedding(nn.Embedding):
    """Token ids to vectors. Where the weights' `.grad` is there, gradients are added to the rows of it that they belong to."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return _Lookup.apply(ids, self.weight)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Any, weight_VD: Any) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.weight, ctx.rows = weight_VD, len(weight_VD)
        return embedding(ids, weight_VD)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (ids,) = ctx.saved_tensors
        if not accumulates_in_place(ctx.weight):
            return None, torch.ops.aten.embedding_dense_backward(grad, ids, ctx.rows, -1, False)
        total = ctx.weight.grad
        if total.is_cuda:
            total.index_put_((ids,), grad.to(total.dtype), accumulate=True)  # always in the same order
        else:  # where that would be done by threads, in any order
            total.index_add_(0, ids.flatten(), grad.flatten(0, -2).to(total.dtype))
        return None, None


def replace_ends(model: PreTrainedModel) -> PreTrainedModel:
    """Put a `Head` in the place of the model's output layer and an `Embedding` before it, with the same weights, tied where they
    were; pad the tokens of its experts.

    Raises:
        UserError: its logits are more than its hidden states times a matrix, with a bias, a scale and a cap.
    """
    old = model.get_output_embeddings()
    if type(old) is not nn.Linear:
        raise UserError(f"{type(model).__name__} has no output layer that is a plain matrix")
    transform = measure_transform(model)
    new = Head(old.in_features, old.out_features, bias=old.bias is not None, device="meta", transform=transform)
    new.weight, new.bias = old.weight, old.bias
    model.set_output_embeddings(new)
    inputs = model.get_input_embeddings()
    if type(inputs) is nn.Embedding and inputs.padding_idx is None and inputs.max_norm is None and not inputs.sparse:
        lookup = Embedding(inputs.num_embeddings, inputs.embedding_dim, device="meta")
        lookup.weight = inputs.weight
        model.set_input_embeddings(lookup)
    pad_experts(model)
    return model


def output_layer(model: PreTrainedModel) -> Any:
    """A policy's `Head`; of a reward model, the layer that makes a score of a hidden state."""
    return model.score if hasattr(model, "score") else model.get_output_embeddings()
