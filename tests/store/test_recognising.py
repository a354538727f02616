"""A large answer that came before is known: its records are noted as seen, if they are as it showed them."""

from collections.abc import Sequence

import asyncpg
import pytest

from shared.providers.interface import Call, Outcome, Record
from shared.store import erasing, fetching
from shared.store.fetching import ClaimedFetch, Result
from shared.store.opening import resource_key
from shared.store.records import recognising, recording
from shared.store.records.recognising import WORTH_RECORDS, NotAsBefore, Seen
from shared.store.records.sighting import Sighting
from steps import claim_fetches, keep, plan, worker


pytestmark = pytest.mark.anyio

PAGE = Call("/v1/transactions?skip=0", "transactions")
KIND = "paybook.transaction"
LARGE = [Record(KIND, f"t-{number:04}", f'{{"n": {number}}}', deleted=number == 7) for number in range(WORTH_RECORDS)]


async def claimed(db: asyncpg.Connection) -> ClaimedFetch:
    """The page's call, under way."""
    process = await worker(db)
    await keep(db)
    await plan(db, process, PAGE)
    [fetch] = await claim_fetches(db, process)
    return fetch


async def shown(db: asyncpg.Connection, records: Sequence[Record], following: Sequence[Call] = ()) -> ClaimedFetch:
    """An answer with these records was read and stored."""
    fetch = await claimed(db)
    outcome = Outcome(records=records, next=following)
    await fetching.commit(db, [Result(fetch, "done", outcome, 200, seen=Seen(b"same"))], 0.0)
    return fetch


async def shown_again(db: asyncpg.Connection) -> ClaimedFetch:
    """The same answer came again and was not read. Raises NotAsBefore."""
    fetch = await claimed(db)
    await fetching.commit(db, [Result(fetch, "done", status=200, seen=Seen(b"same", len(LARGE)))], 0.0)
    return fetch


async def known(db: asyncpg.Connection) -> int | None:
    """How many records the answer is known to hold."""
    return await recognising.look(db, resource_key("imin", "main", PAGE), b"same")


async def test_the_same_answer_again_notes_all_its_records_as_seen_and_makes_no_change(db: asyncpg.Connection) -> None:
    """As if it had been read: also the one that is marked as deleted."""
    await shown(db, LARGE)
    await db.execute("UPDATE records SET fetched_at = now() - interval '1 day'")
    changes = await db.fetchval("SELECT count(*) FROM changes")
    assert await known(db) == len(LARGE)

    again = await shown_again(db)

    rows = await db.fetch("SELECT began, fetched_at > now() - interval '1 minute' AS fresh FROM records")
    assert [(again.token, True)] * len(LARGE) == [tuple(row) for row in rows]
    assert changes == await db.fetchval("SELECT count(*) FROM changes") == len(LARGE)
    assert await db.fetchval("SELECT detail FROM timeline WHERE step = 'fetched' ORDER BY id DESC LIMIT 1") == (
        f"GET {PAGE.path}: 200, {len(LARGE)} records as before"
    )


@pytest.mark.parametrize(
    "meanwhile",
    [
        "DELETE FROM records WHERE external_id = 't-0003'",
        "UPDATE records SET digest = '\\x00' WHERE external_id = 't-0003'",
        "UPDATE records SET deleted_at = now() WHERE external_id = 't-0003'",
        "UPDATE records SET deleted_at = NULL WHERE external_id = 't-0007'",
        "DELETE FROM answers",
    ],
)
async def test_it_is_to_be_read_where_a_record_is_not_as_it_showed_it(db: asyncpg.Connection, meanwhile: str) -> None:
    """Removed by retention, changed by another call, deleted, revived; or the answer is known no more."""
    await shown(db, LARGE)
    await db.execute(meanwhile)

    with pytest.raises(NotAsBefore):
        await shown_again(db)

    assert await db.fetchval("SELECT count(*) FROM fetches WHERE state = 'running'") == 1


async def test_what_an_older_call_saw_is_no_news_after_it(db: asyncpg.Connection) -> None:
    """Its number counts for every record, as if each had been stored."""
    first = await shown(db, LARGE)
    await shown_again(db)

    old = Record(KIND, "t-0003", '{"n": "old"}')
    async with db.transaction():
        await recording.apply(db, [Sighting("imin", "main", old, first.token, None)])

    assert await db.fetchval("SELECT data FROM records WHERE external_id = 't-0003'") == '{"n": 3}'


@pytest.mark.parametrize(
    ("records", "following"),
    [
        (LARGE[:-1], ()),
        ([*LARGE[:-1], Record("paybook.account", "a-1", "{}")], ()),
        ([*LARGE, LARGE[0]], ()),
        ([*LARGE[:-1], Record(KIND, "t 9", "{}")], ()),
        (LARGE, (Call("/v1/transactions?skip=500", "transactions"),)),
    ],
)
async def test_only_a_large_answer_of_one_kind_that_leads_nowhere_is_known(
    db: asyncpg.Connection, records: Sequence[Record], following: Sequence[Call]
) -> None:
    """Small, of two kinds, with a record twice, an id with a blank, a next page: each is read every time."""
    await shown(db, records, following)

    assert await known(db) is None


async def test_another_answer_takes_its_place(db: asyncpg.Connection) -> None:
    """Of each call the last one is known."""
    await shown(db, LARGE)
    fetch = await claimed(db)
    await fetching.commit(db, [Result(fetch, "done", Outcome(records=LARGE), 200, seen=Seen(b"other"))], 0.0)

    assert await known(db) is None
    assert await db.fetchval("SELECT count(*) FROM answers") == 1


async def test_erasing_a_record_forgets_the_answers_that_may_name_it(db: asyncpg.Connection) -> None:
    """They hold its id."""
    await shown(db, LARGE)

    await erasing.erase_records(db, [(KIND, "t-0003")], "imin", "main")

    assert await db.fetchval("SELECT count(*) FROM answers") == 0
