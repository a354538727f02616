"""A lease that lapsed is no death: whoever beats again has lived, and nothing of what it held stays under suspicion."""

from uuid import UUID

import pytest
from asyncpg import Connection

from shared.providers.interface import Call
from shared.store import acquitting, leases
from steps import Receive, claim_events, claim_fetches, die, event_states, fetch_rows, finish, plan, worker


pytestmark = pytest.mark.anyio

CALL = Call("/1", "x")


async def _come_back(db: Connection, process: UUID) -> None:
    await leases.beat(db, process, "worker-imin-1")


async def test_what_a_slow_process_held_is_due_again_without_suspicion(db: Connection, receive: Receive) -> None:
    """Its claims went to others meanwhile; they are no suspects from its first beat on."""
    await receive(3)
    process = await worker(db)
    await claim_events(db, process)
    await die(db, process)
    suspects = [row["suspect"] for row in await db.fetch("SELECT suspect FROM events")]

    await _come_back(db, process)

    assert [True] * 3 == suspects
    again = await claim_events(db, await worker(db))
    assert [False] * 3 == [event.suspect for event in again]
    assert 0 == await db.fetchval("SELECT count(*) FROM lapses")


async def test_a_call_of_a_slow_process_is_due_again_without_suspicion(db: Connection, receive: Receive) -> None:
    """Also one that was asked for anew meanwhile, and inherited the suspicion."""
    await receive()
    process = await worker(db)
    await plan(db, process, CALL)
    (claimed,) = await claim_fetches(db, process)
    await receive()
    await plan(db, await worker(db), CALL)
    await die(db, process)
    (heir,) = await fetch_rows(db)

    await _come_back(db, process)

    assert heir["id"] != claimed.id
    assert heir["suspect"]
    assert [(False, 0)] == [(row["suspect"], row["deaths"]) for row in await fetch_rows(db)]


async def test_an_event_that_slow_processes_held_alone_is_no_poison(db: Connection, receive: Receive) -> None:
    """Two of them were given up with nothing else in their hands; the event goes on when one of them beats."""
    (event,) = await receive()
    slow = []
    for _ in range(3):
        process = await worker(db)
        await claim_events(db, process)
        await die(db, process)
        slow.append(process)
    parked = await event_states(db)

    await _come_back(db, slow[-1])

    assert {event: "parked"} == parked
    assert {event: "received"} == await event_states(db)
    assert (True, 1) == tuple(await db.fetchrow("SELECT suspect, deaths FROM events"))
    assert 1 == await db.fetchval("SELECT count(*) FROM timeline WHERE detail LIKE 'it is no poison%'")
    await _come_back(db, slow[0])
    await _come_back(db, slow[1])
    assert (False, 0) == tuple(await db.fetchrow("SELECT suspect, deaths FROM events"))


async def test_a_call_that_slow_processes_made_alone_is_no_poison(db: Connection, receive: Receive) -> None:
    """It was given up as poison, and is made again."""
    (event,) = await receive()
    await plan(db, await worker(db), CALL)
    slow = []
    for _ in range(3):
        process = await worker(db)
        await claim_fetches(db, process)
        await die(db, process)
        slow.append(process)
    failed = await event_states(db)

    for process in slow:
        await _come_back(db, process)
    process = await worker(db)
    await plan(db, process, CALL)
    (fetch,) = await claim_fetches(db, process)
    await finish(db, fetch)

    assert {event: "parked"} == failed
    assert {event: "done"} == await event_states(db)


async def test_a_death_that_is_known_is_not_taken_back(db: Connection, receive: Receive) -> None:
    """Its parent saw it end, after its lease had lapsed or before; no beat can come from it, and none would count."""
    await receive(2)
    process = await worker(db)
    await claim_events(db, process)
    await die(db, process)

    await leases.end(db, [process])
    await _come_back(db, process)

    assert [True, True] == [row["suspect"] for row in await db.fetch("SELECT suspect FROM events")]


async def test_what_others_died_of_stays_under_suspicion(db: Connection, receive: Receive) -> None:
    """The slow one only held what was suspect before."""
    await receive()
    process = await worker(db)
    await claim_events(db, process)
    await leases.end(db, [process])
    slow = await worker(db)
    await claim_events(db, slow)
    await die(db, slow)

    await _come_back(db, slow)

    assert (True, 0) == tuple(await db.fetchrow("SELECT suspect, deaths FROM events"))


async def test_lapses_of_processes_that_never_come_back_are_forgotten(db: Connection, receive: Receive) -> None:
    """After an hour, some at a time."""
    await receive(2)
    process = await worker(db)
    await claim_events(db, process)
    await die(db, process)
    await acquitting.forget_old(db)
    kept = await db.fetchval("SELECT count(*) FROM lapses")
    await db.execute("UPDATE lapses SET at = now() - interval '2 hours'")

    await acquitting.forget_old(db)

    assert (2, 0) == (kept, await db.fetchval("SELECT count(*) FROM lapses"))
