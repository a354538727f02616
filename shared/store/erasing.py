"""Erasure in the store: finding what belongs to a subject or an account, and removing it, a chunk a transaction.

Events go first, records last: whatever leads to the rest is there until the rest is gone, so an erasure that was broken
off finds everything again.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from shared.store.postgres import Connection
from shared.store.records import once
from shared.store.records.numbering import hold_numbering


CHUNK_EVENTS: Final = 200
CHUNK_ROWS: Final = 5000
ERASE_SECONDS: Final = 3600.0


class HeldEvent(NamedTuple):
    """An event, with what tells whom it is about: ``calls`` are the paths and contexts of its fetches."""

    id: UUID
    body: bytes | None
    blob: str | None
    told: str
    """Its identity, its error and what its timeline says."""
    calls: str
    received_at: datetime


class HeldRecord(NamedTuple):
    """A record with its members as they lie in Postgres."""

    kind: str
    external_id: str
    data: str
    sealed: bytes | None
    event_id: UUID | None
    began: int
    """The number of the call that it was last seen by."""
    of_nothing: bool
    """Its event is not there any more."""


class HeldChange(NamedTuple):
    """An entry of the change feed; ``before`` is JSON, the previous values of what changed."""

    id: int
    kind: str
    external_id: str
    event_id: UUID | None
    before: str | None
    at: datetime
    of_nothing: bool
    """Its event is not there any more."""


class Bound(NamedTuple):
    """The moment from which on what comes in is kept: by the clock, and by the numbers that claims take."""

    at: datetime
    claim: int


async def bound(connection: Connection) -> Bound:
    """That moment is now."""
    row = await connection.fetchrow("SELECT now() AS at, nextval('claims') AS claim")
    assert row is not None  # noqa: S101 - it has one
    return Bound(row["at"], row["claim"])


class Erased(NamedTuple):
    """How many rows were removed, by table."""

    events: int = 0
    fetches: int = 0
    timeline: int = 0
    identities: int = 0
    records: int = 0
    changes: int = 0
    handovers: int = 0
    once_marks: int = 0

    def plus(self, other: "Erased") -> "Erased":
        """The sum."""
        return Erased(*(mine + its for mine, its in zip(self, other, strict=True)))


async def events_of(
    connection: Connection, provider: str, account: str, *, quarantined: bool
) -> AsyncIterator[Sequence[HeldEvent]]:
    """Every event of an account, in chunks; ``quarantined``: those of no account that its provider's name is on."""
    after = UUID(int=0)
    while True:
        rows = await connection.fetch(
            """
            SELECT e.id, e.body, e.blob, concat_ws(E'\\n', e.identity, e.error_detail,
                (SELECT string_agg(t.detail, E'\\n') FROM timeline t WHERE t.event_id = e.id)) AS told,
                coalesce((SELECT string_agg(f.path || E'\\n' || f.context::text, E'\\n') FROM event_fetches l
                          JOIN fetches f ON f.id = l.fetch_id WHERE l.event_id = e.id), '') AS calls, e.received_at
            FROM (
                SELECT * FROM events WHERE provider = $1 AND account = $2 AND id > $3 ORDER BY id LIMIT $4
            ) AS e ORDER BY e.id
            """,
            provider,
            "" if quarantined else account,
            after,
            CHUNK_EVENTS,
        )
        if rows:
            yield [HeldEvent(*row) for row in rows]
        if len(rows) < CHUNK_EVENTS:
            return
        after = rows[-1]["id"]


async def records_of(connection: Connection, provider: str, account: str) -> AsyncIterator[Sequence[HeldRecord]]:
    """Every record of an account, in chunks."""
    kind, after = "", ""
    while True:
        rows = await connection.fetch(
            """
            SELECT kind, external_id, data::text, sealed, event_id, began,
                   event_id IS NOT NULL AND NOT EXISTS (SELECT FROM events e WHERE e.id = r.event_id) AS of_nothing
            FROM records r WHERE provider = $1 AND account = $2 AND (kind, external_id) > ($3, $4)
            ORDER BY kind, external_id LIMIT $5
            """,
            provider,
            account,
            kind,
            after,
            CHUNK_ROWS,
        )
        if rows:
            yield [HeldRecord(*row) for row in rows]
        if len(rows) < CHUNK_ROWS:
            return
        kind, after = rows[-1]["kind"], rows[-1]["external_id"]


async def changes_of(connection: Connection, provider: str, account: str) -> AsyncIterator[Sequence[HeldChange]]:
    """Every entry of an account in the change feed; the whole feed is gone through once, in chunks."""
    after = 0
    while True:
        until = await connection.fetchval(
            "SELECT max(id) FROM (SELECT id FROM changes WHERE id > $1 ORDER BY id LIMIT $2) AS page", after, CHUNK_ROWS
        )
        if until is None:
            return
        rows = await connection.fetch(
            """
            SELECT id, kind, external_id, event_id, before::text, at,
                   event_id IS NOT NULL AND NOT EXISTS (SELECT FROM events e WHERE e.id = c.event_id) AS of_nothing
            FROM changes c WHERE id > $3 AND id <= $4 AND provider = $1 AND account = $2
            """,
            provider,
            account,
            after,
            until,
        )
        yield [HeldChange(*row) for row in rows]
        after = until


async def forget_before(connection: Connection, changes: Sequence[HeldChange]) -> None:
    """Remove the previous values from changes of other records, which stay."""
    async with connection.transaction():
        await hold_numbering(connection)
        await connection.execute(
            "UPDATE changes SET before = NULL WHERE id = ANY($1)", [change.id for change in changes]
        )


async def erase_events(connection: Connection, ids: Sequence[UUID]) -> Erased:
    """Remove events with their timelines, and the fetches that no other event asked for."""
    async with connection.transaction():
        row = await connection.fetchrow(
            """
            WITH doomed AS MATERIALIZED (
                -- a sub-select with a limit: for NOT EXISTS the planner may read all links there are
                SELECT DISTINCT l.fetch_id AS id FROM event_fetches l WHERE l.event_id = ANY($1)
                  AND (
                      SELECT true FROM event_fetches o WHERE o.fetch_id = l.fetch_id AND o.event_id <> ALL($1) LIMIT 1
                  ) IS NULL
            ), mine AS MATERIALIZED (
                SELECT provider, account, identity, id FROM events WHERE id = ANY($1) AND identity IS NOT NULL
            ), fetched AS (
                DELETE FROM fetches WHERE id = ANY(ARRAY(SELECT id FROM doomed)) RETURNING 1
            ), linked AS (
                DELETE FROM event_fetches WHERE event_id = ANY($1)
            ), told AS (
                DELETE FROM timeline WHERE event_id = ANY($1) RETURNING 1
            ), held AS (
                DELETE FROM quarantine WHERE event_id = ANY($1)
            ), known AS (
                DELETE FROM identities i USING mine
                WHERE i.provider = mine.provider AND i.account = mine.account AND i.identity = mine.identity
                  AND i.event_id = ANY($1)
                RETURNING 1
            ), gone AS (
                DELETE FROM events WHERE id = ANY($1) RETURNING 1
            )
            SELECT (SELECT count(*) FROM gone) AS events, (SELECT count(*) FROM fetched) AS fetches,
                   (SELECT count(*) FROM told) AS timeline, (SELECT count(*) FROM known) AS identities
            """,
            list(ids),
        )
    return Erased(**row) if row else Erased()


async def calls_of_nobody(
    connection: Connection, provider: str, account: str
) -> AsyncIterator[Sequence[tuple[int, str]]]:
    """The ids, and paths and contexts, of fetches that no event leads to any more, as after a replay; in chunks."""
    after = 0
    while True:
        rows = await connection.fetch(
            """
            SELECT f.id, f.path || E'\\n' || f.context::text AS calls FROM fetches f
            WHERE f.provider = $1 AND f.account = $2 AND f.id > $3
              AND (SELECT true FROM event_fetches l WHERE l.fetch_id = f.id LIMIT 1) IS NULL
            ORDER BY f.id LIMIT $4
            """,
            provider,
            account,
            after,
            CHUNK_ROWS,
            timeout=ERASE_SECONDS,
        )
        if rows:
            yield [(row["id"], row["calls"]) for row in rows]
        if len(rows) < CHUNK_ROWS:
            return
        after = rows[-1]["id"]


async def erase_fetches(connection: Connection, ids: Sequence[int]) -> Erased:
    """Remove fetches that no event leads to; one that an event has joined meanwhile goes with that event."""
    gone = await connection.execute(
        """
        DELETE FROM fetches f WHERE f.id = ANY($1)
          AND NOT EXISTS (SELECT FROM event_fetches l WHERE l.fetch_id = f.id)
        """,
        ids,
    )
    return Erased(fetches=_count(gone))


async def erase_changes(connection: Connection, changes: Sequence[HeldChange], provider: str, account: str) -> Erased:
    """Remove entries of the change feed, their hand-overs, and the marks of their records."""
    async with connection.transaction():
        ids = [change.id for change in changes]
        handovers = await connection.execute("DELETE FROM handovers WHERE change_id = ANY($1)", ids)
        gone = await connection.execute("DELETE FROM changes WHERE id = ANY($1)", ids)
        marks = await once.forget(
            connection,
            provider,
            account,
            [change.kind for change in changes],
            [change.external_id for change in changes],
        )
    return Erased(changes=_count(gone), handovers=_count(handovers), once_marks=marks)


async def erase_records(
    connection: Connection, keys: Collection[tuple[str, str]], provider: str, account: str
) -> Erased:
    """Remove records (by kind and external id), their marks, and what is known of answers that held them."""
    kinds, ids = [kind for kind, _ in keys], [external_id for _, external_id in keys]
    async with connection.transaction():
        gone = await connection.execute(
            """
            DELETE FROM records r USING unnest($3::text[], $4::text[]) AS k (kind, external_id)
            WHERE r.provider = $1 AND r.account = $2 AND r.kind = k.kind AND r.external_id = k.external_id
            """,
            provider,
            account,
            kinds,
            ids,
        )
        await connection.execute("DELETE FROM answers WHERE provider = $1 AND account = $2", provider, account)
        marks = await once.forget(connection, provider, account, kinds, ids)
    return Erased(records=_count(gone), once_marks=marks)


async def erase_walks(connection: Connection, provider: str, account: str, *, wholly: bool) -> None:
    """Remove what reconciliation keeps beside: a walk under way is given up, and what finished ones stopped at goes.

    ``wholly``: also what tells of the account as such: finished walks, its rhythm, its registrations, how far
    retention came, and the identities of events that are gone.
    """
    mine = "provider = $1 AND account = $2"
    async with connection.transaction():
        await connection.execute(
            f"""
            DELETE FROM reconciliation_sights WHERE reconciliation IN (SELECT id FROM reconciliations WHERE {mine})
            """,  # noqa: S608 - a constant
            provider,
            account,
        )
        await connection.execute(
            f"DELETE FROM reconciliations WHERE {mine} AND ($3 OR finished_at IS NULL)",  # noqa: S608 - a constant
            provider,
            account,
            wholly,
        )
        await connection.execute(
            f"UPDATE reconciliations SET position = '{{}}' WHERE {mine}",  # noqa: S608 - a constant
            provider,
            account,
        )
        for table in ("rhythms", "registrations", "retention") if wholly else ():
            await connection.execute(
                f"DELETE FROM {table} WHERE {mine}",  # noqa: S608 - constants
                provider,
                account,
            )
    if wholly:
        await connection.execute(
            """
            DELETE FROM identities i WHERE provider = $1 AND account = $2
              AND NOT EXISTS (SELECT FROM events e WHERE e.id = i.event_id)
            """,
            provider,
            account,
            timeout=ERASE_SECONDS,
        )


TABLES: Final = (
    *("events", "fetches", "event_fetches", "timeline", "identities", "records", "changes", "handovers"),
    *("once_marks", "answers", "reconciliations", "reconciliation_sights", "quarantine", "data_keys"),
    "blobs",
)
"""Those whose rows erasure removes."""


async def vacuum(connection: Connection, seconds: float = ERASE_SECONDS) -> None:
    """Make Postgres forget the removed rows; what another transaction may still see stays until the next time."""
    for table in TABLES:
        await connection.execute(f"VACUUM {table}", timeout=seconds)


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
