"""The change feed as programs read it: by sequence number, which is given after the commit (``numbering``)."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.handovers.finding import find_change
from shared.store.handovers.message_ids import message_id
from shared.store.reading.connecting import driver_of, in_batches
from shared.store.reading.shapes import Change
from shared.store.schema import changes, installation


_C = changes.alias("c")
_I = installation.alias("i")
_COLUMNS: tuple[ColumnElement[Any], ...] = (
    _C.c.id,
    _C.c.mark,
    _I.c.key,
    _C.c.seq,
    _C.c.op,
    _C.c.provider,
    _C.c.account,
    _C.c.kind,
    _C.c.external_id,
    _C.c.changed,
    _C.c.event_id,
    _C.c.at,
)


async def changes_after(connection: AsyncConnection, after: int, *, limit: int = 0) -> AsyncIterator[Sequence[Change]]:
    """The numbered changes past ``after`` in order, in batches; ``limit`` 0 is all."""
    statement = _numbered().where(_C.c.seq > after).order_by(_C.c.seq)
    async for batch in in_batches(connection, statement.limit(limit) if limit else statement, _change):
        yield batch


async def newest_changes(connection: AsyncConnection, *, limit: int = 50) -> AsyncIterator[Sequence[Change]]:
    """The last ``limit`` numbered changes in order, in batches; ``limit`` 0 is all."""
    statement = _numbered().where(_C.c.seq.is_not(None))
    if limit:
        last = statement.order_by(_C.c.seq.desc()).limit(limit).subquery()
        statement = select(last).order_by(last.c.seq)
    else:
        statement = statement.order_by(_C.c.seq)
    async for batch in in_batches(connection, statement, _change):
        yield batch


async def found_change(connection: AsyncConnection, named: str) -> Change:
    """The change with this seq or id. Raises ChangeMissing, also while it has no place in the feed yet."""
    number = await find_change(await driver_of(connection), named)
    (row,) = await connection.execute(_numbered().where(_C.c.id == number))
    return _change(*row)


def _change(number: int, mark: bytes | None, key: bytes, *rest: Any) -> Change:
    seq, op, provider, account, kind, external_id, changed, event_id, at = rest
    named = message_id(number, mark, key)
    return Change(seq, op, provider, account, kind, external_id, changed, event_id, at, named)


def _numbered() -> Select[Any]:
    return select(*_COLUMNS).select_from(_C.join(_I, true()))
