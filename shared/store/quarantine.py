"""The rows of refused deliveries: kept within bounds, looked at, let in, and gone after a day.

Each is an event in the state ``quarantined``, of no account, with its body; what authenticates it lies beside it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from shared.store.text import storable


if TYPE_CHECKING:
    from shared.store.postgres import Connection

MOST: Final = 2_000
"""So many deliveries are kept at once."""

MOST_BYTES: Final = 64 * 1024 * 1024
"""So much of them."""

MOST_OF_A_SOURCE: Final = 200
"""So many of one address: one sender alone does not fill the quarantine."""

KEPT_HOURS: Final = 24

_LOCK: Final = 0x71_75_61_72
"""Of the transaction that counts and adds: two at once would go over the bounds."""


class NewRefused(NamedTuple):
    """A refused delivery, sealed."""

    id: UUID
    provider: str
    received_at: datetime
    source: str
    cause: str
    head: bytes
    body: bytes
    body_bytes: int
    body_sha256: bytes
    content_type: str

    @property
    def size(self) -> int:
        """What counts for the bound on bytes."""
        return len(self.head) + len(self.body)


class Room(NamedTuple):
    """What was found when a batch was kept: who may go on."""

    kept: int
    full: bool
    full_sources: frozenset[str]


class Held(NamedTuple):
    """One delivery in quarantine, without its content."""

    id: UUID
    provider: str
    cause: str
    source: str
    received_at: datetime
    body_bytes: int
    lapses_at: datetime


class Sealed(NamedTuple):
    """One delivery in quarantine, locked, as it is to be authenticated."""

    id: UUID
    provider: str
    cause: str
    head: bytes
    body: bytes


class LetIn(NamedTuple):
    """What becomes of a delivery that is authentic after all."""

    id: UUID
    account: str
    headers: str
    """JSON: pairs in the order received, credentials left out."""
    body: bytes
    """Sealed."""


_KEEP = """
WITH refused AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::bytea[], $7::bytea[],
                         $8::bigint[], $9::bytea[], $10::text[])
    AS r (id, provider, received_at, source, cause, head, body, body_bytes, body_sha256, content_type)
), kept AS (
    INSERT INTO events (id, provider, account, state, received_at, durability, content_type, headers, body, body_bytes,
                        body_sha256)
    SELECT id, provider, '', 'quarantined', received_at, 'postgres', content_type, '[]', body, body_bytes, body_sha256
    FROM refused
    RETURNING id
), told AS (
    INSERT INTO timeline (event_id, step, detail) SELECT id, 'quarantined', cause FROM refused
)
INSERT INTO quarantine (event_id, source, cause, head, bytes)
SELECT id, source, cause, head, length(head) + length(body) FROM refused
"""


async def keep(connection: "Connection", batch: Sequence[NewRefused]) -> Room:
    """Keep as many as there is room for, in their order; the others are forgotten."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        # At most MOST rows are read, so this costs the same whatever strangers send.
        rows = await connection.fetch(
            "SELECT source, count(*) AS held, sum(bytes)::bigint AS bytes FROM quarantine GROUP BY source"
        )
        held = {row["source"]: row["held"] for row in rows}
        count, size = sum(held.values()), sum(row["bytes"] for row in rows)
        chosen = []
        for refused in batch:
            of_source = held.get(refused.source, 0)
            if count < MOST and size + refused.size <= MOST_BYTES and of_source < MOST_OF_A_SOURCE:
                chosen.append(refused)
                count, size, held[refused.source] = count + 1, size + refused.size, of_source + 1
        if chosen:
            await connection.execute(_KEEP, *map(list, zip(*chosen, strict=True)))
    full_sources = frozenset(source for source, number in held.items() if number >= MOST_OF_A_SOURCE)
    return Room(len(chosen), count >= MOST or size + max(r.size for r in batch) > MOST_BYTES, full_sources)


_LIST = """
SELECT e.id, e.provider, q.cause, q.source, e.received_at, e.body_bytes,
       q.kept_at + make_interval(hours => $4) AS lapses_at
FROM quarantine q JOIN events e ON e.id = q.event_id
WHERE ($1::text IS NULL OR e.provider = $1) AND ($2::uuid IS NULL OR q.event_id = $2)
ORDER BY q.event_id DESC LIMIT $3
"""


async def held(
    connection: "Connection", *, provider: str | None = None, event: UUID | None = None, limit: int = MOST
) -> list[Held]:
    """What is in quarantine, newest first."""
    return [Held(**row) for row in await connection.fetch(_LIST, provider, event, limit, KEPT_HOURS)]


_TAKE = """
SELECT q.event_id AS id, e.provider, q.cause, q.head, e.body
FROM quarantine q JOIN events e ON e.id = q.event_id
WHERE q.event_id > $1 AND (q.event_id = ANY($2::uuid[]) OR $2::uuid[] IS NULL) AND ($3::text IS NULL OR e.provider = $3)
ORDER BY q.event_id LIMIT $4 FOR UPDATE
"""


async def take(
    connection: "Connection", after: UUID, ids: Sequence[UUID], provider: str | None, limit: int
) -> list[Sealed]:
    """The next ones in the order of their ids, locked until the transaction ends; no ``ids`` means any."""
    rows = await connection.fetch(_TAKE, after, list(ids) or None, provider, limit)
    return [Sealed(**row) for row in rows]


async def missing(connection: "Connection", ids: Sequence[UUID]) -> list[UUID]:
    """Those of the ids that are not in quarantine."""
    rows = await connection.fetch(
        "SELECT id FROM unnest($1::uuid[]) AS id WHERE NOT EXISTS (SELECT FROM quarantine WHERE event_id = id)",
        list(ids),
    )
    return [row["id"] for row in rows]


_LET_IN = """
WITH proven AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bytea[]) AS p (id, account, headers, body)
), out AS (
    DELETE FROM quarantine USING proven WHERE event_id = proven.id
), told AS (
    INSERT INTO timeline (event_id, step, detail) SELECT id, 'released', $5 FROM proven
)
UPDATE events SET state = 'received', account = proven.account, headers = proven.headers, body = proven.body,
                  queue_at = now()
FROM proven WHERE events.id = proven.id
"""


async def let_in(connection: "Connection", proven: Sequence[LetIn], note: str) -> None:
    """They are received now; the relay queues them. ``note`` goes into each one's timeline."""
    columns: list[Any] = [list(column) for column in zip(*proven, strict=True)]
    await connection.execute(_LET_IN, *columns, storable(note))


_LAPSE = """
WITH old AS (
    SELECT event_id FROM quarantine WHERE kept_at < now() - make_interval(hours => $2)
    ORDER BY kept_at LIMIT $1 FOR UPDATE SKIP LOCKED
), out AS (
    DELETE FROM quarantine USING old WHERE quarantine.event_id = old.event_id
), untold AS (
    DELETE FROM timeline USING old WHERE timeline.event_id = old.event_id
)
DELETE FROM events USING old WHERE events.id = old.event_id AND events.state = 'quarantined'
"""


async def lapse(connection: "Connection", most: int = 500) -> int:
    """Delete what was kept for its time, a chunk of it; how many these were."""
    status = await connection.execute(_LAPSE, most, KEPT_HOURS)
    return int(status.rpartition(" ")[2])
