"""Ends the leases of worker processes that beat no more."""

import asyncio
from typing import Final

import structlog

from shared.store import leases
from shared.store.postgres import Connection
from shared.watching import ConfigurationWatch


log = structlog.get_logger("penstock.relay")

LOOKS_A_LEASE: Final = 20


class Lapsing:
    """Looks at leases; a gap in what it sees of Postgres starts the time anew that it gives everybody to beat."""

    def __init__(self, watch: ConfigurationWatch) -> None:
        self._watch = watch
        self._expiry = leases.Expiry()

    def every_seconds(self) -> float:
        """Between two looks."""
        return self._watch.current.timing.lease_seconds / LOOKS_A_LEASE

    async def look(self, connection: Connection) -> None:
        """Look once."""
        lease_seconds = self._watch.current.timing.lease_seconds
        async with asyncio.timeout(lease_seconds):
            dead = await self._expiry.look(connection, lease_seconds)
        if dead:
            log.warning("leases lapsed; their work is due again", processes=dead)
