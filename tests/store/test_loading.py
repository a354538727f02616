"""A large page of new records goes in by ``COPY``, and nobody can tell by what it leaves."""

import asyncio
from uuid import UUID

import asyncpg
import pytest
from asyncpg import Connection

from shared.providers.interface import Record
from shared.store.records import loading, recording
from shared.store.records.sighting import Sighting, newest


pytestmark = pytest.mark.anyio

EVENT = UUID(int=7)
LARGE = loading.WORTH_COPYING
BIG = '{"id": 1, "amount": 22339.470000000001}'


def page(count: int, data: str | None = BIG, *, began: int = 1, account: str = "main") -> list[Sighting]:
    """So many sightings of one call; every seventh is deleted."""
    return [
        Sighting("paybook", account, Record("thing", f"k{n:04}", data, deleted=n % 7 == 0), began, EVENT)
        for n in range(count)
    ]


async def apply(db: Connection, sightings: list[Sighting]) -> None:
    """Apply in a transaction, as the flow does."""
    async with db.transaction():
        await recording.apply(db, sightings)


async def load(db: Connection, sightings: list[Sighting]) -> bool:
    """Whether ``COPY`` took them."""
    async with db.transaction():
        return await loading.load(db, newest(sightings))


async def left(db: Connection, account: str = "main") -> list[list[tuple[object, ...]]]:
    """All that an account's records and changes say, but for numbers and times."""
    records = """
        SELECT kind, external_id, digest, data::text, began, fetched_at = changed_at, deleted_at = fetched_at, event_id
        FROM records WHERE account = $1 ORDER BY external_id
    """
    changes = "SELECT op, kind, external_id, changed, event_id FROM changes WHERE account = $1 ORDER BY id"
    return [[tuple(row) for row in await db.fetch(query, account)] for query in (records, changes)]


@pytest.mark.parametrize("data", [BIG, None])
async def test_a_large_page_leaves_what_small_ones_leave(db: Connection, data: str | None) -> None:
    """The same records, digits, digests, tombstones and changes, in the same order."""
    large, small = page(LARGE, data), page(LARGE, data, account="other")

    assert await load(db, large)
    for start in range(0, LARGE, 100):
        await apply(db, small[start : start + 100])

    assert await left(db, "other") == await left(db, "main")
    assert LARGE == len((await left(db))[1])


async def test_a_copied_record_says_what_was_seen_and_when(db: Connection) -> None:
    """Names beyond ASCII, a record that no delivery asked for, and the transaction's own time, to the microsecond."""
    await db.execute("SET timezone = 'Asia/Kolkata'")
    seen = Sighting("paybook", "größe", Record("ding", "schlüssel", '{"naïve": "☃"}'), 9, None)
    async with db.transaction():
        now = await db.fetchval("SELECT now()")
        assert await loading.load(db, newest([*page(LARGE), seen]))

    row = await db.fetchrow("SELECT * FROM records WHERE kind = 'ding'")
    change = await db.fetchrow("SELECT * FROM changes WHERE kind = 'ding'")

    assert row is not None
    assert change is not None
    assert ("größe", "schlüssel", 9, None) == (row["account"], row["external_id"], row["began"], row["event_id"])
    assert (now, now, None) == (row["fetched_at"], row["changed_at"], row["deleted_at"])
    assert '{"naïve": "☃"}' == row["data"]
    assert ("created", "größe", "schlüssel", [], None, None) == tuple(
        change[column] for column in ("op", "account", "external_id", "changed", "event_id", "seq")
    )


async def test_a_large_page_that_is_known_is_not_copied(db: Connection) -> None:
    """Pages that were seen already go the ordinary way: no change, and nothing is written in vain."""
    await apply(db, page(LARGE))

    assert not await load(db, page(LARGE, began=2))
    await apply(db, page(LARGE, began=2))

    assert LARGE == await db.fetchval("SELECT count(*) FROM changes")
    assert LARGE == await db.fetchval("SELECT count(*) FROM records WHERE began = 2")


async def test_a_known_record_that_the_sample_missed_costs_nothing_but_time(db: Connection) -> None:
    """The primary key refuses the copy; the page goes in the ordinary way, in the same transaction."""
    await apply(db, [page(LARGE, '{"old": 1}')[1]])

    assert not await load(db, page(LARGE, began=2))
    await apply(db, page(LARGE, began=2))

    assert LARGE == await db.fetchval("SELECT count(*) FROM records WHERE data = $1::jsonb", BIG)
    counted = await db.fetch("SELECT op, count(*) FROM changes GROUP BY op ORDER BY op")
    assert [("created", 428), ("deleted", 72), ("updated", 1)] == [tuple(row) for row in counted]


async def test_two_workers_loading_the_same_page_describe_each_record_once(db: Connection, db2: Connection) -> None:
    """The second waits for the first, finds that it was not the first, and compares."""
    await asyncio.gather(apply(db, page(LARGE)), apply(db2, page(LARGE, began=2)))

    assert LARGE == await db.fetchval("SELECT count(*) FROM changes")
    assert LARGE == await db.fetchval("SELECT count(*) FROM records WHERE began = 2")


async def test_a_page_that_postgres_cannot_store_leaves_nothing(db: Connection) -> None:
    """The error is the caller's to judge, as with a small page; no record and no change of it stays."""
    with pytest.raises(asyncpg.DataError):
        await apply(db, [*page(LARGE), Sighting("paybook", "main", Record("thing", "odd", '{"a": 1e999999}'), 1, None)])

    assert [[], []] == await left(db)
