"""One account's trouble is its own: a worker process at work, on real stores, with an API that is slow or very busy."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest
import uuid_utils.compat as uuid7s

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.inbox import NewEvent, insert
from shared.watching import ConfigurationWatch
from support.conditions import HANG_SECONDS, until
from workers.follow_up.flow import LOOK_SECONDS, STILL_DUE_SECONDS, follow_up
from workers.process import WorkerProcess


CALM = [f"studio-{number:02}" for number in range(19)]
STORM = "storm"
STORM_EVENTS = 500
PLACES = 12
"""Calls that the process has under way at most; a batch of events is no larger."""


class Api(ThreadingHTTPServer):
    """The provider's side: any customer of any account; some accounts' answers wait until they are let go."""

    request_queue_size = 128  # with the usual five a connection among many is made a second later

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.called: list[str] = []
        self.slow: set[str] = set()
        self.let_go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One call; the API key is the account's name."""

    server: Api

    def do_GET(self) -> None:
        """The customer's account."""
        account = self.headers["x-api-key"]
        self.server.called.append(account)
        if account in self.server.slow:
            self.server.let_go.wait(HANG_SECONDS)
        body = orjson.dumps({"@type": "CustomerAccount", "identifier": self.path.rpartition("/")[2]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    """The API on a free port."""
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.let_go.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def process(api: Api, database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, in this one, with twenty accounts."""
    accounts = [
        f'[[imin.accounts]]\nname = "{name}"\nwebhook_keys = ["to-{name}"]\napi_key = "{name}"\n'
        f'base_url = "http://127.0.0.1:{api.server_port}"\n'
        for name in (*CALM, STORM)
    ]
    config = tmp_path / "penstock.toml"
    config.write_text(f"[following_up]\nconcurrent_calls = {PLACES}\nbatch_events = {PLACES}\n" + "".join(accounts))
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(config), "worker-imin")
    made.start()
    yield made
    made.stop()


def test_a_storm_of_one_studio_delays_the_others_by_no_more_than_a_batch(
    process: WorkerProcess, api: Api, database_url: str
) -> None:
    """Five hundred times as much waits, and longer; the others' calls are among the first batches all the same."""
    asyncio.run(_receive(database_url, process, api, [STORM] * STORM_EVENTS))
    others = asyncio.run(_receive(database_url, process, api, CALM))

    process.run(follow_up(process, "imin"))

    assert set(others) <= asyncio.run(_done(database_url))
    assert STORM_EVENTS == api.called.count(STORM)
    last = max(number for number, account in enumerate(api.called) if account != STORM)
    # nineteen accounts and a storm take turns in batches of twelve places; the storm's share of each is one
    assert api.called[:last].count(STORM) <= PLACES


def test_a_slow_api_of_one_account_holds_up_that_account_alone(
    process: WorkerProcess, api: Api, database_url: str
) -> None:
    """Its calls have their share of the places and no more; the others' come and go beside them, old and new."""
    api.slow.add(STORM)
    slow = asyncio.run(_receive(database_url, process, api, [STORM] * 5 * PLACES))
    with ThreadPoolExecutor() as threads:
        task = threads.submit(process.run, follow_up(process, "imin"))
        until(lambda: api.called.count(STORM) > 1)

        for _ in range(2):  # the task is under way and sees what comes, without a message of its own
            others = asyncio.run(_receive(database_url, process, api, CALM))
            until(lambda: set(others) <= asyncio.run(_done(database_url)))  # noqa: B023 - called before the next
        under_way = api.called.count(STORM)
        api.let_go.set()
        task.result(60)

    assert under_way < PLACES
    assert set(slow) <= asyncio.run(_done(database_url))


def test_answers_that_wait_to_be_stored_hold_no_place_and_are_no_more_than_there_are_places(
    process: WorkerProcess, api: Api, database_url: str
) -> None:
    """While Postgres is slow to store a batch, the next calls are made; not all that there are."""
    events = asyncio.run(_receive(database_url, process, api, CALM * 3))
    with ThreadPoolExecutor() as threads, _nothing_stored(database_url):
        task = threads.submit(process.run, follow_up(process, "imin"))
        until(lambda: len(api.called) == 2 * PLACES)

        time.sleep(STILL_DUE_SECONDS + LOOK_SECONDS)  # it has looked again, and let it be
        assert len(api.called) == 2 * PLACES
    task.result(60)

    assert set(events) == asyncio.run(_done(database_url))


@contextmanager
def _nothing_stored(database_url: str) -> Iterator[None]:
    """Records can be read and not written for the time of the block."""

    async def lock() -> asyncpg.Connection:
        connection = await asyncpg.connect(database_url)
        await connection.execute("BEGIN; LOCK TABLE records IN EXCLUSIVE MODE")
        return connection

    with asyncio.Runner() as runner:
        connection = runner.run(lock())
        try:
            yield
        finally:
            runner.run(connection.close())


async def _receive(database_url: str, process: WorkerProcess, api: Api, accounts: list[str]) -> list[UUID]:
    """An event of each of these accounts, each about another customer."""
    events = []
    for account in accounts:
        event = UUID(str(uuid7s.uuid7()))
        customer = f"http://127.0.0.1:{api.server_port}/api/v2/customer-accounts/{event}"
        body = orjson.dumps({"@type": "CustomerAccount", "@id": customer, "identifier": str(event)})
        events.append(
            NewEvent(
                id=event,
                provider="imin",
                account=account,
                received_at=datetime.now(UTC),
                durability="postgres",
                content_type="application/json",
                headers=[],
                body=process.keys.seal(body, event),
                blob=None,
                body_bytes=len(body),
                body_sha256=bytes(32),
            )
        )
    connection = await asyncpg.connect(database_url)
    await insert(connection, events)
    await connection.close()
    return [event.id for event in events]


async def _done(database_url: str) -> set[UUID]:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT id FROM events WHERE state = 'done'")
    await connection.close()
    return {row["id"] for row in rows}
