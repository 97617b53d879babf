"""The types of settings: which numbers a config value may be. `utils/typecheck.py` checks values against them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

MOST = 2**31 - 1  # of anything that is counted

Count = Annotated[int, Ge(1), Le(MOST)]
Several = Annotated[int, Ge(2), Le(MOST)]
Whole = Annotated[int, Ge(0), Le(MOST)]
Block = Annotated[int, Ge(16), Le(MOST)]  # tokens of a row
Seed = Annotated[int, Ge(0), Lt(2**32)]  # numpy takes no larger one
AboveZero = Annotated[float, Gt(0)]
ZeroOrMore = Annotated[float, Ge(0)]
Share = Annotated[float, Gt(0), Lt(1)]
PositiveShare = Annotated[float, Gt(0), Le(1)]  # a share that may be all
Fraction = Annotated[float, Ge(0), Le(1)]
Seconds = Annotated[float, Gt(0), Le(10**9)]  # 30 years
Hours = Annotated[float, Gt(0), Le(10**6)]
