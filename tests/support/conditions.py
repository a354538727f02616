"""Waiting for a condition, with one bound that says nothing about speed: after it, something hangs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar


T = TypeVar("T")

HANG_SECONDS: Final = 240.0
"""On a machine many times slower than usual, what works has come true by then; pytest's own limit is longer."""

_LOOK_SECONDS: Final = 0.05


def until(
    condition: Callable[[], T | None],
    within: float = HANG_SECONDS,
    otherwise: str | Callable[[], Any] = "",
    *,
    every: float = _LOOK_SECONDS,
) -> T:
    """The first truthy value of a condition; fails with ``otherwise`` where there is none.

    ``within`` is for a condition that takes minutes where all is well. It is looked at ``every`` so many seconds.
    """
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, _told(within, otherwise)
        time.sleep(every)


async def until_so(
    condition: Callable[[], Awaitable[T | None]],
    within: float = HANG_SECONDS,
    otherwise: str | Callable[[], Any] = "",
) -> T:
    """The same for a condition that is awaited."""
    deadline = time.monotonic() + within
    while True:
        if value := await condition():
            return value
        assert time.monotonic() < deadline, _told(within, otherwise)
        await asyncio.sleep(_LOOK_SECONDS)


def _told(within: float, otherwise: str | Callable[[], Any]) -> str:
    return f"not within {within:g} s: {otherwise if isinstance(otherwise, str) else otherwise()}"
