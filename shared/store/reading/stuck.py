"""What stands still and should not: read for `penstock check` and the console."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.connecting import driver_of
from shared.store.stuck import UNPLANNED, Unplanned


TOLD_SECONDS = 30.0
"""A relay tells of itself every five seconds; one that has told nothing for so long is not there."""


class Duty(NamedTuple):
    """A duty of the relay: ``seconds`` since it last succeeded, and the error of its failures since."""

    name: str
    seconds: float
    patience_seconds: float
    error: str | None


class Process(NamedTuple):
    """A worker process whose lease is in force; ``failing_seconds`` is None where it does not only fail."""

    name: str
    failing_seconds: float | None
    error: str | None


class Standing(NamedTuple):
    """Everything that may be stuck. ``relay_seconds`` since a relay last told of itself; None: none ever has."""

    relay_seconds: float | None
    duties: Sequence[Duty]
    processes: Sequence[Process]
    unplanned: Sequence[Unplanned]

    @property
    def relay_lives(self) -> bool:
        """Whether a relay told of itself just now."""
        return self.relay_seconds is not None and self.relay_seconds <= TOLD_SECONDS


async def standing(connection: AsyncConnection, providers: Sequence[str], lease_seconds: float) -> Standing:
    """How everything stands, by the clock of the database."""
    driver = await driver_of(connection)
    duties = await driver.fetch(
        """
        SELECT duty, extract(epoch FROM now() - succeeded_at)::float8 AS seconds, patience_seconds, error,
               extract(epoch FROM now() - told_at)::float8 AS told
        FROM relay_duties ORDER BY succeeded_at
        """
    )
    processes = await driver.fetch(
        """
        SELECT name, extract(epoch FROM now() - failing_since)::float8 AS failing_seconds, error
        FROM worker_processes WHERE beat_at > now() - make_interval(secs => $1) ORDER BY name
        """,
        lease_seconds,
    )
    return Standing(
        min((row["told"] for row in duties), default=None),
        [Duty(row["duty"], row["seconds"], row["patience_seconds"], row["error"]) for row in duties],
        [Process(**row) for row in processes],
        [Unplanned(*row) for row in await driver.fetch(UNPLANNED, providers)],
    )
