"""Records and changes: upsert in sets, find what really changed, append to the change feed.

An answer mostly shows what is known already, so rows are told apart before their bodies travel: keys and digests are
sent first, to note the sighting of every known record and to learn which of them differ and which are new; only those
are sent whole. Every statement has a snapshot of its own, and a record that was seen is locked until the commit: two
workers writing the same records never describe the same change twice.
"""

from collections.abc import Sequence
from typing import Final

from shared.store.postgres import Connection
from shared.store.records import loading, once
from shared.store.records.sighting import Row, Sighting, keys_of, newest


AT_ONCE: Final = 10_000
"""So many records go into one statement at most: each has its own time, and an answer may hold any number."""

# An unchanged record is written as well: an older answer that comes late must find that a newer one was here, even if
# that one had no news. Its version stays in the same page and off the index (HOT), which is why the table's pages are
# filled by half only. The number of a call that is stale leaves the record as it is.
_TOUCH = """
WITH touched AS (
    UPDATE records r SET
        began = greatest(r.began, i.began),
        fetched_at = CASE WHEN r.began <= i.began THEN now() ELSE r.fetched_at END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bool[], $7::bool[], $8::bigint[])
         WITH ORDINALITY AS i (provider, account, kind, external_id, digest, deleted, once, began, place)
    WHERE r.provider = i.provider AND r.account = i.account AND r.kind = i.kind AND r.external_id = i.external_id
    RETURNING i.place,
        r.began = i.began AND NOT i.once
        AND (i.digest IS NOT NULL AND i.digest IS DISTINCT FROM r.digest OR i.deleted <> (r.deleted_at IS NOT NULL))
        AS differs
)
SELECT place, true AS known FROM touched WHERE differs
UNION ALL
-- mostly all are known: then nobody need look for those that are not
SELECT place, false FROM generate_series(1, cardinality($4::text[])) AS place
WHERE (SELECT count(*) FROM touched) < cardinality($4::text[]) AND place NOT IN (SELECT place FROM touched)
"""

_CREATE = """
WITH incoming AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bool[], $7::bigint[],
                         $8::text[], $9::uuid[], $10::bytea[])
    WITH ORDINALITY AS i (provider, account, kind, external_id, digest, deleted, began, data, event_id, sealed, place)
), created AS (
    INSERT INTO records
        (provider, account, kind, external_id, digest, data, sealed, began, fetched_at, changed_at, deleted_at,
         event_id)
    SELECT provider, account, kind, external_id, digest, coalesce(data, '{}')::jsonb, sealed, began, now(), now(),
           CASE WHEN deleted THEN now() END, event_id
    FROM incoming
    ON CONFLICT DO NOTHING
    RETURNING provider, account, kind, external_id, deleted_at, event_id
), noted AS (
    INSERT INTO changes (op, provider, account, kind, external_id, changed, event_id)
    SELECT CASE WHEN deleted_at IS NULL THEN 'created' ELSE 'deleted' END,
           provider, account, kind, external_id, '{}', event_id
    FROM created
)
-- mostly all were created: then nobody need look for those that were not
SELECT place FROM incoming i
WHERE (SELECT count(*) FROM created) < cardinality($4::text[])
  AND (provider, account, kind, external_id) NOT IN (SELECT provider, account, kind, external_id FROM created)
"""

MOST_BEFORE: Final = 1000
"""A member's previous value is kept with the change if its JSON is no longer than so many letters."""

# ``before`` is what people are shown: by each member that differs its previous value in a list, an empty list where it
# was not there, null where it was too long. Private members lie in ``data`` as digests, so no other are in ``before``.
# The rows are locked and were found to be older; the same data in another order or spacing is no change.
_REVISE = """
WITH compared AS MATERIALIZED (
    SELECT i.provider, i.account, i.kind, i.external_id, i.event_id, i.deleted,
           coalesce(i.digest, r.digest) AS new_digest, coalesce(i.data::jsonb, r.data) AS new_data, r.data AS old_data,
           CASE WHEN i.data IS NULL THEN r.sealed ELSE i.sealed END AS new_sealed,
           r.deleted_at AS was_deleted,
           (i.data IS NOT NULL AND i.data::jsonb IS DISTINCT FROM r.data)
               OR i.deleted IS DISTINCT FROM (r.deleted_at IS NOT NULL) AS differs
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bool[], $7::text[], $8::uuid[],
                $9::bytea[])
         AS i (provider, account, kind, external_id, digest, deleted, data, event_id, sealed)
    JOIN records r USING (provider, account, kind, external_id)
), written AS (
    UPDATE records r SET
        digest = c.new_digest,
        data = c.new_data,
        sealed = c.new_sealed,
        changed_at = CASE WHEN c.differs THEN now() ELSE r.changed_at END,
        deleted_at = CASE WHEN c.deleted THEN coalesce(r.deleted_at, now()) END,
        event_id = CASE WHEN c.differs THEN c.event_id ELSE r.event_id END
    FROM compared c
    WHERE r.provider = c.provider AND r.account = c.account AND r.kind = c.kind AND r.external_id = c.external_id
)
INSERT INTO changes (op, provider, account, kind, external_id, changed, event_id, before)
SELECT CASE WHEN deleted = (was_deleted IS NOT NULL) THEN 'updated' WHEN deleted THEN 'deleted' ELSE 'created' END,
       provider, account, kind, external_id, coalesce(members.changed, '{}'), event_id, members.before
FROM compared, LATERAL (
    SELECT array_agg(coalesce(o.key, n.key) ORDER BY coalesce(o.key, n.key)) AS changed,
           jsonb_object_agg(
               coalesce(o.key, n.key),
               CASE WHEN o.key IS NULL THEN '[]' WHEN length(o.value::text) <= $10
                    THEN jsonb_build_array(o.value) END
           ) AS before
    FROM jsonb_each(old_data) o FULL JOIN jsonb_each(new_data) n ON n.key = o.key
    WHERE o.value IS DISTINCT FROM n.value
) AS members
WHERE differs
"""


async def apply(connection: Connection, sightings: Sequence[Sighting]) -> Sequence[Row]:
    """Write what was seen, inside the caller's transaction; returns it in the order of the keys.

    What an older call saw never overwrites what a newer one stored; a record seen twice here counts as its newest
    sighting; a ``once`` record makes one change, at its first sight. Rows are locked in the order of their keys, as far
    as the planner keeps to it: the caller runs the loser of a deadlock again.
    """
    rows = await once.without_shown(connection, newest(sightings))
    for start in range(0, len(rows), AT_ONCE):
        await _apply(connection, rows[start : start + AT_ONCE])
    return rows


async def _apply(connection: Connection, rows: Sequence[Row]) -> None:
    if await loading.load(connection, rows):
        return
    differing, unknown = await _touch(connection, rows)
    await _revise(connection, differing)
    # Those that another transaction created meanwhile are known now.
    overtaken = await _create(connection, [row for row in unknown if row.mark is None])
    differing, _ = await _touch(connection, overtaken)
    await _revise(connection, differing)
    await once.keep(connection, [row for row in rows if row.mark is not None])


async def _touch(connection: Connection, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Lock the records that are known and note that they were seen; returns those that differ, and the unknown."""
    if not rows:
        return [], []
    found = await connection.fetch(
        _TOUCH,
        *keys_of(rows),
        [row.digest for row in rows],
        [row.sighting.record.deleted for row in rows],
        [row.sighting.record.once for row in rows],
        [row.sighting.began for row in rows],
    )
    differing = [rows[place - 1] for place, known in found if known]
    return differing, [rows[place - 1] for place, known in found if not known]


async def _create(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """Store records that were unknown, with a change each; returns those that another transaction has created."""
    if not rows:
        return []
    overtaken = await connection.fetch(
        _CREATE,
        *keys_of(rows),
        [row.digest for row in rows],
        [row.sighting.record.deleted for row in rows],
        [row.sighting.began for row in rows],
        [row.sighting.record.data for row in rows],
        [row.sighting.event_id for row in rows],
        [row.sighting.record.sealed for row in rows],
    )
    return [rows[row["place"] - 1] for row in overtaken]


async def _revise(connection: Connection, rows: Sequence[Row]) -> None:
    """Store what differs about records that ``_touch`` has locked, with a change for each that really does."""
    if rows:
        await connection.execute(
            _REVISE,
            *keys_of(rows),
            [row.digest for row in rows],
            [row.sighting.record.deleted for row in rows],
            [row.sighting.record.data for row in rows],
            [row.sighting.event_id for row in rows],
            [row.sighting.record.sealed for row in rows],
            MOST_BEFORE,
        )
