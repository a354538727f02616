"""Asks Postgres how it carries out what the store's functions send: every statement is explained as it is made."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, cast

import asyncpg
import orjson

from shared.store.postgres import Connection


GROWING = frozenset({"events", "fetches", "event_fetches", "records", "changes", "identities", "timeline", "handovers"})
"""The tables that grow with what was ever received."""

MOST_ROWS = 1000
"""So many rows of a growing table one statement may look at in these tests; the tables hold twenty times as many."""

_LAST_OF_KEY = {"records_pkey": "external_id", "identities_pkey": "identity"}

_EXPLAINED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)


@dataclass
class Found:
    """What is wrong with the plans, a sentence each, and how many statements were looked at."""

    statements: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class Explaining:
    """A connection that explains each statement, with its own arguments and without any, before it is carried out.

    Also on ``young``, where nothing is stored yet: its plan is one that a worker's connection may keep.
    """

    def __init__(self, connection: asyncpg.Connection, found: Found, young: asyncpg.Connection | None) -> None:
        self._connection = connection
        self._found = found
        self._young = young

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        """All rows."""
        await self._explain(query, arguments)
        return await self._connection.fetch(query, *arguments, **options)

    async def fetchrow(self, query: str, *arguments: Any, **options: Any) -> Any:
        """The first row."""
        await self._explain(query, arguments)
        return await self._connection.fetchrow(query, *arguments, **options)

    async def fetchval(self, query: str, *arguments: Any, **options: Any) -> Any:
        """A value of the first row."""
        await self._explain(query, arguments)
        return await self._connection.fetchval(query, *arguments, **options)

    async def execute(self, query: str, *arguments: Any, **options: Any) -> Any:
        """The status."""
        await self._explain(query, arguments)
        return await self._connection.execute(query, *arguments, **options)

    def transaction(self, **options: Any) -> AbstractAsyncContextManager[object]:
        """As the connection's own."""
        return cast("AbstractAsyncContextManager[object]", self._connection.transaction(**options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def _explain(self, query: str, arguments: Sequence[Any]) -> None:
        if not _EXPLAINED.match(query):
            return
        self._found.statements.add(" ".join(query.split()))
        self._found.wrong += await problems(self._connection, query, arguments)
        if self._young:
            self._found.wrong += await young_problems(self._young, query, len(arguments))


def explaining(connection: asyncpg.Connection, found: Found, young: asyncpg.Connection | None = None) -> Connection:
    """As the store's functions take it."""
    return cast("Connection", Explaining(connection, found, young))


async def problems(
    connection: asyncpg.Connection, query: str, arguments: Sequence[Any], *, kept: bool = True
) -> list[str]:
    """What the plans of one statement read that they should not: the one for these arguments, and that for any.

    ``kept`` is False where the statement is made once a connection: then nobody keeps a plan for any arguments.
    """
    generic = await _for_any(connection, query, len(arguments)) if arguments and kept else "[]"
    transaction = connection.transaction()
    await transaction.start()
    try:
        real = await connection.fetchval("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + query, *arguments)
    finally:
        await transaction.rollback()
    said = []
    for plan in (*orjson.loads(generic), *orjson.loads(real)):
        for node in _nodes(plan["Plan"]):
            table = node.get("Relation Name")
            if table not in GROWING:
                continue
            if node["Node Type"] == "Seq Scan":
                said.append(f"a sequential scan of {table}: {_short(query)}")
            elif (rows := _looked_at(node)) > MOST_ROWS:
                said.append(f"{rows:.0f} rows of {table} are looked at by {node['Node Type']}: {_short(query)}")
    return said


async def young_problems(connection: asyncpg.Connection, query: str, arguments: int) -> list[str]:
    """Where a plan that was made while nothing was stored does not look up by key what it reads of a growing table."""
    (plan,) = orjson.loads(await _for_any(connection, query, arguments))
    return [
        f"a plan of an empty database reads the whole of {name}: {_short(query)}" for name in _read_whole(plan["Plan"])
    ]


def _read_whole(node: Mapping[str, Any], *, limited: bool = False) -> Iterator[str]:
    """Tables and indexes that are read from one end to the other; not where a limit ends it, as in a queue."""
    name = str(node.get("Index Name") or node.get("Relation Name"))
    scan = node["Node Type"] in {"Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan"}
    # Of a key of many columns a plan may use the first ones alone, which all records of an account have in common.
    keyed = _LAST_OF_KEY.get(name, "") in node.get("Index Cond", "") if "Index Cond" in node else limited
    if scan and not keyed and any(name.startswith(table) for table in GROWING):
        yield name
    for below in node.get("Plans", ()):
        yield from _read_whole(below, limited=limited or node["Node Type"] == "Limit")


async def _for_any(connection: asyncpg.Connection, query: str, arguments: int) -> str:
    """The plan that Postgres keeps for a prepared statement, whatever it is given."""
    await connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE explained AS {query}")
    try:
        nothing = f"({', '.join(['NULL'] * arguments)})" if arguments else ""
        return str(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE explained{nothing}"))
    finally:
        await connection.execute("DEALLOCATE explained; RESET plan_cache_mode")


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _looked_at(node: Mapping[str, Any]) -> float:
    """Rows that the node really read, and threw away, in all its turns; nothing where it was not carried out."""
    if node["Node Type"] == "ModifyTable":
        return 0.0
    rows = (node.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"))
    return float(sum(rows) * node.get("Actual Loops", 0))


def _short(query: str) -> str:
    return " ".join(query.split())[:200]
