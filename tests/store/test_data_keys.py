"""Data keys in Postgres: what a process learns of them, and what one damaged row costs."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from asyncpg import Connection
from pydantic import SecretStr

from shared.sealing import Keys, generate_key
from shared.store import keys as data_keys


pytestmark = pytest.mark.anyio

MAIN, OTHER = ("imin", "main"), ("imin", "other")
KEY = SecretStr(generate_key())
SECONDS = 30.0
"""Only for what hangs."""


def _keys() -> Keys:
    return Keys.parse([KEY])


@pytest.fixture
async def kept(database_url: str) -> AsyncIterator[Keys]:
    """Data keys that are kept, for the account ``main``."""
    keys = _keys()
    keeping = asyncio.create_task(data_keys.keep(database_url, keys, lambda: [MAIN]))
    yield keys
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what the process knows of another one's rows
            await asyncio.sleep(0.05)


async def test_what_another_process_makes_retires_and_destroys_is_seen(kept: Keys, db: Connection) -> None:
    """Each within a look, though most looks read one row."""
    await _until(lambda: kept.data.left(MAIN))
    theirs = _keys()
    await data_keys.reserve(db, theirs, [OTHER])
    (made,) = set(theirs.data.known()) - set(kept.data.known())

    await _until(lambda: made in kept.data.known())
    taken = kept.data.take(MAIN)
    assert taken
    await data_keys.retire(db, MAIN)
    await _until(lambda: (now := kept.data.take(MAIN)) and now[0] != taken[0])
    assert taken[0] in kept.data.known()
    await data_keys.destroy(db, MAIN, await data_keys.retired(db, MAIN))

    await _until(lambda: taken[0] not in kept.data.known())


async def test_a_damaged_row_costs_its_own_account_alone(db: Connection, database_url: str) -> None:
    """The others' keys are learned, and are looked at again and again."""
    made = _keys()
    await data_keys.reserve(db, made, [OTHER])
    await db.execute("UPDATE data_keys SET wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)")

    keys = _keys()
    closed = await data_keys.look(db, keys)
    ready = asyncio.Event()
    keeping = asyncio.create_task(data_keys.keep(database_url, keys, lambda: [MAIN], ready=ready))
    async with asyncio.timeout(SECONDS):
        await ready.wait()

    assert ["imin other"] == [why.partition(":")[0] for why in closed.values()]
    assert keys.data.left(MAIN)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_looks_do_not_grow_with_the_number_of_keys(kept: Keys, db: Connection, database_url: str) -> None:
    """A look that brings nothing new reads one row."""
    made = _keys()
    await data_keys.reserve(db, made, [("imin", f"account-{number}") for number in range(50)])
    await _until(lambda: len(kept.data.known()) >= 51)
    watching = await asyncpg.connect(database_url)
    last = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%FROM data_keys%'"

    for _ in range(3):
        until = kept.data._until
        await _until(lambda until=until: kept.data._until > until)
        (query,) = [
            row["query"]
            for row in await watching.fetch(
                f"{last} AND pid <> pg_backend_pid() AND pid <> $1", await db.fetchval("SELECT pg_backend_pid()")
            )
        ]
        assert "count(*)" in query
    await watching.close()
