"""A started worker process of all four providers, an API that answers it, and stores that can be made to fail."""

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import uuid_utils.compat as uuid7s

from shared.sealing import generate_key
from shared.settings import Settings
from shared.store import queueing
from shared.store.inbox import NewEvent, insert
from shared.watching import ConfigurationWatch
from workers.follow_up.flow import follow_up
from workers.process import WorkerProcess


PASSPORT = Path(__file__).parent.parent / "deliveries" / "authenteq" / "verification__passport"
_RESULT_ID = b"0f6c2a7e-5f0e-4f4c-9a58-9f0a2c1f7b11"

Answer = Callable[[str], tuple[int, bytes]]


class Api(ThreadingHTTPServer):
    """The providers' side: ``answer`` says what a path is answered with."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Answer = customer_account
        self.called: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.called.append(self.path)
        status, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def customer_account(path: str) -> tuple[int, bytes]:
    """Any customer of imin, named after the end of the path."""
    return 200, orjson.dumps({"@type": "CustomerAccount", "identifier": path.rpartition("/")[2]})


@contextmanager
def serving() -> Iterator[Api]:
    """The API on a free port."""
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def working(api: Api, database_url: str, redis_url: str, folder: Path, more: str = "") -> Iterator[WorkerProcess]:
    """A started worker process, in this one; ``more`` goes before its accounts in the settings."""
    url = f'base_url = "http://127.0.0.1:{api.server_port}"\nbudget = {{ calls = 0 }}\n'
    config = folder / "penstock.toml"
    config.write_text(
        f"{more}\n"
        f'[[imin.accounts]]\nname = "main"\nwebhook_keys = ["k1"]\napi_key = "k2"\n{url}'
        f'[[magicline.accounts]]\nname = "main"\nwebhook_keys = ["k3"]\napi_key = "k4"\n{url}'
        f'[[paybook.accounts]]\nname = "main"\nwebhook_tokens = ["token-of-16-letters"]\napi_key = "k5"\n{url}'
        '[[authenteq.accounts]]\nname = "main"\nclient_id = "client"\nclient_secrets = ["s"]\nconfirm = true\n' + url
    )
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis_url,
            "PENSTOCK_DATA_DIR": str(folder),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(config), "worker-all")
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Failing:
    """A collaborator that raises ``error`` in ``method`` for whatever names one of the ``victims``, until mended.

    An awaited method takes ``seconds`` first, whether it fails or not.
    """

    def __init__(
        self, real: Any, method: str, error: BaseException, victims: Sequence[str], seconds: float = 0.0
    ) -> None:
        self._real = real
        self._method = method
        self._error = error
        self._victims = victims
        self._seconds = seconds
        self.mended = False
        self.raised = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name != self._method:
            return real
        if asyncio.iscoroutinefunction(real):

            async def awaited(*args: Any, **named: Any) -> Any:
                if self._seconds:
                    await asyncio.sleep(self._seconds)
                self._fail((args, named))
                return await real(*args, **named)

            return awaited

        def called(*args: Any, **named: Any) -> Any:
            self._fail((args, named))
            return real(*args, **named)

        return called

    def _fail(self, arguments: object) -> None:
        text = repr(arguments)
        if not self.mended and any(victim in text for victim in self._victims):
            self.raised += 1
            raise self._error


class Store:
    """The tests' own look at Postgres."""

    def __init__(self, database_url: str, process: WorkerProcess, api: Api) -> None:
        self._url = database_url
        self._process = process
        self._api = api

    def run(self, work: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
        """Do something on a connection of its own."""

        async def connected() -> Any:
            connection = await asyncpg.connect(self._url)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    def rows(self, query: str, *values: object) -> list[Any]:
        """What a query finds."""
        return self.run(lambda db: db.fetch(query, *values))

    def execute(self, statement: str, *values: object) -> None:
        """Do one statement."""
        self.run(lambda db: db.execute(statement, *values))

    def receive(self, provider: str, bodies: Sequence[bytes], *, large: bool = False, kind: str = "") -> list[UUID]:
        """Keep deliveries as ingress does, of the account ``main``: sealed, in their rows or in the blob store."""
        ids = [UUID(str(uuid7s.uuid7())) for _ in bodies]

        async def keep(db: asyncpg.Connection) -> None:
            events = []
            for event, body in zip(ids, bodies, strict=True):
                key = f"bodies/{event}"
                if large:
                    await self._process.blobs.put(key, body, event)
                events.append(
                    NewEvent(
                        id=event,
                        provider=provider,
                        account="main",
                        received_at=datetime.now(UTC),
                        durability="postgres",
                        content_type=kind or "application/json",
                        headers=[],
                        body=None if large else self._process.keys.seal(body, event),
                        blob=key if large else None,
                        body_bytes=len(body),
                        body_sha256=bytes(32),
                    )
                )
            await insert(db, events)

        self.run(keep)
        return ids

    def imin(self, customers: Sequence[str], *, large: bool = False) -> list[UUID]:
        """A delivery about each of these customers."""
        url = f"http://127.0.0.1:{self._api.server_port}/api/v2/customer-accounts"
        bodies = [
            orjson.dumps({"@type": "CustomerAccount", "@id": f"{url}/{name}", "identifier": name}) for name in customers
        ]
        return self.receive("imin", bodies, large=large)

    def authenteq(self, results: Sequence[str], *, large: bool = False, status: str = "PASSED") -> list[UUID]:
        """A verification under each of these ids, with its image."""
        raw = (PASSPORT / "body.raw").read_bytes().replace(b'"PASSED"', f'"{status}"'.encode())
        headers = dict(orjson.loads((PASSPORT / "headers.json").read_bytes()))
        bodies = [raw.replace(_RESULT_ID, name.encode()) for name in results]
        return self.receive("authenteq", bodies, large=large, kind=headers["Content-Type"])

    def states(self, events: Sequence[UUID]) -> list[str]:
        """The state of each, with the reason of its error where it has one."""
        found = self.rows("SELECT id, state, error_reason FROM events WHERE id = ANY($1)", list(events))
        by_id = {row["id"]: f"{row['state']} {row['error_reason'] or ''}".strip() for row in found}
        return [by_id[event] for event in events]

    def timeline(self, event: UUID) -> list[tuple[str, str]]:
        """Step and detail."""
        return [
            (row["step"], row["detail"])
            for row in self.rows("SELECT step, detail FROM timeline WHERE event_id = $1 ORDER BY id", event)
        ]

    def make_due(self) -> None:
        """Time passes: whatever waits for a time has come to it, and the relay looks."""

        async def pass_by(db: asyncpg.Connection) -> None:
            await db.execute("UPDATE events SET due_at = now() WHERE due_at IS NOT NULL")
            await db.execute(
                "UPDATE fetches SET due_at = now(), queue_at = now() WHERE state IN ('pending', 'waiting')"
            )
            await queueing.let_due(db, 1000)

        self.run(pass_by)


def followed(process: WorkerProcess, provider: str) -> str:
    """What one task does."""
    return process.run(follow_up(process, provider))


def without_digits(text: str) -> str:
    """Figures differ from run to run."""
    return re.sub(r"[0-9.]+", "#", text)
