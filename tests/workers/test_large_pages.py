"""A refresh of many large pages: one process takes a few at a time and leaves the others to its neighbours."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest
import uuid_utils.compat as uuid7s
from redis import Redis as Client

from ops.embedded.redis import Redis
from shared.providers.registry import PROVIDERS
from shared.queue import queue_of
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.inbox import NewEvent, insert
from shared.watching import ConfigurationWatch
from support.conditions import HANG_SECONDS, until
from workers.follow_up.flow import follow_up
from workers.process import WorkerProcess


PAGES = 12
AT_ONCE = 4


class Api(ThreadingHTTPServer):
    """Paybook's side: every page has one transaction, named after its place; all answers wait until they are let go."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.asked = 0
        self.let_go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: Api

    def do_GET(self) -> None:
        """A page."""
        with self.server.lock:
            self.server.asked += 1
        self.server.let_go.wait(HANG_SECONDS)
        row = {"id_transaction": self.path.rpartition("skip=")[2]}
        envelope = {"rid": "r", "code": 200, "errors": None, "status": True, "message": None, "response": [row]}
        body = orjson.dumps(envelope)
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
def processes(api: Api, database_url: str, redis: Redis, tmp_path: Path) -> Iterator[list[WorkerProcess]]:
    """Two started worker processes, in this one, with one account whose budget is lifted."""
    config = tmp_path / "penstock.toml"
    config.write_text(
        '[[paybook.accounts]]\nname = "main"\nwebhook_tokens = ["token-of-16-letters"]\napi_key = "key"\n'
        f'base_url = "http://127.0.0.1:{api.server_port}"\nbudget = {{ calls = 0 }}\n'
    )
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = [WorkerProcess(settings, ConfigurationWatch(config), f"worker-{number}") for number in range(2)]
    for process in made:
        process.start()
    yield made
    for process in made:
        process.stop()


def test_a_process_takes_a_few_pages_and_leaves_the_others_to_its_neighbours(
    processes: list[WorkerProcess], api: Api, database_url: str, redis: Redis
) -> None:
    """It has four under way, tells the queue of the rest at once, and a second process takes four more."""
    event = asyncio.run(_receive(database_url, processes[0]))
    queue = Client.from_url(redis.url)
    queue.delete(queue_of("paybook"))
    with ThreadPoolExecutor() as threads:
        first = threads.submit(processes[0].run, follow_up(processes[0], "paybook"))
        until(lambda: api.asked == AT_ONCE and queue.llen(queue_of("paybook")) == 1)
        assert AT_ONCE == asyncio.run(_running(database_url))

        second = threads.submit(processes[1].run, follow_up(processes[1], "paybook"))
        until(lambda: api.asked == 2 * AT_ONCE)
        assert 2 * AT_ONCE == asyncio.run(_running(database_url))

        api.let_go.set()
        first.result(60)
        second.result(60)

    assert AT_ONCE == PROVIDERS["paybook"].follow_up.calls_at_once
    assert PAGES == api.asked
    assert ("done", PAGES) == asyncio.run(_outcome(database_url, event))


async def _receive(database_url: str, process: WorkerProcess) -> UUID:
    """A refresh of so many pages."""
    event = UUID(str(uuid7s.uuid7()))
    pages = [f"/v1/transactions?id_credential={'a' * 24}&limit=2&skip={n}" for n in range(PAGES)]
    body = orjson.dumps(
        {
            "event": "refresh",
            "id_user": "b" * 24,
            "id_credential": "a" * 24,
            "endpoints": {"transactions": pages},
        }
    )
    new = NewEvent(
        id=event,
        provider="paybook",
        account="main",
        received_at=datetime.now(UTC),
        durability="postgres",
        content_type="application/json",
        headers=[],
        body=process.keys.seal(body, event),
        blob=None,
        body_bytes=len(body),
        body_sha256=bytes(32),
    )
    connection = await asyncpg.connect(database_url)
    await insert(connection, [new])
    await connection.close()
    return event


async def _running(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    running: int = await connection.fetchval("SELECT count(*) FROM fetches WHERE state = 'running'")
    await connection.close()
    return running


async def _outcome(database_url: str, event: UUID) -> tuple[str, int]:
    connection = await asyncpg.connect(database_url)
    state: str = await connection.fetchval("SELECT state FROM events WHERE id = $1", event)
    records: int = await connection.fetchval("SELECT count(*) FROM records")
    await connection.close()
    return state, records
