"""An event that kills whoever works on it."""

import asyncio
import signal

from ops.chaos.processes import send
from ops.chaos.scenario import Book, Skipped, Stage
from ops.chaos.traffic import Intent
from ops.lab.faults import Fault
from shared.store.postgres import Connection, connect_once


BOOK = Book()
_CUSTOMER = "c-77777"  # outside of the 500 customers of the usual traffic
_WHICH = f"%/{_CUSTOMER}%"
_CALL_SECONDS = 1.0
_LOOK_SECONDS = 0.05
_ENOUGH_SECONDS = 400.0

_MAKING_THE_CALL = """
    SELECT w.name FROM fetches f JOIN worker_processes w ON w.id = f.claimed_by
    WHERE f.state = 'running' AND f.path LIKE $1
"""
_PARKED = """
    SELECT count(*) FROM events e JOIN event_fetches l ON l.event_id = e.id JOIN fetches f ON f.id = l.fetch_id
    WHERE f.path LIKE $1 AND e.state = 'parked'
"""
_IS_THERE = (
    "SELECT EXISTS (SELECT FROM information_schema.columns WHERE table_name = 'fetches' AND column_name = 'deaths')"
)


@BOOK.add(
    "poison",
    protects="after a worker's death the members of its batch are tried alone; who kills again is parked as poison",
    within_seconds=60.0,
)
async def poison(stage: Stage) -> None:
    """One event kills (SIGKILL) every worker process that makes its call; its neighbours are finished all the same."""
    connection = await connect_once(stage.at.noted().database_url)
    try:
        if not await connection.fetchval(_IS_THERE):
            raise Skipped("this version does not park what kills its worker")
        # Another seed may have been played on this installation before.
        parked = await connection.fetchval(_PARKED, _WHICH)
        # The call takes a while, so that its worker can be killed while it makes it.
        slow = Fault(kind="slow", provider="imin", path=_CUSTOMER, seconds=_CALL_SECONDS)
        await asyncio.to_thread(stage.at.lab.set_faults, slow)
        await stage.deliver(
            Intent("imin", "main", "CustomerAccount", {"customer": _CUSTOMER}, twice=False, ends="parked")
        )
        async with asyncio.timeout(_ENOUGH_SECONDS):
            await _kill_until_parked(stage, connection, parked)
    finally:
        await asyncio.to_thread(stage.at.lab.set_faults)
        connection.terminate()


async def _kill_until_parked(stage: Stage, connection: Connection, parked_before: int) -> None:
    while await connection.fetchval(_PARKED, _WHICH) == parked_before:
        if name := await connection.fetchval(_MAKING_THE_CALL, _WHICH):
            stage.say(f"kills {name}, which makes the poisonous call")
            # A worker process is noted under the name of its worker and its own id.
            send([int(name.rpartition("-")[2])], signal.SIGKILL)
        await asyncio.sleep(_LOOK_SECONDS)
    stage.say("the event is parked")
