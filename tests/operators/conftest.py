"""Real servers and a command line as an operator has it: a process, its output, its exit status."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec
import pytest

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from support.conditions import HANG_SECONDS


class Result(NamedTuple):
    """What a command did."""

    status: int
    output: bytes
    errors: str

    @property
    def lines(self) -> list[Any]:
        """Standard output, each line read as JSON."""
        return [msgspec.json.decode(line) for line in self.output.splitlines()]


class Store(NamedTuple):
    """A migrated database of one test's own."""

    url: str

    def run(self, *statements: str | tuple[Any, ...]) -> None:
        """Execute statements, each its text or a tuple of text and arguments, in one transaction."""

        async def execute() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                async with connection.transaction():
                    for statement in statements:
                        text, *arguments = (statement,) if isinstance(statement, str) else statement
                        await connection.execute(text, *arguments)
            finally:
                await connection.close()

        asyncio.run(execute())

    def rows(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """What a query gives."""

        async def fetch() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.url)
            try:
                return await connection.fetch(statement, *arguments)
            finally:
                await connection.close()

        return asyncio.run(fetch())


Penstock = Callable[..., Result]


@pytest.fixture
def store(database_url: str) -> Store:
    """A fresh migrated database."""
    return Store(database_url)


@pytest.fixture
def penstock(store: Store, empty_redis: Redis, tmp_path: Path) -> Penstock:
    """Runs ``penstock`` with this test's stores and an empty folder; keyword arguments are environment variables."""
    environment = {
        "PENSTOCK_DATABASE_URL": store.url,
        "PENSTOCK_REDIS_URL": empty_redis.url,
        "PENSTOCK_DATA_DIR": str(tmp_path / "data"),
        "PENSTOCK_CONFIG": str(tmp_path / "penstock.toml"),
        "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
    }

    def run(*arguments: object, program: Sequence[str] = ("-m", "ops"), **variables: str | None) -> Result:
        """Run it to its end; ``program`` is what Python runs, and a variable that is None is not set."""
        done = subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            capture_output=True,
            check=False,
            env=clean_environment({**environment, **variables}),
            cwd=tmp_path,
            timeout=HANG_SECONDS,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    return run


def clean_environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    """The machine's environment without its own settings of Penstock, and with the project importable anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    project = str(Path(__file__).parents[2])
    set_here = {name: value for name, value in variables.items() if value is not None}
    return {**kept, "PYTHONPATH": project, "PYTHONWARNINGS": "error", **set_here}
