"""Checks config values against the annotations of what they configure; the first wrong one ends in one line."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from annotated_types import Ge, Gt, Le, Len, Lt
from hydra.utils import get_object
from pydantic import ConfigDict, TypeAdapter, ValidationError

from rfr.errors import UserError, as_user_error

TARGET = "_target_"
REST = "**"
STRICT = ConfigDict(strict=True, allow_inf_nan=False)
NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
SHOWN_CHARACTERS = 80  # characters of a value in a message
LARGE = 10**4  # a message names larger bounds only where a value breaks them


class Called:
    """In a schema: a section with a `_target_`, which is held against the target's parameters."""


def checked(values: Mapping[str, Any], schema: type, key: str = "", *, calls: bool = True) -> dict[str, Any]:
    """The settings of a section, whole numbers that stand for texts made into texts.

    Args:
        values: interpolations replaced. What has a `_target_` is held against the target's parameters.
        schema: a TypedDict or a dataclass; keys that refer to another (`${...}`) come after it, so that the other is named.
        key: of the section, with its dots.
        calls: False: what has a `_target_` is left as it is, and nothing is imported.

    Raises:
        UserError: a value is of another type or out of its range, or a key is unknown; the message names the key, what it got and
            what it takes.
    """
    hints = get_type_hints(schema, include_extras=True)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise UserError(f"{_joined(key, unknown[0])} is no setting; there are {', '.join(hints)}")
    order = sorted(values, key=lambda name: list(hints).index(name))
    values_by_name = {name: _checked(values[name], hints[name], _joined(key, name), calls) for name in order}
    return {name: values_by_name[name] for name in values}


def _checked(value: Any, annotation: Any, key: str, calls: bool = True) -> Any:
    if isinstance(value, Mapping):
        return _checked_section(value, annotation, key, calls)
    for candidate in (value, str(value)) if type(value) is int else (value,):
        if any(_fits(candidate, member) for member in _members(annotation)):
            return candidate
    raise UserError(f"{key} must be {described(annotation, value)}, not {_shown(value)}")


def _checked_section(values: Mapping[str, Any], annotation: Any, key: str, calls: bool) -> dict[str, Any]:
    sections = [member for member in _members(annotation) if is_typeddict(member) or is_dataclass(member)]
    mappings = [member for member in _members(annotation) if get_origin(member) in (dict, Mapping)]
    if TARGET in values:
        return _checked_call(values, key) if calls else dict(values)
    if sections:
        return checked(values, sections[0], key, calls=calls)
    if mappings or annotation is Any:
        of_each = get_args(mappings[0])[1] if mappings else Any
        return {str(name): _checked(value, of_each, _joined(key, str(name)), calls) for name, value in values.items()}
    raise UserError(f"{key} must be {described(annotation, values)}, not a section of settings")


def _checked_call(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The arguments that a target is called with, checked."""
    with as_user_error(f"{_joined(key, TARGET)}={values[TARGET]} can't be imported", ImportError, ValueError):
        target = get_object(str(values[TARGET]))
    parameters = _parameters(target)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith("_"):
            arguments[name] = value
        elif name in parameters or REST in parameters:
            arguments[name] = _checked(value, parameters.get(name, parameters.get(REST)), _joined(key, name))
        else:
            raise UserError(f"{_joined(key, name)} is no setting; there are {', '.join(parameters)}")
    return arguments


@cache
def _parameters(target: Any) -> dict[str, Any]:
    """A class's or function's parameters and what they may be, REST being those without names; Any where nothing says."""
    function = target.__init__ if inspect.isclass(target) else target
    parameters = inspect.signature(target).parameters.items()
    written = {REST if p.kind is p.VAR_KEYWORD else name: p.annotation for name, p in parameters}
    names = {**vars(sys.modules[target.__module__]), **getattr(function, "__globals__", {})}
    if hasattr(target, "__dataclass_fields__"):  # fields of a base may be annotated in its own module
        names = {name: value for base in reversed(target.__mro__) for name, value in vars(sys.modules[base.__module__]).items()}
    return {name: _evaluated(annotation, names) for name, annotation in written.items()}


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation  # noqa: S307: our own source
    except NameError:  # imported for type checkers alone: no setting
        return Any


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _fits(value: Any, annotation: Any) -> bool:
    if annotation is not Any and isinstance(annotation, type) and annotation not in NOUNS:
        return False  # an object, which a config can only give as a section with a target
    if get_origin(annotation) in (dict, Mapping):
        return False  # `_checked_section` takes the sections
    if isinstance(value, bool) and get_origin(annotation) is Literal:  # to Python 1 and true are alike
        return any(value is member for member in get_args(annotation))
    try:
        _adapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=STRICT)


def described(annotation: Any, value: Any = None) -> str:
    """Describe the values that a setting accepts; name far bounds only where `value` breaks them."""
    return ", or ".join(dict.fromkeys(_described(annotation, value)))


def _described(annotation: Any, value: Any) -> list[str]:
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return [f"{described(members[0])}{_bounds(members[1:], value)}"]
    if origin in (Union, UnionType):  # null last
        return [words for member in sorted(members, key=lambda one: one is NoneType) for words in _described(member, value)]
    if origin is Literal:
        return [f"one of {', '.join(_shown(member) for member in members)}"]
    if annotation in NOUNS:
        return [NOUNS[annotation]]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return ["a section of settings"]
    if isinstance(origin, type) and members:
        return [f"a list, each {described(members[0], None)}"]
    return [f"a section with a {TARGET}"]


def _bounds(constraints: tuple[Any, ...], value: Any) -> str:
    low = next((one for one in constraints if isinstance(one, Ge | Gt)), None)
    high = next((one for one in constraints if isinstance(one, Le | Lt)), None)
    lowest, highest = getattr(low, "ge", getattr(low, "gt", None)), getattr(high, "le", getattr(high, "lt", None))
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if highest is not None and highest > LARGE and not (is_number and value > highest):
        highest = None
    texts = []
    if lowest is not None:
        texts.append(f", {lowest} or more" if isinstance(low, Ge) else f" above {lowest}")
    if highest is not None:
        texts.append(f", {highest:,} or less" if isinstance(high, Le) else f" below {highest:,}")
    length = next((f" ({one.min_length} of them)" for one in constraints if isinstance(one, Len)), "")
    return " and".join(texts) + length


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value!s:.{SHOWN_CHARACTERS}}"


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
