"""Claiming hand-overs where one record has very many: what it costs, and that nothing of the others is passed over."""

import random
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from plans import Found, explaining
from shared.store import leases
from shared.store.handovers import handed_over, handing_over, handlers
from shared.store.handovers.handing_over import Delivered, Subscription
from shared.store.handovers.lanes import FIRST, LEAPS, WINDOW, Search
from shared.store.pooling import CLAIM_PLANS


pytestmark = pytest.mark.anyio

HOT = 20_000

SUBSCRIPTION = Subscription("crm", (), ("updated",), beginning=True, concurrency=10, target="here")


@pytest.fixture
async def planned(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that plans as the one does that workers claim with."""
    connection = await asyncpg.connect(database_url, server_settings=CLAIM_PLANS)
    yield connection
    await connection.close()


async def due(db: asyncpg.Connection, lanes: str, count: int, *, state: str = "pending", wait: float = -1.0) -> None:
    """So many more hand-overs of the only handler; ``lanes`` says in SQL which lane the n-th of them has."""
    await db.execute(
        f"""
        WITH made AS (
            INSERT INTO changes (seq, op, provider, account, kind, external_id, changed)
            SELECT nextval('change_numbers'), 'updated', 'imin', 'main', 'thing', n::text, '{{}}'
            FROM generate_series(1, $1::bigint) AS n RETURNING id, seq, external_id::bigint AS n
        )
        INSERT INTO handovers (handler, change_id, seq, lane, state, due_at)
        SELECT 'crm', id, seq, {lanes}, $2, now() + make_interval(secs => $3) FROM made
        """,  # noqa: S608 - put together from constants
        count,
        state,
        wait,
    )
    await db.execute(
        """
        INSERT INTO handlers (name, cursor) SELECT 'crm', max(seq) FROM changes
        ON CONFLICT (name) DO UPDATE SET cursor = EXCLUDED.cursor
        """
    )


async def process(db: asyncpg.Connection) -> uuid.UUID:
    """A living worker process."""
    worker = uuid.uuid4()
    await leases.beat(db, worker, "worker-handlers-1")
    return worker


@pytest.mark.parametrize("statistics", ["VACUUM (ANALYZE)", "SELECT"], ids=["analysed", "without statistics"])
@pytest.mark.parametrize("others", [0, 5000], ids=["alone", "before many others"])
async def test_a_claim_looks_at_few_of_many_changes_of_one_record(
    planned: asyncpg.Connection, others: int, statistics: str
) -> None:
    """Twenty thousand that are due, of which one may be taken; those of other records are taken beside it."""
    await due(planned, "7", HOT)
    if others:
        await due(planned, "hashint8extended(n, 1)", others, wait=-0.5)
    await planned.execute(statistics)
    found = Found()
    search = Search()
    worker = await process(planned)
    explained = explaining(planned, found)
    for _ in range(4):
        claimed = await handing_over.claim(explained, SUBSCRIPTION, worker, 10, search=search)
        assert (10 if others else 1) == len(claimed)
        assert claimed[0].id == await planned.fetchval("SELECT min(id) FROM handovers WHERE state = 'running'")
        await handed_over.commit(explained, SUBSCRIPTION, [Delivered(one, "done") for one in claimed])
    assert [] == found.wrong


async def test_the_earliest_goes_first_where_records_have_few_changes(db: asyncpg.Connection) -> None:
    """Of more records than one claim looks at: in the order in which they are due, whatever their lanes are."""
    await due(db, "hashint8extended(n, 1)", 3 * WINDOW)
    search = Search()
    worker = await process(db)
    seqs: list[int] = []
    while claimed := await handing_over.claim(db, SUBSCRIPTION, worker, 10, search=search):
        seqs += [one.change.seq for one in claimed if one.change]
        await handed_over.commit(db, SUBSCRIPTION, [Delivered(one, "done") for one in claimed])
    assert list(range(1, 3 * WINDOW + 1)) == seqs


async def test_what_stands_behind_others_hides_nothing(db: asyncpg.Connection) -> None:
    """One that may be taken among three times the lanes of a claim whose first waits: found, and then it is quiet."""
    lanes = 3 * LEAPS
    await due(db, "n", lanes, state="waiting", wait=3600)
    await due(db, "n", lanes)
    await due(db, f"{lanes} + n", 1, wait=0)
    search = Search()
    worker = await process(db)
    claims = 0
    while not (claimed := await handing_over.claim(db, SUBSCRIPTION, worker, 10, search=search)):
        assert not search.over
        assert await db.fetchval("SELECT quiet_until FROM handlers") is None
        claims += 1
    assert [2 * lanes + 1] == [one.change.seq for one in claimed if one.change]
    assert claims <= 3
    await handed_over.commit(db, SUBSCRIPTION, [Delivered(one, "done") for one in claimed])

    claims = 0
    while search.over is False or claims == 0:
        assert [] == await handing_over.claim(db, SUBSCRIPTION, worker, 10, search=search)
        claims += 1
    assert claims <= 8
    assert await db.fetchval("SELECT quiet_until FROM handlers")
    assert [] == await handlers.wake(db)


async def test_an_end_of_the_numbers_of_lanes_is_one_as_any_other(db: asyncpg.Connection) -> None:
    """The least and the largest lane there can be."""
    await due(db, "5", 2 * WINDOW)
    for lane in (FIRST, 2**63 - 1):
        await due(db, f"'{lane}'::bigint", 1, wait=0)
    worker = await process(db)
    assert 3 == len(await handing_over.claim(db, SUBSCRIPTION, worker, 10, search=Search()))


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_there_is_all_that_may_be_taken_is_taken_in_order(db: asyncpg.Connection, seed: int) -> None:
    """Hot records, single ones, some that wait, some parked, by two that claim and finish as it happens."""
    chance = random.Random(seed)  # noqa: S311 - a test's
    await due(db, "n % 3", 6 * WINDOW)
    await due(db, "1000 + n", 3 * LEAPS)
    await due(db, "1000 + n * 2", LEAPS)
    waiting = await db.fetch(
        """
        UPDATE handovers SET state = 'waiting', due_at = now() + interval '1 hour'
        WHERE id IN (SELECT min(id) FROM handovers WHERE lane > 1000 AND lane % 5 = $1 GROUP BY lane) RETURNING lane
        """,
        seed,
    )
    blocked = {row["lane"] for row in waiting}
    await db.execute("UPDATE handovers SET state = 'parked' WHERE lane % 7 = 0 AND lane > 1000 AND state = 'pending'")
    expected = await db.fetchval(
        "SELECT count(*) FROM handovers WHERE state = 'pending' AND lane <> ALL($1::bigint[])", list(blocked)
    )
    worker = await process(db)
    searches = [Search(), Search()]
    under_way: list[handing_over.ClaimedHandover] = []
    done: list[int] = []
    wide = SUBSCRIPTION._replace(concurrency=100)
    idle = 0
    while idle < 2:
        search = chance.choice(searches)
        claimed = await handing_over.claim(db, wide, worker, chance.randint(1, 100), search=search)
        under_way += claimed
        idle = 0 if claimed or under_way or not search.over else idle + 1
        chance.shuffle(under_way)
        ended = [under_way.pop() for _ in range(chance.randint(0, len(under_way)))]
        done += [one.change.seq for one in ended if one.change]
        await handed_over.commit(db, wide, [Delivered(one, "done") for one in ended])
    assert expected == len(done) == len(set(done))
    lane = {row["seq"]: row["lane"] for row in await db.fetch("SELECT seq, lane FROM handovers")}
    last: dict[int, int] = {}
    for seq in done:
        assert last.get(lane[seq], 0) < seq
        last[lane[seq]] = seq
    assert not blocked.intersection(last)
