"""Accounts take turns: one account's storm is no more than its share of each claim, and a claim stays cheap."""

import asyncio
from itertools import count
from typing import Any

import asyncpg
import orjson
import pytest
from asyncpg import Connection

from shared.providers.interface import Call
from shared.store import due, fetching, planning
from shared.store.fairness import Room, next_after
from shared.store.opening import Start
from shared.store.planning import ClaimedEvent, Planned
from steps import Receive, fail, fetch_rows, finish, keep, worker


pytestmark = pytest.mark.anyio

CALL = Call("/1", "x")
STORM = 100_000
PAGES_OF_A_CLAIM = 2_000
"""Pages of 8 KB that a claim of fifty may touch, whatever waits; the storm's index alone has about as many."""

numbers = count(1)


class Measured:
    """A connection that notes how many pages each query reads, and keeps its rows to itself."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self.pages: list[int] = []
        self.execute = db.execute
        self.transaction = db.transaction

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Execute it, and have it measured."""
        explained = await self._db.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments)
        plan = orjson.loads(explained)[0]["Plan"]
        self.pages.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
        return []


async def test_a_claim_of_events_takes_alike_many_of_each_account(db: Connection, receive: Receive) -> None:
    """However many one of them has, and however long they have waited."""
    storm = await receive(50, account="storm")
    calm = {name: await receive(2, account=name) for name in ("a", "b", "z")}

    claimed = await planning.claim(db, "imin", Room.of(12), await worker(db))

    assert {**calm, "storm": storm[:3]} == by_account(claimed)


async def test_a_claim_of_fetches_takes_alike_many_of_each_account(db: Connection) -> None:
    """Of each those that are due first."""
    for account, many in (("storm", 20), ("a", 1), ("z", 1)):
        await _open(db, account, many)

    claimed = await fetching.claim(db, "imin", Room.of(9), await worker(db))

    assert {"storm": 3, "a": 1, "z": 1} == {name: len(mine) for name, mine in by_account(claimed).items()}


async def test_what_only_waits_takes_nobody_s_place(db: Connection) -> None:
    """An account whose calls are all put off is not counted among those that share."""
    process = await worker(db)
    await _open(db, "waits", 5)
    for fetch in await fetching.claim(db, "imin", Room.of(5), process):
        await fail(db, fetch, wait_seconds=60)
    await _open(db, "a", 10)

    claimed = await fetching.claim(db, "imin", Room.of(8), process)

    assert {"a": 8} == {name: len(mine) for name, mine in by_account(claimed).items()}


async def test_an_account_that_is_busy_gets_its_room_and_the_others_theirs(db: Connection, receive: Receive) -> None:
    """No room at all: its events stay where they are, and count for nothing."""
    for name in ("full", "busy", "other"):
        await receive(10, account=name)
    room = Room(whole=8, others=5, busy={"full": 0, "busy": 2})

    claimed = await planning.claim(db, "imin", room, await worker(db))

    assert {"busy": 2, "other": 4} == {name: len(mine) for name, mine in by_account(claimed).items()}


async def test_more_accounts_than_room_are_served_one_claim_after_the_other(db: Connection, receive: Receive) -> None:
    """Each claim begins after the account where the last one ended, and at the front again when all had their turn."""
    for name in "abcde":
        await receive(3, account=name)
    process, room, after, turns = await worker(db), Room.of(2), "", []
    for _ in range(4):
        claimed = await planning.claim(db, "imin", room, process, after=after)
        after = next_after(room, (event.account for event in claimed))
        turns.append("".join(sorted(event.account for event in claimed)))

    assert ["ab", "cd", "ee", "ab"] == turns


async def test_two_workers_that_claim_at_once_share(db: Connection, database_url: str, receive: Receive) -> None:
    """What one of them has locked the other passes over, account by account."""
    for name in ("a", "b"):
        await receive(4, account=name)
    other = await asyncpg.connect(database_url)

    async with db.transaction():
        mine = await planning.claim(db, "imin", Room.of(4), await worker(other))
        theirs = await planning.claim(other, "imin", Room.of(4), await worker(other))
    await other.close()

    assert [2, 2] == [len(found) for found in by_account(mine).values()]
    assert [2, 2] == [len(found) for found in by_account(theirs).values()]


async def test_a_claim_costs_no_more_when_one_account_has_very_much_to_do(db: Connection, receive: Receive) -> None:
    """Others are found behind a hundred thousand events of one account without reading them, and without statistics."""
    await db.execute(
        """
        INSERT INTO events (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256)
        SELECT gen_random_uuid(), 'imin', 'storm', 'postgres', '', '[]', '', 0, '' FROM generate_series(1, $1::int)
        """,
        STORM,
    )
    await _open(db, "storm", STORM)
    for name in ("a", "z"):
        await receive(5, account=name)
        await _open(db, name, 5)
    process = await worker(db)

    # as in a pool that is opened ``in_index_order``
    await db.execute("SET enable_sort = off")
    measured: Any = Measured(db)
    assert (True, True, False) == await due.look(db, "imin")
    await planning.claim(measured, "imin", Room.of(50), process)
    await fetching.claim(measured, "imin", Room.of(50), process)

    events = await db.fetch("SELECT account, count(*) AS n FROM events WHERE claimed_by = $1 GROUP BY 1", process)
    fetches = await db.fetch("SELECT account, count(*) AS n FROM fetches WHERE claimed_by = $1 GROUP BY 1", process)
    assert [{"a": 5, "storm": 16, "z": 5}] * 2 == [
        {row["account"]: row["n"] for row in rows} for rows in (events, fetches)
    ]
    assert 2 == len(measured.pages)
    assert max(measured.pages) < PAGES_OF_A_CLAIM


async def test_calls_that_begin_with_their_plan_are_as_many_as_there_is_room(db: Connection, receive: Receive) -> None:
    """The rest is opened for whoever has room; each account by its own."""
    for name in ("full", "busy", "other"):
        await receive(4, account=name)
    process = await worker(db)
    claimed = await planning.claim(db, "imin", Room.of(50), process)
    room = Room(whole=5, others=4, busy={"full": 0, "busy": 2})

    done = await planning.commit(db, [_plan(event) for event in claimed], 0, Start(process, room))

    assert 5 == len(done.started)
    assert {"full": 0, "busy": 2} | {"other": 3} == {
        name: len([fetch for fetch in done.started if fetch.account == name]) for name in ("full", "busy", "other")
    }
    rows = {row["id"]: row for row in await fetch_rows(db)}
    assert {("running", process, fetch.token, 1) for fetch in done.started} == {
        (row["state"], row["claimed_by"], row["token"], row["attempts"]) for row in rows.values() if row["token"]
    }
    assert {fetch.id for fetch in done.opened} == {id_ for id_, row in rows.items() if row["state"] == "pending"}


async def test_a_call_that_runs_or_just_ran_is_not_begun_with_a_plan(db: Connection, receive: Receive) -> None:
    """Calls of one resource are never side by side, and not closer together than the coalescing time."""
    process = await worker(db)
    start = Start(process, Room.of(10))

    async def plan_one(coalesce: float) -> planning.Committed:
        await receive()
        claimed = await planning.claim(db, "imin", Room.of(10), process)
        return await planning.commit(db, [Planned(event, calls=[CALL]) for event in claimed], coalesce, start)

    first = await plan_one(0)
    while_it_runs = await plan_one(0)
    (running,) = first.started
    await finish(db, running)
    while_one_is_open = await plan_one(0)
    (opened,) = await fetching.claim(db, "imin", Room.of(10), process)
    await finish(db, opened)
    just_after = await plan_one(60)

    assert [] == [*while_it_runs.started, *while_one_is_open.started, *just_after.started]
    assert [[True], [True], [False]] == [
        [fetch.due for fetch in done.opened] for done in (while_it_runs, while_one_is_open, just_after)
    ]
    assert [fetch.id for fetch in while_it_runs.opened] == [fetch.id for fetch in while_one_is_open.opened]


async def test_two_plans_of_one_resource_at_the_same_moment_begin_one_call(db: Connection, database_url: str) -> None:
    """The second waits for the first to commit, and opens the call that comes after."""
    other = await asyncpg.connect(database_url)
    process = await worker(db)
    await keep(db, 2)
    (first,) = await planning.claim(db, "imin", Room.of(1), process)
    (second,) = await planning.claim(db, "imin", Room.of(1), process)
    start = Start(process, Room.of(10))

    transaction = db.transaction()
    await transaction.start()
    mine = await planning.commit(db, [Planned(first, calls=[CALL])], 0, start)
    late = asyncio.create_task(planning.commit(other, [Planned(second, calls=[CALL])], 0, start))
    while not await db.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):  # noqa: ASYNC110 - of Postgres
        await asyncio.sleep(0.01)
    await transaction.commit()
    theirs = await late
    await other.close()

    assert (1, 0) == (len(mine.started), len(mine.opened))
    assert (0, 1) == (len(theirs.started), len(theirs.opened))


def by_account(claimed: list[ClaimedEvent] | list[fetching.ClaimedFetch]) -> dict[str, list[object]]:
    """The ids of what was claimed."""
    found: dict[str, list[object]] = {}
    for item in claimed:
        found.setdefault(item.account, []).append(item.id)
    return found


def _plan(event: ClaimedEvent) -> Planned:
    """One call, of a resource that nothing else asks for."""
    return Planned(event, types=("x",), calls=[Call(f"/{next(numbers)}", "x")])


async def _open(db: Connection, account: str, many: int) -> None:
    """Fetches of an account that are due."""
    await db.execute(
        """
        INSERT INTO fetches (provider, account, resource, path, purpose, context, pick, missing, page, completes)
        SELECT 'imin', $1, convert_to($1 || n, 'utf8'), '/', '', '{}', '', 'retry', 1, false
        FROM generate_series(1, $2::int) AS n
        """,
        account,
        many,
    )
