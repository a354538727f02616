"""A large page of which every record is new, as in an account's first refresh: ``COPY`` costs half of an ``INSERT``.

``COPY`` knows no ``ON CONFLICT``: a sample says whether it is worth trying, the primary key whether it was right, and a
savepoint keeps the transaction usable when it was not.
"""

from collections.abc import Sequence

import asyncpg

from shared.store.postgres import Connection
from shared.store.records import copying
from shared.store.records.sighting import Row, keys_of


WORTH_COPYING = 500
"""Fewer rows are written by the ordinary way, whose statements are prepared already."""

SAMPLE = 16

_LOOK = """
SELECT (extract(epoch FROM now() - '2000-01-01 00:00+00'::timestamptz) * 1000000)::bigint, EXISTS (
    SELECT FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS i (provider, account, kind, external_id)
    JOIN records USING (provider, account, kind, external_id)
)
"""


async def load(connection: Connection, rows: Sequence[Row]) -> bool:
    """Store the rows as new records with a change each, if they are many and all of them are new; says whether.

    Not where there are ``once`` records among them, whose changes have more to them.
    """
    if len(rows) < WORTH_COPYING or any(row.mark for row in rows):
        return False
    # The transaction's time by the database's clock: a host's would not do.
    [(now, some_known)] = await connection.fetch(_LOOK, *keys_of(rows[:: len(rows) // SAMPLE]))
    if some_known:
        return False
    try:
        async with connection.transaction():
            await copying.copy(
                connection, "records", copying.RECORD_COLUMNS, rows, lambda some: copying.records(some, now)
            )
    except asyncpg.UniqueViolationError:
        return False
    await copying.copy(connection, "changes", copying.CHANGE_COLUMNS, rows, copying.changes)
    return True
