"""Claiming events and committing what was planned for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from shared.errors import Reason
from shared.providers.interface import Call, Record
from shared.store import opening, timeline
from shared.store.due import EVENT_SUSPECT, EVENT_WAITS
from shared.store.fairness import Room, in_turn
from shared.store.fetching import EVENTS_NAMED, ClaimedFetch
from shared.store.postgres import Connection
from shared.store.records import recording
from shared.store.records.sighting import Sighting
from shared.store.text import storable


class ClaimedEvent(NamedTuple):
    """An event held by this process until its plan is committed; ``token`` refuses it if it comes too late."""

    id: UUID
    provider: str
    account: str
    token: int
    content_type: str
    body: bytes | None
    blob: str | None
    suspect: bool = False
    """A worker died while it held this event: it is claimed alone."""
    reconciled: bool = False
    """No provider sent it: reconciliation made it, and its body is our own."""
    background: bool = False
    """It is replayed or reconciled: live events go before it."""
    began: int = 0
    """The number under which it was received: what its body says counts as of then, however late it is planned."""
    attempts: int = 0
    """How often it was put off."""
    body_bytes: int = 0
    """The length of its plain body."""


class PutOff(NamedTuple):
    """Why an event cannot be read now, and after how many seconds it is tried again."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Planned:
    """What reading an event led to: parked with a reason, put off, or calls and records (perhaps none)."""

    event: ClaimedEvent
    types: Sequence[str] = ()
    identity: str | None = None
    calls: Sequence[Call] = ()
    records: Sequence[Record] = ()
    parked: tuple[Reason, str] | None = None
    put_off: PutOff | None = None


@dataclass(slots=True)
class Committed:
    """What a commit made of the plans."""

    opened: list[opening.Opened] = field(default_factory=list)
    started: list[ClaimedFetch] = field(default_factory=list)
    """Fetches that were opened and are this process's already."""
    done: list[UUID] = field(default_factory=list)
    """Events that need no call."""
    planned: int = 0
    duplicates: int = 0
    parked: int = 0
    put_off: int = 0


_CLAIM = f"""
    WITH RECURSIVE alone AS MATERIALIZED (
        SELECT id FROM events
        WHERE provider = $1 AND {EVENT_SUSPECT} AND $8
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    ), {in_turn("events", EVENT_WAITS, "id", provided="NOT EXISTS (SELECT FROM alone)")}
    UPDATE events SET claimed_by = $7, token = nextval('claims')
    WHERE id = ANY(ARRAY(SELECT id FROM alone UNION ALL SELECT id FROM in_turn))
    RETURNING id, provider, account, token, content_type, body, blob, suspect, reconciled,
              background OR reconciled, coalesce(began, 0), attempts, body_bytes
"""  # noqa: S608 - put together from constants of this module


async def claim(
    connection: Connection, provider: str, room: Room, worker: UUID, *, suspects: bool = True, after: str = ""
) -> list[ClaimedEvent]:
    """Take events that are due: of each account its oldest, alike many of each, of accounts named after ``after``.

    Whatever a message named: a backlog of small messages is so worked off in large batches, and one account's storm
    is no more than its share of each. Events that others hold are skipped. An event that is suspected of having killed
    a worker is taken alone, before the others, unless ``suspects`` is False. One statement, and so one transaction.
    """
    rows = await connection.fetch(_CLAIM, provider, *room.columns(), after, worker, suspects)
    return sorted(ClaimedEvent(*row) for row in rows)


async def commit(
    connection: Connection,
    plans: Sequence[Planned],
    coalesce_seconds: float,
    start: opening.Start | None = None,
    *,
    debounce_seconds: float = 0.0,
) -> Committed:
    """Write the plans of one batch in one transaction; those whose claim was lost meanwhile are left alone.

    With ``start``, fetches of resources that nobody fetches begin at once, held by its worker, as many as it has room
    for: the common case needs no claim of its own.
    """
    done = Committed()
    async with connection.transaction():
        held = await _held(connection, plans)
        plans = [plan for plan in plans if plan.event.id in held]
        later = [plan for plan in plans if plan.put_off]
        plans = [plan for plan in plans if not plan.put_off]
        firsts = await _first_deliveries(connection, plans)
        parked = [plan for plan in plans if plan.parked]
        duplicates = [
            plan for plan in plans if not plan.parked and firsts.get(plan.event.id, plan.event.id) != plan.event.id
        ]
        ahead = [
            plan for plan in plans if not plan.parked and firsts.get(plan.event.id, plan.event.id) == plan.event.id
        ]
        wanted = opening.by_resource(
            opening.Wanted(
                plan.event.provider,
                plan.event.account,
                call,
                [plan.event.id],
                plan.event.began if call.completes else None,
                background=plan.event.background,
            )
            for plan in ahead
            for call in plan.calls
        )
        if start and not debounce_seconds:
            begun = await opening.start_fetches(connection, wanted, coalesce_seconds, start)
            done.started = [
                ClaimedFetch(
                    id_,
                    want.provider,
                    want.account,
                    token,
                    1,
                    want.call,
                    want.chain_began,
                    background=want.background,
                    events=tuple(want.events[:EVENTS_NAMED]),
                )
                for id_, token, want in begun
            ]
        done.opened = await opening.open_fetches(connection, wanted, coalesce_seconds, debounce_seconds)
        await recording.apply(
            connection,
            [
                Sighting(plan.event.provider, plan.event.account, record, plan.event.began, plan.event.id)
                for plan in ahead
                for record in plan.records
            ],
        )
        await _update(connection, ahead, parked, duplicates, firsts)
        await _put_off(connection, later)
        await timeline.write(connection, [line for fetch in done.opened for line in fetch.told])
        done.done = [plan.event.id for plan in ahead if not plan.calls]
        done.planned, done.duplicates, done.parked = len(ahead), len(duplicates), len(parked)
        done.put_off = len(later)
    return done


async def _held(connection: Connection, plans: Sequence[Planned]) -> set[UUID]:
    """The events whose claim is still this process's, locked until the commit."""
    rows = await connection.fetch(
        """
        SELECT e.id FROM unnest($1::uuid[], $2::bigint[]) AS mine (id, token)
        JOIN events e ON e.id = mine.id AND e.token = mine.token ORDER BY e.id FOR UPDATE OF e
        """,
        [plan.event.id for plan in plans],
        [plan.event.token for plan in plans],
    )
    return {row["id"] for row in rows}


async def _first_deliveries(connection: Connection, plans: Sequence[Planned]) -> dict[UUID, UUID]:
    """The first event with each event's identity (itself, where it is the first). Those without identity are left out.

    The primary key of ``identities`` decides. A first delivery that is failed, parked or quarantined hands its place
    to the next one, which goes its own way.
    """
    rows = sorted(
        (
            (plan.event.provider, plan.event.account, plan.identity, plan.event.id)
            for plan in plans
            if plan.identity and not plan.parked
        ),
    )
    if not rows:
        return {}
    keys = [list(column) for column in zip(*rows, strict=True)]
    new = await connection.fetch(
        """
        INSERT INTO identities (provider, account, identity, event_id)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) ON CONFLICT DO NOTHING
        RETURNING event_id
        """,
        *keys,
    )
    firsts = {row["event_id"]: row["event_id"] for row in new}
    if len(firsts) == len(rows):
        return firsts
    owners = await connection.fetch(
        """
        SELECT i.provider, i.account, i.identity, i.event_id,
               coalesce(e.state IN ('failed', 'parked', 'quarantined'), false) AS given_up
        FROM identities i LEFT JOIN events e ON e.id = i.event_id
        WHERE (i.provider, i.account, i.identity) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))
        ORDER BY i.provider, i.account, i.identity FOR UPDATE OF i
        """,
        *keys[:3],
    )
    by_identity = {(row[0], row[1], row[2]): (row["event_id"], row["given_up"]) for row in owners}
    heirs: list[tuple[str, str, str, UUID]] = []
    for provider, account, identity, event in rows:
        key = (provider, account, identity)
        owner, given_up = by_identity[key]
        if given_up:
            owner = event
            by_identity[key] = (event, False)
            heirs.append((*key, event))
        firsts[event] = owner
    if heirs:
        await connection.execute(
            """
            UPDATE identities i SET event_id = heir.event_id
            FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS heir (provider, account, identity, event_id)
            WHERE i.provider = heir.provider AND i.account = heir.account AND i.identity = heir.identity
            """,
            *[list(column) for column in zip(*heirs, strict=True)],
        )
    return firsts


async def _update(
    connection: Connection,
    ahead: Sequence[Planned],
    parked: Sequence[Planned],
    duplicates: Sequence[Planned],
    firsts: dict[UUID, UUID],
) -> None:
    rows: list[tuple[UUID, str, list[str], str | None, UUID | None, str | None, str | None]] = []
    lines: list[tuple[UUID, str, str]] = []
    for plan in ahead:
        event = plan.event.id
        rows.append((event, "processing" if plan.calls else "done", list(plan.types), plan.identity, None, None, None))
        lines.append((event, "planned", _what(plan)))
        if not plan.calls:
            lines.append((event, "done", "no call is needed"))
    for plan in duplicates:
        event, first = plan.event.id, firsts[plan.event.id]
        rows.append((event, "duplicate", list(plan.types), plan.identity, first, None, None))
        lines.append((event, "duplicate", f"the same as {first}, which came first"))
    for plan in parked:
        if plan.parked:
            event, (reason, detail) = plan.event.id, (plan.parked[0], storable(plan.parked[1]))
            rows.append((event, "parked", list(plan.types), plan.identity, None, reason, detail))
            lines.append((event, "parked", f"{reason}: {detail}"))
    if not rows:
        return
    columns = [list(column) for column in zip(*rows, strict=True)]
    # event types are joined for the journey: unnest would flatten an array of arrays
    columns[2] = ["\n".join(types) for types in columns[2]]
    await connection.execute(
        """
        WITH told AS (
            INSERT INTO timeline (event_id, step, detail) SELECT * FROM unnest($8::uuid[], $9::text[], $10::text[])
        )
        UPDATE events e SET
            state = CASE WHEN p.state = 'processing' AND EXISTS (
                SELECT FROM event_fetches l
                WHERE l.event_id = e.id AND (SELECT f.state FROM fetches f WHERE f.id = l.fetch_id) = 'waiting'
            ) THEN 'waiting' ELSE p.state END,
            finished_at = CASE WHEN p.state <> 'processing' THEN now() END,
            event_types = string_to_array(p.types, chr(10)), identity = p.identity, duplicate_of = p.duplicate_of,
            error_reason = p.reason, error_detail = p.detail, claimed_by = NULL, token = NULL,
            suspect = false, deaths = 0, attempts = 0
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[])
             AS p (id, state, types, identity, duplicate_of, reason, detail)
        WHERE e.id = p.id
        """,
        *columns,
        *timeline.columns(lines),
    )


async def _put_off(connection: Connection, plans: Sequence[Planned]) -> None:
    """Let go of events that are to be read again later; the relay makes them due."""
    rows = [(plan.event.id, *plan.put_off) for plan in plans if plan.put_off]
    if not rows:
        return
    await connection.execute(
        """
        WITH told AS (
            INSERT INTO timeline (event_id, step, detail) SELECT * FROM unnest($3::uuid[], $4::text[], $5::text[])
        )
        UPDATE events e SET
            claimed_by = NULL, token = NULL, attempts = attempts + 1,
            due_at = now() + make_interval(secs => p.seconds), queue_at = now() + make_interval(secs => p.seconds)
        FROM unnest($1::uuid[], $2::float8[]) AS p (id, seconds)
        WHERE e.id = p.id
        """,
        [event for event, _, _ in rows],
        [seconds for _, seconds, _ in rows],
        *timeline.columns([(event, "put-off", f"{seconds:.1f} s: {why}") for event, seconds, why in rows]),
    )


def _what(plan: Planned) -> str:
    calls = len(plan.calls)
    first = f": GET {plan.calls[0].path}" if calls else ""
    more = f" and {calls - 1} more" if calls > 1 else ""
    return f"{', '.join(plan.types)} -> {calls} call{'' if calls == 1 else 's'}{first}{more}"
