"""The relay's part of handing over: handlers that have something to do get a message, dead processes' claims lapse."""

import asyncio
import time
from collections.abc import Callable

import structlog

from shared.configuration import Configuration
from shared.store.handovers import handed_over, handlers
from shared.store.handovers.handlers import NewHandler
from shared.store.postgres import Connection


log = structlog.get_logger("penstock.relay")

LAPSE_EVERY_SECONDS = 2.0
LONGER_THAN_A_TASK = 1.5
"""No task holds a claim for longer than its hard time limit; so much later it is not held by anybody."""


class WakingHandlers:
    """``wake`` takes a handler's name, may block, and raises StoreAway."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._known: Configuration | None = None
        self._lapsed_at = 0.0

    async def register(self, connection: Connection, configuration: Configuration) -> None:
        """Note where the handlers of the settings begin in the feed, before anything more gets a number."""
        if configuration is not self._known:
            new = [NewHandler(handler.name, handler.start == "beginning") for handler in configuration.handlers]
            await handlers.register(connection, new)
            self._known = configuration

    async def tick(self, connection: Connection, configuration: Configuration) -> None:
        """Make due what was left behind, and wake the handlers that have something to do."""
        if time.monotonic() - self._lapsed_at > LAPSE_EVERY_SECONDS:
            longest = configuration.timing.time_limit_seconds * LONGER_THAN_A_TASK
            if lapsed := await handed_over.lapse(connection, longest):
                log.warning("hand-overs of processes that died are due again", handovers=lapsed)
            self._lapsed_at = time.monotonic()
        async with connection.transaction():
            for name in await handlers.wake(connection):
                await asyncio.to_thread(self._wake, name)
