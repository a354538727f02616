"""One real worker with a Redis of its own, and events that are put in its way as ingress does."""

import asyncio
import hashlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import asyncpg
import redis
import uuid_utils.compat as uuid7s
from pydantic import SecretStr

from ops.embedded.redis import Redis
from ops.supervisor.process import Process, Program
from redis_faults.api import CALLS
from redis_faults.proxy import Proxy, running_proxy
from shared.configuration import Timing
from shared.errors import StoreAway
from shared.providers.registry import PROVIDERS
from shared.publishing import Publisher
from shared.queue import plan_task, queue_of
from shared.sealing import Keys
from shared.store.inbox import NewEvent, insert
from support.conditions import HANG_SECONDS, until


T = TypeVar("T")

ROOT = Path(__file__).parents[2]
KEY = "A" * 43 + "="
CONFIG = """
[retry]
base_seconds = 0.2
max_seconds = 1.0

[following_up]
coalesce_seconds = 0.0

[[imin.accounts]]
name = "main"
webhook_keys = ["k-webhook"]
api_key = "k-api"
base_url = "{api}"
budget = {{ calls = 0 }}

[settings]
removal = "file"
"""


@dataclass
class Bench:
    """A worker of two providers with two children, its Redis behind a proxy, and a publisher beside the proxy."""

    folder: Path
    api: str
    database_url: str
    redis: Redis
    proxy: Proxy
    worker: Process
    publisher: Publisher

    @property
    def log(self) -> str:
        """What the worker said so far."""
        return self.worker.program.log.read_text()

    def keep_long(self, seconds: float) -> tuple[str, uuid.UUID]:
        """An event of imin in Postgres, whose call takes so long: the customer asked for, and its id."""
        customer = f"{seconds}-{uuid.uuid4().hex}"
        body = f'{{"@id":"{self.api}/api/v2/customer-accounts/{customer}","identifier":"{customer}"}}'
        return customer, self._keep("imin", body.encode())

    def keep_short(self) -> uuid.UUID:
        """An event of Authenteq in Postgres, which is parked as soon as a message leads to it: no account is set up.

        A running task takes up whatever else is due of its own provider, and would hide that nothing is consumed.
        """
        return self._keep("authenteq", b"{}")

    def _keep(self, provider: str, body: bytes) -> uuid.UUID:
        event = uuid.UUID(str(uuid7s.uuid7()))
        sealed = Keys.parse([SecretStr(KEY)]).seal(body, event)
        kept = NewEvent(
            id=event,
            provider=provider,
            account="main",
            received_at=datetime.now(UTC),
            durability="postgres",
            content_type="application/json",
            headers=[],
            body=sealed,
            blob=None,
            body_bytes=len(body),
            body_sha256=hashlib.sha256(body).digest(),
        )
        self._with_database(lambda connection: insert(connection, [kept]))
        return event

    def queue(self, provider: str, event: uuid.UUID) -> None:
        """Say so to the worker, until Redis takes the message."""

        def published() -> bool:
            try:
                self.publisher.publish(plan_task(provider), queue_of(provider), [[str(event)]])
            except StoreAway:
                return False
            return True

        until(published, otherwise="the publisher does not publish")

    def state(self, event: uuid.UUID) -> str:
        """The event's state."""
        return str(self._with_database(lambda db: db.fetchval("SELECT state FROM events WHERE id = $1", event)))

    def wait_until_worked(self) -> None:
        """Until the worker has taken up a new event, which is queued again every second as the relay would."""
        began = time.monotonic()
        event = self.keep_short()
        queued = float("-inf")
        while self.state(event) != "parked":
            assert self.worker.ended() is None, f"the worker ended:\n{self.log[-4000:]}"
            assert time.monotonic() - began < HANG_SECONDS, f"nothing is worked:\n{self.log[-4000:]}"
            if time.monotonic() - queued > 1:
                self.queue("authenteq", event)
                queued = time.monotonic()
            time.sleep(0.05)

    def start_running(self, seconds: float) -> tuple[str, uuid.UUID]:
        """An event of imin whose task runs from now on for so long, not acknowledged before its end."""
        customer, event = self.keep_long(seconds)
        self.queue("imin", event)
        until(lambda: CALLS[customer], otherwise=f"its task does not run:\n{self.log[-4000:]}")
        return customer, event

    def process_that_calls(self) -> int:
        """The id of the worker process that makes a call now."""
        name = self._with_database(
            lambda db: db.fetchval(
                "SELECT w.name FROM worker_processes w JOIN fetches f ON f.claimed_by = w.id WHERE f.state = 'running'"
            )
        )
        return int(str(name).rpartition("-")[2])

    def suspects(self) -> int:
        """How many calls a worker's death has made suspect, whether or not somebody has taken them up already."""
        return int(self._with_database(lambda db: db.fetchval("SELECT count(*) FROM fetches WHERE suspect")))

    def client(self) -> "redis.Redis":
        """For commands to the server itself."""
        return redis.Redis.from_url(self.redis.url, socket_timeout=5)

    def _with_database(self, use: Callable[[asyncpg.Connection], object]) -> T:
        async def once() -> T:
            connection = await asyncpg.connect(self.database_url)
            try:
                return await use(connection)
            finally:
                await connection.close()

        return asyncio.run(once())


def worker_program(folder: Path, database_url: str, redis_url: str, *arguments: str, code: str = "") -> Program:
    """``penstock worker imin authenteq``; ``code`` is a folder whose packages come first."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PROMETHEUS_"))}
    return Program(
        name="worker-imin",
        argv=[sys.executable, "-m", "ops", "worker", "imin", "authenteq", "--concurrency", "2", *arguments],
        environment={
            **clean,
            "PYTHONPATH": os.pathsep.join(part for part in (code, str(ROOT)) if part),
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis_url,
            "PENSTOCK_DATA_DIR": str(folder),
            "PENSTOCK_CONFIG": str(folder / "penstock.toml"),
            "PENSTOCK_ENCRYPTION_KEYS": KEY,
            "PENSTOCK_LOG_FORMAT": "json",
        },
        log=folder / "worker.log",
    )


@contextmanager
def running_bench(folder: Path, database_url: str, api: str, *arguments: str) -> Iterator[Bench]:
    """A bench whose worker has worked one event."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penstock.toml").write_text(CONFIG.format(api=api))
    with Redis(folder) as server, running_proxy(server.port) as proxy:
        redis_url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        publisher = Publisher(server.url, Timing(), PROVIDERS)
        program = worker_program(
            folder, database_url, redis_url, *arguments, code=os.environ.get("TRY_OTHER_PACKAGES", "")
        )
        bench = Bench(folder, api, database_url, server, proxy, Process(program), publisher)
        try:
            bench.wait_until_worked()
            yield bench
        finally:
            bench.worker.kill()
            bench.worker.wait(HANG_SECONDS)
            publisher.close()
