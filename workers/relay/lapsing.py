"""Ends the leases of worker processes that beat no more, beside the relay's other work.

On a connection and in a loop of its own, so that a slow Redis or a long tick leaves no gap in what it sees of Postgres.
"""

import asyncio

import asyncpg
import structlog

from shared.errors import StoreAway
from shared.store import leases
from shared.store.postgres import AWAY, Connection, connect_once
from shared.watching import ConfigurationWatch


log = structlog.get_logger("penstock.relay")

LOOKS_A_LEASE = 20


async def end_lapsed_leases(database_url: str, watch: ConfigurationWatch) -> None:
    """Look again and again until cancelled; a Postgres that is away is waited for."""
    while True:
        try:
            connection = await connect_once(database_url)
            try:
                await _look_until_away(connection, watch)
            finally:
                connection.terminate()
        except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
            log.warning("leases cannot be looked at; trying again", reason=str(error) or type(error).__name__)
        await asyncio.sleep(watch.current.timing.lease_seconds / LOOKS_A_LEASE)


async def _look_until_away(connection: Connection, watch: ConfigurationWatch) -> None:
    expiry = leases.Expiry()
    while True:
        lease_seconds = watch.current.timing.lease_seconds
        async with asyncio.timeout(lease_seconds):
            dead = await expiry.look(connection, lease_seconds)
        if dead:
            log.warning("leases lapsed; their work is due again", processes=dead)
        await asyncio.sleep(lease_seconds / LOOKS_A_LEASE)
