"""Loops that run beside a process's work for as long as it lives: each is watched, and begun anew when it fails.

A task that nobody awaits ends without a word at its first unforeseen exception, and with it, for the rest of the
process's life, whatever it kept current. So nothing outside of this module calls ``asyncio.create_task`` for a loop
(``tests/unit/test_opened_and_watched.py`` refuses it).
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import cache
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter


Loop: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Makes what is to run; called again for each new beginning."""

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A loop that ran for so long works: its next pause is the first one again."""
CANCEL_AGAIN_SECONDS: Final = 3.0
"""A cancellation can get lost on its way (redis-py, while it reads), so it is repeated."""

log = structlog.get_logger("penstock.background")


class BackgroundMetrics:
    """What background loops show of themselves; made once a registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._failures = Counter(
            "penstock_background_failures",
            "Background loops that ended with an error, and were begun anew",
            ("loop",),
            registry=registry,
        )

    def failed(self, name: str) -> None:
        """A loop ended with an error."""
        self._failures.labels(name).inc()


@cache
def background_metrics() -> BackgroundMetrics:
    """Those of this process."""
    return BackgroundMetrics()


class Background:
    """The background loops of one part of a process: ``async with Background() as background``, or ``stop`` at its end.

    ``start`` is for what runs until it is cancelled, ``once`` for a single piece of work that nobody waits for.
    """

    def __init__(
        self,
        *,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        cancel_again_seconds: float = CANCEL_AGAIN_SECONDS,
    ) -> None:
        self._first_pause = first_pause_seconds
        self._cancel_again = cancel_again_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self, name: str, loop: Loop) -> asyncio.Task[None]:
        """Run ``loop()`` until ``stop``; one that raises is logged, counted and begun anew after a pause.

        ``name`` is a label of ``penstock_background_failures_total``: a constant.
        """
        return self._watched(name, self._again_and_again(name, loop))

    def once(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` to its end; what it raises is logged and counted."""
        return self._watched(name, self._to_its_end(name, work))

    async def stop(self) -> None:
        """Cancel everything, and wait until it has ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=self._cancel_again)

    def _watched(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _again_and_again(self, name: str, loop: Loop) -> None:
        pause = self._first_pause
        while True:
            began = time.monotonic()
            try:
                await loop()
            except asyncio.CancelledError:
                # Somebody else's, from within the loop, is a failure like any other.
                if _is_cancelled():
                    raise
                _failed(name, "was cancelled from within")
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop has to go on
                _failed(name, repr(error), error)
            else:
                return
            if _is_cancelled():
                return
            if time.monotonic() - began > STEADY_SECONDS:
                pause = self._first_pause
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

    async def _to_its_end(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            _failed(name, repr(error), error)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(name: str, reason: str, error: Exception | None = None) -> None:
    background_metrics().failed(name)
    log.error("a background loop failed", loop=name, reason=reason, exc_info=error)
