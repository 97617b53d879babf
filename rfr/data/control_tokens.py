"""The control tokens that tell a conditional policy which quantile of the reward a story is to be in.

Keskar et al. 2019 (CTRL); Lu et al. 2022 (Quark).
"""

from __future__ import annotations

import re

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from rfr.errors import UserError

NAME = "<|reward {} of {}|>"
PATTERN = re.compile(r"<\|reward (\d+) of (\d+)\|>")


def add_controls(tokenizer: PreTrainedTokenizerBase, count: int) -> PreTrainedTokenizerBase:
    """The tokenizer, with a token for each of `count` quantiles.

    Raises:
        UserError: the tokenizer has tokens for another number of quantiles.
    """
    known = len(control_ids(tokenizer))
    if known not in (0, count):
        raise UserError(f"this tokenizer tells {known} quantiles apart, objective.control.count={count}: set it to {known}")
    names = [NAME.format(number, count) for number in range(1, count + 1)]
    # Special: no text is tokenised to one.
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names], special_tokens=True)
    return tokenizer


def control_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of its control tokens, that of the worst first; none where its policy is told nothing."""
    ids = {int(match[1]): id_ for name, id_ in tokenizer.get_added_vocab().items() if (match := PATTERN.fullmatch(name))}
    return [ids[number] for number in sorted(ids)]
