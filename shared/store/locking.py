"""Doing a thing in one place at a time, whichever process does it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from shared.store.postgres import Connection


REWRITING: Final = ("rewriting",)
"""What is erased must not be sealed anew meanwhile: a blob would come back."""


@asynccontextmanager
async def alone(connection: Connection, *what: str) -> AsyncIterator[bool]:
    """Whether this session is the only one to do this; the lock ends with the block, or with the connection."""
    key = int.from_bytes(hashlib.sha256("\0".join(what).encode()).digest()[:8], signed=True)
    mine = await connection.fetchval("SELECT pg_try_advisory_lock($1)", key)
    try:
        yield bool(mine)
    finally:
        if mine and not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", key)
