"""The rows of the objects in the blob store: who names an object, and which are to be looked at.

An image or a file has a row from before it is put until after it is removed. A large body is named by its event, and
has one only once its event lets go of it, or where it was found without an event. Triggers note what is let go in the
transaction that lets go, so nothing depends on what a process does after its commit.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from shared.blob_keys import BODIES, Kept
from shared.store.blob_notes import GRACE_HOURS, columns


if TYPE_CHECKING:
    from asyncpg import Record

    from shared.store.postgres import Connection


LONGEST_SECONDS: Final = 180.0
"""A worker's task is killed long before it can take so long from a put to its commit."""
BODY_SECONDS: Final = 15.0
"""A body's row follows its object within the 4 s of an answer, or the commit that was given up then."""

_HELD: Final = """
    (EXISTS (
        SELECT FROM events e
        WHERE e.id = b.sealed_for AND (e.blob = b.key OR b.key NOT LIKE 'bodies/%' AND NOT b.let_go)
    ) OR EXISTS (
        SELECT FROM records r
        WHERE left(r.data ->> 'blob', 300) = left(b.key, 300) AND r.data ? 'blob'
          AND r.provider = b.provider AND r.account = b.account AND r.data ->> 'blob' = b.key
    ))
"""
"""As SQL: an event or a record names it."""


class Due(NamedTuple):
    """One that is to be looked at."""

    kept: Kept
    held: bool


async def note_found(connection: "Connection", objects: Sequence[Kept]) -> int:
    """Note objects that lie there without a row, unless their event names them; returns how many nobody names."""
    rows = await connection.fetch(
        f"""
        WITH b AS MATERIALIZED (
            SELECT k.*, false AS let_go
            FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS k (key, provider, account, sealed_for)
            WHERE NOT EXISTS (SELECT FROM blobs known WHERE known.key = k.key)
        )
        INSERT INTO blobs (key, provider, account, sealed_for, put_at, look_at, found)
        SELECT key, provider, account, sealed_for,
               CASE WHEN NOT held THEN
                   now() - make_interval(secs => CASE WHEN key LIKE 'bodies/%' THEN $6 ELSE 0 END)
               END,
               CASE WHEN NOT held THEN now() + make_interval(hours => $5) END, NOT held
        FROM (SELECT b.*, {_HELD} AS held FROM b) AS seen WHERE NOT (held AND key LIKE 'bodies/%')
        ORDER BY key ON CONFLICT DO NOTHING
        RETURNING found
        """,  # noqa: S608 - put together from constants
        *columns(objects),
        GRACE_HOURS,
        LONGEST_SECONDS - BODY_SECONDS,
    )
    return sum(row["found"] for row in rows)


async def let_go(connection: "Connection", events: Sequence[UUID]) -> int:
    """Let these events' images go before the events; returns how many there are."""
    status = await connection.execute(
        """
        UPDATE blobs SET let_go = true, look_at = greatest(look_at, now())
        WHERE sealed_for = ANY($1) AND NOT let_go AND key NOT LIKE 'bodies/%'
        """,
        list(events),
    )
    return int(status.rpartition(" ")[2])


async def found_due(connection: "Connection") -> int:
    """How many that nobody named were found and are to be removed, as far as it matters."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM (SELECT FROM blobs WHERE found AND look_at <= now() LIMIT 1000000) AS due"
    )
    return found


async def due(connection: "Connection", limit: int, *, found: bool, bodies: bool) -> list[Due]:
    """Some that are to be looked at, locked; with ``found`` also those found without a row, ``bodies`` among them."""
    return _due(
        await connection.fetch(
            f"""
            SELECT b.key, b.provider, b.account, b.sealed_for, {_HELD} AS held FROM blobs b
            WHERE b.look_at <= now() AND (NOT b.found OR $2 AND ($3 OR b.key NOT LIKE 'bodies/%'))
            ORDER BY b.look_at LIMIT $1 FOR UPDATE OF b SKIP LOCKED
            """,  # noqa: S608 - put together from constants
            limit,
            found,
            bodies,
        )
    )


async def unheld_of(
    connection: "Connection", provider: str, account: str, after: str, limit: int, *, young: bool
) -> list[Due]:
    """Some of an account that nobody names, whenever they were put, locked; ``young``: those just put, not locked.

    A worker may still be about to commit what names a young one.
    """
    return _due(
        await connection.fetch(
            f"""
            SELECT b.key, b.provider, b.account, b.sealed_for, false AS held FROM blobs b
            WHERE b.provider = $1 AND b.account = $2 AND b.key > $3 AND NOT {_HELD}
              AND coalesce(b.put_at > now() - make_interval(secs => $5), false) = $6
            ORDER BY b.key LIMIT $4 {"" if young else "FOR UPDATE OF b"}
            """,  # noqa: S608 - put together from constants
            provider,
            account,
            after,
            limit,
            LONGEST_SECONDS,
            young,
        )
    )


async def of_events(connection: "Connection", events: Sequence[UUID]) -> int:
    """How many images these events brought."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM blobs WHERE sealed_for = ANY($1) AND key NOT LIKE 'bodies/%'", list(events)
    )
    return found


async def with_rows(connection: "Connection", after: str, limit: int) -> list[Kept]:
    """Some objects that have rows, by their keys."""
    rows = await connection.fetch(
        "SELECT key, provider, account, sealed_for FROM blobs WHERE key > $1 ORDER BY key LIMIT $2", after, limit
    )
    return [Kept(*row) for row in rows]


async def settle(
    connection: "Connection", *, held: Sequence[str], removed: Sequence[str], later: Sequence[str] = ()
) -> None:
    """Write down what became of those that were looked at: named, not there any more, or to be looked at later."""
    await connection.execute(
        """
        UPDATE blobs SET found = found AND key = ANY($2),
                         look_at = CASE WHEN key = ANY($2) THEN now() + interval '1 hour' END
        WHERE key = ANY($1::text[] || $2::text[])
        """,
        list(held),
        list(later),
    )
    # a body that its event names after all needs no row: the event leads to it
    await connection.execute(
        "DELETE FROM blobs WHERE key = ANY($1)", [*removed, *(key for key in held if key.startswith(f"{BODIES}/"))]
    )


def _due(rows: "Sequence[Record]") -> list[Due]:
    return [Due(Kept(row["key"], row["provider"], row["account"], row["sealed_for"]), row["held"]) for row in rows]
