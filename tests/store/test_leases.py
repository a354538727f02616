"""Leases: whose claims lapse, when, and whose do not."""

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from asyncpg import Connection

from ops.embedded.postgres import Postgres
from shared.providers.interface import Call
from shared.store import leases
from shared.store.leases import Expiry
from shared.store.migrating import upgrade
from steps import Receive, claim_events, claim_fetches, die, event_states, fetch_rows, finish, plan, worker
from support.conditions import HANG_SECONDS


pytestmark = pytest.mark.anyio

LEASE_SECONDS = 1.5
BEAT_SECONDS = 0.2
LOOK_SECONDS = 0.05
LATE_SECONDS = 0.5
"""So long after a freeze a worker that waits before it connects again may be silent."""


async def test_the_claims_of_a_dead_process_are_due_again(db: Connection, receive: Receive) -> None:
    """Another process takes them up, and the late finisher is refused by its token."""
    await receive(2)
    process = await worker(db)
    await plan(db, process, Call("/1", "x"))
    (stale,) = await claim_fetches(db, process)
    await die(db, process)

    (fresh,) = await claim_fetches(db, await worker(db))
    await finish(db, stale)
    running = [row["state"] for row in await fetch_rows(db)]
    await finish(db, fresh)

    assert ["running"] == running
    assert {"done"} == set((await event_states(db)).values())
    assert 1 == await db.fetchval("SELECT count(*) FROM timeline WHERE step = 'done' GROUP BY event_id LIMIT 1")


async def test_an_attempt_that_was_not_stored_is_given_back(db: Connection, receive: Receive) -> None:
    """Whether its process died or lets it go: what we could not keep says nothing about the API."""
    process = await worker(db)
    await receive()
    await plan(db, process, Call("/v1/customers/1", "customer"))
    for dies in (True, False):
        process = await worker(db)
        [fetch] = await claim_fetches(db, process)
        assert 1 == fetch.attempts
        await (die(db, process) if dies else leases.give_back(db, process, (), ()))
        [row] = await fetch_rows(db)
        assert ("pending", 0) == (row["state"], row["attempts"])


async def test_the_lease_of_a_process_that_is_known_to_be_dead_ends_at_once(db: Connection, receive: Receive) -> None:
    """Its claims are due again as suspects, however lately it beat; of a process without a lease nothing is left."""
    (event,) = await receive()
    process, other = await worker(db), await worker(db)
    await claim_events(db, process)

    assert 1 == await leases.end(db, [process])
    assert 0 == await leases.end(db, [process])
    (again,) = await claim_events(db, other)

    assert (event, True) == (again.id, again.suspect)
    assert [other] == [row["id"] for row in await db.fetch("SELECT id FROM worker_processes")]


async def test_a_beat_after_a_stall_renews_what_nobody_took(db: Connection, receive: Receive) -> None:
    """A process that was late, but came before the relay gave it up, goes on with what it holds."""
    (event,) = await receive()
    process = await worker(db)
    await claim_events(db, process)
    await db.execute("UPDATE worker_processes SET beat_at = now() - interval '1 hour'")

    await leases.beat(db, process, "worker-imin-1")
    await leases.give_back(db, process, [event], [])
    await _watched(db, seconds=2 * LEASE_SECONDS, beating=process)

    assert process == await db.fetchval("SELECT claimed_by FROM events")


async def test_claims_of_a_process_that_was_given_up_and_went_on_lapse_too(db: Connection, receive: Receive) -> None:
    """It claimed again before its next beat, and died before it: nothing names it any more but its claim."""
    await receive()
    process = await worker(db)
    await die(db, process)
    await claim_events(db, process)

    await die(db, process)

    assert None is await db.fetchval("SELECT claimed_by FROM events")


async def test_a_dead_process_lapses_a_lease_after_its_last_beat(db: Connection, receive: Receive) -> None:
    """Not before, and not before its watcher has read Postgres without a gap for as long."""
    await receive()
    process = await worker(db)
    await claim_events(db, process)

    beat_at: datetime = await db.fetchval("SELECT beat_at FROM worker_processes WHERE id = $1", process)
    expiry, given_up = Expiry(), 0
    async with asyncio.timeout(HANG_SECONDS):
        while not given_up:
            await asyncio.sleep(LOOK_SECONDS)
            given_up = await expiry.look(db, LEASE_SECONDS)

    assert 1 == given_up
    assert await db.fetchval("SELECT clock_timestamp()") >= beat_at + timedelta(seconds=LEASE_SECONDS)
    assert None is await db.fetchval("SELECT claimed_by FROM events")


async def test_a_look_that_was_held_up_ends_no_lease(db: Connection) -> None:
    """The statement was under way when Postgres froze: when it is carried out at last, beats are as late as it is."""
    process = await worker(db)
    await db.execute("UPDATE worker_processes SET beat_at = now() - interval '1 hour'")
    before: datetime = await db.fetchval("SELECT clock_timestamp()")

    late = await leases.expire(db, LEASE_SECONDS, until=before)
    in_time = await leases.expire(db, LEASE_SECONDS, until=before + timedelta(hours=1))

    assert (0, 1) == (late, in_time)
    assert None is await db.fetchval("SELECT id FROM worker_processes WHERE id = $1", process)


async def test_a_postgres_that_froze_for_longer_than_a_lease_costs_nobody_the_lease(frozen: "Freezable") -> None:
    """Nobody could beat meanwhile; whoever watches has not read without a gap and gives them time to."""
    watching, beating = [await asyncpg.connect(frozen.url) for _ in range(2)]
    process = await worker(beating)
    awake = asyncio.Event()
    awake.set()
    given_up = 0

    async def watch() -> None:
        nonlocal given_up
        expiry = Expiry()
        while True:
            given_up += await expiry.look(watching, LEASE_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def beat() -> None:
        while True:
            if not awake.is_set():
                await awake.wait()
                await asyncio.sleep(LATE_SECONDS)
            await leases.beat(beating, process, "worker-imin-1")
            await asyncio.sleep(BEAT_SECONDS)

    tasks = [asyncio.create_task(watch()), asyncio.create_task(beat())]
    for _ in range(2):
        await asyncio.sleep(1.2 * LEASE_SECONDS)
        awake.clear()
        frozen.stop()
        await asyncio.sleep(1.5 * LEASE_SECONDS)
        frozen.go_on()
        awake.set()
    await asyncio.sleep(LEASE_SECONDS)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for connection in (watching, beating):
        connection.terminate()

    assert {asyncio.CancelledError} == {type(end) for end in ended}
    assert 0 == given_up


async def _watched(db: Connection, *, seconds: float, beating: UUID | None = None) -> int:
    """Watch for so long; how many processes were given up."""
    expiry = Expiry()
    given_up = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        if beating:
            await leases.beat(db, beating, "worker-imin-1")
        given_up += await expiry.look(db, LEASE_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)
    return given_up


class Freezable:
    """A Postgres whose processes can be stopped and let go on."""

    def __init__(self, server: Postgres) -> None:
        assert server.process is not None
        self.url = server.url
        self._pid = server.process.pid

    def stop(self) -> None:
        """Freeze it: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Wake it up."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        for pid in (self._pid, *map(int, children)):
            os.kill(pid, number)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Freezable]:
    """A migrated Postgres of this test's own, which it may freeze."""
    with Postgres(tmp_path) as server:
        upgrade(server.url)
        yield Freezable(server)
