"""The check of retention: whether something that is old is held back until somebody has looked at it."""

from collections.abc import Sequence
from contextlib import suppress

import asyncpg

from ops.checks.finding import Finding, fix
from shared.errors import StoreAway
from shared.settings import Settings
from shared.store import retention_guard
from shared.store.postgres import AWAY, connect_once


async def check_retention(settings: Settings) -> Sequence[Finding]:
    """A finding for each; none where Postgres is away or has no tables, which another check says."""
    if settings.database_url is None:
        return ()
    with suppress(StoreAway, asyncpg.PostgresError, *AWAY):
        connection = await connect_once(settings.database_url.get_secret_value())
        try:
            refused = await retention_guard.refusals(connection)
        finally:
            connection.terminate()
        return [
            fix(" ".join(["retention", *(word for word in each.walk if word)]).replace("_", " "), each.sentence)
            for each in refused
        ]
    return ()
