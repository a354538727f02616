"""What a setting takes, and what it is unless set, in plain words."""

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from shared.providers.account import Section


_PLAIN = {
    bool: ("true or false", "true or false"),
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    SecretStr: ("secret", "secrets"),
    Path: ("path", "paths"),
}
"""type -> one of it, and several."""


def takes(field: FieldInfo) -> str:
    """What may be written for a field. Raises TypeError for a type without a word here."""
    several, plain = _unwrapped(field.annotation)
    bounds = _bounds(field.metadata)
    if several:
        return f"list of {_several(plain)}{_how_many(field.metadata)}"
    return f"{_one(plain)}{bounds}"


def unless_set(field: FieldInfo) -> str:
    """The default, as it would be written; ``required`` without one."""
    if field.is_required():
        return "required"
    match field.default:
        case None | ():
            return "none"
        case Section():
            return "see below"
        case bool(value):
            return f"`{str(value).lower()}`"
        case tuple(values):
            return ", ".join(f"`{value}`" for value in values)
        case value:
            return f"`{value}`"


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field is, or is a list of."""
    plain = _unwrapped(field.annotation)[1]
    return plain if isinstance(plain, type) and issubclass(plain, Section) else None


def _unwrapped(annotation: Any) -> tuple[bool, Any]:
    """Whether it is a list, and of what: without ``None`` and what Annotated adds."""
    if get_origin(annotation) in {Union, types.UnionType}:
        rest = [part for part in get_args(annotation) if part is not type(None)]
        if len(rest) == 1:
            return _unwrapped(rest[0])
        if all(get_origin(part) is Literal for part in rest):
            return False, Literal[tuple(value for part in rest for value in get_args(part))]
        raise TypeError(f"there is no word for {annotation}")
    if hasattr(annotation, "__metadata__"):
        return _unwrapped(annotation.__origin__)
    if get_origin(annotation) is tuple:
        return True, _unwrapped(get_args(annotation)[0])[1]
    return False, annotation


def _one(plain: Any) -> str:
    if get_origin(plain) is Literal:
        return _choice(get_args(plain))
    if isinstance(plain, type) and issubclass(plain, Section):
        return "table"
    if plain not in _PLAIN:
        raise TypeError(f"there is no word for {plain}")
    return _PLAIN[plain][0]


def _several(plain: Any) -> str:
    if get_origin(plain) is Literal:
        return _choice(get_args(plain))
    if isinstance(plain, type) and issubclass(plain, Section):
        return "tables"
    if plain not in _PLAIN:
        raise TypeError(f"there is no word for {plain}")
    return _PLAIN[plain][1]


def _choice(values: Sequence[object]) -> str:
    shown = [f"`{value}`" for value in values]
    return f"{', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else shown[0]


def _bounds(metadata: Sequence[Any]) -> str:
    least = next((each.ge for each in metadata if hasattr(each, "ge")), None)
    above = next((each.gt for each in metadata if hasattr(each, "gt")), None)
    most = next((each.le for each in metadata if hasattr(each, "le")), None)
    if least is not None and most is not None:
        return f", {least:,} to {most:,}"
    return "".join(
        f", {words} {bound:,}"
        for words, bound in (("at least", least), ("more than", above), ("at most", most))
        if bound is not None
    )


def _how_many(metadata: Sequence[Any]) -> str:
    least = next((each.min_length for each in metadata if getattr(each, "min_length", None)), 0)
    most = next((each.max_length for each in metadata if getattr(each, "max_length", None)), 0)
    if least and most:
        return f", {least} to {most} of them"
    return f", at least {least}" if least else ""
