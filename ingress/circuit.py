"""What ingress knows of a store: while it is away, no request pays to find that out again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from shared.background import Background
from shared.errors import StoreAway


PROBE_SECONDS: Final = 0.5
"""How long after one probe the next one comes: so long may a store be back before it is used again."""

TRY_SECONDS: Final = 2.0
"""How long a probe may take: what a request would wait for a commit, so a store that is slower stays away."""


class Circuit:
    """Opened by one failure, for each of them is a whole budget spent in vain or a second connection refused.

    Closed again by ``probe``, which does in the background what the requests would do.
    """

    def __init__(self, store: str, probe: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._probe = probe
        self._opened = asyncio.Event()
        self._background = Background()
        self._log = structlog.get_logger("penstock.ingress")

    @property
    def away(self) -> bool:
        """Whether the store is known not to answer."""
        return self._opened.is_set()

    def start(self) -> None:
        """Begin to probe whenever the store is away."""
        self._background.start("circuit", self._watch)

    async def stop(self) -> None:
        """End."""
        await self._background.stop()

    def failed(self, reason: str) -> None:
        """Note that the store did not do what it was asked."""
        if not self.away:
            self._log.warning("a store is away; requests go on without it", store=self._store, reason=reason)
            self._opened.set()

    async def _watch(self) -> None:
        while True:
            await self._opened.wait()
            await asyncio.sleep(PROBE_SECONDS)
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    await self._probe()
            except (StoreAway, TimeoutError) as error:
                self._log.debug("a store is still away", store=self._store, reason=str(error))
            except Exception as error:  # noqa: BLE001 - whatever it answers, it does not do its work
                self._log.warning("a store answers, but does not work", store=self._store, reason=repr(error))
            else:
                self._log.info("a store is back", store=self._store)
                self._opened.clear()
