"""Records that make one change, ever (imin's update notifications): what outlives the record itself.

A provider shows the same notification for as long as it likes, also after retention has deleted its record here; a
second change would be a second e-mail. Its mark stays: a digest under the installation's key, which tells nobody what
it was made of. It is also where the change's id comes from, so that even a database that was set back to a backup
gives the same notification the same id.
"""

from collections.abc import Sequence

from shared.store.postgres import Connection
from shared.store.records.sighting import Row, keys_of


_MARK = "sha256(i.key || convert_to(concat_ws(E'\\x1f', {0}.provider, {0}.account, {0}.kind, {0}.external_id), 'UTF8'))"


def mark_of(table: str) -> str:
    """The mark of a table's row, as SQL; the query has ``installation i`` beside it."""
    return _MARK.format(table)


async def without_shown(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """The rows without those that were shown once before, whether or not their record is still there.

    Of two transactions that show the same for the first time, the second waits for the first, and then leaves it out.
    """
    once = [place for place, row in enumerate(rows) if row.sighting.record.once]
    if not once:
        return list(rows)
    new = await connection.fetch(
        f"""
        WITH shown AS MATERIALIZED (
            SELECT place, {mark_of("s")} AS mark
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
                 WITH ORDINALITY AS s (provider, account, kind, external_id, place), installation i
        ), marked AS (
            INSERT INTO once_marks (mark) SELECT mark FROM shown ORDER BY mark ON CONFLICT DO NOTHING RETURNING mark
        )
        SELECT place FROM shown JOIN marked USING (mark)
        """,  # noqa: S608 - put together from constants of this module
        *keys_of([rows[place] for place in once]),
    )
    left_out = set(once) - {once[row["place"] - 1] for row in new}
    return [row for place, row in enumerate(rows) if place not in left_out]


async def forget(connection: Connection, provider: str, account: str, kind: str, external_id: str) -> bool:
    """Remove a mark (erasure): shown again, it makes a change again. Returns whether there was one."""
    status = await connection.execute(
        f"""
        DELETE FROM once_marks WHERE mark = (
            SELECT {mark_of("s")} FROM installation i, (SELECT $1::text, $2::text, $3::text, $4::text)
            AS s (provider, account, kind, external_id)
        )
        """,  # noqa: S608 - the same
        provider,
        account,
        kind,
        external_id,
    )
    return bool(status == "DELETE 1")
