"""Transactions that lose a race are run again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg


T = TypeVar("T")

TRIES = 5

CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.UniqueViolationError)
"""What the loser of a race is told."""


async def again_on_conflict(work: Callable[[], Awaitable[T]]) -> T:
    """Run a whole transaction, again if another one came between: a deadlock, or a row that appeared meanwhile.

    The second run sees what the other transaction wrote and takes it into account. Raises the last conflict.
    """
    for _ in range(TRIES - 1):
        try:
            return await work()
        except CONFLICTS:
            continue
    return await work()
