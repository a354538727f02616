"""Workers, relays, ingress and an operator at the same time: their transactions run into each other for real.

What order they take is left to the machine; what must hold afterwards is not. ``test_lifecycle_model.py`` decides the
order of whole transactions instead.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg import Connection

from shared.providers.interface import Call, Outcome, Record
from shared.store import fetching, leases, planning, queueing, replaying, returning
from shared.store.fairness import Room
from shared.store.fetching import ClaimedFetch, Result
from shared.store.pacing import Pace
from shared.store.planning import Planned
from shared.store.records import numbering
from shared.store.replaying import Selection
from steps import LEASE_SECONDS, keep
from workers.transactions import again_on_conflict


pytestmark = pytest.mark.anyio

SECONDS = 5.0
WORKERS = 4
RESOURCES = 4


async def test_nothing_is_lost_or_doubled_when_everybody_works_at_once(database_url: str) -> None:
    """Workers that die at any moment, two relays, an operator who replays: at the end everything is done, once."""
    chance = random.Random(7)  # noqa: S311 - decides what happens in a test
    over = asyncio.Event()
    db = await asyncpg.connect(database_url)
    received: list[UUID] = []

    async def ingress(connection: Connection) -> None:
        received.extend(await keep(connection, chance.randint(1, 5)))
        await asyncio.sleep(0.01)

    async def relay(connection: Connection) -> None:
        async with connection.transaction():
            await queueing.due_events(connection, ["imin"], 20)
            await queueing.due_fetches(connection, ["imin"], 20)
        await leases.expire(connection, LEASE_SECONDS, datetime.now(UTC) + timedelta(hours=1))
        await leases.give_back_orphans(connection)
        await numbering.number_changes(connection)
        await queueing.fold_tallies(connection)
        await returning.go_on(connection, [("imin", "main")])

    async def operator(connection: Connection) -> None:
        async for _ in replaying.replay(connection, Selection(ids=received[-20:]), note="again", pace=Pace(500, 0)):
            pass
        await asyncio.sleep(0.02)

    everybody = [ingress, relay, relay, operator, *[_worker(chance) for _ in range(WORKERS)]]
    tasks = [asyncio.create_task(_again_and_again(database_url, step, over)) for step in everybody]
    await asyncio.sleep(SECONDS)
    over.set()
    await asyncio.gather(*tasks)

    last = _worker(chance, well=True)
    while await db.fetchval("SELECT count(*) FROM events WHERE state IN ('received', 'processing', 'waiting')"):
        await db.execute("UPDATE worker_processes SET beat_at = now() - interval '1 hour'")
        await relay(db)
        await last(db)
    rows = await db.fetch("SELECT state, count(*) AS n FROM events GROUP BY state")
    tallied = await db.fetch(
        "SELECT state, sum(delta)::int AS n FROM tallies WHERE what = 'event' GROUP BY 1 HAVING sum(delta) <> 0"
    )
    given_up = await db.fetch("SELECT DISTINCT error_reason FROM events WHERE state = 'parked'")
    changes = await db.fetch("SELECT kind, external_id, op, count(*) AS n FROM changes GROUP BY 1, 2, 3")
    await db.close()

    counts = {row["state"]: row["n"] for row in rows}
    assert len(received) == sum(counts.values())
    assert {"done"} == set(counts) - {"failed", "parked"}
    # Workers die by chance here; two deaths in a row with nothing else in hand look like poison to anybody.
    assert {"poison"} >= {row["error_reason"] for row in given_up}
    assert counts == {row["state"]: row["n"] for row in tallied}
    assert {1} == {row["n"] for row in changes if row["op"] == "created"}


def _worker(chance: random.Random, *, well: bool = False) -> Callable[[Connection], Coroutine[None, None, None]]:
    """A worker's life in one step: claim, plan, call, store; unless ``well`` it dies now and then in between."""
    api: Counter[str] = Counter()

    def dies() -> bool:
        return not well and chance.random() < 0.1

    async def work(connection: Connection) -> None:
        process = uuid4()
        await leases.beat(connection, process, "worker")
        events = await again_on_conflict(lambda: planning.claim(connection, "imin", Room.of(5), process))
        if dies():
            return await _beats_no_more(connection, process)
        plans = [Planned(event, types=("x",), calls=_calls(event.id)) for event in events]
        await again_on_conflict(lambda: planning.commit(connection, plans, 0))
        fetches = await again_on_conflict(lambda: fetching.claim(connection, "imin", Room.of(5), process))
        if dies():
            return await _beats_no_more(connection, process)
        api.update(fetch.call.path for fetch in fetches)
        results = [_result(fetch, "done" if well else chance.choice(("done", "done", "waiting"))) for fetch in fetches]
        await again_on_conflict(lambda: fetching.commit(connection, results, 0))
        return await leases.leave(connection, process)

    return work


def _calls(event: UUID) -> list[Call]:
    """Two of a few resources, by the event's id."""
    return [Call(f"/{event.int % RESOURCES}", "x"), Call(f"/{event.int // 8 % RESOURCES}", "x")]


def _result(fetch: ClaimedFetch, state: str) -> Result:
    """A success with one record a resource, or a failure that is tried again."""
    if state == "waiting":
        return Result(fetch, state, status=500, reason="refused", detail="500")
    record = Record("thing", fetch.call.path, f'{{"began": {fetch.token}}}')
    return Result(fetch, state, Outcome(records=[record]), 200)


async def _beats_no_more(connection: Connection, process: UUID) -> None:
    await connection.execute("UPDATE worker_processes SET beat_at = now() - interval '1 h' WHERE id = $1", process)


async def _again_and_again(url: str, step: Callable[[Connection], Awaitable[None]], over: asyncio.Event) -> None:
    """Until it is over; who loses a race tries again, as the processes do."""
    connection = await asyncpg.connect(url)
    try:
        while not over.is_set():
            await again_on_conflict(lambda: step(connection))
    finally:
        await connection.close()
