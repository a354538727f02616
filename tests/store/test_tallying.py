"""What the screen of `penstock up` reads every second: how many, and for how long the oldest has been due."""

import asyncpg
import pytest

from shared.providers.interface import Call
from shared.store.tallying import progress
from steps import Receive, claim_events, claim_fetches, fail, plan, worker


pytestmark = pytest.mark.anyio


async def test_each_provider_is_told_with_its_states_and_the_age_of_its_oldest_work(
    db: asyncpg.Connection, receive: Receive
) -> None:
    """Also one that never had an event; what is not asked for is left out."""
    process = await worker(db)
    await receive(3)
    await receive(1, provider="paybook")
    await plan(db, process)
    await receive(2)

    imin, magicline = await progress(db, ["imin", "magicline"])

    assert {"done": 3, "received": 2} == {state: count for state, count in imin["events"].items() if count}
    assert 0 <= imin["oldest_due_seconds"] < 60
    assert {"provider": "magicline", "events": {}, "oldest_due_seconds": None} == magicline
    assert 2 == len(await claim_events(db, process))


async def oldest(db: asyncpg.Connection) -> float | None:
    """For how long imin's oldest work has been due."""
    (imin,) = await progress(db, ["imin"])
    seconds: float | None = imin["oldest_due_seconds"]
    return seconds


async def age(db: asyncpg.Connection) -> None:
    """Whatever is there came in, and had its last step, an hour ago."""
    await db.execute("UPDATE events SET received_at = received_at - interval '1 hour'")
    await db.execute("UPDATE timeline SET at = at - interval '1 hour'")


async def test_what_waits_for_a_stated_time_is_not_due(db: asyncpg.Connection, receive: Receive) -> None:
    """An event whose call is put off is not due before that; then it is since that moment, not since its receipt."""
    process = await worker(db)
    await receive()
    await plan(db, process, Call(path="/1", purpose="customer"))
    (fetch,) = await claim_fetches(db, process)
    await fail(db, fetch, wait_seconds=600)
    await age(db)
    assert await oldest(db) is None
    await db.execute("UPDATE fetches SET due_at = now() - interval '2 minutes'")
    assert 120 <= (await oldest(db) or 0) < 180


async def test_what_is_replayed_is_due_since_then(db: asyncpg.Connection, receive: Receive) -> None:
    """However long ago it came in."""
    (event,) = await receive()
    await age(db)
    assert 3600 <= (await oldest(db) or 0) < 3660
    await db.execute("INSERT INTO timeline (event_id, step, detail) VALUES ($1, 'replayed', 'by hand')", event)
    assert (await oldest(db) or 0) < 60


async def test_the_next_of_each_account_is_looked_at(db: asyncpg.Connection, receive: Receive) -> None:
    """Also one that a process holds, and one that is tried alone because its worker died."""
    await receive(account="a")
    await age(db)
    await receive(2, account="b")
    assert 3600 <= (await oldest(db) or 0)
    for change in (
        "UPDATE events SET suspect = true WHERE account = 'a'",
        "UPDATE events SET claimed_by = gen_random_uuid() WHERE account = 'a'",
    ):
        await db.execute(change)
        assert 3600 <= (await oldest(db) or 0)
    await db.execute("UPDATE events SET state = 'done' WHERE account = 'a'")
    assert (await oldest(db) or 0) < 60
