"""How many deliveries came in each minute of the last day: counted once a minute from the ids' index alone."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.errors import StoreAway
from shared.store.reading.connecting import reading
from shared.store.reading.searching import id_at


MINUTE: Final = 60
DAY_MINUTES: Final = 24 * 60
_EVERY_SECONDS: Final = 10.0
_AT_ONCE: Final = 240
"""So many past minutes are counted in one go: the day behind a fresh start is there within a few of them, each of which
connects anew."""
_UNSETTLED: Final = 2
"""The newest minutes are counted again: the last one is not over, and a commit may come late."""


class Bar(NamedTuple):
    """One bar of a chart: the minute it begins with, and deliveries in it; None where it is not counted yet."""

    at: datetime
    received: int | None


class Pulse:
    """Keeps the counts; ``run`` fills them, the newest first."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._counts: dict[int, int] = {}

    def bars(self, *, minutes: int, width: int) -> list[Bar]:
        """The last ``minutes``, ``width`` of them in each bar, oldest first."""
        last = int(time.time()) // MINUTE
        found = []
        for first in range(last - minutes + 1, last + 1, width):
            known = [self._counts[minute] for minute in range(first, first + width) if minute in self._counts]
            found.append(Bar(datetime.fromtimestamp(first * MINUTE, UTC), sum(known) if known else None))
        return found

    async def run(self) -> None:
        """Count until cancelled; a database that is away is tried again."""
        log = structlog.get_logger("penstock.console")
        while True:
            try:
                behind = await self._count()
            except StoreAway:
                behind = False
            except Exception as error:  # noqa: BLE001 - a chart that stands still must not end the console
                log.warning("the deliveries of past minutes were not counted", reason=type(error).__name__)
                behind = False
            await asyncio.sleep(0.2 if behind else _EVERY_SECONDS)

    async def _count(self) -> bool:
        """Count what is unknown, newest first; whether anything is left."""
        now = int(time.time()) // MINUTE
        for old in [minute for minute in self._counts if minute <= now - DAY_MINUTES]:
            del self._counts[old]
        wanted = [
            minute
            for minute in range(now, now - DAY_MINUTES, -1)
            if minute > now - _UNSETTLED or minute not in self._counts
        ]
        async with reading(self._engine) as connection:
            found = await connection.execute(_RECEIVED, _spans(wanted[:_AT_ONCE]))
            self._counts.update((minute, received) for minute, received in found)
        return len(wanted) > _AT_ONCE


# One statement for all of them: a day of statements of their own kept a core busy for two seconds after each start.
_RECEIVED: Final = text("""
    SELECT span.minute, (SELECT count(*) FROM events WHERE id >= span.first AND id < span.after)
    FROM unnest(CAST(:minutes AS bigint[]), CAST(:firsts AS uuid[]), CAST(:afters AS uuid[]))
         AS span (minute, first, after)
""")


def _spans(minutes: Sequence[int]) -> dict[str, Sequence[int | UUID]]:
    """The ids that each minute begins and ends with."""
    firsts, afters = (
        [id_at(datetime.fromtimestamp((minute + later) * MINUTE, UTC)) for minute in minutes] for later in (0, 1)
    )
    return {"minutes": minutes, "firsts": firsts, "afters": afters}
