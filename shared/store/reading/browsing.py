"""Records a page at a time, in the order of their keys; each page goes on where the last one ended."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.schema import records


class Shelf(NamedTuple):
    """Which records; None means any. ``external_id`` is a whole one; ``after`` is the key of the last one before."""

    provider: str | None = None
    account: str | None = None
    kind: str | None = None
    external_id: str | None = None
    after: tuple[str, str, str, str] | None = None


class Listed(msgspec.Struct, frozen=True):
    """A record without its data."""

    provider: str
    account: str
    kind: str
    external_id: str
    changed_at: datetime
    fetched_at: datetime
    deleted_at: datetime | None
    event_id: UUID | None


# Every (provider, account, kind) that holds a record: a step into the primary key for each.
_PLACES = text("""
    WITH RECURSIVE known AS (
        (SELECT provider, account, kind FROM records ORDER BY provider, account, kind LIMIT 1)
        UNION ALL
        SELECT next.provider, next.account, next.kind FROM known, LATERAL (
            SELECT provider, account, kind FROM records
            WHERE (provider, account, kind) > (known.provider, known.account, known.kind)
            ORDER BY provider, account, kind LIMIT 1
        ) AS next
    )
    SELECT provider, account, kind FROM known
""")
_KEY = (records.c.provider, records.c.account, records.c.kind, records.c.external_id)


async def places(connection: AsyncConnection) -> Sequence[tuple[str, str, str]]:
    """Every (provider, account, kind) of which there are records, in order."""
    return sorted((row[0], row[1], row[2]) for row in await connection.execute(_PLACES))


async def browse(
    connection: AsyncConnection, shelf: Shelf, known: Sequence[tuple[str, str, str]], *, limit: int
) -> Sequence[Listed]:
    """At most ``limit`` records. ``known`` are the ``places``: every look begins with one of them."""
    fitting = [
        place
        for place in known
        if all(wanted in {None, found} for wanted, found in zip(shelf[:3], place, strict=True))
        and (shelf.after is None or place >= shelf.after[:3])
    ]
    found: list[Listed] = []
    for place in sorted(fitting):
        conditions: list[ColumnElement[bool]] = [column == value for column, value in zip(_KEY, place, strict=False)]
        if shelf.external_id is not None:
            conditions.append(records.c.external_id == shelf.external_id)
        if shelf.after is not None and shelf.after[:3] == place:
            conditions.append(records.c.external_id > shelf.after[3])
        statement = (
            select(*_KEY, records.c.changed_at, records.c.fetched_at, records.c.deleted_at, records.c.event_id)
            .where(*conditions)
            .order_by(*_KEY)
            .limit(limit - len(found))
        )
        found += [Listed(*row) for row in await connection.execute(statement)]
        if len(found) >= limit:
            break
    return found
