"""Records and changes: upsert in sets, find what really changed, append to the change feed.

Three statements, each with a snapshot of its own, so that two workers writing the same records never describe the
same change twice: insert what is new; lock, in key order, what was there; compare and write under those locks.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from shared.providers.interface import Record
from shared.store.postgres import Connection


class Sighting(NamedTuple):
    """A record as one answer (or delivery) showed it; ``began`` is the claim number of the call that asked."""

    provider: str
    account: str
    record: Record
    began: int
    event_id: UUID | None


_COLUMNS = """
    unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::bool[], $8::bigint[],
           $9::uuid[])
    AS t (provider, account, kind, external_id, data, deleted, once, began, event_id)
"""

_INSERT_NEW = f"""
WITH incoming AS (
    SELECT * FROM {_COLUMNS}
), inserted AS (
    INSERT INTO records
        (provider, account, kind, external_id, data, began, fetched_at, changed_at, deleted_at, event_id)
    SELECT provider, account, kind, external_id, coalesce(data, '{{}}')::jsonb, began, now(), now(),
           CASE WHEN deleted THEN now() END, event_id
    FROM incoming ORDER BY provider, account, kind, external_id
    ON CONFLICT DO NOTHING
    RETURNING provider, account, kind, external_id, deleted_at, event_id
), noted AS (
    INSERT INTO changes (op, provider, account, kind, external_id, changed, event_id)
    SELECT CASE WHEN deleted_at IS NULL THEN 'created' ELSE 'deleted' END,
           provider, account, kind, external_id, '{{}}', event_id
    FROM inserted
)
SELECT provider, account, kind, external_id FROM inserted
"""  # noqa: S608 - put together from constants of this module

_LOCK = f"""
SELECT count(*) FROM (
    SELECT 1 FROM records r JOIN (SELECT * FROM {_COLUMNS}) i USING (provider, account, kind, external_id)
    ORDER BY r.provider, r.account, r.kind, r.external_id FOR UPDATE OF r
) AS locked
"""  # noqa: S608 - the same

_UPDATE = f"""
WITH incoming AS (
    SELECT * FROM {_COLUMNS}
), compared AS MATERIALIZED (
    SELECT i.provider, i.account, i.kind, i.external_id, i.began, i.event_id, i.deleted,
           coalesce(i.data::jsonb, r.data) AS new_data, r.data AS old_data, r.deleted_at AS was_deleted,
           (i.data IS NOT NULL AND i.data::jsonb IS DISTINCT FROM r.data)
               OR i.deleted IS DISTINCT FROM (r.deleted_at IS NOT NULL) AS differs
    FROM incoming i JOIN records r USING (provider, account, kind, external_id)
    WHERE r.began <= i.began AND NOT i.once
), written AS (
    UPDATE records r SET
        data = c.new_data,
        began = c.began,
        fetched_at = now(),
        changed_at = CASE WHEN c.differs THEN now() ELSE r.changed_at END,
        deleted_at = CASE WHEN c.deleted THEN coalesce(r.deleted_at, now()) END,
        event_id = CASE WHEN c.differs THEN c.event_id ELSE r.event_id END
    FROM compared c
    WHERE r.provider = c.provider AND r.account = c.account AND r.kind = c.kind AND r.external_id = c.external_id
)
INSERT INTO changes (op, provider, account, kind, external_id, changed, event_id)
SELECT CASE WHEN deleted = (was_deleted IS NOT NULL) THEN 'updated' WHEN deleted THEN 'deleted' ELSE 'created' END,
       provider, account, kind, external_id,
       ARRAY(
           SELECT coalesce(o.key, n.key)
           FROM jsonb_each(old_data) o FULL JOIN jsonb_each(new_data) n ON n.key = o.key
           WHERE o.value IS DISTINCT FROM n.value ORDER BY 1
       ),
       event_id
FROM compared WHERE differs
"""  # noqa: S608 - the same


async def apply(connection: Connection, sightings: Sequence[Sighting]) -> None:
    """Write what was seen, inside the caller's transaction.

    What an older call saw never overwrites what a newer one stored; a record seen twice here counts as its newest
    sighting; a ``once`` record makes one change, at its first sight.
    """
    newest: dict[tuple[str, str, str, str], Sighting] = {}
    for sighting in sightings:
        key = (sighting.provider, sighting.account, sighting.record.kind, sighting.record.external_id)
        if key not in newest or newest[key].began <= sighting.began:
            newest[key] = sighting
    if not newest:
        return
    created = await connection.fetch(_INSERT_NEW, *_arrays(newest.values()))
    for row in created:
        del newest[row["provider"], row["account"], row["kind"], row["external_id"]]
    if newest:
        arrays = _arrays(newest.values())
        await connection.execute(_LOCK, *arrays)
        await connection.execute(_UPDATE, *arrays)


def _arrays(sightings: Collection[Sighting]) -> tuple[list[object], ...]:
    """The columns of ``_COLUMNS``."""
    rows = [(s.provider, s.account, *s.record[:5], s.began, s.event_id) for s in sightings]
    return tuple(list(column) for column in zip(*rows, strict=True))
