"""Replays in the store: broken off they go on, two at once do everything once, and records keep their order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from shared.store import replaying as events
from shared.store import replays, selecting
from shared.store.handovers import discarding, handed_over, handing_over, replaying
from shared.store.handovers.handing_over import Delivered
from shared.store.handovers.selecting import BEGINNING, Place, Selection, seq_bounds
from shared.store.pacing import Pace, pace_of
from shared.store.replays import Order, Running, finish, open_replay
from steps import Receive
from support.conditions import HANG_SECONDS
from test_handing_over import EVERYTHING, change, process, records_of


pytestmark = pytest.mark.anyio

FAST = Pace(10, 0.0)


def order(what: replays.What = "handovers", **asked: Any) -> Order:
    """Of an operator who typed this."""
    return Order(what, asked, None, None, "because", "ana")


async def delivered(db: asyncpg.Connection, *records: str) -> None:
    """Changes of these records, all handed over."""
    await change(db, *records)
    worker = await process(db)
    while claimed := await handing_over.claim(db, EVERYTHING, worker, 100):
        await handed_over.commit(db, EVERYTHING, [Delivered(one, "done") for one in claimed])


async def drain(batches: AsyncIterator[Sequence[Any]]) -> list[Any]:
    """All rows."""
    return [row async for batch in batches for row in batch]


async def states(db: asyncpg.Connection) -> list[str]:
    """The state of each hand-over, in the order of the feed."""
    return [row["state"] for row in await db.fetch("SELECT state FROM handovers ORDER BY seq")]


def resume(db: asyncpg.Connection, run: Running, selection: Selection) -> AsyncIterator[Sequence[replaying.Replay]]:
    """A replay of hand-overs from where its row is."""
    place = Place(*run.position) if run.position else BEGINNING
    return replaying.replay(
        db, selection._replace(until=run.until), note=run.note, place=place, replay_id=run.id, pace=FAST
    )


async def test_a_replay_that_was_broken_off_goes_on_where_it_stopped(db: asyncpg.Connection) -> None:
    """Each hand-over is sent once more, whatever moment it was broken off at; the counts are of both runs."""
    await delivered(db, *(f"r{number}" for number in range(35)))
    selection = Selection(handler="crm")
    first = await open_replay(db, order(handler="crm"))
    batches = resume(db, first, selection)
    await anext(batches)
    await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined] # an async generator
    worker = await process(db)
    while claimed := await handing_over.claim(db, EVERYTHING, worker, 100):
        await handed_over.commit(db, EVERYTHING, [Delivered(one, "done") for one in claimed])
    again = await open_replay(db, order(handler="crm"))
    assert (first.id, True, "because (by ana)") == (again.id, again.resumed, again.note)
    rest = await drain(resume(db, again, selection))
    assert list(range(21, 36)) == [row.seq for row in rest]
    await finish(db, again.id)
    assert '{"replayed": 35}' == await db.fetchval("SELECT counts::text FROM replays")
    assert not (await open_replay(db, order(handler="crm"))).resumed


async def test_a_batch_and_its_place_are_one_transaction(db: asyncpg.Connection, db2: asyncpg.Connection) -> None:
    """A process that dies in a batch leaves neither."""
    await delivered(db, "a", "b")
    run = await open_replay(db, order())
    killed = db2.transaction()
    await killed.start()
    await anext(resume(db2, run, Selection(handler="crm")))
    await killed.rollback()
    assert ["done", "done"] == await states(db)
    assert (await open_replay(db, order())).position is None


async def test_what_is_asked_for_otherwise_or_was_left_for_a_day_begins_anew(db: asyncpg.Connection) -> None:
    """Other filters, other things; nobody goes on with what yesterday's operator forgot."""
    run = await open_replay(db, order(handler="crm"))
    for other in (order(handler="shop"), order("events", handler="crm"), order(handler="crm", state="done")):
        assert not (await open_replay(db, other)).resumed
    assert run.id == (await open_replay(db, order(handler="crm"))).id
    await db.execute("UPDATE replays SET moved_at = now() - interval '25 hours' WHERE id = $1", run.id)
    assert not (await open_replay(db, order(handler="crm"))).resumed


async def test_two_operators_who_replay_the_same_send_each_once(
    db: asyncpg.Connection, db2: asyncpg.Connection
) -> None:
    """By a state: what one has taken is not taken again by the other, though a worker delivers meanwhile."""
    await delivered(db, *(f"r{number}" for number in range(200)))
    await db.execute("UPDATE handovers SET state = 'parked'")
    parked = Selection(handler="crm", state="parked")
    both = await asyncio.gather(
        *(drain(replaying.replay(each, parked, note="because", pace=FAST)) for each in (db, db2))
    )
    sent = [row.seq for rows in both for row in rows if row.outcome == "replayed"]
    assert sorted(sent) == sorted(set(sent))
    worker = await process(db)
    handed_on = 0
    while claimed := await handing_over.claim(db, EVERYTHING, worker, 100):
        handed_on += len(claimed)
        await handed_over.commit(db, EVERYTHING, [Delivered(one, "done") for one in claimed])
    assert len(sent) == handed_on
    await drain(replaying.replay(db, parked, note="because", pace=FAST))
    left = await db.fetchval("SELECT count(*) FROM handovers WHERE state = 'parked'")
    assert 0 == left


async def test_what_a_worker_holds_is_left_to_it(db: asyncpg.Connection, db2: asyncpg.Connection) -> None:
    """Nobody waits for anybody: neither for a hand-over under way nor for one that is being settled."""
    await delivered(db, "a")
    await change(db, "b", "c")
    worker = await process(db)
    (running,) = await handing_over.claim(db, EVERYTHING, worker, 1)
    settling = db2.transaction()
    await settling.start()
    await db2.execute("SELECT 1 FROM handovers WHERE seq = 1 FOR UPDATE")
    async with asyncio.timeout(HANG_SECONDS):
        rows = await drain(replaying.replay(db, Selection(handler="crm"), note="because", pace=FAST))
    await settling.rollback()
    assert [(1, "running"), (2, "running"), (3, "due")] == [(row.seq, row.outcome) for row in rows]
    assert 1 == await handed_over.commit(db, EVERYTHING, [Delivered(running, "done")])


async def test_records_keep_their_order_while_a_worker_delivers_what_is_replayed(
    database_url: str, db: asyncpg.Connection
) -> None:
    """Every change comes a second time, in the order of its record, with the id of the first time."""
    await change(db, *(f"r{number % 5}" for number in range(120)))
    got: list[tuple[str, int, str]] = []
    finished = asyncio.Event()

    async def deliver(connection: asyncpg.Connection) -> None:
        worker = await process(connection)
        while True:
            last = finished.is_set()
            claimed = await handing_over.claim(connection, EVERYTHING, worker, 4)
            got.extend((one.change.external_id, one.change.seq, one.change.id) for one in claimed if one.change)
            await handed_over.commit(connection, EVERYTHING, [Delivered(one, "done") for one in claimed])
            if last and not claimed:
                return

    async def replay() -> None:
        await drain(replaying.replay(db, Selection(handler="crm"), note="because", pace=Pace(7, 0.005)))
        finished.set()

    finished.set()
    other = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(HANG_SECONDS):
            await deliver(other)
            first = list(got)
            got.clear()
            finished.clear()
            await asyncio.gather(deliver(other), replay())
    finally:
        await other.close()
    assert 120 == len(first)
    assert sorted(first) == sorted(got)
    for record in {record for record, _, _ in got}:
        seqs = [seq for each, seq, _ in got if each == record]
        assert sorted(seqs) == seqs


async def test_more_than_one_step_holds_is_gone_through_in_order(db: asyncpg.Connection) -> None:
    """Whatever states they are in: each once, in the order of the feed."""
    await db.execute("INSERT INTO handlers (name, cursor) VALUES ('crm', 1200)")
    await db.execute(
        """
        WITH made AS (
            INSERT INTO changes (seq, op, provider, account, kind, external_id, changed)
            SELECT n, 'updated', 'imin', 'main', 'thing', n, '{}' FROM generate_series(1, 1200) AS n RETURNING id, seq
        )
        INSERT INTO handovers (handler, change_id, seq, lane, state)
        SELECT 'crm', id, seq, seq, CASE WHEN seq % 3 = 0 THEN 'parked' ELSE 'done' END FROM made
        """
    )
    rows = await drain(replaying.replay(db, Selection(handler="crm"), note="because", pace=Pace(500, 0.0)))
    assert list(range(1, 1201)) == [row.seq for row in rows]


async def test_an_earlier_change_that_is_replayed_goes_before_later_ones_that_wait(db: asyncpg.Connection) -> None:
    """The parked head of a lane goes on first."""
    await change(db, "a", "a")
    worker = await process(db)
    (head,) = await handing_over.claim(db, EVERYTHING, worker, 10)
    await handed_over.commit(db, EVERYTHING, [Delivered(head, "parked", reason="attempts-used-up")])
    await drain(replaying.replay(db, Selection(ids=[head.id]), note="because"))
    (first,) = await handing_over.claim(db, EVERYTHING, worker, 10)
    assert (head.id, 1) == (first.id, first.attempts)


async def test_the_next_of_a_record_goes_on_when_its_head_is_discarded(db: asyncpg.Connection) -> None:
    """At once, though the head waited for an attempt an hour away."""
    await change(db, "a", "a")
    worker = await process(db)
    (head,) = await handing_over.claim(db, EVERYTHING, worker, 10)
    await handed_over.commit(db, EVERYTHING, [Delivered(head, "waiting", reason="refused", wait_seconds=3600)])
    assert [] == await handing_over.claim(db, EVERYTHING, worker, 10)
    (told,) = await drain(discarding.discard(db, Selection(ids=[head.id]), note="test data (by ana)"))
    assert ("waiting", "discarded") == (told.state, told.outcome)
    (next_one,) = await handing_over.claim(db, EVERYTHING, worker, 10)
    assert (["a"], True) == (records_of([next_one]), next_one.id > head.id)
    assert ["discarded", "running"] == await states(db)


async def test_what_a_worker_finishes_is_not_discarded_over_its_head(
    db: asyncpg.Connection, db2: asyncpg.Connection
) -> None:
    """It is under way: left alone, and the finisher is not refused."""
    await change(db, "a")
    (running,) = await handing_over.claim(db, EVERYTHING, await process(db), 10)
    (told,) = await drain(discarding.discard(db2, Selection(ids=[running.id]), note="x"))
    assert "running" == told.outcome
    assert 1 == await handed_over.commit(db, EVERYTHING, [Delivered(running, "done")])


async def test_events_go_on_where_their_replay_stopped(db: asyncpg.Connection, receive: Receive) -> None:
    """Each is planned again once, with one entry in its timeline."""
    ids = await receive(25)
    await db.execute("UPDATE events SET state = 'parked', finished_at = now()")
    selection = selecting.Selection(provider="imin", state="parked")
    run = await open_replay(db, order("events", provider="imin"))
    batches = events.replay(db, selection, note=run.note, replay_id=run.id, pace=FAST)
    await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined] # an async generator
    again = await open_replay(db, order("events", provider="imin"))
    rest = events.replay(db, selection, note=again.note, after=UUID(again.position), replay_id=again.id, pace=FAST)
    assert sorted(ids)[10:] == [row.id for row in await drain(rest)]
    assert 25 == await db.fetchval("SELECT count(*) FROM timeline WHERE step = 'replayed'")
    assert '{"replayed": 25}' == await db.fetchval("SELECT counts::text FROM replays")


async def test_an_event_whose_body_is_gone_is_not_planned(db: asyncpg.Connection, receive: Receive) -> None:
    """There is nothing to plan from: it stays done."""
    (event,) = await receive(1)
    await db.execute("UPDATE events SET state = 'done', body = NULL, blob = NULL")
    (told,) = await drain(events.replay(db, selecting.Selection(ids=[event]), note="because"))
    assert "body-removed" == told.outcome
    assert "done" == await db.fetchval("SELECT state FROM events")


async def test_a_time_is_found_in_the_feed_without_an_index(db: asyncpg.Connection) -> None:
    """Every change of that time lies within the bounds, and they leave out most of the rest."""
    await change(db, *(str(number) for number in range(400)))
    begin = datetime(2026, 5, 1, tzinfo=UTC)
    await db.execute("UPDATE changes SET at = $1::timestamptz + seq * interval '1 hour'", begin)
    await db.execute("DELETE FROM changes WHERE seq < 50 OR seq BETWEEN 200 AND 210")
    for since, until in ((100, 120), (1, 60), (198, 215), (380, 500)):
        first, last = await seq_bounds(db, begin + timedelta(hours=since), begin + timedelta(hours=until))
        assert first <= since
        assert last >= min(until, 400)
        assert first >= min(since, 390) - 15 or since < 50
        assert last <= until + 15


def test_a_rate_is_kept_by_batches_and_pauses() -> None:
    """Also one below a row a second; nothing is faster than asked for."""
    for rate in (0.1, 1.0, 7.5, 50.0, 100_000.0):
        pace = pace_of(rate)
        assert 1 <= pace.batch <= 500
        assert pytest.approx(rate) == pace.batch / pace.pause_seconds
