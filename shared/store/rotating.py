"""What is sealed with a master key itself: bodies that came in without a data key, and refused deliveries.

Rotation seals them anew; data keys are wrapped anew in ``shared/store/keys.py``.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from shared.store.postgres import Connection


CHUNK_ROWS: Final = 1000
PREFIX_BYTES: Final = 9
"""Of a sealed message: version and key (``shared/sealing.py``)."""


class Beginning(NamedTuple):
    """The beginning of an event's sealed body, or the key of its blob."""

    id: UUID
    provider: str
    account: str
    body: bytes | None
    blob: str | None
    head: bytes | None
    """Of the credentials that lie beside a refused delivery."""


async def beginnings(connection: Connection) -> AsyncIterator[Sequence[Beginning]]:
    """Those of all events, in chunks: only the beginning of each body is read."""
    after = UUID(int=0)
    while True:
        rows = await connection.fetch(
            """
            SELECT e.id, e.provider, e.account, substring(e.body FOR $2) AS body, e.blob,
                   (SELECT substring(q.head FOR $2) FROM quarantine q WHERE q.event_id = e.id) AS head
            FROM events e WHERE e.id > $1 ORDER BY e.id LIMIT $3
            """,
            after,
            PREFIX_BYTES,
            CHUNK_ROWS,
        )
        if rows:
            yield [Beginning(*row) for row in rows]
        if len(rows) < CHUNK_ROWS:
            return
        after = rows[-1]["id"]


async def body_and_head(connection: Connection, event: UUID) -> tuple[bytes | None, bytes | None]:
    """What is sealed of one event, whole; None for what is not there any more."""
    row = await connection.fetchrow(
        "SELECT e.body, q.head FROM events e LEFT JOIN quarantine q ON q.event_id = e.id WHERE e.id = $1", event
    )
    return (row["body"], row["head"]) if row else (None, None)


async def replace_body(connection: Connection, event: UUID, old: bytes, new: bytes) -> None:
    """Put a body that was sealed anew in the place of the old one, if that is still there."""
    await connection.execute("UPDATE events SET body = $3 WHERE id = $1 AND body = $2", event, old, new)


async def replace_head(connection: Connection, event: UUID, old: bytes, new: bytes) -> None:
    """The same with what authenticates a refused delivery."""
    await connection.execute("UPDATE quarantine SET head = $3 WHERE event_id = $1 AND head = $2", event, old, new)


async def note_rotated(connection: Connection, key_id: bytes | None) -> None:
    """Remember that nothing is left under any key but this one; None: something is."""
    await connection.execute("UPDATE installation SET rotated_to = $1", key_id)


async def rotated_to(connection: Connection) -> bytes | None:
    """The key under which everything was at the end of the last rotation."""
    found: bytes | None = await connection.fetchval("SELECT rotated_to FROM installation")
    return found
