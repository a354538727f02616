"""A refresh without news: a worker process at work, on real stores, with an API that answers as it did before."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
import uuid_utils.compat as uuid7s

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.inbox import NewEvent, insert
from shared.store.records.recognising import WORTH_RECORDS
from shared.watching import ConfigurationWatch
from workers.follow_up.flow import follow_up
from workers.follow_up.recognising import WORTH_BYTES
from workers.process import WorkerProcess


PADDING = "x" * (WORTH_BYTES // WORTH_RECORDS)
USER = "b" * 24


class Api(ThreadingHTTPServer):
    """Paybook's side: one page of each resource, with another request id in every answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = itertools.count()
        self.rows: dict[str, list[dict[str, Any]]] = {
            "transactions": [{"id_transaction": f"t-{n:04}", "amount": n, "p": PADDING} for n in range(WORTH_RECORDS)],
            "accounts": [{"id_account": f"a-{n:04}", "number": n, "p": PADDING} for n in range(WORTH_RECORDS)],
        }


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: Api

    def do_GET(self) -> None:
        """The page."""
        rows = self.server.rows[self.path.split("?")[0].rpartition("/")[2]]
        request = f"r-{next(self.server.requests)}"
        envelope = {"rid": request, "code": 200, "errors": None, "status": True, "message": None, "response": rows}
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
            server.shutdown()
            thread.join()


@pytest.fixture
def process(api: Api, database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, in this one, with one account whose budget is lifted."""
    config = tmp_path / "penstock.toml"
    config.write_text(
        '[following_up]\ncoalesce_seconds = 0\n[[paybook.accounts]]\nname = "main"\nwebhook_tokens = '
        '["token-of-16-letters"]\napi_key = "key"\nbudget = { calls = 0 }\n'
        f'base_url = "http://127.0.0.1:{api.server_port}"\n'
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


def test_a_page_that_came_before_is_recognised_and_its_records_are_as_fresh_as_it(
    process: WorkerProcess, database_url: str
) -> None:
    """Only the request's id differs: no change, every record fetched now, and the timeline says how many."""
    refresh(process, database_url, "transactions")
    ask(database_url, "UPDATE records SET fetched_at = now() - interval '1 day'")
    ask(database_url, "UPDATE answers SET seen_at = now() - interval '1 day'")

    event = refresh(process, database_url, "transactions")

    assert [WORTH_RECORDS] == ask(
        database_url, "SELECT count(*) FROM records WHERE fetched_at > now() - interval '1 hour'"
    )
    assert [True] == ask(database_url, "SELECT seen_at > now() - interval '1 hour' FROM answers")
    assert [WORTH_RECORDS] == ask(database_url, "SELECT count(*) FROM changes")
    (told,) = ask(database_url, "SELECT detail FROM timeline WHERE event_id = $1 AND step = 'fetched'", event)
    assert told.endswith(f", {WORTH_RECORDS} records as before")


def test_a_page_with_news_is_read(process: WorkerProcess, api: Api, database_url: str) -> None:
    """One amount differs: one change; then that page is the one that is known."""
    refresh(process, database_url, "transactions")
    (before,) = ask(database_url, "SELECT digest FROM answers")
    api.rows["transactions"][7]["amount"] = 1_000_000

    refresh(process, database_url, "transactions")

    assert ["t-0007"] == ask(database_url, "SELECT external_id FROM changes WHERE op = 'updated'")
    assert ask(database_url, "SELECT digest FROM answers") != [before]


@pytest.mark.parametrize(
    ("meanwhile", "change"),
    [
        ("DELETE FROM records WHERE external_id = 't-0003'", "created"),
        ("UPDATE records SET deleted_at = now() WHERE external_id = 't-0003'", "created"),
        ("UPDATE records SET data = '{}', digest = '\\x00' WHERE external_id = 't-0003'", "updated"),
    ],
)
def test_a_known_page_is_read_after_all_where_a_record_is_not_as_it_shows_it(
    process: WorkerProcess, database_url: str, meanwhile: str, change: str
) -> None:
    """Whatever became of a record meanwhile, it is again what the provider says it is."""
    refresh(process, database_url, "transactions")
    ask(database_url, "TRUNCATE changes")
    ask(database_url, meanwhile)

    refresh(process, database_url, "transactions")

    assert [(change, "t-0003")] == ask(database_url, "SELECT (op, external_id) FROM changes")
    assert ["3"] == ask(
        database_url, "SELECT data ->> 'amount' FROM records WHERE external_id = 't-0003' AND deleted_at IS NULL"
    )


def test_a_page_with_private_members_is_read_every_time(process: WorkerProcess, database_url: str) -> None:
    """They are sealed anew, with the keys of the day."""
    refresh(process, database_url, "accounts")

    assert [WORTH_RECORDS] == ask(database_url, "SELECT count(*) FROM records WHERE sealed IS NOT NULL")
    assert [0] == ask(database_url, "SELECT count(*) FROM answers")


def refresh(process: WorkerProcess, database_url: str, resource: str) -> UUID:
    """A refresh of one page, followed up to its end."""
    event = UUID(str(uuid7s.uuid7()))
    page = f"/v1/{resource}?id_credential={'a' * 24}&limit=5000&skip=0"
    delivery = {"event": "refresh", "id_user": USER, "id_job": str(event), "endpoints": {resource: [page]}}
    body = orjson.dumps(delivery)
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

    async def receive() -> None:
        connection = await asyncpg.connect(database_url)
        await insert(connection, [new])
        await connection.close()

    asyncio.run(receive())
    process.run(follow_up(process, "paybook"))
    assert ["done"] == ask(database_url, "SELECT state FROM events WHERE id = $1", event)
    return event


def ask(database_url: str, statement: str, *arguments: object) -> list[Any]:
    """The first column of what a statement returns."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(database_url)
        try:
            return [row[0] for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    return asyncio.run(run())
