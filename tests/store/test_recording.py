"""Records and the change feed: what an answer changes, and what it must not."""

import asyncio
from uuid import UUID, uuid4

import msgspec
import pytest
from asyncpg import Connection

from shared.providers.interface import Record
from shared.store.records import recording
from shared.store.records.sighting import Sighting
from support.conditions import HANG_SECONDS


pytestmark = pytest.mark.anyio

KIND = "paybook.transaction"


def seen(
    data: str | None,
    *,
    began: int = 1,
    key: str = "a",
    deleted: bool = False,
    once: bool = False,
    event: UUID | None = None,
) -> Sighting:
    """One sighting of one record."""
    return Sighting("paybook", "main", Record(KIND, key, data, deleted=deleted, once=once), began, event)


async def apply(db: Connection, *sightings: Sighting) -> None:
    """Apply in a transaction, as the flow does."""
    async with db.transaction():
        await recording.apply(db, sightings)


async def changes(db: Connection) -> list[tuple[str, str, list[str]]]:
    """The change feed so far: op, external id, changed fields."""
    rows = await db.fetch("SELECT op, external_id, changed FROM changes ORDER BY id")
    return [tuple(row) for row in rows]


async def stored(db: Connection, key: str = "a") -> str:
    """The record's data as Postgres holds it."""
    return str(await db.fetchval("SELECT data::text FROM records WHERE external_id = $1", key))


async def test_a_new_record_is_created_with_one_change(db: Connection) -> None:
    """The first sight of a record stores it and makes one change, tied to its event."""
    event = uuid4()

    await apply(db, seen('{"amount": 1}', event=event))

    assert [("created", "a", [])] == await changes(db)
    assert event == await db.fetchval("SELECT event_id FROM changes")


async def test_what_is_the_same_makes_no_change(db: Connection) -> None:
    """The same data in another order and spacing is no change, but it was fetched again."""
    await apply(db, seen('{"a": 1, "b": 2}', began=1))
    before = await db.fetchrow("SELECT fetched_at, changed_at FROM records")

    await apply(db, seen('{"b":2,"a":1}', began=2))

    after = await db.fetchrow("SELECT fetched_at, changed_at FROM records")
    assert [("created", "a", [])] == await changes(db)
    assert before["fetched_at"] < after["fetched_at"]
    assert before["changed_at"] == after["changed_at"]


async def test_a_change_names_its_top_level_fields(db: Connection) -> None:
    """Fields that differ, came or went are named; others are not."""
    await apply(db, seen('{"same": 1, "differs": {"x": 1}, "goes": 1}', began=1))

    await apply(db, seen('{"same": 1, "differs": {"x": 2}, "comes": 1}', began=2))

    assert ("updated", "a", ["comes", "differs", "goes"]) == (await changes(db))[-1]


async def test_digits_stay_as_the_provider_sent_them(db: Connection) -> None:
    """Amounts keep every digit, trailing zeros included."""
    text = '{"a": 22339.470000000001, "b": 1.10, "c": 123456789012345678901234567890}'

    await apply(db, seen(text))

    assert text == await stored(db)


async def test_an_older_answer_does_not_overwrite_a_newer_one(db: Connection) -> None:
    """A call that began earlier and answers later is stale."""
    await apply(db, seen('{"v": "new"}', began=5))

    await apply(db, seen('{"v": "old"}', began=4))

    assert '{"v": "new"}' == await stored(db)
    assert [("created", "a", [])] == await changes(db)


async def test_an_answer_without_news_protects_from_older_ones_all_the_same(db: Connection) -> None:
    """What is unchanged as of the fifth call is not overwritten by what the fourth saw in between and tells later."""
    await apply(db, seen('{"v": "same"}', began=1))
    await apply(db, seen('{"v": "same"}', began=5))

    await apply(db, seen('{"v": "in between"}', began=4))

    assert '{"v": "same"}' == await stored(db)
    assert [("created", "a", [])] == await changes(db)


async def test_a_stale_answer_does_not_count_as_fetched(db: Connection) -> None:
    """``fetched_at`` is the time of the newest answer, not of an older one that came later."""
    await apply(db, seen('{"v": 1}', began=5))
    before = await db.fetchrow("SELECT fetched_at, began FROM records")

    await apply(db, seen('{"v": 1}', began=4), seen('{"v": 1}', key="b"))

    assert before == await db.fetchrow("SELECT fetched_at, began FROM records WHERE external_id = 'a'")


async def test_a_page_without_news_leaves_the_index_alone(db: Connection) -> None:
    """Its new versions find room in the same pages of the table (HOT): no index entry is written."""
    page = [seen(f'{{"v": {number}, "text": "{"x" * 400}"}}', key=f"k{number:03}") for number in range(200)]
    await apply(db, *page)

    async with db.transaction():
        await recording.apply(db, [one._replace(began=2) for one in page])
        counted = await db.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'records'"
        )

    assert (200, 200) == tuple(counted)


async def test_data_told_in_another_form_is_sent_whole_once(db: Connection) -> None:
    """The digest follows the form that was seen last, so that the next answer like it is known by its digest."""
    await apply(db, seen('{"a": 1, "b": 2}', began=1))
    first = await db.fetchval("SELECT digest FROM records")

    await apply(db, seen('{"b":2,"a":1}', began=2))

    assert first != await db.fetchval("SELECT digest FROM records")
    assert [("created", "a", [])] == await changes(db)


async def test_a_tombstone_is_not_undone_by_an_older_answer(db: Connection) -> None:
    """What was announced as deleted stays deleted for calls that began before."""
    await apply(db, seen('{"v": 1}', began=1))
    await apply(db, seen(None, began=3, deleted=True))

    await apply(db, seen('{"v": 1}', began=2))

    assert [("created", "a", []), ("deleted", "a", [])] == await changes(db)
    assert await db.fetchval("SELECT deleted_at IS NOT NULL FROM records")
    assert '{"v": 1}' == await stored(db)


async def test_a_deletion_makes_one_change_however_often_it_is_told(db: Connection) -> None:
    """The second tombstone of the same record is no change."""
    await apply(db, seen('{"v": 1}', began=1))
    await apply(db, seen(None, began=2, deleted=True))
    await apply(db, seen(None, began=3, deleted=True))

    assert ["created", "deleted"] == [op for op, _, _ in await changes(db)]


async def test_what_changes_about_a_deleted_record_is_an_update(db: Connection) -> None:
    """It is deleted once; its fields may change all the same (Paybook's soft deletion)."""
    await apply(db, seen('{"v": 1}', began=1, deleted=True))

    await apply(db, seen('{"v": 2}', began=2, deleted=True))

    assert [("deleted", "a", []), ("updated", "a", ["v"])] == await changes(db)


async def test_a_record_that_returns_is_created_again(db: Connection) -> None:
    """A newer answer with a live record ends its deletion."""
    await apply(db, seen('{"v": 1}', began=1))
    await apply(db, seen(None, began=2, deleted=True))

    await apply(db, seen('{"v": 1}', began=3))

    assert ["created", "deleted", "created"] == [op for op, _, _ in await changes(db)]
    assert not await db.fetchval("SELECT deleted_at IS NOT NULL FROM records")


async def test_a_once_record_makes_one_change_ever(db: Connection) -> None:
    """A notification that shows up again, even altered, changes nothing."""
    await apply(db, seen('{"v": 1}', began=1, once=True))

    await apply(db, seen('{"v": 2}', began=2, once=True))

    assert [("created", "a", [])] == await changes(db)
    assert '{"v": 1}' == await stored(db)


async def test_the_same_record_twice_in_one_answer_counts_once(db: Connection) -> None:
    """A page that lists an id twice stores its last sighting with one change."""
    await apply(db, seen('{"v": 1}'), seen('{"v": 2}'))

    assert '{"v": 2}' == await stored(db)
    assert [("created", "a", [])] == await changes(db)


async def test_two_workers_writing_the_same_records_describe_each_change_once(db: Connection, db2: Connection) -> None:
    """Side by side, in opposite order, with the same news: no deadlock, and one change a record."""
    keys = [f"k{number:03}" for number in range(200)]
    await apply(db, *(seen('{"v": 0}', key=key) for key in keys[:100]))
    news = [seen('{"v": 1}', began=2, key=key) for key in keys]

    await asyncio.gather(apply(db, *news), apply(db2, *reversed(news)))

    counted = await db.fetch("SELECT op, count(*) FROM changes GROUP BY op ORDER BY op")
    assert [("created", 200), ("updated", 100)] == [tuple(row) for row in counted]


async def test_two_answers_that_differ_crosswise_do_not_wait_for_each_other(db: Connection, db2: Connection) -> None:
    """Each knows as unchanged what the other knows as changed: both lock all their records in the same order."""
    keys = [f"k{number:03}" for number in range(100)]
    await apply(db, *(seen('{"v": 0}', key=key) for key in keys))
    one = [seen(f'{{"v": {number % 2}}}', began=2, key=key) for number, key in enumerate(keys)]
    other = [seen(f'{{"v": {1 - number % 2}}}', began=3, key=key) for number, key in enumerate(keys)]

    await asyncio.gather(apply(db, *one), apply(db2, *other))

    assert 50 == await db.fetchval("SELECT count(*) FROM records WHERE data = '{\"v\": 1}'")
    assert 100 == await db.fetchval("SELECT count(*) FROM records WHERE began = 3")


async def test_a_record_that_another_worker_is_just_creating_is_compared(db: Connection, db2: Connection) -> None:
    """It was unknown when it was looked for, and is there when it is to be created: its news is not lost."""
    async with db.transaction():
        await recording.apply(db, [seen('{"v": 1}', began=1)])
        late = asyncio.create_task(apply(db2, seen('{"v": 2}', began=2)))
        async with asyncio.timeout(HANG_SECONDS):
            while not await db.fetchval(  # noqa: ASYNC110 - of Postgres
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)", db2.get_server_pid()
            ):
                await asyncio.sleep(0.01)
    await late

    assert [("created", "a", []), ("updated", "a", ["v"])] == await changes(db)
    assert '{"v": 2}' == await stored(db)


async def before(db: Connection) -> list[object]:
    """What each change keeps of what was before it."""
    rows = await db.fetch("SELECT before::text FROM changes ORDER BY id")
    return [None if row["before"] is None else msgspec.json.decode(row["before"]) for row in rows]


async def test_a_change_keeps_what_its_members_were_before_it(db: Connection) -> None:
    """In a list; an empty one says that the member was not there. What stayed the same is not kept."""
    await apply(db, seen('{"a": 1, "gone": true, "same": [1]}', began=1))
    await apply(db, seen('{"a": 1.50, "new": null, "same": [1]}', began=2))
    assert [None, {"a": [1], "gone": [True], "new": []}] == await before(db)


async def test_a_long_value_is_not_kept_with_a_change(db: Connection) -> None:
    """The feed does not grow by what providers put into one member; that it differs is told all the same."""
    long = "x" * (recording.MOST_BEFORE - 2)
    await apply(db, seen(f'{{"a": "{long}", "b": "{long}x"}}', began=1))
    await apply(db, seen("{}", began=2))
    assert [None, {"a": [long], "b": None}] == await before(db)
    assert ("updated", "a", ["a", "b"]) == (await changes(db))[1]


async def test_a_deletion_changes_no_member(db: Connection) -> None:
    """It keeps nothing: the record is still there to be read."""
    await apply(db, seen('{"a": 1}', began=1))
    await apply(db, seen(None, began=2, deleted=True))
    assert [None, None] == await before(db)
    assert ("deleted", "a", []) == (await changes(db))[1]
