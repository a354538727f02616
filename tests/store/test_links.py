"""A call goes with its last event: by a replay, by a returned account, side by side, and not while it is needed."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest

from shared.providers.interface import Call
from shared.store import opening, replaying, returning
from shared.store.links import let_go_of_calls
from shared.store.pacing import Pace
from steps import Receive


pytestmark = pytest.mark.anyio


async def call(db: asyncpg.Connection, path: str, events: Sequence[UUID], *states: str) -> None:
    """A call of these events that went through these states."""
    wanted = opening.by_resource([opening.Wanted("imin", "main", Call(path, "thing"), events)])
    async with db.transaction():
        [opened] = await opening.open_fetches(db, wanted, 0.0)
    for state in states:
        await db.execute("UPDATE fetches SET state = $2 WHERE id = $1", opened.id, state)


async def finish(db: asyncpg.Connection, event: UUID, *states: str, reason: str | None = None) -> None:
    """An event went through these states."""
    for state in states:
        await db.execute("UPDATE events SET state = $2, error_reason = $3 WHERE id = $1", event, state, reason)


async def paths(db: asyncpg.Connection) -> list[str]:
    """The calls that are there."""
    return [row["path"] for row in await db.fetch("SELECT path FROM fetches ORDER BY path")]


async def test_a_replayed_event_takes_its_finished_calls_with_it(db: asyncpg.Connection, receive: Receive) -> None:
    """Not those that another event shares, nor those that are open or run: they serve the new plan."""
    mine, other = await receive(2)
    await call(db, "/done", [mine], "running", "done")
    await call(db, "/failed", [mine], "running", "failed")
    await call(db, "/shared", [mine, other], "running", "done")
    await call(db, "/runs", [mine], "running")
    await call(db, "/open", [mine])
    await finish(db, mine, "processing", "failed")

    async for _ in replaying.replay(db, replaying.Selection(ids=[mine]), note="because", pace=Pace(10, 0)):
        pass

    assert ["/open", "/runs", "/shared"] == await paths(db)
    links = await db.fetch("SELECT path FROM event_fetches JOIN fetches ON id = fetch_id WHERE event_id = $1", mine)
    assert ["/open", "/runs"] == sorted(row["path"] for row in links)


async def test_a_returned_accounts_events_take_their_calls_with_them(db: asyncpg.Connection, receive: Receive) -> None:
    """An account that is off and on again leaves no calls behind."""
    [event] = await receive(1)
    await call(db, "/failed", [event], "running", "failed")
    await finish(db, event, "processing", "parked", reason="account-removed")

    assert 1 == await returning.go_on(db, [("imin", "main")])

    assert [] == await paths(db)
    assert "received" == await db.fetchval("SELECT state FROM events")


async def test_of_two_that_let_go_at_once_the_second_leaves_what_the_first_holds_to_retention(
    db: asyncpg.Connection, db2: asyncpg.Connection, receive: Receive
) -> None:
    """Neither waits for the other, so no order of locks can make a deadlock; no link is left."""
    first, second = await receive(2)
    await call(db, "/shared", [first, second], "running", "done")
    async with db.transaction():
        await let_go_of_calls(db, [first])
        async with db2.transaction():
            await let_go_of_calls(db2, [second])
    assert 0 == await db.fetchval("SELECT count(*) FROM event_fetches")
