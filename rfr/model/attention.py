"""Attention within documents: chooses the implementation and builds the mask for it.

On a GPU, SDPA takes a mask; on a CPU, each document is attended to by itself (`document_attention.py`).

Architectures ask for more: a window, a cap on the scores, a sink. Where an architecture asks for something that this module
does not know, or has an attention of its own, `rfr.model.probe` finds it out before anything is trained.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from rfr.model.document_attention import Rule, attend_by_document
from rfr.records import AnyBatch

NAME = "isolated_documents"
ADDITIVE = "additive_mask"  # for architectures with an attention of their own, which add the mask to their scores
IMPLEMENTATIONS = (NAME, "sdpa", "eager", ADDITIVE)  # the fastest first


def hidden_states(model: PreTrainedModel, batch: AnyBatch) -> torch.Tensor:
    """The hidden states that the output layer reads, shape (B, T, width); no document sees another.

    Where another attention is chosen, transformers makes the masks itself: where positions restart, a document begins.
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
    """The attention mask for the model: dense on a GPU; on a CPU the document ids, (B, 1, 1, T)."""
    return dense_mask(documents_BT) if documents_BT.is_cuda else documents_BT[:, None, None, :]


def dense_mask(documents_BT: torch.Tensor) -> torch.Tensor:
    """True where a token may look: itself and earlier tokens of its own document; shape (B, 1, T, T).

    Restarting positions alone would not isolate documents. Padding is a document too, so no row of the mask is empty.
    """
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTT.tril()[:, None]


def isolated_documents(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function; (B, heads, T, D) to (B, T, heads, D). Other masks than document ids are SDPA's, and so is
    dropout, which is slow anyhow.

    Args:
        sliding_window: the number of tokens that a token sees, itself included.
        softcap: scores are squeezed between minus and plus this.
        s_aux: for each head the score of a sink, which takes a share of the attention and adds nothing to the output.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if attention_mask is not None and attention_mask.dtype == torch.int64:
        documents_BT = attention_mask[:, 0, 0]
        if not dropout:
            return attend_by_document(query, key, value, s_aux, documents_BT, Rule(scaling, sliding_window, softcap)), None
        attention_mask = dense_mask(documents_BT)
    if attention_mask is not None and sliding_window is not None and attention_mask.shape[-2] == attention_mask.shape[-1]:
        attention_mask = attention_mask.triu(1 - sliding_window)  # the mask of a generation's step has the window in it
    if softcap is None and s_aux is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **named)
    key, value = (repeat_kv(tensor, query.shape[1] // tensor.shape[1]) for tensor in (key, value))
    probabilities = _probabilities(query, key, attention_mask, Rule(scaling, sliding_window, softcap), s_aux)
    probabilities = torch.nn.functional.dropout(probabilities, dropout)[..., : key.shape[2]].to(value.dtype)
    return (probabilities @ value).transpose(1, 2), None


def _probabilities(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, rule: Rule, sinks_H: torch.Tensor | None
) -> torch.Tensor:
    """Attention's probabilities with a cap or a sink, for which SDPA has no argument; in fp32, as in transformers.

    The last column is that of the sink, where there is one. `mask` has the window in it.
    """
    scores = query @ key.transpose(2, 3) * rule.scaling
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    if mask is None:  # a generation's first step without padding
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(scores.shape[-1] - scores.shape[-2])
    scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    if sinks_H is not None:
        sink = sinks_H.float().view(1, -1, 1, 1).expand(len(scores), -1, scores.shape[2], 1)
        scores = torch.cat([scores, sink], dim=-1)
    return scores.softmax(-1)


AttentionInterface.register(NAME, isolated_documents)
AttentionMaskInterface.register(NAME, sdpa_mask)
AttentionInterface.register(ADDITIVE, sdpa_attention_forward)
AttentionMaskInterface.register(ADDITIVE, eager_mask)
