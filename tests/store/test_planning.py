"""Claiming events, telling duplicates, coalescing: the plan step's transactions."""

from uuid import UUID

import pytest
from asyncpg import Connection

from shared.providers.interface import Call, Record
from shared.store import fetching, planning, replaying, returning
from shared.store.fetching import Result
from shared.store.planning import Planned
from shared.store.selecting import Selection
from shared.store.waiting import HELD
from steps import (
    COALESCE_SECONDS,
    Receive,
    claim_events,
    claim_fetches,
    event_states,
    fail,
    fetch_rows,
    finish,
    give_up,
    plan,
    worker,
)


pytestmark = pytest.mark.anyio

CALL = Call("/api/v2/customer-accounts/abc", "customer-account")


async def timeline_of(db: Connection, event: UUID) -> list[tuple[str, str]]:
    """Each step with its detail, oldest first."""
    rows = await db.fetch("SELECT step, detail FROM timeline WHERE event_id = $1 ORDER BY id", event)
    return [(row["step"], row["detail"]) for row in rows]


async def test_an_event_is_claimed_by_one_worker_only(db: Connection, receive: Receive) -> None:
    """A message that arrives twice finds nothing to do the second time."""
    ids = await receive(3)
    process = await worker(db)

    first = await claim_events(db, process)
    second = await claim_events(db, process)

    assert ids == [event.id for event in first]
    assert [] == second


async def test_a_claim_takes_the_oldest(db: Connection, receive: Receive) -> None:
    """Whatever a message named: a backlog of small messages is worked off in batches of the full size."""
    ids = await receive(10)
    process = await worker(db)

    claimed = await claim_events(db, process, limit=4)

    assert ids[:4] == [event.id for event in claimed]


async def test_a_planned_event_without_calls_is_done_at_once(db: Connection, receive: Receive) -> None:
    """What a delivery itself carries becomes records in the planning transaction."""
    (event,) = await receive()
    process = await worker(db)
    (claimed,) = await claim_events(db, process)

    record = Record("imin.update-notification", "n-1", "{}")
    await planning.commit(db, [Planned(claimed, types=("x",), records=[record])], 0)

    assert {event: "done"} == await event_states(db)
    assert "n-1" == await db.fetchval("SELECT external_id FROM records WHERE event_id = $1", event)


async def test_events_that_need_the_same_resource_share_one_fetch(db: Connection, receive: Receive) -> None:
    """Ten deliveries about one customer, one call; each is done by it."""
    ids = await receive(10)
    process = await worker(db)

    opened = await plan(db, process, CALL)
    (fetch,) = await claim_fetches(db, process)
    await finish(db, fetch)

    assert 1 == len(opened)
    assert dict.fromkeys(ids, "done") == await event_states(db)


async def test_an_event_that_lands_while_the_fetch_runs_gets_a_new_one(db: Connection, receive: Receive) -> None:
    """A running call began before the event: it is never joined, and its successor waits until it has ended."""
    process = await worker(db)
    await receive()
    await plan(db, process, CALL)
    (running,) = await claim_fetches(db, process)

    (late,) = await receive()
    await plan(db, process, CALL)

    assert 2 == len(await fetch_rows(db))
    assert [] == await claim_fetches(db, process)
    await finish(db, running)
    assert "processing" == (await event_states(db))[late]
    assert 1 == len(await claim_fetches(db, process))


async def test_a_resource_fetched_a_moment_ago_waits_for_the_rest_of_the_coalescing_time(
    db: Connection, receive: Receive
) -> None:
    """A storm of deliveries about one customer costs one call now and one when the time is over."""
    process = await worker(db)
    await receive()
    await plan(db, process, CALL, coalesce=60)
    (first,) = await claim_fetches(db, process)
    await finish(db, first)

    await receive(5)
    opened = await plan(db, process, CALL, coalesce=60)

    assert [False] == [fetch.due for fetch in opened]
    assert [] == await claim_fetches(db, process)


async def test_the_second_delivery_of_an_identity_is_a_duplicate(db: Connection, receive: Receive) -> None:
    """It points to the first, within one batch and in a later one, and causes no call."""
    ids = await receive(3)
    process = await worker(db)
    await plan(db, process, CALL, identity="uuid-1")
    (later,) = await receive()
    await plan(db, process, CALL, identity="uuid-1")

    states = await event_states(db)
    firsts = {
        row["duplicate_of"] for row in await db.fetch("SELECT duplicate_of FROM events WHERE state = 'duplicate'")
    }
    assert ["processing", "duplicate", "duplicate", "duplicate"] == [states[event] for event in (*ids, later)]
    assert {ids[0]} == firsts


@pytest.mark.parametrize("given_up", ["failed", "parked"])
async def test_a_delivery_whose_first_was_given_up_goes_its_own_way(
    db: Connection, receive: Receive, given_up: str
) -> None:
    """The provider's retry of what failed here is a new chance, not a duplicate; the next one is its duplicate."""
    (first,) = await receive()
    process = await worker(db)
    await plan(db, process, CALL, identity="uuid-1")
    await db.execute("UPDATE events SET state = $2 WHERE id = $1", first, given_up)

    second, third = await receive(2)
    await plan(db, process, CALL, identity="uuid-1")

    states = await event_states(db)
    assert ["processing", "duplicate"] == [states[second], states[third]]
    assert second == await db.fetchval("SELECT duplicate_of FROM events WHERE id = $1", third)


async def test_a_plan_that_comes_after_its_claim_was_lost_is_refused(db: Connection, receive: Receive) -> None:
    """A worker that was given up and comes back late changes nothing."""
    await receive()
    process = await worker(db)
    (stale,) = await claim_events(db, process)
    await db.execute("UPDATE events SET claimed_by = NULL, token = NULL")
    (fresh,) = await claim_events(db, process)

    late = await planning.commit(db, [Planned(stale, calls=[CALL])], 0)
    mine = await planning.commit(db, [Planned(fresh)], 0)

    assert (0, 1) == (late.planned, mine.planned)
    assert [] == await fetch_rows(db)


async def test_an_event_that_joins_a_waiting_fetch_waits_with_it(db: Connection, receive: Receive) -> None:
    """An open fetch that waits for its next attempt serves whoever comes meanwhile."""
    process = await worker(db)
    await receive()
    await plan(db, process, CALL)
    (fetch,) = await claim_fetches(db, process)
    await fail(db, fetch, wait_seconds=3600)

    (late,) = await receive()
    await plan(db, process, CALL)

    assert "waiting" == (await event_states(db))[late]
    assert 1 == len(await fetch_rows(db))
    steps = await timeline_of(db, late)
    assert ["received", "planned", "joined"] == [step for step, _ in steps]
    assert f"GET {CALL.path}, which waits 3600 s: the API answered 500" == steps[-1][1]


async def test_an_event_that_joins_a_held_fetch_is_told_what_for(db: Connection, receive: Receive) -> None:
    """Nobody knows for how long a circuit is open, so no time is told; and one that is due is not waited for."""
    process = await worker(db)
    await receive()
    await plan(db, process, CALL)
    (fetch,) = await claim_fetches(db, process)
    held = Result(fetch, "waiting", reason=HELD, detail="it answered 503", wait_seconds=60, called=False)
    await fetching.commit(db, [held], 0.0)
    (late,) = await receive()
    await plan(db, process, CALL)
    await db.execute("UPDATE fetches SET due_at = now()")
    (later,) = await receive()
    await plan(db, process, CALL)

    told = f"GET {CALL.path}, which waits until the API takes calls again: it answered 503"
    assert ("joined", told) == (await timeline_of(db, late))[-1]
    assert ["received", "planned"] == [step for step, _ in await timeline_of(db, later)]


async def test_a_failure_merges_into_the_fetch_that_was_asked_for_meanwhile(db: Connection, receive: Receive) -> None:
    """Two fetches of one resource never wait side by side: one call answers for both events."""
    process = await worker(db)
    early = (await receive())[0]
    await plan(db, process, CALL)
    (running,) = await claim_fetches(db, process)
    late = (await receive())[0]
    await plan(db, process, CALL)

    await fail(db, running)
    (merged,) = await claim_fetches(db, process)
    await finish(db, merged)

    assert {early: "done", late: "done"} == await event_states(db)
    assert 2 == merged.attempts


async def test_the_state_of_an_event_follows_from_its_fetches(db: Connection, receive: Receive) -> None:
    """Waiting before processing before failed before done."""
    process = await worker(db)
    (event,) = await receive()
    await plan(db, process, Call("/1", "x"), Call("/2", "x"), Call("/3", "x"))
    one, two, three = sorted(await claim_fetches(db, process))
    states: list[str] = []

    async def note() -> None:
        states.append((await event_states(db))[event])

    await note()
    await fail(db, one, wait_seconds=0)
    await note()
    await give_up(db, two)
    await note()
    (one,) = await claim_fetches(db, process)
    await note()
    await finish(db, one)
    await note()
    await finish(db, three)
    await note()

    assert ["processing", "waiting", "waiting", "processing", "processing", "failed"] == states
    assert "attempts-used-up" == await db.fetchval("SELECT error_reason FROM events")


async def test_a_next_page_keeps_its_event_open(db: Connection, receive: Receive) -> None:
    """The page and the fetch of the next one commit together."""
    process = await worker(db)
    (event,) = await receive()
    await plan(db, process, CALL)
    (first,) = await claim_fetches(db, process)

    await finish(db, first, Call("/next", "x", page=2))

    assert {event: "processing"} == await event_states(db)
    (second,) = await claim_fetches(db, process)
    assert ("/next", 2) == (second.call.path, second.call.page)
    await finish(db, second)
    assert {event: "done"} == await event_states(db)


async def test_counts_by_state_follow_every_change(db: Connection, receive: Receive) -> None:
    """The tallies always say what counting the rows would say."""
    process = await worker(db)
    await receive(5)
    await plan(db, process, CALL)
    (fetch,) = await claim_fetches(db, process)
    await finish(db, fetch)
    await receive(2)

    tallied = await db.fetch("SELECT state, sum(delta) AS n FROM tallies WHERE what = 'event' GROUP BY state")
    counted = await db.fetch("SELECT state, count(*) AS n FROM events GROUP BY state")

    assert {row["state"]: row["n"] for row in counted} == {row["state"]: row["n"] for row in tallied if row["n"]}


async def test_an_event_that_shares_the_newer_fetch_waits_when_the_older_merges_into_it(
    db: Connection, receive: Receive
) -> None:
    """The newer fetch takes over the wait, so whoever asked for it waits too."""
    process = await worker(db)
    early = (await receive())[0]
    await plan(db, process, CALL)
    (running,) = await claim_fetches(db, process)
    late = (await receive())[0]
    await plan(db, process, CALL)

    await fail(db, running, wait_seconds=60)

    assert {early: "waiting", late: "waiting"} == await event_states(db)
    assert ["received", "planned", "waiting"] == [step for step, _ in await timeline_of(db, early)]
    assert ["received", "planned", "joined"] == [step for step, _ in await timeline_of(db, late)]
    assert (await timeline_of(db, late))[-1][1].endswith("which waits 60 s: the API answered 500")


async def test_an_account_that_was_removed_decides_the_reason_whatever_else_failed(
    db: Connection, receive: Receive
) -> None:
    """Its events go on when it returns, so they must be found by that reason."""
    (event,) = await receive()
    process = await worker(db)
    await plan(db, process, Call("/1", "x"), Call("/2", "x"))
    one, two = sorted(await claim_fetches(db, process))
    await give_up(db, one)
    await give_up(db, two, "account-removed")

    assert ("parked", "account-removed") == tuple(await db.fetchrow("SELECT state, error_reason FROM events"))
    assert 1 == await returning.go_on(db, [("imin", "main")])
    assert {event: "received"} == await event_states(db)


async def test_the_timeline_tells_each_step(db: Connection, receive: Receive) -> None:
    """Received, planned, fetched, done: written with the states that they tell of."""
    process = await worker(db)
    (event,) = await receive()
    await plan(db, process, CALL)
    (fetch,) = await claim_fetches(db, process)
    await finish(db, fetch)

    assert ["received", "planned", "fetched", "done"] == [step for step, _ in await timeline_of(db, event)]


async def test_what_completes_a_chain_is_as_old_as_the_chains_beginning(db: Connection, receive: Receive) -> None:
    """A chain that was held up does not overwrite what a later one stored meanwhile."""
    process = await worker(db)
    await receive()
    await plan(db, process, CALL)
    (first,) = await claim_fetches(db, process)
    await finish(db, first, Call(f"{CALL.path}/linked-accounts", "extra", completes=True, page=2))

    (second,) = await claim_fetches(db, process)

    assert first.token == second.read_at
    assert second.token > second.read_at


async def test_refusals_are_counted_apart_from_other_attempts(db: Connection, receive: Receive) -> None:
    """Through other failures, into the newer fetch that the older one is merged into, and anew after a replay."""
    process = await worker(db)
    (event,) = await receive()
    call = Call("/a", "account")
    await plan(db, process, call)

    async def end(*, refused: bool) -> None:
        (fetch,) = await claim_fetches(db, process)
        failure = Result(fetch, "waiting", status=404, reason="refused", detail="no", refused=refused)
        await fetching.commit(db, [failure], COALESCE_SECONDS)

    await end(refused=True)
    await end(refused=False)
    (row,) = await fetch_rows(db)
    assert (2, 1) == (row["attempts"], row["refusals"])
    (fetch,) = await claim_fetches(db, process)
    assert 1 == fetch.refusals

    await receive()
    await plan(db, process, call)
    await fetching.commit(
        db, [Result(fetch, "waiting", status=404, reason="refused", detail="no", refused=True)], COALESCE_SECONDS
    )
    (row,) = await fetch_rows(db)
    assert (3, 2) == (row["attempts"], row["refusals"])

    async for _ in replaying.replay(db, Selection(ids=[event]), note="once more"):
        pass
    (row,) = await fetch_rows(db)
    assert (0, 0) == (row["attempts"], row["refusals"])


@pytest.mark.parametrize("said", ["a\0b", "\ud800", "\udfff\ud800", "\0" * 600, "a" * 100_000])
async def test_whatever_an_error_says_is_stored(db: Connection, receive: Receive, said: str) -> None:
    """On the event, its call and its timeline, whether it is parked or its call fails; neighbours are as they were."""
    process = await worker(db)
    first, second = await receive(2)
    claimed = await claim_events(db, process)
    parked, called = Planned(claimed[0], parked=("poison", said)), Planned(claimed[1], calls=[Call("/a", "account")])
    await planning.commit(db, [parked, called], COALESCE_SECONDS)
    (fetch,) = await claim_fetches(db, process)
    await fetching.commit(db, [Result(fetch, "failed", reason="refused", detail=said)], COALESCE_SECONDS)

    assert {first: "parked", second: "failed"} == await event_states(db)
    details = await db.fetch(
        "SELECT error_detail AS text FROM events UNION ALL SELECT error_detail FROM fetches"
        " UNION ALL SELECT detail FROM timeline"
    )
    assert all(len(row["text"]) <= 2_000 for row in details)
