"""The relay's part of handing over: handlers that have something to do get a message, dead processes' claims lapse."""

import asyncio
from collections.abc import Callable
from typing import ClassVar, Final

import structlog

from shared.configuration import Configuration
from shared.store.handovers import handed_over, handlers
from shared.store.handovers.handlers import NewHandler
from shared.store.postgres import Connection
from shared.watching import ConfigurationWatch


log = structlog.get_logger("penstock.relay")

LONGER_THAN_A_TASK: Final = 1.5
"""No task holds a claim for longer than its hard time limit; so much later it is not held by anybody."""


class WakingHandlers:
    """``wake`` takes a handler's name, may block, and raises StoreAway."""

    LAPSE_SECONDS: ClassVar[float] = 2.0

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._known: Configuration | None = None
        self._owed: set[str] = set()

    async def register(self, connection: Connection, configuration: Configuration) -> None:
        """Note where the handlers of the settings begin in the feed, before anything more gets a number."""
        if configuration is not self._known:
            new = [NewHandler(handler.name, handler.start == "beginning") for handler in configuration.handlers]
            await handlers.register(connection, new)
            self._known = configuration

    async def lapse(self, watch: ConfigurationWatch, connection: Connection) -> None:
        """Make due again what was left behind."""
        longest = watch.current.timing.time_limit_seconds * LONGER_THAN_A_TASK
        if lapsed := await handed_over.lapse(connection, longest):
            log.warning("hand-overs of processes that died are due again", handovers=lapsed)

    async def wake(self, connection: Connection) -> None:
        """Wake the handlers that have something to do.

        After the commit that stamps them: no row is held while Redis takes its time, and whoever is woken finds what it
        is woken for. One whose message could not be sent is owed it.
        """
        async with connection.transaction():
            self._owed.update(await handlers.wake(connection))
        for name in sorted(self._owed):
            await asyncio.to_thread(self._wake, name)
            self._owed.discard(name)
