"""Registering functions that changes are handed to."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from penstock.changes import Op


FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

OPS: frozenset[str] = frozenset(get_args(Op))


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a handler may be called: the same as in the settings."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function and when it is called."""

    name: str
    kinds: frozenset[str]
    """Empty: every kind."""
    ops: frozenset[str]
    start: Literal["now", "beginning"]
    concurrency: int
    timeout_seconds: float
    function: Callable[..., Any]


_registered: dict[str, Handler] = {}


def on(
    *kinds: str,
    ops: Iterable[Op] = ("created", "updated", "deleted"),
    name: str | None = None,
    start: Literal["now", "beginning"] = "now",
    concurrency: int = 1,
    timeout_seconds: float = 30.0,
) -> Callable[[FunctionT], FunctionT]:
    """Have the function called with each ``Change`` of these record kinds; no kind means every one.

    It is called in a worker process, plain or ``async``, for one change of a record at a time, in the order of the
    feed, and of at most ``concurrency`` records side by side over all workers. When it raises, takes longer than
    ``timeout_seconds`` (at most 60) or takes its process down, it is called again later, and in the end the change is
    parked. A change may so come twice: ``Change.id`` tells.

    ``name`` is what the handler is remembered by (the function's module and name unless given): a handler of a new name
    begins at ``start``, now or at the beginning of the feed. Raises ValueError for an operation that does not exist, a
    limit out of range, a name that is taken or not one, or a generator.
    """
    wanted = frozenset(ops)
    if not wanted or wanted - OPS:
        raise ValueError(f"ops must be some of {', '.join(sorted(OPS))}")
    if start not in {"now", "beginning"}:
        raise ValueError("start must be now or beginning")
    if name is not None and not NAME.fullmatch(name):
        raise ValueError("name must begin with a letter or digit and have letters, digits, '.', '_' and '-' after it")
    if not 1 <= concurrency <= 100:  # noqa: PLR2004 - said in the sentence
        raise ValueError("concurrency must be between 1 and 100")
    if not 0 < timeout_seconds <= 60:  # noqa: PLR2004 - the same
        raise ValueError("timeout_seconds must be more than 0 and at most 60")

    def register(function: FunctionT) -> FunctionT:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError(f"{function.__qualname__} has a yield: a call of it would do nothing")
        own = name or f"{function.__module__}.{function.__qualname__}"
        known = _registered.get(own)
        if known and _origin(known.function) != _origin(function):
            raise ValueError(f"two handlers have the name {own}; give one of them another: on(..., name=...)")
        _registered[own] = Handler(own, frozenset(kinds), wanted, start, concurrency, timeout_seconds, function)
        return function

    return register


def registered() -> Mapping[str, Handler]:
    """Every handler that the modules imported so far have registered, by name."""
    return _registered


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    """A module that is imported again registers the same function again."""
    return function.__module__, function.__qualname__
