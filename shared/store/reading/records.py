"""Records as people and programs read them: the digits that the provider sent, in memory that does not grow."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Text, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.private import open_record
from shared.sealing import Keys
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
    keys: Callable[[], Keys] | None = None,
) -> AsyncIterator[Sequence[Record]]:
    """Records in the order of their keys, in batches; ``limit`` 0 is all.

    Private members are opened with ``keys``, which is asked when the first one comes; without it they stay digests.
    Raises what it raises, and BrokenSeal, UnknownKey.

    ``jsonb`` keeps numbers as ``numeric``, exactly, trailing zeros too
    (https://www.postgresql.org/docs/18/datatype-json.html); taken as text they never become binary floats.
    """
    statement = select(
        records.c.provider,
        records.c.account,
        records.c.kind,
        records.c.external_id,
        cast(records.c.data, Text).label("data"),
        records.c.sealed,
        records.c.fetched_at,
        records.c.changed_at,
        records.c.deleted_at,
        records.c.event_id,
    ).order_by(records.c.provider, records.c.account, records.c.kind, records.c.external_id)
    for column, value in ((records.c.provider, provider), (records.c.account, account), (records.c.kind, kind)):
        if value is not None:
            statement = statement.where(column == value)

    def record(
        provider: str, account: str, kind: str, external_id: str, data: str, sealed: bytes | None, *rest: Any
    ) -> Record:
        if sealed is not None and keys is not None:
            data = open_record(keys(), provider, account, kind, external_id, data, sealed)
        return Record(provider, account, kind, external_id, msgspec.Raw(data.encode()), *rest)

    async for batch in in_batches(connection, statement.limit(limit) if limit else statement, record):
        yield batch
