"""Reconciliation in the store: what differs from the records, and events for what was missed.

What a page of answers leads to is one transaction: the events, what was seen, and the new position. A process that dies
leaves the page to be gone through again; the identities of its events then keep them single.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from shared import reconciled
from shared.providers.interface import Call, Record
from shared.store import timeline
from shared.store.gaps.walks import Tally, Walk
from shared.store.opening import resource_key
from shared.store.postgres import Connection


class Difference(NamedTuple):
    """A thing that the provider shows otherwise than we know it, or that we do not know at all (``missing``)."""

    record: Record
    missing: bool
    stored: str | None
    changed_at: datetime | None
    members: Sequence[str]
    """The top-level members that differ."""
    sealed: bytes | None = None
    """The private members of what is stored."""
    ignored: frozenset[str] = frozenset()
    """Members that change with every answer."""

    @property
    def said(self) -> str:
        """For people."""
        name = f"{self.record.kind} {self.record.external_id}"
        if self.missing:
            return f"{name} is missing"
        if self.record.deleted:
            return f"{name} is gone"
        return f"{name} differs in {', '.join(self.members)}" if self.members else f"{name} is there again"

    @property
    def fingerprint(self) -> str:
        """What makes this difference this one: when the record last changed, and what the provider shows now.

        Without the members that change with every answer: a difference that a repair does not level stays the same one.
        """
        members = msgspec.json.decode(self.record.data or "{}", type=dict[str, msgspec.Raw])
        kept = {name: value for name, value in members.items() if name not in self.ignored}
        shown = hashlib.sha256(msgspec.json.encode(kept)).hexdigest()
        return f"{self.record.kind}\0{self.record.external_id}\0{self.changed_at}\0{self.record.deleted}\0{shown}"


class Repair(NamedTuple):
    """An event to make: the call that repairs these differences, its id and its sealed body."""

    event: UUID
    identity: str
    sealed: bytes
    body: bytes
    differences: Sequence[Difference]


async def compare(
    connection: Connection,
    walk: Walk,
    records: Sequence[Record],
    asked_at: datetime,
    *,
    whole: bool,
    ignored: frozenset[str],
) -> list[Difference]:
    """What differs between things as they were shown and as they are known.

    What changed here after ``asked_at`` (by the database's clock) is newer than the answer and does not differ.
    """
    unique = {(record.kind, record.external_id): record for record in records}
    rows = await connection.fetch(
        """
        SELECT s.kind, s.external_id, r.kind IS NULL AS missing, r.data::text AS stored, r.sealed, r.changed_at, ARRAY(
            SELECT n.key FROM jsonb_each(s.data) n
            WHERE r.kind IS NOT NULL AND n.key <> ALL($10)
              AND n.value IS DISTINCT FROM coalesce(r.data -> n.key, 'null')
            UNION
            SELECT o.key FROM jsonb_each(r.data) o
            WHERE $9 AND o.key <> ALL($10) AND s.data IS NOT NULL AND o.value <> 'null' AND NOT s.data ? o.key
            ORDER BY 1
        ) AS members, s.deleted, r.deleted_at IS NOT NULL AS was_deleted, s.once, r.changed_at >= $8 AS newer
        FROM (
            SELECT kind, external_id, data::jsonb AS data, deleted, once
            FROM unnest($3::text[], $4::text[], $5::text[], $6::bool[], $7::bool[])
                 AS t (kind, external_id, data, deleted, once)
        ) AS s
        LEFT JOIN records r
          ON r.provider = $1 AND r.account = $2 AND r.kind = s.kind AND r.external_id = s.external_id
        """,
        walk.provider,
        walk.account,
        [record.kind for record in unique.values()],
        [record.external_id for record in unique.values()],
        [record.data for record in unique.values()],
        [record.deleted for record in unique.values()],
        [record.once for record in unique.values()],
        asked_at,
        whole,
        sorted(ignored),
    )
    found = []
    for row in rows:
        record = unique[row["kind"], row["external_id"]]
        if row["missing"]:
            differs = record.data is not None
        else:
            changed = bool(row["members"]) or row["deleted"] != row["was_deleted"]
            differs = changed and not row["once"] and not row["newer"]
        if differs:
            known = (row["stored"], row["changed_at"], row["members"], row["sealed"])
            found.append(Difference(record, row["missing"], *known, ignored))
    return found


async def under_way(connection: Connection, walk: Walk, calls: Sequence[Call]) -> set[str]:
    """The resources among these calls' that are being fetched anyway, or will be: nothing was missed there."""
    keys = {resource_key(walk.provider, walk.account, call): call.resource for call in calls}
    rows = await connection.fetch(
        """
        SELECT resource FROM fetches WHERE resource = ANY($1) AND state IN ('pending', 'waiting')
        UNION SELECT resource FROM fetches WHERE resource = ANY($1) AND state = 'running'
        """,
        list(keys),
    )
    return {keys[row["resource"]] for row in rows}


async def step(
    connection: Connection,
    walk: Walk,
    position: Mapping[str, Any],
    tally: Tally,
    repairs: Sequence[Repair],
    seen: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Walk:
    """Make the events, note what was seen and move on, in one transaction; the walk as it stands then."""
    async with connection.transaction():
        made = await _make_events(connection, walk, repairs) if not walk.dry_run else set()
        repaired = sum(len(repair.differences) for repair in repairs if repair.event in made)
        tally = tally._replace(repaired=repaired)
        await connection.execute(
            """
            INSERT INTO reconciliation_sights (reconciliation, kind, external_id, members)
            SELECT $1, * FROM unnest($2::text[], $3::text[], $4::jsonb[]) ON CONFLICT DO NOTHING
            """,
            walk.id,
            [kind for kind, _ in seen],
            [external_id for _, external_id in seen],
            [msgspec.json.encode(members).decode() for members in seen.values()],
        )
        await connection.execute(
            """
            UPDATE reconciliations SET
                position = $2::jsonb, moved_at = now(), looked_at = looked_at + $3, missing = missing + $4,
                differing = differing + $5, repaired = repaired + $6
            WHERE id = $1
            """,
            walk.id,
            msgspec.json.encode(position).decode(),
            *tally,
        )
    return walk._replace(position=position, tally=walk.tally.plus(tally))


async def _make_events(connection: Connection, walk: Walk, repairs: Sequence[Repair]) -> set[UUID]:
    """The events that were made: those whose identity is new, or whose first event was given up or is over.

    One that was done before this walk began left the difference as it is: it may have been given a stale answer, so it
    is asked again, once a walk.
    """
    rows = await connection.fetch(
        """
        INSERT INTO identities AS i (provider, account, identity, event_id)
        SELECT $1, $2, * FROM unnest($3::text[], $4::uuid[])
        ON CONFLICT (provider, account, identity) DO UPDATE SET event_id = EXCLUDED.event_id
        WHERE EXISTS (
            SELECT FROM events e WHERE e.id = i.event_id AND (
                e.state IN ('failed', 'parked')
                OR (e.state = 'done' AND e.finished_at < (SELECT began_at FROM reconciliations WHERE id = $5))
            )
        )
        RETURNING event_id
        """,
        walk.provider,
        walk.account,
        [repair.identity for repair in repairs],
        [repair.event for repair in repairs],
        walk.id,
    )
    made = {row["event_id"] for row in rows}
    chosen = [repair for repair in repairs if repair.event in made]
    await connection.execute(
        """
        INSERT INTO events (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256,
                            event_types, identity, queue_at, reconciled)
        SELECT id, $1, $2, 'postgres', $3, '[]', body, bytes, digest, ARRAY[$4], identity, now(), true
        FROM unnest($5::uuid[], $6::bytea[], $7::bigint[], $8::bytea[], $9::text[])
             AS t (id, body, bytes, digest, identity)
        """,
        walk.provider,
        walk.account,
        reconciled.CONTENT_TYPE,
        reconciled.TYPE,
        [repair.event for repair in chosen],
        [repair.sealed for repair in chosen],
        [len(repair.body) for repair in chosen],
        [hashlib.sha256(repair.body).digest() for repair in chosen],
        [repair.identity for repair in chosen],
    )
    await timeline.write(
        connection,
        [
            (repair.event, reconciled.TYPE, "; ".join(difference.said for difference in repair.differences))
            for repair in chosen
        ],
    )
    return made
