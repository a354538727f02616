"""What a handler never had, handed over later: in order, under the same ids, once, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from shared.store.handovers import backfilling, handed_over, handing_over
from shared.store.handovers.backfilling import Backfilled
from shared.store.handovers.handing_over import ClaimedHandover, Delivered
from shared.store.handovers.handlers import NewHandler, register
from shared.store.handovers.selecting import Selection
from shared.store.pacing import Pace
from test_handing_over import EVERYTHING, change, process


pytestmark = pytest.mark.anyio

ANY = Selection(handler="crm")
FROM_NOW_ON = EVERYTHING._replace(beginning=False)


async def drain(batches: AsyncIterator[Sequence[Backfilled]]) -> list[int]:
    """The seqs that were made."""
    return [row.seq async for batch in batches for row in batch]


async def deliver(db: asyncpg.Connection) -> list[ClaimedHandover]:
    """Hand over what is there to its end, as it comes."""
    worker = await process(db)
    got: list[ClaimedHandover] = []
    while claimed := await handing_over.claim(db, FROM_NOW_ON, worker, 3):
        got += claimed
        await handed_over.commit(db, FROM_NOW_ON, [Delivered(one, "done") for one in claimed])
    return got


async def test_what_was_before_a_handler_comes_in_the_order_of_each_record(db: asyncpg.Connection) -> None:
    """Each once, with the id that the first handler got; what came since is not sent again."""
    names = [f"r{number % 3}" for number in range(40)]
    await change(db, *names)
    await register(db, [NewHandler("crm", beginning=False)])
    await change(db, "r0", "r1")
    assert [41, 42] == [one.change.seq for one in await deliver(db) if one.change]
    assert list(range(1, 41)) == await drain(
        backfilling.backfill(db, FROM_NOW_ON, ANY, note="because", pace=Pace(7, 0.0))
    )
    got = [one.change for one in await deliver(db) if one.change]
    assert 40 == len(got)
    for record in set(names):
        seqs = [one.seq for one in got if one.external_id == record]
        assert sorted(seqs) == seqs
    first = EVERYTHING._replace(name="first")
    theirs = await handing_over.claim(db, first, await process(db), 100)
    ids = {one.seq: one.id for one in got}
    assert [ids[one.change.seq] for one in theirs if one.change] == [one.change.id for one in theirs if one.change]
    assert [] == await drain(backfilling.backfill(db, FROM_NOW_ON, ANY, note="because"))


async def test_what_is_made_first_goes_before_later_changes_of_its_record_that_wait(db: asyncpg.Connection) -> None:
    """One that is under way is not overtaken, and nothing of its record runs beside it."""
    await change(db, "a")
    await register(db, [NewHandler("crm", beginning=False)])
    await change(db, "a", "a")
    worker = await process(db)
    (running,) = await handing_over.claim(db, FROM_NOW_ON, worker, 10)
    assert [1] == await drain(backfilling.backfill(db, FROM_NOW_ON, ANY, note="because"))
    assert [] == await handing_over.claim(db, FROM_NOW_ON, worker, 10)
    await handed_over.commit(db, FROM_NOW_ON, [Delivered(running, "done")])
    assert [1, 3] == [one.change.seq for one in await deliver(db) if one.change]


async def test_kinds_that_a_handler_wants_only_now(db: asyncpg.Connection) -> None:
    """Its cursor has passed them; what it had, whatever became of it, is left alone."""
    await change(db, "a", "b", kind="thing")
    await change(db, "c", "d", kind="other")
    narrow = EVERYTHING._replace(kinds=("thing",))
    claimed = await handing_over.claim(db, narrow, await process(db), 10)
    await handed_over.commit(db, narrow, [Delivered(one, "parked", reason="refused") for one in claimed])
    assert [] == await drain(backfilling.backfill(db, narrow, ANY, note="because"))
    assert [3, 4] == await drain(backfilling.backfill(db, EVERYTHING, ANY, note="because", dry_run=True))
    assert [3, 4] == await drain(backfilling.backfill(db, EVERYTHING, ANY, note="because"))
    assert ["parked", "parked", "pending", "pending"] == [
        row["state"] for row in await db.fetch("SELECT state FROM handovers ORDER BY seq")
    ]


async def test_what_the_cursor_has_not_come_to_is_left_to_it(db: asyncpg.Connection) -> None:
    """It comes by itself, and once."""
    await register(db, [NewHandler("crm", beginning=False)])
    await change(db, "a", "b")
    assert [] == await drain(backfilling.backfill(db, FROM_NOW_ON, ANY, note="because"))
    assert [1, 2] == [one.change.seq for one in await deliver(db) if one.change]


async def test_two_operators_make_each_once(db: asyncpg.Connection, db2: asyncpg.Connection) -> None:
    """With more than a step holds, and next to nothing of it wanted."""
    await change(db, *(str(number) for number in range(700)))
    await db.execute("UPDATE changes SET kind = 'rare' WHERE seq % 100 = 0")
    await register(db, [NewHandler("crm", beginning=False)])
    rare = FROM_NOW_ON._replace(kinds=("rare",))
    made = await asyncio.gather(
        *(drain(backfilling.backfill(each, rare, ANY, note="because", pace=Pace(2, 0.0))) for each in (db, db2))
    )
    assert list(range(100, 701, 100)) == sorted(seq for seqs in made for seq in seqs)
    assert 7 == await db.fetchval("SELECT count(*) FROM handovers")
