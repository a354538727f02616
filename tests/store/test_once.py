"""A record that makes one change, ever: also after its record is gone, and whoever shows it again at once."""

import asyncio

import asyncpg
import pytest

from shared.providers.interface import Record
from shared.store.records import once
from shared.store.records.recording import apply
from shared.store.records.sighting import Sighting


pytestmark = pytest.mark.anyio

KIND = "imin.update-notification"


def shown(
    identifier: str = "https://book.imin.co/n/1", *, began: int = 1, account: str = "main", owner: str = "c-1"
) -> Sighting:
    """The notification in an answer about a customer."""
    data = f'{{"@id": "{identifier}", "at": {began}}}'
    return Sighting("imin", account, Record(KIND, identifier, data, once=True, owner=owner), began, None)


async def changes(db: asyncpg.Connection) -> list[tuple[str, str]]:
    """Account and id of every change."""
    return [tuple(row) for row in await db.fetch("SELECT account, external_id FROM changes ORDER BY id")]


async def test_a_notification_whose_record_is_gone_makes_no_second_change(db: asyncpg.Connection) -> None:
    """Retention deletes records and changes; the mark stays."""
    await apply(db, [shown()])
    await db.execute("DELETE FROM records")
    await apply(db, [shown(began=2)])
    assert [("main", "https://book.imin.co/n/1")] == await changes(db)
    assert 0 == await db.fetchval("SELECT count(*) FROM records")


async def test_of_an_answer_only_what_was_shown_before_is_left_out(db: asyncpg.Connection) -> None:
    """New notifications and other records beside it are stored; another account's is another one."""
    await apply(db, [shown("1")])
    await db.execute("DELETE FROM records")
    customer = Sighting("imin", "main", Record("imin.customer-account", "abc", '{"identifier": "abc"}'), 2, None)
    await apply(db, [shown("1", began=2), shown("2", began=2), customer, shown("1", account="other")])
    assert {("main", "1"), ("main", "2"), ("main", "abc"), ("other", "1")} == set(await changes(db))
    assert 4 == len(await changes(db))


async def test_customers_that_are_shown_the_same_are_told_each_once(db: asyncpg.Connection) -> None:
    """Whether in one answer or in several, and whether or not the record is still there: a change a customer."""
    await apply(db, [shown("1", owner="a"), shown("1", owner="b")])
    await apply(db, [shown("1", owner="c", began=2), shown("1", owner="a", began=2)])
    await db.execute("DELETE FROM records")
    await apply(db, [shown("1", owner=owner, began=3) for owner in "abcd"])
    assert [("main", "1")] * 4 == await changes(db)
    assert 4 == await db.fetchval("SELECT count(DISTINCT mark) FROM changes")
    assert {"created"} == {row["op"] for row in await db.fetch("SELECT op FROM changes")}
    (record,) = await db.fetch("SELECT external_id FROM records")
    assert "1" == record["external_id"]


async def test_a_change_has_its_mark(db: asyncpg.Connection) -> None:
    """Its id is made of it; other changes have none."""
    customer = Sighting("imin", "main", Record("imin.customer-account", "abc", '{"identifier": "abc"}'), 1, None)
    await apply(db, [shown("1"), customer])
    rows = await db.fetch("SELECT c.kind FROM changes c JOIN once_marks USING (mark)")
    assert [KIND] == [row["kind"] for row in rows]
    assert 1 == await db.fetchval("SELECT count(*) FROM changes WHERE mark IS NULL")


async def test_the_mark_tells_nobody_what_it_was_made_of(db: asyncpg.Connection) -> None:
    """It depends on the installation's key, which no other has."""
    await apply(db, [shown()])
    (mark,) = [row["mark"] for row in await db.fetch("SELECT mark FROM once_marks")]
    await db.execute("DELETE FROM records")
    await db.execute("UPDATE installation SET key = sha256('another')")
    await apply(db, [shown()])
    assert 2 == await db.fetchval("SELECT count(*) FROM once_marks")
    assert 32 == len(mark)


async def test_erasure_removes_the_mark(db: asyncpg.Connection) -> None:
    """And says whether there was one; shown again, the notification is new."""
    await apply(db, [shown()])
    await db.execute("DELETE FROM records")
    assert 1 == await once.forget(db, "imin", "main", [KIND], ["https://book.imin.co/n/1"])
    assert 0 == await once.forget(db, "imin", "main", [KIND], ["https://book.imin.co/n/1"])
    await apply(db, [shown(began=2)])
    assert 2 == len(await changes(db))


async def test_many_that_show_it_at_once_and_again_and_again(database_url: str) -> None:
    """A thousand sightings of three notifications, over eight connections, while the records are deleted."""
    connections = [await asyncpg.connect(database_url) for _ in range(8)]

    async def show(number: int) -> None:
        connection = connections[number]
        for turn in range(125):
            async with connection.transaction():
                await apply(connection, [shown(identifier, began=turn) for identifier in ("a", "b", "c")])
            if turn % 20 == number:
                await connection.execute("DELETE FROM records")

    try:
        await asyncio.gather(*(show(number) for number in range(8)))
        assert ["a", "b", "c"] == sorted(external_id for _, external_id in await changes(connections[0]))
    finally:
        for connection in connections:
            await connection.close()
