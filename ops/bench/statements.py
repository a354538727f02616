"""Which statements Postgres spends its time on: from its own log, which is told to note every duration meanwhile."""

import asyncio
import re
from collections import defaultdict
from typing import Final

from ops.bench.stores import BenchStores
from shared.store.postgres import connect_once


_LINES: Final = 15
_SHOWN: Final = 110
# "duration: 1.234 ms  execute __asyncpg_stmt_1__: WITH ..." and its continuation lines, which begin with a tab
_DURATION: Final = re.compile(r"duration: ([0-9.]+) ms +(parse|bind|execute|statement)[^:]*: (.*(?:\n\t.*)*)")


class Statements:
    """Begins with its making; the embedded Postgres only, whose log is at hand."""

    def __init__(self, stores: BenchStores) -> None:
        self._url = stores.opened.database_url
        self._logs = [server.log for server in stores.servers if server.name == "postgres"]
        self._from = self._logs[0].stat().st_size if self._logs else 0
        if self._logs:
            self._say("ALTER SYSTEM SET log_min_duration_statement = 0")

    def lines(self) -> list[str]:
        """End, and tell the most expensive statements: milliseconds in all, how often, milliseconds each."""
        if not self._logs:
            return []
        self._say("ALTER SYSTEM RESET log_min_duration_statement")
        with self._logs[0].open("rb") as log:
            log.seek(self._from)
            return top(log.read().decode(errors="replace"))

    def _say(self, statement: str) -> None:
        async def say() -> None:
            connection = await connect_once(self._url)
            try:
                await connection.execute(statement)
                await connection.execute("SELECT pg_reload_conf()")
            finally:
                await connection.close()

        asyncio.run(say())


def top(log: str) -> list[str]:
    """The lines for a piece of Postgres' log."""
    spent: defaultdict[str, list[float]] = defaultdict(list)
    planned: defaultdict[str, float] = defaultdict(float)
    for duration, step, text in _DURATION.findall(log):
        statement = " ".join(text.split())[:_SHOWN]
        if step in {"execute", "statement"}:
            spent[statement].append(float(duration))
        else:
            planned[statement] += float(duration)
    ordered = sorted(spent.items(), key=lambda item: -sum(item[1]) - planned[item[0]])
    return [
        f"postgres {sum(took):8.0f} ms (+{planned[statement]:.0f} ms to parse and bind), {len(took):5} times,"
        f" {sum(took) / len(took):7.2f} ms each  {statement}"
        for statement, took in ordered[:_LINES]
    ]
