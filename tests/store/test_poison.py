"""What a worker's death says about what it held: nothing about a batch, much about one that was tried alone."""

from uuid import UUID

import pytest
from asyncpg import Connection

from shared.providers.interface import Call
from shared.store import leases, replaying
from shared.store.replaying import Selection
from steps import Receive, claim_events, claim_fetches, die, event_states, fetch_rows, finish, plan, worker


pytestmark = pytest.mark.anyio

CALL = Call("/1", "x")
OTHER = Call("/2", "x")


async def test_after_a_death_the_members_of_its_batch_are_tried_one_at_a_time(db: Connection, receive: Receive) -> None:
    """Each alone, and between two of them it may be the others' turn."""
    members = await receive(3)
    process = await worker(db)
    await claim_events(db, process)
    await die(db, process)
    fresh = await receive(2)
    process = await worker(db)

    first = await claim_events(db, process)
    others = await claim_events(db, process, suspects=False)
    second = await claim_events(db, process)

    assert [members[:1], fresh, members[1:2]] == [[event.id for event in batch] for batch in (first, others, second)]
    assert [True, False, False, True] == [event.suspect for event in (*first, *others, *second)]


async def test_deaths_in_company_do_not_park(db: Connection, receive: Receive) -> None:
    """However often workers with a whole batch in their hands die."""
    ids = await receive(2)
    for _ in range(5):
        process = await worker(db)
        await claim_events(db, process)
        await claim_events(db, process)
        await die(db, process)

    assert dict.fromkeys(ids, "received") == await event_states(db)


async def test_an_event_that_kills_whoever_tries_it_alone_is_parked(db: Connection, receive: Receive) -> None:
    """The first death makes the batch suspect, two more while alone park the one; its neighbour goes on."""
    poison, neighbour = await receive(2)
    await _die_with_events(db)
    states = []
    for _ in range(2):
        await _die_with_events(db)
        states.append((await event_states(db))[poison])
    await plan(db, await worker(db))

    assert ["received", "parked"] == states
    assert {poison: "parked", neighbour: "done"} == await event_states(db)
    row = await db.fetchrow("SELECT error_reason, finished_at IS NOT NULL FROM events WHERE id = $1", poison)
    assert ("poison", True) == tuple(row)
    step = await db.fetchval("SELECT step FROM timeline WHERE event_id = $1 ORDER BY id DESC LIMIT 1", poison)
    assert "parked" == step


async def test_a_call_that_kills_whoever_makes_it_alone_is_given_up(db: Connection, receive: Receive) -> None:
    """The fetch fails as poison, whoever asked for it is parked, and the neighbour's call is made."""
    (poison,) = await receive()
    await plan(db, await worker(db), CALL)
    (neighbour,) = await receive()
    await plan(db, await worker(db), OTHER)
    process = await worker(db)
    assert 2 == len(await claim_fetches(db, process))
    await die(db, process)
    tried = []
    for _ in range(3):
        process = await worker(db)
        (fetch,) = await claim_fetches(db, process)
        tried.append(fetch.call)
        if fetch.call == CALL:
            await die(db, process)
        else:
            await finish(db, fetch)

    assert [CALL, CALL, OTHER] == sorted(tried, key=lambda call: call.path)
    assert {poison: "parked", neighbour: "done"} == await event_states(db)
    assert [("failed", "poison"), ("done", None)] == [
        (row["state"], row["error_reason"]) for row in await fetch_rows(db)
    ]
    assert "poison" == await db.fetchval("SELECT error_reason FROM events WHERE id = $1", poison)


async def test_the_first_death_only_makes_suspect(db: Connection, receive: Receive) -> None:
    """Even of a call that happened to be alone: a machine that goes down takes what it holds with it, guilty or not."""
    await receive()
    await plan(db, await worker(db), CALL)
    states = []
    for _ in range(3):
        process = await worker(db)
        await claim_fetches(db, process)
        await die(db, process)
        states += [row["state"] for row in await fetch_rows(db)]

    assert ["pending", "pending", "failed"] == states


async def test_who_survives_is_not_suspect_any_more(db: Connection, receive: Receive) -> None:
    """An event whose plan was committed starts with a clean slate when it is replayed, and so do its calls."""
    await receive()
    await _die_with_events(db)
    await _die_with_events(db)
    process = await worker(db)
    await plan(db, process, CALL)
    (fetch,) = await claim_fetches(db, process)

    assert (False, 0) == tuple(await db.fetchrow("SELECT suspect, deaths FROM events"))
    assert not fetch.suspect


async def test_suspicion_follows_a_call_into_the_one_that_was_asked_for_anew(db: Connection, receive: Receive) -> None:
    """A stream of deliveries about one thing does not hide that its call kills."""
    await receive()
    await plan(db, await worker(db), CALL)
    for _ in range(3):
        process = await worker(db)
        await claim_fetches(db, process)
        await receive()
        await plan(db, await worker(db), CALL)
        await die(db, process)

    states = [row["state"] for row in await fetch_rows(db)]
    assert ["failed", "pending"] == states


async def test_a_stream_of_deliveries_about_poison_costs_one_worker_in_ten_minutes(
    db: Connection, receive: Receive
) -> None:
    """What was asked for meanwhile waits, later deliveries join it, and one more death alone is enough."""
    await receive()
    await plan(db, await worker(db), CALL)
    deaths, minutes = 0, 0
    while minutes < 60 and deaths < 20:
        process = await worker(db)
        claimed = await claim_fetches(db, process)
        await receive()
        await plan(db, await worker(db), CALL)
        if claimed:
            await die(db, process)
            deaths += 1
        else:
            await db.execute("UPDATE fetches SET due_at = due_at - interval '1 minute' WHERE state = 'pending'")
            minutes += 1

    assert 3 + 60 // 10 >= deaths
    assert 3 < deaths


async def test_what_is_handed_back_is_not_suspect(db: Connection, receive: Receive) -> None:
    """A worker that is told to stop, or that dropped a batch, has not died of it."""
    await receive(2)
    process = await worker(db)
    (stopped, *_) = await claim_events(db, process)
    await leases.leave(db, process)
    process = await worker(db)
    await claim_events(db, process)
    await leases.give_back(db, process, [], [])

    again = await claim_events(db, process)

    assert [False, False] == [event.suspect for event in again]
    assert stopped.id == again[0].id


async def test_a_replay_clears_the_suspicion(db: Connection, receive: Receive) -> None:
    """Whoever replays a poison event has mended something: it begins anew."""
    (poison,) = await receive()
    for _ in range(3):
        await _die_with_events(db)
    before = await event_states(db)
    await _replay(db, poison)
    (claimed,) = await claim_events(db, await worker(db))

    assert {poison: "parked"} == before
    assert not claimed.suspect
    assert 0 == await db.fetchval("SELECT deaths FROM events")


async def _die_with_events(db: Connection) -> None:
    process = await worker(db)
    await claim_events(db, process)
    await die(db, process)


async def _replay(db: Connection, event: UUID) -> None:
    async for _ in replaying.replay(db, Selection(ids=[event]), note="mended"):
        pass
