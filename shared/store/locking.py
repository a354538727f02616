"""Doing a thing in one place at a time, whichever process does it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from shared.store.pooling import Pooled
from shared.store.postgres import Connection, connect_once


REWRITING: Final = ("rewriting",)
"""What is erased must not be sealed anew meanwhile: a blob would come back."""


@asynccontextmanager
async def alone(connection: Connection, *what: str) -> AsyncIterator[bool]:
    """Whether this session is the only one to do this; the lock ends with the block, or with the connection."""
    key = int.from_bytes(hashlib.sha256("\0".join(what).encode()).digest()[:8], signed=True)
    # Not isinstance, which asyncpg lets be true of each of its connections.
    if type(connection) is Pooled:
        async with _in_a_transaction(connection.url, key) as mine:
            yield mine
        return
    mine = await connection.fetchval("SELECT pg_try_advisory_lock($1)", key)
    try:
        yield bool(mine)
    finally:
        if mine and not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", key)


@asynccontextmanager
async def _in_a_transaction(url: str, key: int) -> AsyncIterator[bool]:
    """Behind pgbouncer no session is ours: the lock is that of a transaction, open beside the work for as long.

    It has read nothing and written nothing by then, so it holds up no vacuum.
    """
    holder = await connect_once(url)
    try:
        async with holder.transaction():
            yield bool(await holder.fetchval("SELECT pg_try_advisory_xact_lock($1)", key))
    finally:
        holder.terminate()
