"""Events and connections for the tests of the store's statements."""

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from steps import Receive, keep


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a fresh database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def db2(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A second connection, for what happens side by side."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def receive(db: asyncpg.Connection) -> Receive:
    """Keep ``count`` events as ingress does; returns their ids."""

    async def receive(count: int = 1, provider: str = "imin", account: str = "main") -> list[uuid.UUID]:
        return await keep(db, count, provider, account)

    return receive
