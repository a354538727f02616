"""Records that make one change, ever (imin's update notifications): what outlives the record itself.

A provider shows the same notification for as long as it likes, also after retention has deleted its record here; a
second change would be a second e-mail. Its mark stays: a digest under the installation's key, which tells nobody what
it was made of. It is also where the change's id comes from, so that even a database that was set back to a backup
gives the same notification the same id.
"""

from collections.abc import Sequence

from shared.store.postgres import Connection
from shared.store.records.sighting import Row, keys_of


_DIGEST = "sha256(i.key || convert_to(concat_ws(E'\\x1f', {}), 'UTF8'))"
_RECORD = _DIGEST.format("s.provider, s.account, s.kind, s.external_id")
_MARK = _DIGEST.format("s.provider, s.account, s.kind, s.external_id, nullif(s.owner, '')")
"""As SQL: the query has the sightings as ``s`` and ``installation i`` beside them."""


async def without_shown(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """The rows without those that were shown once before, whether or not their record is still there.

    What is shown for the first time has its mark.
    Of two transactions that show the same for the first time, the second waits for the first, and then leaves it out.
    """
    once = [place for place, row in enumerate(rows) if row.sighting.record.once]
    if not once:
        return list(rows)
    found = await connection.fetch(
        f"""
        WITH shown AS MATERIALIZED (
            SELECT place, {_MARK} AS mark, {_RECORD} AS record
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
                 WITH ORDINALITY AS s (provider, account, kind, external_id, owner, place), installation i
        ), marked AS (
            INSERT INTO once_marks (mark, record) SELECT mark, record FROM shown ORDER BY mark
            ON CONFLICT DO NOTHING RETURNING mark
        )
        SELECT place, mark, mark IN (SELECT mark FROM marked) AS first FROM shown
        """,  # noqa: S608 - put together from constants of this module
        *keys_of([rows[place] for place in once]),
        [rows[place].sighting.record.owner for place in once],
    )
    marks = {once[row["place"] - 1]: row["mark"] for row in found if row["first"]}
    left_out = set(once) - marks.keys()
    return [row._replace(mark=marks.get(place)) for place, row in enumerate(rows) if place not in left_out]


async def keep(connection: Connection, rows: Sequence[Row]) -> None:
    """Store what is shown for the first time, with a change each.

    Where two owners share a record, the one that came first stays as it is, and each has its change.
    """
    if not rows:
        return
    await connection.execute(
        """
        WITH incoming AS MATERIALIZED (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[],
                                 $8::bool[], $9::bigint[], $10::text[], $11::bytea[], $12::uuid[])
            AS i (provider, account, kind, external_id, owner, mark, digest, deleted, began, data, sealed, event_id)
        ), created AS (
            INSERT INTO records (provider, account, kind, external_id, digest, data, sealed, began, fetched_at,
                                 changed_at, deleted_at, event_id)
            SELECT provider, account, kind, external_id, digest, coalesce(data, '{}')::jsonb, sealed, began, now(),
                   now(), CASE WHEN deleted THEN now() END, event_id
            FROM incoming ON CONFLICT DO NOTHING RETURNING provider, account, kind, external_id
        )
        INSERT INTO changes (op, provider, account, kind, external_id, changed, event_id, mark)
        SELECT CASE WHEN deleted THEN 'deleted' ELSE 'created' END, provider, account, kind, external_id, '{}',
               event_id, mark
        FROM incoming i
        WHERE owner <> ''
           OR EXISTS (SELECT FROM created c WHERE c.provider = i.provider AND c.account = i.account
                                             AND c.kind = i.kind AND c.external_id = i.external_id)
        """,
        *keys_of(rows),
        [row.sighting.record.owner for row in rows],
        [row.mark for row in rows],
        [row.digest for row in rows],
        [row.sighting.record.deleted for row in rows],
        [row.sighting.began for row in rows],
        [row.sighting.record.data for row in rows],
        [row.sighting.record.sealed for row in rows],
        [row.sighting.event_id for row in rows],
    )


async def forget(
    connection: Connection, provider: str, account: str, kinds: Sequence[str], external_ids: Sequence[str]
) -> int:
    """Remove the marks of records, of every owner (erasure): shown again, they make changes again. Returns how many."""
    status = await connection.execute(
        f"""
        DELETE FROM once_marks WHERE record = ANY(ARRAY(
            SELECT {_RECORD} FROM installation i,
            (SELECT $1::text, $2::text, * FROM unnest($3::text[], $4::text[]))
            AS s (provider, account, kind, external_id)
        ))
        """,  # noqa: S608 - the same
        provider,
        account,
        kinds,
        external_ids,
    )
    return int(status.rpartition(" ")[2])
