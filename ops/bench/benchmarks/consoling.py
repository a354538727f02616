"""How long the console's pages take when much is stored: Overview, and Events by each of its filters."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import httpx

from ops.bench import penstock
from ops.bench.filling import fill
from ops.bench.load import HOST
from ops.bench.results import Figure, Report
from ops.bench.stage import Stage, free_port
from ops.bench.statistics import Target
from shared.errors import StoreAway
from shared.store.postgres import connect_once


AT_MOST_MS: Final = Target(300, at_least=False)
FULL: Final = 10_000_000
QUICK: Final = 100_000
ROUNDS: Final = 7
_PAGE_SECONDS: Final = 60.0

# What people look for is rare among what is done: one event in a hundred failed, one in five hundred was parked, of
# another provider. They are chosen by the number at the end of their ids, so that they lie all over the table.
_NUMBER: Final = "('x' || right(id::text, 7))::bit(28)::int"
_VARIED: Final = (
    "ALTER TABLE events DISABLE TRIGGER USER",
    f"""
    UPDATE events SET state = 'failed', error_reason = 'refused',
                      error_detail = 'the API answered 410 for GET /api/v2/customer-accounts/' || right(id::text, 6)
    WHERE {_NUMBER} % 100 = 0
    """,  # noqa: S608 - constants
    f"""
    UPDATE events SET state = 'parked', error_reason = 'unknown-type', error_detail = 'zebra ' || right(id::text, 6),
                      provider = 'magicline', account = 'studio', event_types = '{{WHAT_IS_THIS,CUSTOMER_UPDATED}}'
    WHERE {_NUMBER} % 500 = 7
    """,  # noqa: S608 - constants
    f"UPDATE events SET discarded_at = now(), discard_reason = 'a test' WHERE {_NUMBER} % 10000 = 100",  # noqa: S608
    "ALTER TABLE events ENABLE TRIGGER USER",
    """
    INSERT INTO changes (seq, op, provider, account, kind, external_id, changed, event_id)
    SELECT row_number() OVER (), 'updated', provider, account, 'imin.customer-account', 'c-' || right(id::text, 5),
           '{a}', id
    FROM events WHERE state = 'failed'
    """,
    """
    INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
    SELECT 'imin', 'main', 'imin.customer-account', 'c-' || n, '{"a": 1}', n, now(), now()
    FROM generate_series(1, 100000) AS n
    """,
    "VACUUM (ANALYZE) events",
    "VACUUM (ANALYZE) changes",
    "VACUUM (ANALYZE) records",
)


def console(stage: Stage) -> Sequence[Report]:
    """Each page several times in turn; what counts is the time until its last byte, over one connection."""
    stored = stage.stored or (QUICK if stage.quick else FULL)
    stage.expect_room(stored)
    url = stage.stores.database()
    began = time.monotonic()
    asyncio.run(fill(url, stored, stage.say))
    some = asyncio.run(_vary(url))
    stage.say(f"filled in {time.monotonic() - began:.0f} s")
    port = free_port()
    process = stage.start(
        "console",
        penstock.command("console"),
        {
            **penstock.environment(stage, stage.lab().config_toml(), url, stage.stores.redis()),
            "PENSTOCK_CONSOLE_PORT": str(port),
        },
    )
    stage.expect(lambda: _answers(port), "the console", process)
    stage.ready()
    took: dict[str, list[float]] = {}
    first: list[float] = []
    with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False, timeout=_PAGE_SECONDS) as client:
        for number in range(ROUNDS + 1):
            for name, address in _pages(some).items():
                # the first time reads from the disk what the others find in memory
                (took.setdefault(name, []) if number else first).append(_seconds(client, address) * 1000)
            stage.say(f"round {number} of {ROUNDS}")
    stage.stores.drop_one(url)
    return [
        Report(
            "console",
            f"pages of the console with {stored:,} events stored",
            [
                *(Figure(name, "ms", rounds, AT_MOST_MS) for name, rounds in took.items()),
                Figure("the slowest of them, asked for the first time", "ms", [max(first)]),
            ],
            {
                "stored": f"{stored:,} events with fetches, links and timelines; one in 100 failed, one in 500 parked",
                "asked": f"over one connection, one page after the other, {ROUNDS} rounds; until the last byte",
            },
            stage.profiles.take(),
        )
    ]


def _pages(some: str) -> dict[str, str]:
    now = datetime.now(UTC)
    day, hour = (f"{now - back:%Y-%m-%dT%H:%M}" for back in (timedelta(days=1), timedelta(hours=1)))
    filters = {
        "provider": "provider=imin",
        "rare provider": "provider=magicline",
        "account": "account=studio",
        "state done": "state=done",
        "state failed": "state=failed",
        "state waiting, of which there is none": "state=waiting",
        "discarded": "state=discarded",
        "type": "type=CustomerAccount",
        "rare type": "type=CUSTOMER_UPDATED",
        "time": f"since={day}&until={hour}",
        "id of a thing": "entity=c-4711",
        "common word": "words=refused",
        "rare word": f"words=zebra+{some[-6:]}",
        "word of none": "words=nonsense",
        "common word of a provider without it": "provider=magicline&words=refused",
        "all together": f"provider=imin&account=main&state=failed&type=CustomerAccount&since={day}&words=410",
        "a page far back": f"before={some}",
    }
    return {
        "Overview": "/",
        "Overview's live figures": "/api/stats",
        "Events": "/events",
        **{f"Events by {name}": f"/events?{query}" for name, query in filters.items()},
        "an event": f"/events/{some}",
        "Failed and parked": "/attention",
        "a group of them": "/attention/retry?provider=imin&reason=refused",
        "Records": "/records",
        "a record": "/records/one?provider=imin&account=main&kind=imin.customer-account&external_id=c-4711",
        "Accounts": "/accounts",
        "Quarantine": "/quarantine",
    }


def _seconds(client: httpx.Client, address: str) -> float:
    began = time.perf_counter()
    client.get(address).raise_for_status()
    return time.perf_counter() - began


async def _vary(url: str) -> str:
    """Make some events differ; returns the id of a parked one from the middle of them."""
    connection = await connect_once(url)
    try:
        for statement in _VARIED:
            await connection.execute(statement, timeout=3600)
        count = await connection.fetchval("SELECT count(*) FROM events WHERE state = 'parked'")
        found = await connection.fetchval(
            "SELECT id FROM events WHERE state = 'parked' ORDER BY id OFFSET $1 LIMIT 1", count // 2
        )
        return str(found)
    except asyncpg.PostgresError as error:
        raise StoreAway(f"the events were not made to differ: {error}") from None
    finally:
        await connection.close()


def _answers(port: int) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://{HOST}:{port}/static/icon.svg", trust_env=False).status_code == httpx.codes.OK
    return False
