"""Runs `penstock up` with stand-ins for its children: ``run_up.py [--demo]``, settings from the environment."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ops.supervisor.counts import Counts, ReadCounts
from ops.supervisor.screen import Screen
from ops.supervisor.table import Options
from ops.supervisor.up import up
from shared.errors import PenstockError
from shared.settings import Settings


@asynccontextmanager
async def open_counts(_database_url: str, _redis_url: str) -> AsyncIterator[ReadCounts]:
    """Always the same counts."""

    async def read() -> Counts:
        return [{"provider": "imin", "events": {"done": 3, "waiting": 1}, "oldest_due_seconds": 0.25}]

    yield read


if __name__ == "__main__":
    stub = str(Path(__file__).with_name("stub_penstock.py"))
    options = Options(providers=("imin", "paybook"), demo="--demo" in sys.argv, command=(sys.executable, stub))
    try:
        up(Settings.read(), options, open_counts, Screen())
    except PenstockError as error:
        sys.exit(f"penstock: {error}")
