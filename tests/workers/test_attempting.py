"""What answers tell an account's circuit: a worker process at work on real stores, with an API that refuses."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest
import uuid_utils.compat as uuid7s

from ops.embedded.redis import Redis
from shared.budgets import Budgets
from shared.circuits import FAILURES_TO_OPEN, Trouble
from shared.providers.account import AccountSettings
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.inbox import NewEvent, insert
from shared.watching import ConfigurationWatch
from workers.follow_up.flow import follow_up
from workers.process import WorkerProcess


EVENTS = 30


class Api(ThreadingHTTPServer):
    """Paybook's side: HTTP 200 always, and what is wrong only in the envelope."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.code = 200
        self.calls = 0


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: Api

    def do_GET(self) -> None:
        """The envelope, with the code that the test wants."""
        self.server.calls += 1
        fine = self.server.code == 200
        body = orjson.dumps(
            {"code": self.server.code, "status": fine, "message": None, "response": [] if fine else None}
        )
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
            server.shutdown()
            thread.join()


@pytest.fixture
def process(api: Api, database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, in this one, that makes one call after the other."""
    config = tmp_path / "penstock.toml"
    config.write_text(
        f"""
        [following_up]
        concurrent_calls = 1
        probe_seconds = 1

        [[paybook.accounts]]
        name = "main"
        webhook_tokens = ["0123456789abcdef"]
        api_key = "a-key"
        base_url = "http://127.0.0.1:{api.server_port}"
        budget = {{ calls = 0 }}
        """
    )
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(config), "worker-paybook")
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(("code", "failures"), [(503, FAILURES_TO_OPEN["down"]), (401, 1), (402, 1)])
def test_an_envelope_of_trouble_inside_http_200_opens_the_circuit(
    process: WorkerProcess, api: Api, database_url: str, code: int, failures: int
) -> None:
    """It counts as what it says: so many failures, then nobody calls but a probe, and nothing uses up an attempt."""
    api.code = code
    asyncio.run(_receive(database_url, process))

    process.run(follow_up(process, "paybook"))

    attempts = asyncio.run(_attempts(database_url))
    assert EVENTS == len(attempts)
    # the call that opens the circuit is put off like those that found it open
    assert EVENTS - failures + 1 <= attempts.count(0)
    assert EVENTS // 2 > api.calls


def test_an_envelope_of_trouble_inside_http_200_is_no_probe_that_succeeded(
    process: WorkerProcess, api: Api, redis: Redis, database_url: str
) -> None:
    """The circuit stays open and is probed again; when the API is well, what was held goes on."""
    account = process.watch.current.accounts["paybook"]["main"]
    api.code = 503
    asyncio.run(_receive(database_url, process))
    process.run(follow_up(process, "paybook"))
    calls = api.calls

    _until(lambda: api.calls >= calls + 2)  # a first probe that closed it would be the last one
    assert "open" == asyncio.run(_circuit(account, redis.url))
    api.code = 200

    _until(lambda: asyncio.run(_circuit(account, redis.url)) == "closed")


@pytest.mark.parametrize("trouble", ["down", "refused"])
def test_an_open_circuit_is_probed_also_where_nothing_is_held(
    process: WorkerProcess, api: Api, redis: Redis, trouble: Trouble
) -> None:
    """A reconciliation opened it: nobody need call to find out that the API is well again."""
    account = process.watch.current.accounts["paybook"]["main"]

    async def opened() -> None:
        budgets = Budgets(redis.url)
        await budgets.circuits.open("paybook", account, trouble, "it said so", 0.1)
        await budgets.close()

    api.code = 200
    asyncio.run(opened())

    _until(lambda: asyncio.run(_circuit(account, redis.url)) == "closed")
    assert 1 == api.calls


def test_an_envelope_of_refusal_inside_http_200_does_not_close_a_refused_circuit(
    process: WorkerProcess, api: Api, redis: Redis
) -> None:
    """The cheapest read is judged as calls are: by what it says, and it is asked again until that is good."""
    account = process.watch.current.accounts["paybook"]["main"]

    async def opened() -> None:
        budgets = Budgets(redis.url)
        await budgets.circuits.open("paybook", account, "refused", "check the API key of main", 0.1)
        await budgets.close()

    api.code = 401
    asyncio.run(opened())

    _until(lambda: api.calls >= 2)
    assert "open" == asyncio.run(_circuit(account, redis.url))
    api.code = 200

    _until(lambda: asyncio.run(_circuit(account, redis.url)) == "closed")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def _circuit(account: AccountSettings, redis_url: str) -> str:
    budgets = Budgets(redis_url)
    state = await budgets.state("paybook", account)
    await budgets.close()
    return state.circuit


async def _receive(database_url: str, process: WorkerProcess) -> None:
    """Events about so many pages."""
    events = []
    for _ in range(EVENTS):
        event = UUID(str(uuid7s.uuid7()))
        page = f"/v1/transactions?id_credential={event.hex[:24]}&limit=50&skip=0"
        notification = {"event": "refresh", "id_user": event.hex[:24], "endpoints": {"transactions": [page]}}
        body = orjson.dumps(notification)
        events.append(
            NewEvent(
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
        )
    connection = await asyncpg.connect(database_url)
    await insert(connection, events)
    await connection.close()


async def _attempts(database_url: str) -> list[int]:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT attempts FROM fetches")
    await connection.close()
    return [row["attempts"] for row in rows]
