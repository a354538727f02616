"""Whether it stays as fast when much is stored: a database full of finished events beside an empty one."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from ops.bench import penstock
from ops.bench.benchmarks.following_up import rate_of
from ops.bench.deliveries import BODY_BYTES, imin_requests, write
from ops.bench.load import Order
from ops.bench.results import Figure, Report, over
from ops.bench.schedule import turns
from ops.bench.stage import Stage
from ops.bench.statistics import Target


P99_OVER_EMPTY: Final = Target(1.2, at_least=False)
RATE_OVER_EMPTY: Final = Target(0.85, at_least=True)
ACK_RATE: Final = 300
_CHUNK: Final = 250_000

# A finished event of imin as the flow leaves it: its row, its fetch, the link between them, its timeline. Bodies are of
# the length that a sealed delivery of 200 bytes has.
_FILL = (
    """
    INSERT INTO events (id, provider, account, state, received_at, finished_at, durability, content_type, headers, body,
                        body_bytes, body_sha256, event_types)
    SELECT uuidv7(make_interval(secs => (n - $3) / 100.0)), 'imin', 'main', 'done',
           now() + make_interval(secs => (n - $3) / 100.0), now() + make_interval(secs => (n - $3) / 100.0), 'postgres',
           'application/json', '[["content-type", "application/json"]]', decode(repeat(md5(n::text), 15), 'hex'), 200,
           decode(repeat(md5(n::text), 2), 'hex'), '{CustomerAccount}'
    FROM generate_series($1::bigint, $2::bigint) AS n
    """,
    """
    INSERT INTO fetches (provider, account, resource, path, purpose, context, pick, missing, page, completes, state,
                         attempts, status, created_at, due_at, queue_at, began_at, finished_at)
    SELECT 'imin', 'main', decode(md5((n % 100000)::text), 'hex'), '/api/v2/customer-accounts/c-' || n % 100000,
           'customer-account', '{}', '', 'retry', 1, false, 'done', 1, 200, at, at, at, at, at
    FROM generate_series($1::bigint, $2::bigint) AS n,
         LATERAL (SELECT now() + make_interval(secs => (n - $3) / 100.0) AS at) AS moment
    """,
    """
    INSERT INTO event_fetches (event_id, fetch_id)
    SELECT e.id, f.id
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM events WHERE id > $4) AS e
    JOIN (SELECT id, row_number() OVER (ORDER BY id) AS place FROM fetches WHERE id > $5) AS f USING (place)
    """,
    """
    INSERT INTO timeline (event_id, at, step, detail)
    SELECT e.id, e.received_at, told.step, told.detail FROM events e, (VALUES
        ('received', '200 bytes, sha256 0011aabbccdd…'), ('planned', 'CustomerAccount -> 1 call: GET /api/v2/...'),
        ('fetched', 'GET /api/v2/...: 200 in 21 ms, 1 records'), ('done', 'every fetch is in')
    ) AS told (step, detail) WHERE e.id > $4
    """,
)
_TABLES: Final = ("events", "fetches")


def growth(stage: Stage) -> Sequence[Report]:
    """Acknowledgement p99 and receipt to record, full and empty in turn."""
    stored, rounds, seconds, count = (500_000, 1, 2.0, 1500) if stage.quick else (10_000_000, 5, 15.0, 15_000)
    full = stage.stores.database()
    began = time.monotonic()
    asyncio.run(fill(full, stored))
    filled = time.monotonic() - began
    lab = stage.lab()
    requests = write(stage.folder, "imin", imin_requests(lab.accounts()[0], 100_000))
    config = penstock.config_for(lab)
    subjects = {
        "empty": penstock.start(stage, config, worker="imin"),
        "full": penstock.start(stage, config, worker="imin", database_url=full),
    }
    stage.ready()
    for subject in subjects.values():
        rate_of(stage, subject, requests, 300, 0)
    p99: dict[str, list[float]] = {name: [] for name in subjects}
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    sent = 1000
    for _, name in turns(list(subjects), rounds):
        subject = subjects[name]
        order = Order(port=subject.port, requests=requests, rate=ACK_RATE, seconds=seconds, first=sent)
        p99[name].append(stage.load(order).latency["p99"])
        subject.finish()
        sent += round(ACK_RATE * seconds)
        rates[name].append(rate_of(stage, subject, requests, count, sent))
        sent += count
    stage.stores.drop_one(full)
    return [
        Report(
            "growth",
            f"{stored:,} finished events stored, over none",
            [
                over("acknowledgement p99, over empty", p99["full"], p99["empty"], P99_OVER_EMPTY),
                over("receipt to record, over empty", rates["full"], rates["empty"], RATE_OVER_EMPTY),
                *(Figure(f"p99, {name}", "ms", values) for name, values in p99.items()),
                *(Figure(f"receipt to record, {name}", "events/s", values) for name, values in rates.items()),
            ],
            {
                "stored": f"{stored:,} events with their fetches, links and timelines, put there in {filled:.0f} s",
                "load": f"open loop at {ACK_RATE}/s for {seconds:g} s, then {count} deliveries as fast as taken;"
                f" {rounds} round(s)",
                "body": f"{BODY_BYTES} bytes (imin)",
                "workers": f"{penstock.WORKER_PROCESSES} processes and a relay each; the lab answers at once",
            },
            stage.profiles.take(),
        )
    ]


async def fill(database_url: str, count: int) -> None:
    """Put so many finished events into a migrated database, as the flow would have left them."""
    connection = await asyncpg.connect(database_url, command_timeout=3600)
    try:
        for table in _TABLES:
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for first in range(1, count + 1, _CHUNK):
            last = min(first + _CHUNK - 1, count)
            newest = await connection.fetchval(
                "SELECT coalesce((SELECT id FROM events ORDER BY id DESC LIMIT 1), $1)", UUID(int=0)
            )
            fetch = await connection.fetchval("SELECT coalesce(max(id), 0) FROM fetches")
            for statement, arguments in zip(
                _FILL, ((first, last, count), (first, last, count), (newest, fetch), (newest,)), strict=True
            ):
                numbered = statement.replace("$4", "$1").replace("$5", "$2") if "$4" in statement else statement
                await connection.execute(numbered, *arguments)
        for table in _TABLES:
            await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        await connection.executemany(
            "INSERT INTO tallies (provider, what, state, delta) VALUES ('imin', $1, 'done', $2)",
            [("event", count), ("fetch", count)],
        )
        await connection.execute("VACUUM (ANALYZE)")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
