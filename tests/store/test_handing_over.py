"""Hand-overs in the store: every change once, in order, one of a record at a time, whoever claims and dies."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.store import leases
from shared.store.handovers import handed_over, handing_over, handlers
from shared.store.handovers.handing_over import ClaimedHandover, Delivered, Subscription
from shared.store.handovers.handlers import NewHandler
from shared.store.records.numbering import number_changes
from support.conditions import HANG_SECONDS


pytestmark = pytest.mark.anyio

EVERYTHING = Subscription("crm", (), ("created", "updated", "deleted"), beginning=True, concurrency=100, target="here")

_BEGAN = "SELECT extract(epoch FROM began_at)::float8 AS at FROM handovers WHERE began_at IS NOT NULL ORDER BY began_at"


async def change(db: asyncpg.Connection, *records: str, kind: str = "thing") -> None:
    """A change of each of these records, in this order, with its number."""
    await db.executemany(
        """
        INSERT INTO changes (op, provider, account, kind, external_id, changed)
        VALUES ('updated', 'imin', 'main', $2, $1, '{}')
        """,
        [(record, kind) for record in records],
    )
    await number_changes(db)


async def process(db: asyncpg.Connection) -> UUID:
    """A living worker process."""
    worker = uuid4()
    await leases.beat(db, worker, "worker-handlers-1")
    return worker


def records_of(claimed: Sequence[ClaimedHandover]) -> list[str]:
    """What they are about."""
    return [one.change.external_id for one in claimed if one.change]


async def test_of_a_record_only_the_earliest_is_taken(db: asyncpg.Connection) -> None:
    """The next one only after it, however it ended."""
    await change(db, "a", "a", "b", "a")
    worker = await process(db)
    first = await handing_over.claim(db, EVERYTHING, worker, 10)
    assert ["a", "b"] == records_of(first)
    assert [] == await handing_over.claim(db, EVERYTHING, worker, 10)
    waits = Delivered(first[0], "waiting", wait_seconds=60)
    assert 2 == await handed_over.commit(db, EVERYTHING, [waits, Delivered(first[1], "done")])
    assert [] == await handing_over.claim(db, EVERYTHING, worker, 10)
    await db.execute("UPDATE handovers SET due_at = now() WHERE state = 'waiting'")
    (again,) = await handing_over.claim(db, EVERYTHING, worker, 10)
    assert (first[0].id, 2) == (again.id, again.attempts)
    assert first[0].change == again.change
    await handed_over.commit(db, EVERYTHING, [Delivered(again, "parked", reason="attempts-used-up")])
    (next_one,) = await handing_over.claim(db, EVERYTHING, worker, 10)
    assert next_one.id > again.id


async def test_a_late_finisher_is_refused(db: asyncpg.Connection) -> None:
    """Its hand-over was given to another meanwhile."""
    await change(db, "a")
    worker = await process(db)
    (lost,) = await handing_over.claim(db, EVERYTHING, worker, 10)
    await handed_over.give_back(db, worker)
    (taken,) = await handing_over.claim(db, EVERYTHING, await process(db), 10)
    assert 0 == await handed_over.commit(db, EVERYTHING, [Delivered(lost, "parked")])
    assert 1 == await handed_over.commit(db, EVERYTHING, [Delivered(taken, "done")])


async def test_what_a_dead_process_held_is_due_again(db: asyncpg.Connection) -> None:
    """Once its lease has ended; what a living one holds stays with it, but no longer than any task may take."""
    await change(db, "a", "b")
    dead, alive = await process(db), await process(db)
    (lost,) = await handing_over.claim(db, EVERYTHING, dead, 1)
    (held,) = await handing_over.claim(db, EVERYTHING, alive, 1)
    assert 0 == await handed_over.lapse(db, 60)
    await db.execute("DELETE FROM worker_processes WHERE id = $1", dead)
    assert 1 == await handed_over.lapse(db, 60)
    assert [lost.id] == [one.id for one in await handing_over.claim(db, EVERYTHING, alive, 10)]
    await db.execute("UPDATE handovers SET began_at = now() - interval '2 minutes' WHERE id = $1", held.id)
    assert 1 == await handed_over.lapse(db, 60)
    assert 0 == await db.fetchval("SELECT max(deaths) FROM handovers")


async def test_a_function_that_kills_its_process_each_time_is_parked(db: asyncpg.Connection) -> None:
    """At the third death; the record's next change goes on."""
    await change(db, "a", "a")
    alone = EVERYTHING._replace(alone=True)
    for death in (1, 2, 3):
        worker = await process(db)
        (claimed,) = await handing_over.claim(db, alone, worker, 1)
        await db.execute("DELETE FROM worker_processes WHERE id = $1", worker)
        await handed_over.lapse(db, 60)
        row = await db.fetchrow("SELECT state, deaths, error_reason FROM handovers WHERE id = $1", claimed.id)
        assert ("parked" if death == 3 else "pending", death, "poison") == tuple(row)
    (next_one,) = await handing_over.claim(db, alone, await process(db), 1)
    assert next_one.id != claimed.id


async def test_many_workers_hand_every_change_over_once_and_in_order(database_url: str) -> None:
    """Eight claim and finish at once, some break off, while writers add and the feed is numbered."""
    done: list[tuple[str, int]] = []
    overlaps: list[str] = []
    under_way: set[str] = set()
    total = 240

    async def write(connection: asyncpg.Connection) -> None:
        for number in range(total // 4):
            await change(connection, *(f"r{(number + each) % 7}" for each in range(4)))

    async def hand_over(connection: asyncpg.Connection, number: int) -> None:
        worker = await process(connection)
        turn = 0
        while len(done) < total:
            claimed = await handing_over.claim(connection, EVERYTHING, worker, 3)
            turn += 1
            for one in claimed:
                assert one.change is not None
                if one.change.external_id in under_way:
                    overlaps.append(one.change.external_id)
                under_way.add(one.change.external_id)
            await asyncio.sleep(0.001)
            under_way.difference_update(records_of(claimed))
            if (turn + number) % 5 == 0:
                await handed_over.give_back(connection, worker)
                continue
            done.extend((one.change.external_id, one.change.seq) for one in claimed if one.change)
            await handed_over.commit(connection, EVERYTHING, [Delivered(one, "done") for one in claimed])

    connections = [await asyncpg.connect(database_url) for _ in range(9)]
    try:
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.gather(
                write(connections[8]), *(hand_over(connections[number], number) for number in range(8))
            )
    finally:
        for connection in connections:
            await connection.close()
    assert [] == overlaps
    assert list(range(1, total + 1)) == sorted(seq for _, seq in done)
    for record in {record for record, _ in done}:
        seqs = [seq for each, seq in done if each == record]
        assert sorted(seqs) == seqs


async def test_limits_hold_over_all_workers(db: asyncpg.Connection, db2: asyncpg.Connection) -> None:
    """Concurrency counts what others hold, also when both ask at the same moment."""
    await change(db, *(f"r{number}" for number in range(20)))
    two = EVERYTHING._replace(concurrency=2)
    workers = [await process(db), await process(db)]
    claims = await asyncio.gather(
        handing_over.claim(db, two, workers[0], 2), handing_over.claim(db2, two, workers[1], 2)
    )
    assert 2 == sum(len(claimed) for claimed in claims)


async def test_a_known_handler_stays_where_it_is(db: asyncpg.Connection) -> None:
    """A new one begins with now, or with the beginning."""
    await change(db, "a", "b")
    await handlers.register(db, [NewHandler("now", beginning=False), NewHandler("all", beginning=True)])
    await change(db, "c")
    await handlers.register(db, [NewHandler("now", beginning=False), NewHandler("all", beginning=False)])
    rows = await db.fetch("SELECT name, cursor FROM handlers ORDER BY name")
    assert [("all", 0), ("now", 2)] == [tuple(row) for row in rows]


async def test_who_has_nothing_to_do_is_not_woken(db: asyncpg.Connection) -> None:
    """Nor is anybody woken twice at once; a stamp that was rolled back does not count."""
    assert [] == await handlers.wake(db)
    await handlers.register(db, [NewHandler("crm", beginning=True)])
    assert [] == await handlers.wake(db)
    await change(db, "a")
    broken_off = db.transaction()
    await broken_off.start()
    assert ["crm"] == await handlers.wake(db)
    await broken_off.rollback()
    assert ["crm"] == await handlers.wake(db)
    assert [] == await handlers.wake(db)
    worker = await process(db)
    (claimed,) = await handing_over.claim(db, EVERYTHING, worker, 10, first=True)
    assert [] == await handlers.wake(db)
    await handed_over.commit(db, EVERYTHING, [Delivered(claimed, "waiting", wait_seconds=0)])
    assert ["crm"] == await handlers.wake(db)
    await db.execute("UPDATE handlers SET woken_at = NULL, stopped_reason = 'endpoint-gone', stopped_target = 'here'")
    assert [] == await handlers.wake(db)
    assert await handlers.resume(db, "crm")
    assert ["crm"] == await handlers.wake(db)
    assert not await handlers.resume(db, "nobody")


async def test_a_change_that_is_not_kept_any_more_holds_nobody_up(db: asyncpg.Connection) -> None:
    """It is claimed without a change, to be settled as such."""
    await change(db, "a", "a")
    await handing_over.claim(db, EVERYTHING, await process(db), 0)
    worker = await process(db)
    (first,) = await handing_over.claim(db, EVERYTHING, worker, 1)
    await handed_over.give_back(db, worker)
    await db.execute("DELETE FROM changes WHERE seq = 1")
    (gone,) = await handing_over.claim(db, EVERYTHING, worker, 1)
    assert (first.id, None) == (gone.id, gone.change)


async def test_the_id_of_a_change_is_its_own_and_stays(db: asyncpg.Connection) -> None:
    """Another installation gives another id to the change with the same number."""
    await change(db, "a")
    worker = await process(db)
    (first,) = await handing_over.claim(db, EVERYTHING, worker, 1)
    other = EVERYTHING._replace(name="other")
    (to_other,) = await handing_over.claim(db, other, worker, 1)
    assert first.change is not None
    assert first.change == to_other.change
    await db.execute("UPDATE installation SET key = '\\x00'")
    third = EVERYTHING._replace(name="third")
    (elsewhere,) = await handing_over.claim(db, third, worker, 1)
    assert elsewhere.change is not None
    assert first.change.id != elsewhere.change.id


async def test_thousands_that_wait_behind_others_cost_little(db: asyncpg.Connection) -> None:
    """Also in a table that has only just grown, of which Postgres has no statistics."""
    await change(db, *(f"r{number % 1000}" for number in range(8000)))
    worker = await process(db)
    heads = EVERYTHING._replace(concurrency=1000)
    claimed = await handing_over.claim(db, heads, worker, 1000)
    await handed_over.commit(db, heads, [Delivered(one, "waiting", wait_seconds=600) for one in claimed])
    began = time.monotonic()
    for _ in range(4):
        assert [] == await handing_over.claim(db, heads, worker, 10)
    assert 8000 == await db.fetchval("SELECT cursor FROM handlers")
    # A plan that looks at all of them for each of them takes minutes.
    assert time.monotonic() - began < 60


async def test_a_budget_counts_from_the_claim_not_from_when_its_transaction_began(db: asyncpg.Connection) -> None:
    """However long it waited for the handler's row: what was waited is no room for more at once."""
    await change(db, "a", "b")
    gently = EVERYTHING._replace(calls=10, seconds=600.0)
    worker = await process(db)

    async with db.transaction():
        waited_until: datetime = await db.fetchval("SELECT clock_timestamp()")
        assert ["a"] == records_of(await handing_over.claim(db, gently, worker, 10))

    next_at: datetime = await db.fetchval("SELECT next_at FROM handlers")
    assert next_at >= waited_until + timedelta(seconds=60)
    assert [] == await handing_over.claim(db, gently, worker, 10)


async def test_within_any_time_no_more_are_claimed_than_the_budget_allows(db: asyncpg.Connection) -> None:
    """A tenth of its time at once, and the rest spread out, however late the claims come."""
    await change(db, *map(str, range(40)))
    gently = EVERYTHING._replace(calls=20, seconds=1.0)
    worker = await process(db)
    while await db.fetchval("SELECT count(*) < 24 FROM handovers WHERE began_at IS NOT NULL") is not False:
        await handing_over.claim(db, gently, worker, 10)

    began = [row["at"] for row in await db.fetch(_BEGAN)]
    for first, at in enumerate(began):
        for more, later in enumerate(began[first:]):
            assert 1 + more <= (later - at) * 20 + 2 + 1e-3
