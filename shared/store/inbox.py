"""Keeping what was received: one statement, one round trip, any number of events."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import UUID

import orjson


if TYPE_CHECKING:
    from shared.store.postgres import Connection

Durability = Literal["postgres", "spool"]


class NewEvent(NamedTuple):
    """An authentic delivery, ready to be kept: either ``body`` (sealed) or ``blob`` (its key) is set."""

    id: UUID
    provider: str
    account: str
    received_at: datetime
    durability: Durability
    content_type: str
    headers: Sequence[tuple[str, str]]
    """In the order received, repeats kept, credentials left out; latin-1 text."""
    body: bytes | None
    blob: str | None
    body_bytes: int
    """The length of the plain body."""
    body_sha256: bytes
    """The digest of the plain body, 32 bytes."""


# The same id may come again from a spool after a commit that succeeded late: it is kept once.
_INSERT = """
WITH kept AS (
    INSERT INTO events (id, provider, account, received_at, durability, content_type, headers, body, blob,
                        body_bytes, body_sha256)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::jsonb[],
                         $8::bytea[], $9::text[], $10::bigint[], $11::bytea[])
    ON CONFLICT (id) DO NOTHING
    RETURNING id, durability, body_bytes, body_sha256
)
INSERT INTO timeline (event_id, step, detail)
SELECT id, 'received', body_bytes || ' bytes, sha256 ' || encode(substring(body_sha256 FOR 6), 'hex') || '…'
                       || CASE durability WHEN 'spool' THEN ', by the spool' ELSE '' END FROM kept
"""


async def insert(connection: "Connection", events: Sequence[NewEvent]) -> None:
    """Keep the events and the first step of each one's timeline; an id that is there already is left as it is."""
    columns = zip(*events, strict=True)
    ids, providers, accounts, times, durabilities, types, headers, bodies, blobs, sizes, digests = columns
    await connection.execute(
        _INSERT,
        ids,
        providers,
        accounts,
        times,
        durabilities,
        types,
        [orjson.dumps(pairs).decode() for pairs in headers],
        bodies,
        blobs,
        sizes,
        digests,
    )
