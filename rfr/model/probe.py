"""Tries whether an architecture is trained exactly, on three random documents.

rfr's results on documents that share a row are compared with those of the architecture's own `eager` attention on each
document alone: hidden states, log-likelihoods, gradients where activations are recomputed, and likelihoods of generated tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from rfr.errors import UserError
from rfr.model.attention import IMPLEMENTATIONS, body_of, hidden_states
from rfr.model.dropout import set_dropout
from rfr.model.embedding import replace_ends
from rfr.model.probe_batch import batch_of, by_document
from rfr.model.recompute import recompute_activations
from rfr.records import IGNORE, Batch

TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3  # of the largest magnitude
DOCUMENT_TOKENS = (23, 17, 11)  # longer than any window of a shrunken model
WRITTEN_TOKENS = 6  # tokens
PAD = 1
RAISES = "its own code raises"

Written = list[tuple[torch.Tensor, torch.Tensor]]  # of each prompt the tokens, int64, and their log-probabilities
Write = Callable[[PreTrainedModel, list[torch.Tensor], int], Written]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How an architecture is trained exactly.

    Args:
        attention: the implementation of attention to use; None: none is exact.
        packed: several documents may share a row.
        difference: what is not exact where documents share a row; where `attention` is None, what is not exact in a row of its
            own.
        slots: stories are written with rfr's slots, else with transformers' `generate`; whichever it is was tried.
    """

    attention: str | None
    packed: bool
    difference: str = ""
    slots: bool = False


class _Differs(Exception):
    """The message says what is not the architecture's own."""


def probe(config: PretrainedConfig, write: Write = lambda *_: []) -> Verdict:
    """Find the fastest way to train an architecture exactly.

    Args:
        config: of a small model (see `shrink`), or of the model itself.
        write: writes so many tokens after each prompt and gives them with their log-probabilities; nothing where `generate`
            writes.
    """
    try:
        reference = _reference(config)
        _require_causal(reference)
    except Exception as error:
        return Verdict(attention=None, packed=False, difference=_in_words(error))
    differences: dict[bool, list[str]] = {True: [], False: []}
    for packed in (True, False):
        for implementation in IMPLEMENTATIONS:
            try:
                slots = _require_exact(reference, implementation, write, packed=packed)
            except Exception as error:  # whatever an architecture raises, it can't be trained like this
                differences[packed].append(_in_words(error))
            else:
                difference = "" if packed else _most_telling(differences[True])
                return Verdict(attention=implementation, packed=packed, difference=difference, slots=slots)
    return Verdict(attention=None, packed=False, difference=_most_telling(differences[False]))


def _in_words(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return first if isinstance(error, _Differs | UserError) else f"{RAISES} {type(error).__name__} ({first[:120]})"


def _most_telling(differences: list[str]) -> str:
    """An architecture that does not know an implementation raises something; that says less than what came out different."""
    return next((each for each in differences if not each.startswith(RAISES)), differences[0]) if differences else ""


@torch.no_grad()
def draw_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Draw them so large that every part of the model shows in what it gives."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            parameter.normal_(0, parameter.shape[-1] ** -0.5)
        elif name.endswith("bias"):
            parameter.normal_(0, 0.1)
    return model


def _reference(config: PretrainedConfig) -> PreTrainedModel:
    """The random model with its own attention."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation="eager", dtype=torch.float32)
    set_dropout(model, 0)
    return draw_weights(model).eval()


def _require_causal(reference: PreTrainedModel) -> None:
    document = torch.randint(3, _vocabulary(reference), (DOCUMENT_TOKENS[0],))
    whole, beginning = (_hidden_alone(reference, tokens) for tokens in (document, document[:-8]))
    _require_alike([whole[: len(beginning)]], [beginning], "it is an encoder: a word's hidden states depend on what follows it")


def _require_exact(reference: PreTrainedModel, implementation: str, write: Write, *, packed: bool) -> bool:
    """Whether slots write its stories. Raises _Differs, or what the architecture raises."""
    torch.manual_seed(1)
    documents = [torch.randint(3, _vocabulary(reference), (length,)) for length in DOCUMENT_TOKENS]
    model, batch = _same(reference, implementation), batch_of(documents, packed)
    hidden = _hidden(model, batch)
    _require_alike(hidden, [_hidden_alone(reference, document) for document in documents], "hidden states")
    other = [(documents[0] + 1) % _vocabulary(reference), *documents[1:]]
    _require_alike(_hidden(model, batch_of(other, packed))[1:], hidden[1:], "hidden states after another story")
    _require_same_gradients(reference, implementation, batch, documents)
    prompts = [document[: length // 2] for document, length in zip(documents, DOCUMENT_TOKENS, strict=True)]
    written = write(model, prompts, WRITTEN_TOKENS)
    if written:
        _require_same_likelihood(model, prompts, written, packed)
    else:
        _require_same_generation(model, prompts, packed)
    return bool(written)


def _vocabulary(model: PreTrainedModel) -> int:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return len(weight)


def _same(reference: PreTrainedModel, implementation: str) -> PreTrainedModel:
    """The same weights as rfr trains them."""
    config = deepcopy(reference.config)  # or the reference would have this attention, too
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float32)
    model.load_state_dict(reference.state_dict())
    set_dropout(model, 0)
    return replace_ends(model.eval())


@torch.no_grad()
def _hidden(model: PreTrainedModel, batch: Batch) -> list[torch.Tensor]:
    return by_document(batch, hidden_states(model, batch))


@torch.no_grad()
def _hidden_alone(reference: PreTrainedModel, document: torch.Tensor) -> torch.Tensor:
    return body_of(reference)(input_ids=document[None, :-1], use_cache=False).last_hidden_state[0]


def _nll_alone(reference: PreTrainedModel, document: torch.Tensor) -> torch.Tensor:
    logits = reference(input_ids=document[None, :-1], use_cache=False).logits[0]
    return -logits.float().log_softmax(-1).gather(1, document[1:, None])[:, 0]


def _loss(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Summed -log p, and each by document."""
    is_target_BT = batch.labels_BT != IGNORE
    hidden_ND, labels_N = hidden_states(model, batch)[is_target_BT], batch.labels_BT[is_target_BT]
    loss, nll_N = model.get_output_embeddings()(hidden_ND, labels_N, torch.ones(len(labels_N)))
    nll_BT = torch.zeros(is_target_BT.shape)
    nll_BT[is_target_BT] = nll_N
    return loss, by_document(batch, nll_BT)


def _require_same_gradients(
    reference: PreTrainedModel, implementation: str, batch: Batch, documents: list[torch.Tensor]
) -> None:  # fmt: skip
    reference.zero_grad()
    alone = [_nll_alone(reference, document) for document in documents]
    torch.cat(alone).sum().backward()
    theirs = dict(reference.named_parameters())
    for checkpointing in (False, True) if reference.supports_gradient_checkpointing else (False,):
        model = _same(reference, implementation).train()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        else:
            recompute_activations(model)
        loss, nll = _loss(model, batch)
        _require_alike(nll, alone, "log-likelihoods in training")
        loss.backward()
        grads = {name: (_grad(parameter), _grad(theirs[name])) for name, parameter in model.named_parameters()}
        floor = 1e-3 * max(float(their.abs().max()) for _, their in grads.values())  # below it, the order of summation shows
        for name, (our, their) in grads.items():
            _require_alike([our], [their], f"the gradient of {name}", least_scale=floor, tolerance=GRADIENT_TOLERANCE)


def _grad(parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _require_same_generation(model: PreTrainedModel, prompts: list[torch.Tensor], packed: bool) -> None:
    """Require that texts written after prompts of unequal lengths are as likely in training as in generation."""
    longest = max(map(len, prompts))
    left = [longest - len(prompt) for prompt in prompts]
    ids = torch.stack([torch.cat([torch.full((count,), PAD), prompt]) for count, prompt in zip(left, prompts, strict=True)])
    mask = torch.stack([(torch.arange(longest) >= count).long() for count in left])
    with torch.no_grad():
        written = model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=WRITTEN_TOKENS, min_new_tokens=WRITTEN_TOKENS,
            pad_token_id=PAD, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    tokens_NT, logits_TNV = written.sequences[:, longest:], torch.stack(list(written.logits))
    drawn_NT = logits_TNV.transpose(0, 1).float().log_softmax(-1).gather(2, tokens_NT[:, :, None])[:, :, 0]
    _require_same_likelihood(model, prompts, list(zip(tokens_NT, drawn_NT, strict=True)), packed)


@torch.no_grad()
def _require_same_likelihood(model: PreTrainedModel, prompts: list[torch.Tensor], written: Written, packed: bool) -> None:
    whole = [torch.cat([prompt, tokens]) for prompt, (tokens, _) in zip(prompts, written, strict=True)]
    _, nll = _loss(model, batch_of(whole, packed))
    drawn = [-logprobs for _, logprobs in written]
    _require_alike([each[-WRITTEN_TOKENS:] for each in nll], drawn, "the likelihood of what it writes")


def _require_alike(
    ours: list[torch.Tensor], theirs: list[torch.Tensor], what: str, *, tolerance: float = TOLERANCE, least_scale: float = 1e-9
) -> None:
    scale = max(least_scale, max(float(tensor.detach().abs().max()) for tensor in theirs))
    apart = max(float((our - their).detach().abs().max()) for our, their in zip(ours, theirs, strict=True))
    if not math.isfinite(apart + scale):
        raise _Differs(f"{what}: not finite")
    if apart > tolerance * scale:
        raise _Differs(f"{what}: apart by {apart / scale:.1g} of the largest")
