"""Large answers that were here before: each is known by a digest, with the records that it held.

Mostly a refresh shows what the last one showed. The same answer to the same call again need not be taken apart: that
its records were seen is noted for all of them in Postgres, if they are still as it showed them.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from shared.providers.interface import Outcome
from shared.store.postgres import Connection
from shared.store.records.sighting import Row


WORTH_RECORDS: Final = 500
"""Smaller answers are taken apart sooner than they are found."""


class NotAsBefore(Exception):
    """Not all records are as a known answer showed them: it is to be taken apart."""


class Seen(NamedTuple):
    """An answer by its digest; ``records`` is how many it held if it is a known one, which ``read`` takes apart."""

    digest: bytes
    records: int | None = None
    read: Callable[[], Outcome] | None = None


class Known(NamedTuple):
    """A known answer that came again; ``began`` is the claim number of the call that asked."""

    resource: bytes
    digest: bytes
    records: int
    began: int


# As ``recording._TOUCH``, which says why each row is written.
_NOTE = """
WITH shown AS MATERIALIZED (
    SELECT a.resource, a.provider, a.account, a.kind, known.began, i.external_id, i.place
    FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS known (resource, digest, began)
    JOIN answers a ON a.resource = known.resource AND a.digest = known.digest
    CROSS JOIN LATERAL string_to_table(a.external_ids, ' ') WITH ORDINALITY AS i (external_id, place)
), touched AS (
    UPDATE records r SET
        began = greatest(r.began, s.began),
        fetched_at = CASE WHEN r.began <= s.began THEN now() ELSE r.fetched_at END
    FROM shown s
    WHERE r.provider = s.provider AND r.account = s.account AND r.kind = s.kind AND r.external_id = s.external_id
    RETURNING s.resource, s.place,
        r.digest || CASE WHEN r.deleted_at IS NULL THEN '\\x00'::bytea ELSE '\\x01'::bytea END AS state
), found AS (
    SELECT resource, sha256(string_agg(state, ''::bytea ORDER BY place)) AS states FROM touched GROUP BY resource
)
UPDATE answers a SET seen_at = now()
FROM found WHERE a.resource = found.resource AND a.states = found.states
"""


async def look(connection: Connection, resource: bytes, digest: bytes) -> int | None:
    """How many records the answer holds, if the resource showed the same the last time."""
    records: int | None = await connection.fetchval(
        "SELECT records FROM answers WHERE resource = $1 AND digest = $2", resource, digest
    )
    return records


async def note(connection: Connection, known: Sequence[Known]) -> None:
    """Note that the records of known answers were seen, inside the caller's transaction. Raises NotAsBefore."""
    if not known:
        return
    noted = await connection.execute(
        _NOTE, [each.resource for each in known], [each.digest for each in known], [each.began for each in known]
    )
    if int(noted.rpartition(" ")[2]) < len(known):
        raise NotAsBefore


async def remember(connection: Connection, resource: bytes, digest: bytes, rows: Sequence[Row]) -> None:
    """Know a large answer from now on by its digest; ``rows`` are its records in the order of their keys.

    Not one that holds records of several kinds, or ids with blanks.
    """
    if len(rows) < WORTH_RECORDS or rows[0].key[:3] != rows[-1].key[:3]:
        return
    provider, account, kind, _ = rows[0].key
    external_ids = " ".join([row.key[3] for row in rows])
    if external_ids.count(" ") >= len(rows):
        return
    await connection.execute(
        """
        INSERT INTO answers (resource, provider, account, kind, digest, records, external_ids, states)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (resource) DO UPDATE SET
            kind = EXCLUDED.kind, digest = EXCLUDED.digest, records = EXCLUDED.records,
            external_ids = EXCLUDED.external_ids, states = EXCLUDED.states, seen_at = now()
        """,
        *(resource, provider, account, kind, digest, len(rows), external_ids),
        hashlib.sha256(b"".join([_state(row) for row in rows])).digest(),
    )


def _state(row: Row) -> bytes:
    """What is compared of a record, as in ``_NOTE``."""
    return (row.digest or b"") + (b"\1" if row.sighting.record.deleted else b"\0")
