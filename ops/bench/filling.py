"""Puts finished events into a database, millions of them, as the flow would have left them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import asyncpg


CONNECTIONS: Final = 2
_CHUNK: Final = 100_000
_SECONDS: Final = 3600
_TABLES: Final = ("events", "fetches", "event_fetches", "timeline")

# A finished event of imin: its row, its fetch, the link between them, its timeline. Bodies are of the length that a
# sealed delivery of 200 bytes has. $1 and $2 are the first and the last of the chunk, $3 how many there are in all:
# a hundred a second, the last one now. Everything follows from the number, so that chunks can be made side by side.
_MOMENT: Final = "LATERAL (SELECT $4::timestamptz + make_interval(secs => (n - $3::bigint) / 100.0) AS at) AS moment"
_EVENT_ID: Final = (
    "(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid"
)
_FROM: Final = f"FROM generate_series($1::bigint, $2::bigint) AS n, {_MOMENT}"
_FILL: Final = (
    f"""
    INSERT INTO events (id, provider, account, state, received_at, finished_at, durability, content_type, headers, body,
                        body_bytes, body_sha256, event_types)
    SELECT {_EVENT_ID}, 'imin', 'main', 'done', at, at, 'postgres', 'application/json',
           '[["content-type", "application/json"]]', decode(repeat(md5(n::text), 15), 'hex'), 200,
           decode(repeat(md5(n::text), 2), 'hex'), '{{CustomerAccount}}'
    {_FROM}
    """,
    f"""
    INSERT INTO fetches (id, provider, account, resource, path, purpose, context, pick, missing, page, completes, state,
                         attempts, status, created_at, due_at, queue_at, began_at, finished_at)
    OVERRIDING SYSTEM VALUE
    SELECT n, 'imin', 'main', decode(md5((n % 100000)::text), 'hex'), '/api/v2/customer-accounts/c-' || n % 100000,
           'customer-account', '{{}}', '', 'retry', 1, false, 'done', 1, 200, at, at, at, at, at
    {_FROM}
    """,
    f"INSERT INTO event_fetches (event_id, fetch_id) SELECT {_EVENT_ID}, n {_FROM}",
    f"""
    INSERT INTO timeline (event_id, at, step, detail)
    SELECT {_EVENT_ID}, at, told.step, told.detail
    {_FROM}, (VALUES
        ('received', '200 bytes, sha256 0011aabbccdd…'), ('planned', 'CustomerAccount -> 1 call: GET /api/v2/...'),
        ('fetched', 'GET /api/v2/...: 200 in 21 ms, 1 records'), ('done', 'every fetch is in')
    ) AS told (step, detail)
    """,
)


async def fill(database_url: str, count: int, say: Callable[[str], None]) -> None:
    """Put ``count`` finished events into a migrated, empty database, on two connections side by side.

    Indexes are made afterwards, which costs a fraction of keeping them in order row by row.
    """
    pool = await asyncpg.create_pool(
        database_url,
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        command_timeout=_SECONDS,
        server_settings={"synchronous_commit": "off", "maintenance_work_mem": "512MB", "jit": "off"},
    )
    try:
        now = await pool.fetchval("SELECT now()")
        for table in _TABLES:
            await pool.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        indexes = await pool.fetch(
            """
            SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
            WHERE indrelid = ANY($1::text[]::regclass[]) AND NOT indisprimary
            """,
            list(_TABLES),
        )
        await pool.execute(f"DROP INDEX {', '.join(row['name'] for row in indexes)}")
        chunks = [(first, min(first + _CHUNK - 1, count)) for first in range(1, count + 1, _CHUNK)]
        done = 0

        async def put(chunk: tuple[int, int]) -> None:
            nonlocal done
            async with pool.acquire() as connection, connection.transaction():
                for statement in _FILL:
                    await connection.execute(statement, *chunk, count, now)
            done += 1
            if done * 10 // len(chunks) > (done - 1) * 10 // len(chunks):
                say(f"{100 * done // len(chunks)} % of {count:,} finished events stored")

        await _side_by_side([put(chunk) for chunk in chunks])
        say("making the indexes")
        await _side_by_side([pool.execute(row["definition"]) for row in indexes])
        for table in _TABLES:
            await pool.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        await pool.execute("SELECT setval(pg_get_serial_sequence('fetches', 'id'), $1)", count)
        await pool.executemany(
            "INSERT INTO tallies (provider, what, state, delta) VALUES ('imin', $1, 'done', $2)",
            [("event", count), ("fetch", count)],
        )
        say("vacuuming")
        await _side_by_side([pool.execute(f"VACUUM (ANALYZE) {table}") for table in _TABLES])
        await pool.execute("CHECKPOINT")
    finally:
        await pool.close()


async def _side_by_side(work: Sequence[Coroutine[Any, Any, object]]) -> None:
    """All of it; the pool's connections are what bounds it. Raises what the first that fails raises."""
    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)
