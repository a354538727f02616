"""Group commit: whatever waits when a connection becomes free is kept in one transaction.

An idle ingress commits a delivery at once; a busy one commits hundreds together, so it costs less per event.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from ingress.waiting import Waiting, WaitingRoom
from shared.background import Background
from shared.errors import PenstockError, StoreAway
from shared.store.inbox import NewEvent, insert
from shared.store.postgres import ABOUT_DATA, connect_once


if TYPE_CHECKING:
    from shared.store.postgres import Connection

CONNECTIONS: Final = 2
BATCH_EVENTS: Final = 500
COMMIT_SECONDS: Final = 2.0
"""How long a request waits for its commit; what is left of the 4 s belongs to whatever keeps the event instead."""

_CUT = (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
"""How a connection ends that was good before: the server was restarted, or somebody ended it."""


class RowRefused(PenstockError):
    """Postgres does not take this very event: a fault of ours."""


class GroupCommit:
    """Keeps events in Postgres. ``on_kept`` is called with each batch right after its commit."""

    def __init__(
        self,
        database_url: str,
        *,
        on_kept: Callable[[Sequence[NewEvent]], None],
        seconds: float = COMMIT_SECONDS,
    ) -> None:
        self._url = database_url
        self._on_kept = on_kept
        self._seconds = seconds
        self._room = WaitingRoom("Postgres", seconds=seconds, batch_events=BATCH_EVENTS)
        self._committers = Background()
        self._log = structlog.get_logger("penstock.ingress")

    def start(self) -> None:
        """Begin to commit; the connections are made when they are needed."""
        for _ in range(CONNECTIONS):
            self._committers.start("commit", self._commit_on)

    async def stop(self) -> None:
        """End; whoever still waits gets StoreAway."""
        await self._committers.stop()
        self._room.send_away("ingress is shutting down")

    async def keep(self, event: NewEvent) -> None:
        """Return once the event is committed. Raises StoreAway (it may still have been), RowRefused."""
        await self._room.wait(event)

    def send_away(self, reason: str) -> None:
        """Let nobody wait any longer: each gets StoreAway at once."""
        self._room.send_away(reason)

    async def _commit_on(self) -> None:
        line = _Line(self._url)
        try:
            while True:
                await self._room.arrival()
                if batch := self._room.take():
                    await self._commit(line, batch)
        finally:
            line.drop()

    async def _commit(self, line: "_Line", batch: list[Waiting]) -> None:
        events = [waiting.event for waiting in batch]
        try:
            # Nobody in the batch needs an answer after this; those who came earlier have their own timer.
            async with asyncio.timeout(self._seconds):
                await line.insert(events)
        except ABOUT_DATA as error:
            if len(batch) > 1:
                # One row must not take its neighbours down: each is tried alone.
                for waiting in batch:
                    await self._commit(line, [waiting])
                return
            self._log.exception(
                "Postgres refuses an event",
                provider=events[0].provider,
                account=events[0].account,
                event_id=str(events[0].id),
            )
            batch[0].settle(RowRefused(f"Postgres refuses the row: {type(error).__name__}"))
        except Exception as error:  # noqa: BLE001 - whoever waits is told, and the committer goes on
            reason = f"{type(error).__name__}: {error}"
            self._log.error("Postgres did not take a batch", events=len(batch), reason=reason)
            away = StoreAway(f"Postgres did not take the batch: {reason}")
            for waiting in batch:
                waiting.settle(away)
        else:
            for waiting in batch:
                waiting.settle()
            self._tell(events)

    def _tell(self, events: list[NewEvent]) -> None:
        try:
            self._on_kept(events)
        except Exception:  # noqa: BLE001 - the committer must live
            # They are kept and will be announced by the relay; without its committers ingress would refuse everything.
            self._log.exception("a fault after a commit", events=len(events))


class _Line:
    """One connection to Postgres, made when it is needed and made anew after a failure."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._log = structlog.get_logger("penstock.ingress")

    async def insert(self, events: Sequence[NewEvent]) -> None:
        """Keep the events. A connection that is cut meanwhile is made anew once: ids make a second attempt harmless."""
        try:
            await self._attempt(events)
        except _CUT:
            self._log.info("the connection to Postgres was cut; trying once more on a new one")
            await self._attempt(events)

    def drop(self) -> None:
        """Close without asking the server."""
        if self._connection:
            self._connection.terminate()
            self._connection = None

    async def _attempt(self, events: Sequence[NewEvent]) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect_once(self._url)
        try:
            await insert(self._connection, events)
        except ABOUT_DATA:
            raise
        except BaseException:
            # Cancelled at its deadline, cut, refused: nothing is known of its state any more.
            self.drop()
            raise
