"""The change feed as programs read it: by sequence number, which is given after the commit (``numbering``)."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, literal_column, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.handovers.message_ids import MESSAGE_ID
from shared.store.reading.connecting import in_batches
from shared.store.reading.shapes import Change
from shared.store.schema import changes, installation


_C = changes.alias("c")
_I = installation.alias("i")
_COLUMNS: tuple[ColumnElement[Any], ...] = (
    _C.c.seq,
    _C.c.op,
    _C.c.provider,
    _C.c.account,
    _C.c.kind,
    _C.c.external_id,
    _C.c.changed,
    _C.c.event_id,
    _C.c.at,
    literal_column(MESSAGE_ID).label("id"),
)


async def changes_after(connection: AsyncConnection, after: int, *, limit: int = 0) -> AsyncIterator[Sequence[Change]]:
    """The numbered changes past ``after`` in order, in batches; ``limit`` 0 is all."""
    statement = _numbered().where(_C.c.seq > after).order_by(_C.c.seq)
    async for batch in in_batches(connection, statement.limit(limit) if limit else statement, Change):
        yield batch


async def newest_changes(connection: AsyncConnection, *, limit: int = 50) -> AsyncIterator[Sequence[Change]]:
    """The last ``limit`` numbered changes in order, in batches; ``limit`` 0 is all."""
    statement = _numbered().where(_C.c.seq.is_not(None))
    if limit:
        last = statement.order_by(_C.c.seq.desc()).limit(limit).subquery()
        statement = select(last).order_by(last.c.seq)
    else:
        statement = statement.order_by(_C.c.seq)
    async for batch in in_batches(connection, statement, Change):
        yield batch


def _numbered() -> Select[Any]:
    return select(*_COLUMNS).select_from(_C.join(_I, true()))
