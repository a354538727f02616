"""A worker process for handlers, in the test's own process, with the store and the settings that a test wants."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ops.embedded.redis import Redis
from penstock import handlers as python_handlers
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.records.numbering import number_changes
from shared.watching import ConfigurationWatch
from workers.hand_over.delivering import HandingOver
from workers.process import WorkerProcess


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENT = "[retry]\nbase_seconds = 3600.0\n"
"""What waits does so until the test says otherwise."""
OLDER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class Store:
    """What a test does to the database and asks of it, without a loop of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of one statement."""

        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.url)
            try:
                return await connection.fetch(statement, *arguments)
            finally:
                await connection.close()

        return asyncio.run(run())

    def change(
        self, count: int = 1, *, records: int = 0, kind: str = "magicline.customer", op: str = "updated"
    ) -> None:
        """So many numbered changes, each of a record of its own, or of ``records`` in turn; and those records."""

        async def change() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                await connection.execute(
                    """
                    WITH thing AS (SELECT n, (CASE WHEN $2 > 0 THEN n % $2 ELSE n END)::text AS id
                                   FROM generate_series(1, $1) AS n),
                         kept AS (
                        INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
                        SELECT DISTINCT ON (id) 'magicline', 'berlin', $3, id,
                               '{"id": 7, "firstName": "Ana", "status": "MEMBER",'
                               ' "balance": 22339.470000000001}'::jsonb,
                               1, now(), now()
                        FROM thing ON CONFLICT DO NOTHING)
                    INSERT INTO changes (op, provider, account, kind, external_id, changed)
                    SELECT $4, 'magicline', 'berlin', $3, id, '{status}' FROM thing ORDER BY n
                    """,
                    count,
                    records,
                    kind,
                    op,
                )
                while await number_changes(connection):
                    pass
            finally:
                await connection.close()

        asyncio.run(change())

    def states(self) -> dict[str, int]:
        """How many hand-overs are in each state."""
        rows = self.run("SELECT state, count(*) FROM handovers GROUP BY state")
        return {row["state"]: row["count"] for row in rows}

    def handover(self) -> asyncpg.Record:
        """The only hand-over."""
        (row,) = self.run("SELECT * FROM handovers")
        return row

    def due(self) -> None:
        """Whatever waits is due now, and circuits are closed to a next try."""
        self.run("UPDATE handovers SET due_at = now() WHERE state = 'waiting'")
        self.run("UPDATE handlers SET open_until = NULL")


@pytest.fixture
def store(database_url: str) -> Store:
    """A fresh database."""
    return Store(database_url)


Configure = Callable[..., WorkerProcess]


@pytest.fixture
def configured(database_url: str, redis: Redis, tmp_path: Path) -> Iterator[Configure]:
    """Make a started worker process whose settings have these lines."""
    made: list[WorkerProcess] = []

    def configure(text: str = "") -> WorkerProcess:
        (tmp_path / "penstock.toml").write_text(text)
        settings = Settings.read(
            {
                "PENSTOCK_DATABASE_URL": database_url,
                "PENSTOCK_REDIS_URL": redis.url,
                "PENSTOCK_DATA_DIR": str(tmp_path),
                "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
            }
        )
        process = WorkerProcess(settings, ConfigurationWatch(tmp_path / "penstock.toml"), "worker-handlers")
        process.start()
        made.append(process)
        return process

    yield configure
    for process in made:
        process.stop()


@pytest.fixture
def handing(configured: Configure) -> Iterator[Callable[[str], HandingOver]]:
    """Make the hand-over step of a worker process with these settings; its handlers begin with the whole feed."""
    made: list[HandingOver] = []

    def hand(text: str = "") -> HandingOver:
        made.append(HandingOver(configured(text)))
        return made[-1]

    yield hand
    for each in made:
        each.close()


def handler(url: str, *more: str, name: str = "crm") -> str:
    """The lines of a handler by HTTP."""
    lines = [
        "[[handlers]]",
        f'name = "{name}"',
        f'url = "{url}"',
        f'secret = "{SECRET}"',
        'start = "beginning"',
        *more,
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Functions that a test registers are gone after it."""
    before = dict(python_handlers._registered)
    yield
    python_handlers._registered.clear()
    python_handlers._registered.update(before)
