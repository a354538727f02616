"""Events and connections for the tests of the store's statements."""

import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import uuid_utils.compat as uuid7s

from shared.store.inbox import NewEvent, insert
from steps import Receive


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

    async def keep(count: int = 1, provider: str = "imin", account: str = "main") -> list[uuid.UUID]:
        ids = [uuid.UUID(str(uuid7s.uuid7())) for _ in range(count)]
        await insert(
            db,
            [
                NewEvent(
                    id=event,
                    provider=provider,
                    account=account,
                    received_at=datetime.now(UTC),
                    durability="postgres",
                    content_type="application/json",
                    headers=[],
                    body=b"sealed",
                    blob=None,
                    body_bytes=2,
                    body_sha256=hashlib.sha256(b"{}").digest(),
                )
                for event in ids
            ],
        )
        return ids

    return keep
