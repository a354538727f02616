"""What is left of a subject or an account in Postgres: every row of every table, read as text."""

import re
from typing import Final, NamedTuple

from shared.store.postgres import Connection


_TABLES: Final = """
    SELECT t.table_name::text AS name,
           bool_or(c.column_name = 'provider') AND bool_or(c.column_name = 'account') AS of_account
    FROM information_schema.tables t JOIN information_schema.columns c USING (table_schema, table_name)
    WHERE t.table_schema = current_schema() AND t.table_type = 'BASE TABLE' GROUP BY t.table_name ORDER BY t.table_name
"""

SECONDS: Final = 3600.0


class Left(NamedTuple):
    """Rows of one table."""

    table: str
    rows: int


async def left_of_subject(connection: Connection, provider: str, account: str, subject: str) -> list[Left]:
    """Rows that hold the subject's id, no letter or digit beside it; not those of other accounts."""
    pattern = f"(^|[^0-9A-Za-z]){re.escape(subject)}($|[^0-9A-Za-z])"
    found = []
    for table in await connection.fetch(_TABLES):
        mine = (
            "x.provider = $2 AND x.account IN ($3, '')" if table["of_account"] else "$2::text <> '' AND $3::text <> ''"
        )
        rows = await connection.fetchval(
            f'SELECT count(*) FROM "{table["name"]}" x WHERE {mine} AND x::text ~ $1',  # noqa: S608 - names of ours
            pattern,
            provider,
            account,
            timeout=SECONDS,
        )
        if rows:
            found.append(Left(table["name"], rows))
    return found


_KEPT: Final = {
    "events": "true",
    "identities": "EXISTS (SELECT FROM events e WHERE e.id = x.event_id)",
    "records": "EXISTS (SELECT FROM events e WHERE e.id = x.event_id)",
    "changes": "EXISTS (SELECT FROM events e WHERE e.id = x.event_id)",
    "fetches": "EXISTS (SELECT FROM event_fetches l WHERE l.fetch_id = x.id)",
    "data_keys": "x.retired_at IS NULL",
    "blobs": "x.look_at IS NULL OR x.put_at IS NOT NULL",
}
"""Table -> which rows are of what came in after an account's erasure began; its events themselves are looked at."""


async def left_of_account(connection: Connection, provider: str, account: str) -> list[Left]:
    """Rows that name the account, but for what is of events that are there."""
    found = []
    for table in await connection.fetch(_TABLES):
        if not table["of_account"]:
            continue
        rows = await connection.fetchval(
            f"""
            SELECT count(*) FROM "{table["name"]}" x
            WHERE provider = $1 AND account = $2 AND NOT ({_KEPT.get(table["name"], "false")})
            """,  # noqa: S608 - names of ours
            provider,
            account,
            timeout=SECONDS,
        )
        if rows:
            found.append(Left(table["name"], rows))
    return found
