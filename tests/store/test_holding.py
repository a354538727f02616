"""What is held while a circuit is open, and how it goes on; and whose calls are live."""

import asyncpg
import pytest

from shared.providers.interface import Call
from shared.store import fetching, holding, opening, planning
from shared.store.fairness import Room
from shared.store.fetching import Result
from shared.store.opening import Wanted
from shared.store.planning import Planned
from shared.store.replaying import Selection, replay
from shared.store.waiting import HELD
from steps import Receive, claim_events, claim_fetches, event_states, fetch_rows, finish, plan, worker


pytestmark = pytest.mark.anyio


async def hold(db: asyncpg.Connection, receive: Receive, *purposes: str) -> None:
    """One event whose calls, one of each purpose, are held."""
    await receive(1)
    process = await worker(db)
    await plan(db, process, *(Call(f"/{number}", purpose) for number, purpose in enumerate(purposes)))
    results = [
        Result(fetch, "waiting", reason=HELD, detail="503", wait_seconds=300, counted=False, called=False)
        for fetch in await claim_fetches(db, process)
    ]
    await fetching.commit(db, results, 0.0)


async def test_what_is_held_is_found_and_uses_up_no_attempt(db: asyncpg.Connection, receive: Receive) -> None:
    """The account is named once however much it holds; its event waits, and says what for."""
    await hold(db, receive, "customer", "customer", "contracts")

    assert [("imin", "main")] == await holding.accounts(db)
    assert ["contracts", "customer"] == [held.purpose for held in await holding.purposes(db, "imin", "main")]
    oldest = await holding.oldest(db, "imin", "main")
    assert oldest is not None
    assert (await fetch_rows(db))[0]["path"] == oldest.path
    assert {0} == {row["attempts"] for row in await fetch_rows(db)}
    assert {"waiting"} == set((await event_states(db)).values())
    lines = await db.fetch("SELECT detail FROM timeline WHERE step = 'waiting'")
    assert {"until the API takes calls again: 503"} == {row["detail"] for row in lines}


async def test_what_is_released_becomes_due_one_after_the_other(db: asyncpg.Connection, receive: Receive) -> None:
    """Oldest first, a step apart, so that nobody wakes before there is room; other purposes stay held."""
    await hold(db, receive, "customer", "customer", "customer", "contracts")

    async with db.transaction():
        released = await holding.release(db, "imin", "main", "customer", 10.0, 2.0)

    rows = await db.fetch(
        "SELECT extract(epoch FROM due_at - now()) AS seconds, due_at = queue_at AS both FROM fetches"
        " WHERE purpose = 'customer' ORDER BY id"
    )
    assert 3 == released
    assert [10, 12, 14] == [pytest.approx(float(row["seconds"]), abs=1) for row in rows]
    assert all(row["both"] for row in rows)
    assert ["contracts"] == [held.purpose for held in await holding.purposes(db, "imin", "main")]


async def test_only_one_process_releases_at_a_time(
    db: asyncpg.Connection, db2: asyncpg.Connection, receive: Receive
) -> None:
    """Two would give the same turns twice."""
    await hold(db, receive, "customer", "customer")

    async with db.transaction():
        assert 2 == await holding.release(db, "imin", "main", "customer", 0.0, 1.0)
        async with db2.transaction():
            assert 0 == await holding.release(db2, "imin", "main", "customer", 0.0, 1.0)


async def test_a_replayed_event_asks_in_the_background_until_a_live_one_asks_too(
    db: asyncpg.Connection, receive: Receive
) -> None:
    """Next pages too; a live event that joins makes the call live."""
    call, process = Call("/1", "customer"), await worker(db)
    (event,) = await receive(1)
    await plan(db, process)
    async for _ in replay(db, Selection(ids=[event]), note="again"):
        pass
    await plan(db, process, call)
    (replayed,) = await fetch_rows(db)
    (claimed,) = await claim_fetches(db, process)
    await finish(db, claimed, Call("/1?page=2", "customer", page=2))
    (page,) = await claim_fetches(db, process)
    await finish(db, page, Call("/1?page=3", "customer", page=3))
    await receive(1)

    await plan(db, process, Call("/1?page=3", "customer"))

    (joined,) = await claim_fetches(db, process)
    assert (True, True, True) == (replayed["background"], claimed.background, page.background)
    assert joined.background is False


async def test_a_reconciled_event_asks_in_the_background(db: asyncpg.Connection, receive: Receive) -> None:
    """It begins at once where there is room, and is known as such."""
    await receive(1)
    await db.execute("UPDATE events SET reconciled = true")
    process = await worker(db)
    plans = [Planned(event, calls=[Call("/1", "customer")]) for event in await claim_events(db, process)]

    done = await planning.commit(db, plans, 0.0, opening.Start(process, Room.of(1)))

    assert [True] == [fetch.background for fetch in done.started]


async def test_a_debounced_call_waits_from_the_first_event_on(db: asyncpg.Connection, receive: Receive) -> None:
    """What comes in meanwhile shares it and does not put it off again; it does not begin at once."""
    process = await worker(db)
    for _ in range(2):
        await receive(1)
        plans = [Planned(event, calls=[Call("/1", "customer")]) for event in await claim_events(db, process)]
        start = opening.Start(process, Room.of(5))
        done = await planning.commit(db, plans, 0.0, start, debounce_seconds=30.0)
        assert ([], [False]) == (done.started, [fetch.due for fetch in done.opened])

    (fetch,) = await fetch_rows(db)
    assert 30 == pytest.approx((fetch["due_at"] - fetch["created_at"]).total_seconds(), abs=0.1)
    assert 2 == await db.fetchval("SELECT count(*) FROM event_fetches")


async def test_without_debounce_a_call_is_due_at_once(db: asyncpg.Connection, receive: Receive) -> None:
    """The default costs nothing."""
    (event,) = await receive(1)

    (opened,) = await opening.open_fetches(
        db, opening.by_resource([Wanted("imin", "main", Call("/1", "customer"), [event])]), 0.0
    )

    assert opened.due
