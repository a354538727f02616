"""Postgres away in every way that it can be: meanwhile events are acknowledged from the spool in Redis."""

import asyncio
import signal
import time

from ops.chaos.processes import frozen, send
from ops.chaos.scenario import Book, Bounds, Load, Stage


BOOK = Book()
OURS = frozenset({"postgres"})
_FROZEN_SECONDS = 10.0
_HELD_SECONDS = 8.0
_CUT_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"  # noqa: E501 - one statement


@BOOK.add(
    "postgres-restarted",
    needs=OURS,
    protects="ingress spools while it is away; leases lapse only after a whole lease of reading; ids make no doubles",
)
async def restarted(stage: Stage) -> None:
    """Postgres is restarted: once in its own way (SIGINT), once as in a crash (SIGQUIT)."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        stage.say(f"sends {number.name} to Postgres")
        send([each.pid for each in stage.at.alive("postgres")], number)
        await stage.jitter(4.0)
        await stage.postgres("SELECT 1")


@BOOK.add(
    "postgres-frozen",
    needs=OURS,
    protects="the commit has a deadline, then the spool takes the event; its beat late, a worker keeps its lease",
    bounds=Bounds(drained_seconds=10.0),
    load=Load(events=2800, rate=200.0, ahead=True),
)
async def frozen_postgres(stage: Stage) -> None:
    """Every process of Postgres is stopped (SIGSTOP) for ten seconds and goes on, at 200 deliveries a second."""
    stage.say("freezes Postgres")
    with frozen(each.pid for each in stage.at.alive("postgres")):
        began = time.monotonic()
        await asyncio.sleep(_FROZEN_SECONDS)
        stage.measured.postgres_away = began, time.monotonic()
    stage.say("wakes Postgres")
    await stage.drained()


@BOOK.add(
    "postgres-read-only",
    needs=OURS,
    protects="a refused write is a store that is away: the spool takes the event, workers try again",
)
async def read_only(stage: Stage) -> None:
    """Postgres takes no writes (default_transaction_read_only), as after a failover, for eight seconds."""
    stage.say("makes Postgres read-only")
    try:
        await stage.postgres("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        await asyncio.sleep(_HELD_SECONDS)
    finally:
        await stage.postgres("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
    stage.say("lets Postgres write again")


@BOOK.add(
    "postgres-refusing",
    needs=OURS,
    protects="a refused connection is known at once, costs no timeout and is tried again for ever",
)
async def refusing(stage: Stage) -> None:
    """Postgres cuts every connection and takes no new one (ALLOW_CONNECTIONS) for eight seconds."""
    database = stage.at.noted().database_url.rpartition("/")[2]
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"  # noqa: S608 - ours
    stage.say("lets Postgres refuse connections")
    try:
        await stage.postgres(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false', cut, database="postgres")
        await asyncio.sleep(_HELD_SECONDS)
    finally:
        await stage.postgres(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true', database="postgres")
    stage.say("lets Postgres accept connections")


@BOOK.add(
    "postgres-slow",
    protects="a commit that takes too long is left to itself and the spool takes the event, under the same id",
)
async def slow(stage: Stage) -> None:
    """Somebody locks the table of events for eight seconds: every commit waits, and succeeds late."""
    stage.say("locks the events")
    await stage.postgres(f"BEGIN; LOCK TABLE events; SELECT pg_sleep({_HELD_SECONDS}); COMMIT")
    stage.say("unlocks the events")


@BOOK.add(
    "postgres-connections-cut",
    protects="a batch whose connection was cut is committed once more under the same ids; claims are given back",
)
async def cut(stage: Stage) -> None:
    """All of Postgres's connections are cut (pg_terminate_backend) every second, eight times."""
    for _ in range(8):
        stage.say("cuts Postgres's connections")
        await stage.postgres(_CUT_ALL)
        await stage.jitter(1.0)
