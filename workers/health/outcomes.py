"""Notes in a process's lease since when its tasks have only failed: an error of a task ends nothing and stops nothing.

While all goes well nothing is written.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, TypeVar

from shared.store import failing
from workers.process import WorkerProcess


T = TypeVar("T")

NOTE_SECONDS: Final = 5.0
"""A failure is noted no more often, and nothing waits for longer until it is."""


class Outcomes:
    """Of one process's tasks."""

    def __init__(self) -> None:
        self._failing = False
        self._noted_at = float("-inf")

    def watch(self, process: WorkerProcess, task: Callable[[], T]) -> T:
        """Do it; what it raises is noted and passed on."""
        try:
            done = task()
        except Exception as error:
            self._failing = True
            if time.monotonic() - self._noted_at >= NOTE_SECONDS:
                self._noted_at = time.monotonic()
                _note(process, f"{type(error).__name__}: {error}")
            raise
        if self._failing:
            self._failing, self._noted_at = False, float("-inf")
            _note(process, None)
        return done


def _note(process: WorkerProcess, error: str | None) -> None:
    async def note() -> None:
        async with asyncio.timeout(NOTE_SECONDS), process.pool.acquire() as connection:
            await failing.note(connection, process.id, error)

    # Postgres may be what fails; then there is nothing to be noted, and nobody to read it
    with contextlib.suppress(Exception):
        process.run(note())
