"""Records as people and programs read them: the digits that the provider sent, in memory that does not grow."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Text, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.connecting import in_batches
from shared.store.reading.shapes import Record
from shared.store.schema import records


async def list_records(
    connection: AsyncConnection,
    *,
    provider: str | None = None,
    account: str | None = None,
    kind: str | None = None,
    limit: int = 50,
) -> AsyncIterator[Sequence[Record]]:
    """Records in the order of their keys, in batches; ``limit`` 0 is all.

    ``jsonb`` keeps numbers as ``numeric``, exactly, trailing zeros too
    (https://www.postgresql.org/docs/18/datatype-json.html); taken as text they never become binary floats.
    """
    statement = select(
        records.c.provider,
        records.c.account,
        records.c.kind,
        records.c.external_id,
        cast(records.c.data, Text).label("data"),
        records.c.fetched_at,
        records.c.changed_at,
        records.c.deleted_at,
        records.c.event_id,
    ).order_by(records.c.provider, records.c.account, records.c.kind, records.c.external_id)
    for column, value in ((records.c.provider, provider), (records.c.account, account), (records.c.kind, kind)):
        if value is not None:
            statement = statement.where(column == value)
    async for batch in in_batches(connection, statement.limit(limit) if limit else statement, _record):
        yield batch


def _record(provider: str, account: str, kind: str, external_id: str, data: str, *rest: Any) -> Record:
    return Record(provider, account, kind, external_id, msgspec.Raw(data.encode()), *rest)
