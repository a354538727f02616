"""The duties of a relay: each is a loop of its own with a pace of its own, and none waits for another or ends with it.

When each last succeeded is shown by a metric and told to Postgres, for `penstock check` and the console.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import asyncpg
import structlog

from shared.errors import PenstockError, StoreAway
from shared.store.duties import Told
from shared.store.postgres import is_away, took_too_long
from workers.relay.metrics import RelayMetrics
from workers.transactions import CONFLICTS


log = structlog.get_logger("penstock.relay")

MORE_SECONDS: Final = 0.05
"""Between the rounds of a duty that has more to do: what others ask of Postgres gets a turn."""

PATIENCE_SECONDS: Final = 120.0
"""More than three statements that are given up (30 s each) and the pauses between them."""

LONGEST_ROUND_SECONDS: Final = 60.0
"""A round that takes longer waits for what has no deadline."""

TELL_AGAIN_SECONDS: Final = 30.0
"""The same failure of the same duty is logged no more often."""


class Duty(NamedTuple):
    """What is done again and again. ``work`` does a bounded part of it, and says whether there is more.

    ``promised``: acknowledged work depends on it, so a relay whose round of it does not end is started anew.
    ``patience_seconds``: an older last success tells that the duty is stuck.
    """

    name: str
    every_seconds: float | Callable[[], float]
    work: Callable[[], Awaitable[object]]
    promised: bool = False
    patience_seconds: float = PATIENCE_SECONDS
    more_seconds: float = MORE_SECONDS


@dataclass(slots=True)
class _Standing:
    duty: Duty
    began: float | None = None
    """Monotonic; None between two rounds."""
    succeeded: float = field(default_factory=time.monotonic)
    ever: bool = False
    error: str | None = None
    logged: str = ""
    logged_at: float = 0.0


class Duties:
    """Keeps duties, and knows how each of them stands."""

    def __init__(self, metrics: RelayMetrics) -> None:
        self._metrics = metrics
        self._standings: dict[str, _Standing] = {}

    async def keep(self, duties: Iterable[Duty]) -> None:
        """Until cancelled, all of them side by side."""
        for duty in duties:
            self._standings[duty.name] = _Standing(duty)
            self._metrics.duty(duty.name, time.time())
        async with asyncio.TaskGroup() as tasks:
            for standing in self._standings.values():
                tasks.create_task(self._again_and_again(standing), name=standing.duty.name)

    @property
    def goes_on(self) -> bool:
        """Whether no round of what is promised takes too long; a store that is away is waited for as it should be."""
        now = time.monotonic()
        return not any(
            standing.duty.promised and standing.began is not None and now - standing.began > LONGEST_ROUND_SECONDS
            for standing in self._standings.values()
        )

    def told(self) -> list[Told]:
        """How each duty stands."""
        now = time.monotonic()
        return [
            Told(name, now - standing.succeeded, standing.duty.patience_seconds, standing.error)
            for name, standing in self._standings.items()
        ]

    def progressed(self, name: str) -> None:
        """A duty whose rounds are long has come further."""
        if standing := self._standings.get(name):
            self._succeeded(standing)

    async def _again_and_again(self, standing: _Standing) -> None:
        task = asyncio.current_task()
        # redis-py can lose a cancellation that comes while it reads; the task still knows of it.
        while not (task and task.cancelling()):
            standing.began = time.monotonic()
            more: object = False
            try:
                more = await standing.duty.work()
            except Exception as error:  # noqa: BLE001 - whatever it is, this duty is tried again and the others go on
                self._failed(standing, error)
            else:
                self._succeeded(standing)
            standing.began = None
            every = standing.duty.every_seconds
            await asyncio.sleep(standing.duty.more_seconds if more else every() if callable(every) else every)

    def _succeeded(self, standing: _Standing) -> None:
        if standing.error:
            log.info("a duty of the relay succeeds again", duty=standing.duty.name, failed_with=standing.error)
        standing.succeeded, standing.ever = time.monotonic(), True
        standing.error, standing.logged = None, ""
        self._metrics.duty(standing.duty.name, time.time())
        if standing.duty.promised:
            promised = [each for each in self._standings.values() if each.duty.promised]
            if all(each.ever for each in promised):
                self._metrics.ticked(time.time() - max(time.monotonic() - each.succeeded for each in promised))

    def _failed(self, standing: _Standing, error: Exception) -> None:
        what, standing.error, unforeseen = _described(error)
        now = time.monotonic()
        if (standing.error, what) == (standing.logged, what) and now - standing.logged_at < TELL_AGAIN_SECONDS:
            return
        standing.logged, standing.logged_at = standing.error, now
        log.log(
            _ERROR if unforeseen else _WARNING,
            what,
            duty=standing.duty.name,
            reason=standing.error,
            exc_info=error if unforeseen else None,
        )


_WARNING: Final = 30
_ERROR: Final = 40


def _described(error: Exception) -> tuple[str, str, bool]:
    """What is logged, the reason, and whether it is a fault of ours."""
    reason = str(error) or type(error).__name__
    if took_too_long(error):
        return "a duty of the relay took too long and was given up; trying again", f"took too long: {reason}", False
    if isinstance(error, StoreAway) or is_away(error):
        return "a store is away; trying again", reason, False
    if isinstance(error, CONFLICTS):
        return "another process was quicker; trying again", reason, False
    unforeseen = not isinstance(error, PenstockError | asyncpg.PostgresError)
    return "a duty of the relay failed; trying again", f"{type(error).__name__}: {reason}", unforeseen
