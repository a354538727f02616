"""Very many events that share one fetch are settled a thousand at a time; the cost grows as their number."""

import asyncpg
import pytest

from shared.providers.interface import Call, Outcome
from shared.store import fetching, finishing, settlements
from shared.store.fetching import ClaimedFetch, Result
from steps import Receive, claim_fetches, event_states, fail, finish, plan, worker


pytestmark = pytest.mark.anyio

CALL = Call("/v1/customers/1", "customer")


async def _shared_by(db: asyncpg.Connection, receive: Receive, count: int) -> ClaimedFetch:
    """A claimed fetch that so many events ask for."""
    process = await worker(db)
    await receive(1)
    await plan(db, process, CALL)
    [fetch] = await claim_fetches(db, process)
    await db.execute(
        """
        WITH more AS (
            INSERT INTO events (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256,
                                state)
            SELECT gen_random_uuid(), 'imin', 'main', 'postgres', '', '[]', '', 0, '', 'processing'
            FROM generate_series(2, $2::int) RETURNING id
        )
        INSERT INTO event_fetches (event_id, fetch_id) SELECT id, $1 FROM more
        """,
        fetch.id,
        count,
    )
    return fetch


async def _rest(db: asyncpg.Connection) -> int:
    """What the relay does; how often it had something to do."""
    times = 0
    while await settlements.settle_next(db):
        times += 1
    return times


async def test_events_of_one_fetch_are_settled_a_thousand_at_a_time(db: asyncpg.Connection, receive: Receive) -> None:
    """The commit settles the first, the relay the rest; each is told what came of it, once."""
    fetch = await _shared_by(db, receive, 2500)

    await finish(db, fetch)

    assert finishing.AT_ONCE == [*(await event_states(db)).values()].count("done")
    assert 2 == await _rest(db)
    assert {"done"} == set((await event_states(db)).values())
    told = await db.fetch("SELECT event_id, count(*) FROM timeline WHERE step = 'fetched' GROUP BY event_id")
    assert [1] * 2500 == [row["count"] for row in told]


async def test_a_put_off_and_a_second_call_leave_every_event_as_its_fetch_is(
    db: asyncpg.Connection, receive: Receive
) -> None:
    """Whatever the relay has settled by then: what waits, goes on and ends is what the newest step says."""
    fetch = await _shared_by(db, receive, 2500)
    await fail(db, fetch)
    await settlements.settle_next(db)

    [again] = await claim_fetches(db, await worker(db))
    await settlements.settle_next(db)
    await finish(db, again)
    await _rest(db)

    assert {"done"} == set((await event_states(db)).values())
    assert 0 == await db.fetchval("SELECT count(*) FROM settlements")


async def test_small_fetches_of_the_same_commit_do_not_wait_for_a_large_one(
    db: asyncpg.Connection, receive: Receive
) -> None:
    """Room is given to those with few events first."""
    large = await _shared_by(db, receive, 1500)
    process = await worker(db)
    [alone] = await receive(1)
    await plan(db, process, Call("/v1/customers/2", "customer"))
    [small] = await claim_fetches(db, process)

    await fetching.commit(db, [Result(large, "done", Outcome(), 200), Result(small, "done", Outcome(), 200)], 0.0)

    assert "done" == (await event_states(db))[alone]


async def test_what_settling_costs_grows_as_the_number_of_events(db: asyncpg.Connection, receive: Receive) -> None:
    """An event among sixteen thousand is looked up as often as one among four thousand: counted, not timed."""
    read = {}
    for count in (4000, 16_000):
        await db.execute("TRUNCATE events, fetches, event_fetches, timeline, settlements")
        fetch = await _shared_by(db, receive, count)
        await db.execute("ANALYZE events, fetches, event_fetches")
        before = await _index_reads(db)
        await finish(db, fetch)
        await _rest(db)
        read[count] = (await _index_reads(db) - before) / count

    assert 2 * read[16_000] < 3 * read[4000], read


async def _index_reads(db: asyncpg.Connection) -> int:
    """Entries that this database's indexes were asked for, as Postgres counts them."""
    await db.execute("SELECT pg_stat_force_next_flush()")
    reads: int = await db.fetchval("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes")
    return reads
