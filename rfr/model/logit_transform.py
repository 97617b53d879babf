"""Finds out what an architecture does to its logits after the output layer: bias, scale, soft cap.

Names of settings mislead: `logits_scaling` divides in Granite and multiplies in HyperCLOVA X. So known values are put in the
place of the output layer's; the logits of the model's own forward pass then tell the scale and the cap.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from rfr.errors import UserError
from rfr.model.attention import body_of
from rfr.model.output_layer import LogitTransform

HUGE = 1e9  # far beyond any cap, so that capped logits equal it
TOLERANCE = 1e-5  # relative


@torch.no_grad()
def measure_transform(model: PreTrainedModel) -> LogitTransform:
    """The scale and the cap between the output layer's z and the model's logits.

    Raises:
        UserError: the model changes its logits in another way.
    """
    tokens = torch.tensor([[0, 1]], device=model.device)
    z = torch.linspace(-50, 50, 200, dtype=torch.float64, device=model.device).view(1, 2, -1).contiguous()
    z[0, 0, :3] = torch.tensor([1.0, HUGE, HUGE / 2])
    was_training = model.training
    model.eval()  # dropout would make two passes differ
    try:
        hidden = body_of(model)(input_ids=tokens, use_cache=False).last_hidden_state
        with _output_layer_gives(model, z) as given:
            logits = model(input_ids=tokens, use_cache=False).logits
    finally:
        model.train(was_training)
    if len(given) != 1 or given[0].shape != hidden.shape or logits.shape != z.shape:
        raise _refusal(model)
    transform = _fitted(logits[0, 0, :3].tolist())
    before = _factor(given[0], hidden)
    if before is None or not torch.allclose(transform.apply(z), logits.float(), rtol=TOLERANCE, atol=TOLERANCE):
        raise _refusal(model)
    if before != 1 and model.get_output_embeddings().bias is not None:
        raise _refusal(model)
    return transform._replace(scale=transform.scale * before)


def _fitted(logits: list[float]) -> LogitTransform:
    """From the logits of 1, HUGE and HUGE / 2."""
    of_one, of_huge, of_half = logits
    if of_huge != of_half:
        return LogitTransform(scale=of_one)
    return LogitTransform(scale=of_huge * torch.atanh(torch.tensor(of_one / of_huge, dtype=torch.float64)).item(), cap=of_huge)


def _factor(given: torch.Tensor, hidden: torch.Tensor) -> float | None:
    """By what the hidden states are multiplied on their way to the output layer; None: something else happens to them."""
    if torch.equal(given, hidden):
        return 1.0
    given, hidden = given.double(), hidden.double()
    factor = (given * hidden).sum() / (hidden * hidden).sum()
    return float(factor) if torch.allclose(given, factor * hidden, rtol=1e-2, atol=1e-2 * float(given.abs().max())) else None


@contextmanager
def _output_layer_gives(model: PreTrainedModel, z: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Inside, the layer gives z; in the list is what it was given."""
    layer, given = model.get_output_embeddings(), []

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        given.append(hidden)
        return z

    layer.forward = forward
    try:
        yield given
    finally:
        del layer.forward


def _refusal(model: PreTrainedModel) -> UserError:
    return UserError(f"{type(model).__name__} does more to its logits than a matrix, a bias, a scale and a cap do")
