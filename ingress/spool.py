"""Spools events while Postgres does not answer: whatever waits together is appended together and proven once."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog

from ingress.waiting import Waiting, WaitingRoom
from shared.background import Background
from shared.errors import StoreAway
from shared.redis_clients import open_redis, replicas_to_hold
from shared.spool import Spool, SpoolRefused


if TYPE_CHECKING:
    from shared.store.inbox import NewEvent

SPOOL_SECONDS: Final = 1.4
"""How long a request waits for the spool; with the 2 s for its commit it stays below the 3.5 s for all stores."""

WAITAOF_SECONDS: Final = 1.2
"""How long the disk of Redis may take: with ``appendfsync everysec`` it is asked once a second."""

SPACING_SECONDS: Final = 0.05
"""How long a batch is waited for before the next starts beside it; in 1.4 s these are at most 28."""

BATCH_EVENTS: Final = 200


class SpoolAppends:
    """Appends events to the spool, one batch after the other.

    A server that writes to disk once a second holds every batch until then. So the next one does not wait for its end
    for long, but goes over a connection of its own; else whoever comes late would wait for two seconds to pass.
    """

    def __init__(self, redis_url: str) -> None:
        # A connection that was cut while it was idle is made anew once; ids make a second append harmless.
        self._redis = open_redis(redis_url, seconds=SPOOL_SECONDS, retries=1)
        self._spool = Spool(self._redis, replicas=replicas_to_hold(redis_url))
        self._room = WaitingRoom("the spool", seconds=SPOOL_SECONDS, batch_events=BATCH_EVENTS)
        self._background = Background()
        self._told = ""
        self._log = structlog.get_logger("penstock.ingress")

    def start(self) -> None:
        """Begin to append; connections are made when they are needed."""
        self._background.start("spool", self._take_on)

    async def stop(self) -> None:
        """End; whoever still waits gets StoreAway."""
        await self._background.stop()
        self._room.send_away("ingress is shutting down")
        await self._redis.aclose()

    async def keep(self, event: "NewEvent") -> None:
        """Return once the event is in the spool. Raises SpoolRefused, StoreAway (it may still have been appended)."""
        await self._room.wait(event)

    async def check(self) -> None:
        """Return if events can be spooled now. Raises SpoolRefused, StoreAway."""
        await self._spool.check()

    async def lengths(self) -> tuple[int, int]:
        """How many events wait in the spool, and how many entries are set aside. Raises StoreAway."""
        return await self._spool.length(), await self._spool.set_aside_length()

    async def _take_on(self) -> None:
        while True:
            await self._room.arrival()
            if batch := self._room.take():
                appending = self._background.once("spool-append", self._append(batch))
                await asyncio.wait({appending}, timeout=SPACING_SECONDS)

    async def _append(self, batch: Sequence[Waiting]) -> None:
        try:
            async with asyncio.timeout(SPOOL_SECONDS):
                proven = await self._spool.append([waiting.event for waiting in batch], WAITAOF_SECONDS)
        except SpoolRefused as error:
            self._tell(f"events cannot be spooled: {error}")
            settled: StoreAway | None = error
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            settled = StoreAway(f"Redis did not take a batch: {str(error) or type(error).__name__}")
            self._tell(str(settled))
        else:
            self._tell(
                "events are spooled; WAITAOF proves each batch on disk"
                if proven
                else "events are spooled; they are as safe as the appendfsync of this Redis, which has no WAITAOF"
            )
            settled = None
        for waiting in batch:
            waiting.settle(settled)

    def _tell(self, news: str) -> None:
        """Log what is new: under load the same would be said with every batch."""
        if news != self._told:
            self._told = news
            self._log.warning(news)
