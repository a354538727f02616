"""The change feed as programs read it: by sequence number, which is given after the commit (``numbering``)."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.connecting import in_batches
from shared.store.reading.shapes import Change
from shared.store.schema import changes


_COLUMNS = (
    changes.c.seq,
    changes.c.op,
    changes.c.provider,
    changes.c.account,
    changes.c.kind,
    changes.c.external_id,
    changes.c.changed,
    changes.c.event_id,
    changes.c.at,
)


async def changes_after(connection: AsyncConnection, after: int, *, limit: int = 0) -> AsyncIterator[Sequence[Change]]:
    """The numbered changes past ``after`` in order, in batches; ``limit`` 0 is all."""
    statement = select(*_COLUMNS).where(changes.c.seq > after).order_by(changes.c.seq)
    async for batch in in_batches(connection, statement.limit(limit) if limit else statement, Change):
        yield batch


async def newest_changes(connection: AsyncConnection, *, limit: int = 50) -> AsyncIterator[Sequence[Change]]:
    """The last ``limit`` numbered changes in order, in batches; ``limit`` 0 is all."""
    statement: Select[Any] = select(*_COLUMNS).where(changes.c.seq.is_not(None))
    if limit:
        last = statement.order_by(changes.c.seq.desc()).limit(limit).subquery()
        statement = select(last).order_by(last.c.seq)
    else:
        statement = statement.order_by(changes.c.seq)
    async for batch in in_batches(connection, statement, Change):
        yield batch
