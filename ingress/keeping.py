"""Keeps an event in Postgres, or in the spool while Postgres does not answer; knows which of the two is away."""

import contextlib
from collections.abc import Callable, Sequence

from ingress.circuit import Circuit
from ingress.group_commit import GroupCommit
from ingress.spool import SpoolAppends
from shared.errors import StoreAway
from shared.spool import SpoolRefused
from shared.store.inbox import NewEvent, insert
from shared.store.postgres import ABOUT_DATA, connect_once


class Keeping:
    """The keeper of ingress."""

    def __init__(self, database_url: str, redis_url: str, *, on_kept: Callable[[Sequence[NewEvent]], None]) -> None:
        self._database_url = database_url
        self._commit = GroupCommit(database_url, on_kept=on_kept)
        self._spool = SpoolAppends(redis_url)
        self._postgres = Circuit("postgres", self._try_postgres)
        self._redis = Circuit("redis", self._try_redis)
        self._last_spooled: NewEvent | None = None

    def start(self) -> None:
        """Begin to keep."""
        for part in (self._commit, self._spool, self._postgres, self._redis):
            part.start()

    async def stop(self) -> None:
        """End; whoever still waits gets StoreAway."""
        for part in (self._commit, self._spool, self._postgres, self._redis):
            await part.stop()

    async def keep(self, event: NewEvent) -> NewEvent:
        """The event as it was kept, its durability told. Raises StoreAway, RowRefused.

        A commit that is given up may still succeed, and then both stores have the event, under the same id.
        """
        if not self._postgres.away:
            try:
                await self._commit.keep(event)
            except StoreAway as error:
                if not self._postgres.away:
                    self._postgres.failed(str(error))
                    self._commit.send_away("Postgres is known to be away")
            else:
                return event
        if self._redis.away:
            raise StoreAway("neither Postgres nor Redis answers")
        event = event._replace(durability="spool")
        try:
            await self._spool.keep(event)
        except SpoolRefused:
            raise
        except StoreAway as error:
            self._redis.failed(str(error))
            raise
        if self._postgres.away:
            self._last_spooled = event
        return event

    def away(self) -> set[str]:
        """The stores that are known not to answer."""
        circuits = {"postgres": self._postgres, "redis": self._redis}
        return {name for name, circuit in circuits.items() if circuit.away}

    async def check_spool(self) -> None:
        """Return if events can be spooled now. Raises SpoolRefused, StoreAway."""
        await self._spool.check()

    async def spool_lengths(self) -> tuple[int, int]:
        """How many events wait in the spool, and how many entries are set aside. Raises StoreAway."""
        return await self._spool.lengths()

    async def _try_postgres(self) -> None:
        """Commit one of the events that were spooled: nothing less shows that the next commits will succeed.

        A server that is read-only, out of disk or waiting for a lock answers every SELECT.
        """
        connection = await connect_once(self._database_url)
        try:
            if self._last_spooled is None:
                await connection.execute("SELECT 1")
            else:
                with contextlib.suppress(*ABOUT_DATA):
                    await insert(connection, [self._last_spooled])
        finally:
            connection.terminate()
        # Years later it may have been erased on purpose; it must not come back with the next outage.
        self._last_spooled = None

    async def _try_redis(self) -> None:
        with contextlib.suppress(SpoolRefused):
            await self._spool.check()
