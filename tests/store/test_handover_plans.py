"""How Postgres carries out what handing over sends, after much was handed over: by an index, looking at few rows."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ops.embedded.postgres import Postgres
from plans import Found, explaining
from shared.store import leases
from shared.store.handovers import handed_over, handing_over, handlers
from shared.store.handovers.handing_over import Delivered, Subscription
from shared.store.handovers.handlers import NewHandler
from shared.store.pooling import PLANS
from shared.store.postgres import Connection


HANDED_OVER = 20_000
BLOCKED = 200
TO_COME = 5000

pytestmark = pytest.mark.anyio

EVERYTHING = Subscription("crm", (), ("created", "updated", "deleted"), beginning=True, concurrency=10, target="here")
ALONE = Subscription("welcome", ("thing",), ("created",), beginning=True, concurrency=1, alone=True)


@pytest.fixture(scope="module")
def populated(postgres: Postgres, template: str) -> str:
    """Two handlers: 20,000 changes handed over to each, 200 that wait behind one that is tried again, 5,000 to come."""
    name = f"populated_{uuid.uuid4().hex}"
    base = postgres.url.rpartition("/")[0]

    async def populate() -> None:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        await connection.close()
        connection = await asyncpg.connect(f"{base}/{name}")
        known = HANDED_OVER + BLOCKED
        await connection.execute(
            """
            INSERT INTO changes (seq, op, provider, account, kind, external_id, changed)
            SELECT nextval('change_numbers'), 'created', 'imin', 'main', 'thing', 'c-' || n, '{}'
            FROM generate_series(1, $1::bigint) AS n
            """,
            known + TO_COME,
        )
        await connection.execute(
            """
            INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
            SELECT DISTINCT ON (external_id) provider, account, kind, external_id, '{}', 1, now(), now() FROM changes
            """
        )
        await connection.execute(
            "INSERT INTO handlers (name, cursor) SELECT name, $1 FROM unnest('{crm,welcome}'::text[]) AS name", known
        )
        await connection.execute(
            """
            INSERT INTO handovers (handler, change_id, seq, lane, state, due_at, finished_at, attempts)
            SELECT h.name, c.id, c.seq, CASE WHEN c.seq > $1 THEN 0 ELSE c.seq END,
                   CASE WHEN c.seq > $1 + 1 THEN 'pending' WHEN c.seq > $1 THEN 'waiting'
                        WHEN c.seq % 10 = 0 THEN 'parked' ELSE 'done' END,
                   CASE WHEN c.seq = $1 + 1 THEN now() + interval '1 hour' ELSE now() END,
                   CASE WHEN c.seq <= $1 THEN now() END, 1
            FROM changes c CROSS JOIN handlers h WHERE c.seq <= $2 ORDER BY c.seq
            """,
            HANDED_OVER,
            known,
        )
        await connection.execute("VACUUM (ANALYZE)")
        await connection.close()

    asyncio.run(populate())
    return f"{base}/{name}"


@pytest.fixture
async def plain(populated: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(populated, server_settings={"jit": "off"})
    yield connection
    await connection.close()


@pytest.fixture
def found() -> Found:
    """What the plans of a test showed."""
    return Found()


@pytest.fixture
def db(plain: asyncpg.Connection, found: Found) -> Connection:
    """A connection that explains every statement."""
    return explaining(plain, found)


@pytest.fixture
async def work(plain: asyncpg.Connection, found: Found, database_url: str) -> AsyncIterator[Connection]:
    """One that explains it as a worker's connection carries it out, too: with a plan that it may keep."""
    young = await asyncpg.connect(database_url, server_settings=PLANS)
    yield explaining(plain, found, young)
    await young.close()


@pytest.mark.parametrize("subscription", [EVERYTHING, ALONE], ids=["by HTTP", "a function"])
async def test_making_claiming_and_settling(
    work: Any, plain: asyncpg.Connection, found: Found, subscription: Subscription
) -> None:
    """Whatever came of them; and again with nothing left that may be taken."""
    worker = uuid.uuid4()
    await leases.beat(work, worker, "worker-handlers-1")
    for state in ("done", "waiting", "parked", "discarded"):
        claimed = await handing_over.claim(work, subscription, worker, 10, first=True)
        assert claimed
        results = [Delivered(one, state, 500, "refused", "no", wait_seconds=3600, reached=False) for one in claimed]
        assert len(claimed) == await handed_over.commit(work, subscription, results)
        await handed_over.commit(work, subscription, [Delivered(one, "done", reached=True) for one in claimed])
        await handlers.resume(work, subscription.name)
    await plain.execute(
        "UPDATE handlers SET cursor = (SELECT max(seq) FROM changes) WHERE name = $1", subscription.name
    )
    for _ in range(3):
        claimed = await handing_over.claim(work, subscription, worker, 10)
        await handed_over.commit(work, subscription, [Delivered(one, "done") for one in claimed])
    await plain.execute("UPDATE handovers SET state = 'done' WHERE handler = $1 AND lane <> 0", subscription.name)
    assert [] == await handing_over.claim(work, subscription, worker, 10)
    assert await plain.fetchval("SELECT quiet_until FROM handlers WHERE name = $1", subscription.name)

    assert [] == found.wrong
    assert len(found.statements) > 9


async def test_what_the_relay_asks_again_and_again(db: Any, found: Found) -> None:
    """Who is to be woken, what dead processes held; what a new task gives back first."""
    worker = uuid.uuid4()
    await leases.beat(db, worker, "worker-handlers-2")
    await handing_over.claim(db, EVERYTHING, worker, 10)
    await handed_over.give_back(db, worker)
    await handing_over.claim(db, EVERYTHING, worker, 10)
    await db.execute("DELETE FROM worker_processes WHERE id = $1", worker)
    await handed_over.lapse(db, 180.0)
    await handlers.register(db, [NewHandler("new", beginning=False), NewHandler("crm", beginning=True)])
    await handlers.wake(db)
    await handlers.stir(db)

    assert [] == found.wrong
    assert len(found.statements) > 8
