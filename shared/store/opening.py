"""Opening fetches: what events ask for becomes rows, and events that ask for the same share one."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from shared.providers.interface import Call
from shared.store import waiting
from shared.store.fairness import Room
from shared.store.postgres import Connection


class Wanted(NamedTuple):
    """A call that these events ask for."""

    provider: str
    account: str
    call: Call
    events: Sequence[UUID]
    chain_began: int | None = None
    """When the chain began that this call completes: the claim number of its first call."""
    background: bool = False
    """Only replays and reconciliation ask for it: live calls go before it."""


class Opened(NamedTuple):
    """A fetch that was opened or joined; ``due`` when it may be made at once.

    ``told`` are timeline lines: why it waits, for the events that joined it while it did.
    """

    id: int
    provider: str
    due: bool
    told: Sequence[tuple[UUID, str, str]] = ()


class Start(NamedTuple):
    """Who may begin calls as they are opened, and how many."""

    worker: UUID
    room: Room


class Begun(NamedTuple):
    """A fetch that was opened as begun; ``token`` is also the number under which its call began."""

    id: int
    token: int
    want: Wanted


_COLUMNS = """
    resource, provider, account, path, purpose, context, pick, missing, page, completes, chain_began,
    background
"""
_VALUES = """
    c.resource, c.provider, c.account, c.path, c.purpose, c.context::json, c.pick, c.missing, c.page, c.completes,
    c.chain_began, c.background
"""
_CALLS = f"""
    unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
           $9::int[], $10::bool[], $11::bigint[], $12::bool[]) AS c ({_COLUMNS})
"""


def resource_key(provider: str, account: str, call: Call) -> bytes:
    """The coalescing key as a digest of fixed length: paths may be long, index entries may not."""
    return hashlib.blake2b(f"{provider}\0{account}\0{call.resource}".encode(), digest_size=16).digest()


def by_resource(wanted: Iterable[Wanted]) -> dict[bytes, Wanted]:
    """One wanted call a resource, in key order (the order in which rows are locked); its events are all who ask."""
    unique: dict[bytes, Wanted] = {}
    for want in wanted:
        key = resource_key(want.provider, want.account, want.call)
        known = unique.get(key)
        unique[key] = _joined(known, want) if known else want
    return dict(sorted(unique.items()))


def _joined(known: Wanted, want: Wanted) -> Wanted:
    """Both in one: live as soon as one of them is, and with what the newer of them knows."""
    newer = known if (known.chain_began or 0) > (want.chain_began or 0) else want
    return newer._replace(events=[*known.events, *want.events], background=known.background and want.background)


async def start_fetches(
    connection: Connection, wanted: dict[bytes, Wanted], coalesce_seconds: float, start: Start
) -> list[Begun]:
    """Open fetches as already begun, held by ``start``'s worker: of resources that nobody fetches, or just fetched.

    Those are taken out of ``wanted``; the rest is left to ``open_fetches``. Of each account as many as there is room.
    """
    taken: Counter[str] = Counter()
    first: list[bytes] = []
    for key, want in wanted.items():
        if len(first) < start.room.whole and taken[want.account] < start.room.share(want.account):
            taken[want.account] += 1
            first.append(key)
    if not first:
        return []
    links = [(event, key) for key in first for event in wanted[key].events]
    # Whoever opens or begins the same one at this moment is waited for, and then this statement does nothing about it.
    rows = await connection.fetch(
        f"""
        WITH begun AS (
            INSERT INTO fetches ({_COLUMNS}, state, attempts, began_at, claimed_by, token)
            SELECT {_VALUES}, 'running', 1, clock_timestamp(), $14, nextval('claims')
            FROM {_CALLS}
            WHERE NOT EXISTS (
                SELECT FROM fetches f WHERE f.resource = c.resource AND f.state IN ('pending', 'waiting') OFFSET 0
            ) AND NOT EXISTS (
                SELECT FROM fetches f WHERE f.resource = c.resource AND f.state = 'running' OFFSET 0
            ) AND NOT EXISTS (
                SELECT FROM fetches f
                WHERE f.resource = c.resource AND f.began_at > now() - make_interval(secs => $13) OFFSET 0
            )
            ORDER BY c.resource ON CONFLICT DO NOTHING
            RETURNING id, token, resource
        ), linked AS (
            INSERT INTO event_fetches (event_id, fetch_id)
            SELECT link.event_id, begun.id
            FROM begun JOIN unnest($15::uuid[], $16::bytea[]) AS link (event_id, resource) USING (resource)
        )
        SELECT id, token, resource FROM begun
        """,  # noqa: S608 - put together from constants of this module
        *_columns(first, wanted),
        coalesce_seconds,
        start.worker,
        [event for event, _ in links],
        [key for _, key in links],
    )
    return [Begun(row["id"], row["token"], wanted.pop(row["resource"])) for row in rows]


async def open_fetches(
    connection: Connection, wanted: Mapping[bytes, Wanted], coalesce_seconds: float, debounce_seconds: float = 0.0
) -> list[Opened]:
    """Open a fetch for each call (by resource, in key order), or join the one that is open for it; link the events.

    An open fetch has not begun, so joining it is safe; ``DO UPDATE`` holds its row until the commit, so that it
    cannot begin in between. A resource that was fetched within ``coalesce_seconds`` waits for the rest of that time,
    and any for ``debounce_seconds`` from its first event on.
    """
    if not wanted:
        return []
    rows = await connection.fetch(
        f"""
        INSERT INTO fetches AS f ({_COLUMNS}, due_at, queue_at)
        SELECT {_VALUES},
               CASE WHEN soonest.at > now() THEN soonest.at ELSE now() END,
               CASE WHEN soonest.at > now() THEN soonest.at ELSE now() + interval '5 seconds' END
        FROM {_CALLS}
        LEFT JOIN LATERAL (
            SELECT greatest(max(began_at) + make_interval(secs => $13), now() + make_interval(secs => $14)) AS at
            FROM fetches WHERE resource = c.resource
        ) AS soonest ON true
        ORDER BY c.resource
        ON CONFLICT (resource) WHERE state IN ('pending', 'waiting') DO UPDATE SET
            context = CASE WHEN f.chain_began > EXCLUDED.chain_began THEN f.context ELSE EXCLUDED.context END,
            chain_began = CASE WHEN f.chain_began > EXCLUDED.chain_began THEN f.chain_began
                               ELSE EXCLUDED.chain_began END,
            background = f.background AND EXCLUDED.background
        RETURNING f.id, f.provider, f.resource, f.due_at <= now() AS due, f.state, f.error_reason, f.error_detail,
                  extract(epoch FROM f.due_at - now())::float8 AS wait
        """,  # noqa: S608 - put together from constants of this module
        *_columns([*wanted], wanted),
        coalesce_seconds,
        debounce_seconds,
    )
    links = [(event, row["id"]) for row in rows for event in wanted[row["resource"]].events]
    await connection.execute(
        """
        INSERT INTO event_fetches (event_id, fetch_id) SELECT * FROM unnest($1::uuid[], $2::bigint[])
        ON CONFLICT DO NOTHING
        """,
        [event for event, _ in links],
        [fetch for _, fetch in links],
    )
    return [Opened(row["id"], row["provider"], row["due"], _told(row, wanted[row["resource"]])) for row in rows]


def _told(row: Any, want: Wanted) -> Sequence[tuple[UUID, str, str]]:
    """Only a fetch that was there already can be ``waiting``; one that is due has no reason to tell of any more."""
    if row["state"] != "waiting" or row["due"]:
        return ()
    wait = waiting.words(row["error_reason"], row["wait"], row["error_detail"] or "")
    return waiting.joined(want.events, want.call.path, wait)


def _columns(keys: Sequence[bytes], wanted: Mapping[bytes, Wanted]) -> tuple[Sequence[object], ...]:
    """The columns of ``_CALLS``."""
    calls = [wanted[key] for key in keys]
    return (
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
        [want.background for want in calls],
    )
