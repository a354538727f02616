"""Removing what is old, a chunk a transaction: each costs the same however much is stored.

Events are gone through in the order of their ids, which is that of their time; ``retention`` holds how far each round
has come. What is not removed for its state (a person may still replay it) is looked at again in the next round.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.store.erasing import erase_events
from shared.store.postgres import Connection


CHUNK_EVENTS: Final = 200
CHUNK_ROWS: Final = 1000
CHUNK_CHANGES: Final = 400
"""Each has a hand-over for every handler."""
SETTLED: Final = ("done", "duplicate")
"""Nobody replays these as a matter of course: their bodies go early."""
ENDED: Final = (*SETTLED, "parked", "failed")
"""With their age all of these go, whole."""

ROUND_SECONDS: Final = 3600.0
SLOW_ROUNDS: Final = 6
"""So many times as long lasts a round of a walk past everything there is, and not past what is old alone."""
BUSY_EVENTS: Final = 1000
"""With so many events waiting to be planned nothing is removed: that can wait, they cannot."""

UNFINISHED: Final = frozenset({"pending", "running", "waiting", "parked"})
"""Hand-overs that still need their change."""


class Chunk(NamedTuple):
    """Old events of an account, locked; ``last`` says that the round ends with them."""

    events: Sequence[UUID]
    position: str
    last: bool


class Walk(NamedTuple):
    """What is removed of whom; provider and account are empty for the change feed."""

    provider: str
    account: str
    what: str


async def is_busy(connection: Connection) -> bool:
    """Whether what is due comes first now."""
    found = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM events WHERE state = 'received' AND claimed_by IS NULL ORDER BY queue_at OFFSET $1 LIMIT 1
        )
        """,
        BUSY_EVENTS,
    )
    return bool(found)


async def accounts_of(connection: Connection, provider: str) -> list[str]:
    """Every account that has events, configured or not: a step into the index for each."""
    rows = await connection.fetch(
        """
        WITH RECURSIVE names AS (
            (SELECT account FROM events WHERE provider = $1 AND account > '' ORDER BY account LIMIT 1)
            UNION ALL
            SELECT (SELECT account FROM events WHERE provider = $1 AND account > names.account ORDER BY account LIMIT 1)
            FROM names WHERE names.account IS NOT NULL
        )
        SELECT account FROM names WHERE account IS NOT NULL
        """,
        provider,
    )
    return [row["account"] for row in rows]


_OVER: Final = f"""
    position = '' AND moved_at > round_at AND round_at > now() - make_interval(
        secs => {ROUND_SECONDS} * CASE WHEN what IN ('blobs', 'calls', 'replays') THEN {SLOW_ROUNDS} ELSE 1 END
    )
"""
"""As SQL: the round has come to its end, and the next one is not due."""


async def under_way(connection: Connection, walks: Sequence[Walk]) -> list[Walk]:
    """Those of which something is to be looked at now; first those that have not come on for longest."""
    rows = await connection.fetch(
        f"SELECT provider, account, what, moved_at, {_OVER} AS over FROM retention"  # noqa: S608 - constants
    )
    known = {Walk(row["provider"], row["account"], row["what"]): row for row in rows}
    new = [walk for walk in walks if walk not in known]
    begun = [walk for walk in walks if walk in known and not known[walk]["over"]]
    return [*new, *sorted(begun, key=lambda walk: known[walk]["moved_at"])]


async def position(connection: Connection, walk: Walk) -> str | None:
    """Where to go on; None: the round is over, and the next one is not due."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO retention AS r (provider, account, what) VALUES ($1, $2, $3)
        ON CONFLICT (provider, account, what) DO UPDATE SET what = EXCLUDED.what
        RETURNING position, {_OVER} AS over
        """,  # noqa: S608 - put together from constants
        *walk,
    )
    return None if row is None or row["over"] else str(row["position"])


async def moved(connection: Connection, walk: Walk, where: str, removed: int, *, last: bool) -> None:
    """Note how far it came; at the end of a round the next begins from the beginning."""
    await connection.execute(
        """
        UPDATE retention SET position = CASE WHEN $6 THEN '' ELSE $4 END, removed = removed + $5,
               round_at = CASE WHEN $6 THEN now() ELSE round_at END, moved_at = clock_timestamp()
        WHERE provider = $1 AND account = $2 AND what = $3
        """,
        *walk,
        where,
        removed,
        last,
    )


async def note_listed(connection: Connection, walk: Walk, objects: int) -> None:
    """Note how many objects the walk over the blob store went past in its last round."""
    await connection.execute(
        "UPDATE retention SET listed = $4 WHERE provider = $1 AND account = $2 AND what = $3", *walk, objects
    )


async def old_events(connection: Connection, walk: Walk, after: str, before: datetime, states: Sequence[str]) -> Chunk:
    """The next old events of an account, inside the caller's transaction; those that others hold are passed over."""
    ids = await connection.fetch(
        """
        SELECT id FROM events WHERE provider = $1 AND account = $2 AND id > $3 AND id < $4 ORDER BY id LIMIT $5
        """,
        walk.provider,
        walk.account,
        UUID(after) if after else UUID(int=0),
        first_id(before),
        CHUNK_EVENTS,
    )
    rows = await connection.fetch(
        """
        SELECT id FROM events WHERE id = ANY($1) AND state = ANY($2) AND received_at < $3
        ORDER BY id FOR UPDATE SKIP LOCKED
        """,
        [row["id"] for row in ids],
        states,
        before,
    )
    where = str(ids[-1]["id"]) if ids else after
    return Chunk([row["id"] for row in rows], where, last=len(ids) < CHUNK_EVENTS)


async def remove_bodies(connection: Connection, events: Sequence[UUID]) -> int:
    """The rows stay, without their bodies."""
    status = await connection.execute(
        """
        UPDATE events SET body = NULL, blob = NULL WHERE id = ANY($1) AND (body IS NOT NULL OR blob IS NOT NULL)
        """,
        list(events),
    )
    return _count(status)


async def remove_timeline(connection: Connection, events: Sequence[UUID]) -> int:
    """What happened to them step by step."""
    return _count(await connection.execute("DELETE FROM timeline WHERE event_id = ANY($1)", list(events)))


async def remove_events(connection: Connection, events: Sequence[UUID]) -> int:
    """The rows, and all that leads to them; their identities too: a later delivery is no duplicate any more."""
    return (await erase_events(connection, events)).events if events else 0


async def remove_deleted_records(connection: Connection, provider: str, before: datetime) -> int:
    """Records that the provider deleted so long ago, at most a chunk."""
    status = await connection.execute(
        """
        DELETE FROM records r USING (
            SELECT provider, account, kind, external_id FROM records
            WHERE provider = $1 AND deleted_at IS NOT NULL AND deleted_at < $2
            ORDER BY deleted_at LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE r.provider = old.provider AND r.account = old.account AND r.kind = old.kind
          AND r.external_id = old.external_id
        """,
        provider,
        before,
        CHUNK_ROWS,
    )
    return _count(status)


async def remove_answers(connection: Connection, provider: str, account: str, before: datetime) -> int:
    """Answers that did not come again since then, at most a chunk: not recognised any more; what they brought stays."""
    return _count(
        await connection.execute(
            """
            DELETE FROM answers WHERE resource IN (
                SELECT resource FROM answers WHERE provider = $1 AND account = $2 AND seen_at < $3
                ORDER BY seen_at LIMIT $4 FOR UPDATE SKIP LOCKED
            )
            """,
            provider,
            account,
            before,
            CHUNK_ROWS,
        )
    )


async def remove_changes(connection: Connection, after: str, before: Mapping[str, datetime]) -> tuple[int, str, bool]:
    """Old entries of the change feed that every handler is done with, inside the caller's transaction.

    ``before`` by provider. Kept are those above the lowest cursor, those with a hand-over that is unfinished or waits
    for a person, and the newest. Returns how many, where to go on, and whether the round ends here.
    """
    if not before:
        return 0, after, True
    page = await connection.fetch(
        "SELECT id, provider, at FROM changes WHERE id > $1 ORDER BY id LIMIT $2", int(after or 0), CHUNK_CHANGES
    )
    newest = max(before.values())
    old = [row for row in page if row["at"] < newest]
    chosen = [row["id"] for row in old if row["provider"] in before and row["at"] < before[row["provider"]]]
    # Locked before they are looked at: one that an operator has handed over again meanwhile is unfinished.
    handed_over = await connection.fetch(
        "SELECT change_id, state FROM handovers WHERE change_id = ANY($1) ORDER BY id FOR UPDATE", chosen
    )
    needed = {row["change_id"] for row in handed_over if row["state"] in UNFINISHED}
    gone = await connection.fetch(
        """
        DELETE FROM changes WHERE id = ANY($1) AND seq <= coalesce((SELECT min(cursor) FROM handlers), seq)
          AND seq < (SELECT max(seq) FROM changes)
        RETURNING id
        """,
        [change for change in chosen if change not in needed],
    )
    ids = [row["id"] for row in gone]
    await connection.execute("DELETE FROM handovers WHERE change_id = ANY($1)", ids)
    where = str(old[-1]["id"]) if old else after
    return len(ids), where, len(old) < CHUNK_CHANGES


async def remove_replays(connection: Connection, before: datetime) -> int:
    """Replays that ended, or were broken off, so long ago, at most a chunk."""
    return _count(
        await connection.execute(
            """
            DELETE FROM replays WHERE id IN (
                SELECT id FROM replays WHERE moved_at < $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
            )
            """,
            before,
            CHUNK_ROWS,
        )
    )


async def remove_reconciliations(connection: Connection, provider: str, account: str, before: datetime) -> int:
    """Walks of reconciliation that moved last so long ago, at most a chunk; each account's newest finished stays."""
    old = await connection.fetch(
        """
        SELECT id FROM reconciliations WHERE provider = $1 AND account = $2 AND moved_at < $3
          AND (finished_at IS NULL OR id < (
              SELECT max(id) FROM reconciliations WHERE provider = $1 AND account = $2 AND finished_at IS NOT NULL
          ))
        ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
        """,
        provider,
        account,
        before,
        CHUNK_ROWS,
    )
    ids = [row["id"] for row in old]
    # what a walk that was given up has seen may be all of a provider's records
    seen = await connection.execute(
        """
        DELETE FROM reconciliation_sights WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM reconciliation_sights WHERE reconciliation = ANY($1) LIMIT $2
        ))
        """,
        ids,
        CHUNK_ROWS,
    )
    if _count(seen) == CHUNK_ROWS:
        return CHUNK_ROWS
    return _count(await connection.execute("DELETE FROM reconciliations WHERE id = ANY($1)", ids))


def first_id(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment: its milliseconds are the first 48 bits (RFC 9562, 5.7)."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
