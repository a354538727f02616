"""Opening fetches: what events ask for becomes rows, and events that ask for the same share one."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from shared.providers.interface import Call
from shared.store.postgres import Connection


class Wanted(NamedTuple):
    """A call that these events ask for."""

    provider: str
    account: str
    call: Call
    events: Sequence[UUID]
    chain_began: int | None = None
    """When the chain began that this call completes: the claim number of its first call."""


class Opened(NamedTuple):
    """A fetch that was opened or joined; ``due`` when it may be made at once."""

    id: int
    provider: str
    due: bool


def resource_key(provider: str, account: str, call: Call) -> bytes:
    """The coalescing key as a digest of fixed length: paths may be long, index entries may not."""
    return hashlib.blake2b(f"{provider}\0{account}\0{call.resource}".encode(), digest_size=16).digest()


async def open_fetches(connection: Connection, wanted: Sequence[Wanted], coalesce_seconds: float) -> list[Opened]:
    """Open a fetch for each call, or join the one that is open for its resource; link the events to it.

    An open fetch has not begun, so joining it is safe; ``DO UPDATE`` holds its row until the commit, so that it
    cannot begin in between. A resource that was fetched within ``coalesce_seconds`` waits for the rest of that time.
    """
    unique: dict[bytes, Wanted] = {}
    for want in wanted:
        key = resource_key(want.provider, want.account, want.call)
        known = unique.get(key)
        unique[key] = want._replace(events=[*known.events, *want.events]) if known else want
    if not unique:
        return []
    keys = sorted(unique)
    calls = [unique[key] for key in keys]
    rows = await connection.fetch(
        """
        INSERT INTO fetches AS f
            (resource, provider, account, path, purpose, context, pick, missing, page, completes, chain_began,
             due_at, queue_at)
        SELECT c.resource, c.provider, c.account, c.path, c.purpose, c.context::json, c.pick, c.missing, c.page,
               c.completes, c.chain_began,
               CASE WHEN recent.earliest > now() THEN recent.earliest ELSE now() END,
               CASE WHEN recent.earliest > now() THEN recent.earliest ELSE now() + interval '5 seconds' END
        FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                    $9::int[], $10::bool[], $11::bigint[])
             AS c (resource, provider, account, path, purpose, context, pick, missing, page, completes, chain_began)
        LEFT JOIN LATERAL (
            SELECT max(began_at) + make_interval(secs => $12) AS earliest FROM fetches WHERE resource = c.resource
        ) AS recent ON true
        ORDER BY c.resource
        ON CONFLICT (resource) WHERE state IN ('pending', 'waiting') DO UPDATE SET
            context = EXCLUDED.context, chain_began = EXCLUDED.chain_began
        RETURNING f.id, f.provider, f.resource, f.due_at <= now() AS due
        """,
        keys,
        [want.provider for want in calls],
        [want.account for want in calls],
        [want.call.path for want in calls],
        [want.call.purpose for want in calls],
        [msgspec.json.encode(want.call.context).decode() for want in calls],
        [want.call.pick for want in calls],
        [want.call.missing for want in calls],
        [want.call.page for want in calls],
        [want.call.completes for want in calls],
        [want.chain_began for want in calls],
        coalesce_seconds,
    )
    links = [(event, row["id"]) for row in rows for event in unique[row["resource"]].events]
    await connection.execute(
        """
        INSERT INTO event_fetches (event_id, fetch_id) SELECT * FROM unnest($1::uuid[], $2::bigint[])
        ON CONFLICT DO NOTHING
        """,
        [event for event, _ in links],
        [fetch for _, fetch in links],
    )
    return [Opened(row["id"], row["provider"], row["due"]) for row in rows]
