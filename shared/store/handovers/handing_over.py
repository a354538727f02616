"""Hand-overs: one change for one handler, made from the feed and claimed in the order of each record.

A handler's row is locked while its hand-overs are made or claimed, so its limits hold over all workers. Making them
moves its cursor in the same transaction: a change becomes exactly one hand-over, and a feed that nobody listens to
costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal, NamedTuple
from uuid import UUID

from shared.handlers.change import OutgoingChange
from shared.store.handovers import lanes
from shared.store.handovers.lanes import Search
from shared.store.handovers.message_ids import MADE_OF, message_id
from shared.store.postgres import Connection


PAGE_CHANGES = 1000
"""So many entries of the feed are looked at in one transaction."""

PAGES_AT_ONCE = 3
"""So many pages are made in one claim; where they hold nothing that may be taken, the next claim goes on."""

LANE = "('x' || left(md5(concat_ws(E'\\x1f', provider, account, kind, external_id)), 16))::bit(64)::bigint"
"""As SQL, a digest of the record that a change is of: of a lane one hand-over runs at a time."""

LONGEST_QUIET_SECONDS = 60.0
"""A handler of which all waits for later attempts is looked at so often all the same."""

FAILURES_TO_OPEN = 5
"""After so many failures in a row nothing but one try at a time is made, each after a longer pause."""

BURST_SHARE = 0.1
"""A budget's calls are spread out; so much of its time may be used at once."""


class Subscription(NamedTuple):
    """What a handler wants, and how gently. ``kinds`` empty: all; ``calls`` 0: as fast as it takes them.

    ``target`` is where it goes (a URL): a handler that was stopped goes on when it has another. ``alone``: its code
    runs in the worker, one call at a time, so that a process that dies tells of it.
    """

    name: str
    kinds: Sequence[str]
    ops: Sequence[str]
    beginning: bool
    concurrency: int
    target: str = ""
    calls: int = 0
    seconds: float = 60.0
    alone: bool = False


class ClaimedHandover(NamedTuple):
    """A hand-over held by this process; ``change`` is None where the change is not kept any more."""

    id: int
    token: int
    attempts: int
    change: OutgoingChange | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of one hand-over.

    ``reached`` says whether the handler as such works: True closes its circuit, False counts towards opening it, None
    says nothing. ``pause_seconds``: it asked for a pause. ``stop``: it is gone (reason and sentence).
    """

    handover: ClaimedHandover
    state: Literal["done", "waiting", "parked", "discarded"]
    status: int | None = None
    reason: str | None = None
    detail: str = ""
    wait_seconds: float = 0.0
    counted: bool = True
    reached: bool | None = None
    pause_seconds: float = 0.0
    stop: bool = False


def _taking(found: str) -> str:
    """The statement that takes what these CTEs find, with the changes; a row at least, which says what was looked at.

    They are locked by their ids, so that nothing else is; what an operator or the relay holds is passed over. (To ask
    for the state there would lead through all that is open.) It is for a connection that walks in the order of an
    index (``open_pool``): without statistics what is due looks like one row, to be found by any index and sorted.
    """
    return f"""
        WITH RECURSIVE {found}, due AS (
            SELECT h.id FROM found JOIN handovers h ON h.id = found.id
            WHERE h.claimed_by IS NULL AND h.finished_at IS NULL AND h.due_at <= now()
            FOR UPDATE OF h SKIP LOCKED
        ), taken AS (
            UPDATE handovers h SET state = 'running', claimed_by = $3, alone = $4, token = nextval('claims'),
                                   attempts = attempts + 1, began_at = clock_timestamp()
            FROM due WHERE h.id = due.id RETURNING h.id, h.token, h.attempts, h.change_id, h.seq
        )
        SELECT seen.whole, seen.lane AS last, (SELECT count(*) FROM taken) AS number,
               t.id, t.token, t.attempts, t.seq, c.op, c.provider, c.account, c.kind, c.external_id, c.changed,
               c.event_id, c.at, r.data::text AS record, r.sealed, {MADE_OF}
        FROM seen CROSS JOIN installation i LEFT JOIN taken t ON true LEFT JOIN changes c ON c.id = t.change_id
        LEFT JOIN records r ON r.provider = c.provider AND r.account = c.account AND r.kind = c.kind
                           AND r.external_id = c.external_id
    """  # noqa: S608 - put together from constants


_TAKE_EARLIEST = _taking(lanes.EARLIEST)
_TAKE_BY_LEAPS = _taking(lanes.BY_LEAPS)


async def claim(
    connection: Connection,
    subscription: Subscription,
    worker: UUID,
    most: int,
    *,
    first: bool = False,
    search: Search | None = None,
) -> list[ClaimedHandover]:
    """Take up to ``most`` hand-overs that are due, and make new ones from the feed where there is room for them.

    Of a record only the earliest unfinished one is taken. ``first``: the handler was woken and may be again. With a
    ``search`` that is not over afterwards, the next claim may find what this one did not, though it found nothing.
    """
    search = search or Search()
    search.saw_all()
    async with connection.transaction():
        room = await _room(connection, subscription, most, first=first)
        if room <= 0:
            return []
        claimed = await _take(connection, subscription, worker, room, search)
        pages = 0
        more = True
        while len(claimed) < room and pages < PAGES_AT_ONCE and (more := await _make(connection, subscription)):
            claimed += await _take(connection, subscription, worker, room - len(claimed), search)
            pages += 1
        if not (claimed or more) and search.over:
            await _note_quiet(connection, subscription)
        if claimed and subscription.calls:
            await connection.execute(
                """
                UPDATE handlers SET next_at = greatest(next_at, clock_timestamp()) + make_interval(secs => $2)
                WHERE name = $1
                """,
                subscription.name,
                len(claimed) * subscription.seconds / subscription.calls,
            )
    return claimed


async def _room(connection: Connection, subscription: Subscription, most: int, *, first: bool) -> int:
    """How many may be under way more. Locks the handler; a new one, or a stopped one with a new target, goes on."""
    row = await connection.fetchrow(
        """
        INSERT INTO handlers AS h (name, cursor)
        VALUES ($1, CASE WHEN $2 THEN 0 ELSE (SELECT coalesce(max(seq), 0) FROM changes) END)
        ON CONFLICT (name) DO UPDATE SET
            woken_at = CASE WHEN $4 THEN NULL ELSE h.woken_at END,
            quiet_until = NULL,
            stopped_reason = CASE WHEN h.stopped_target = $3 THEN h.stopped_reason END,
            stopped_detail = CASE WHEN h.stopped_target = $3 THEN h.stopped_detail END,
            stopped_target = CASE WHEN h.stopped_target = $3 THEN h.stopped_target END
        RETURNING stopped_reason IS NOT NULL OR coalesce(open_until > now(), false) AS closed, failures,
                  coalesce(extract(epoch FROM next_at - clock_timestamp()), 0)::float8 AS ahead
        """,
        subscription.name,
        subscription.beginning,
        subscription.target,
        first,
    )
    if row is None or row["closed"]:
        return 0
    # a statement of its own: its snapshot must begin after the lock is ours
    running: int = await connection.fetchval(
        "SELECT count(*) FROM handovers WHERE handler = $1 AND state = 'running'", subscription.name
    )
    at_a_time = 1 if row["failures"] >= FAILURES_TO_OPEN else subscription.concurrency
    room = min(most, at_a_time - running)
    if subscription.calls:
        apart = subscription.seconds / subscription.calls
        window = max(apart, subscription.seconds * BURST_SHARE)
        room = min(room, int((window - max(row["ahead"], 0.0)) / apart + 1e-9))
    return room


async def _note_quiet(connection: Connection, subscription: Subscription) -> None:
    """Note until when nothing can be taken: what is due stands behind earlier changes of its record, which wait.

    Not while something is under way, whose end may let the next one go.
    """
    await connection.execute(
        """
        UPDATE handlers SET quiet_until = least(
            now() + make_interval(secs => $2),
            (SELECT due_at FROM handovers WHERE handler = $1 AND state IN ('pending', 'waiting') AND due_at > now()
             ORDER BY due_at LIMIT 1)
        )
        WHERE name = $1 AND NOT EXISTS (SELECT FROM handovers WHERE handler = $1 AND state = 'running')
        """,
        subscription.name,
        LONGEST_QUIET_SECONDS,
    )


async def _make(connection: Connection, subscription: Subscription) -> bool:
    """Turn the next page of the feed into hand-overs; False when the feed has no more."""
    looked_at: int = await connection.fetchval(
        f"""
        WITH page AS MATERIALIZED (
            SELECT seq, id, op, provider, account, kind, external_id FROM changes
            WHERE seq > (SELECT cursor FROM handlers WHERE name = $1) ORDER BY seq LIMIT $4
        ), made AS (
            INSERT INTO handovers (handler, change_id, seq, lane)
            SELECT $1, id, seq, {LANE} FROM page
            WHERE (cardinality($2::text[]) = 0 OR kind = ANY($2)) AND op = ANY($3::text[])
            ON CONFLICT DO NOTHING
        ), moved AS (
            UPDATE handlers SET cursor = (SELECT max(seq) FROM page) WHERE name = $1 AND EXISTS (SELECT FROM page)
        )
        SELECT count(*) FROM page
        """,  # noqa: S608 - put together from constants
        subscription.name,
        subscription.kinds,
        subscription.ops,
        PAGE_CHANGES,
    )
    return looked_at > 0


async def _take(
    connection: Connection, subscription: Subscription, worker: UUID, room: int, search: Search
) -> list[ClaimedHandover]:
    """Take the earliest, and where all that was looked at belongs to few records, also what leaps lead to."""
    rows = await connection.fetch(_TAKE_EARLIEST, subscription.name, room, worker, subscription.alone)
    if rows[0]["whole"]:
        search.saw_all()
    elif rows[0]["number"] < room:
        more = await connection.fetch(
            _TAKE_BY_LEAPS, subscription.name, room - rows[0]["number"], worker, subscription.alone, search.begin
        )
        search.leapt(more[0]["last"], whole=more[0]["whole"], found=more[0]["number"] > 0)
        rows += more
    return [
        ClaimedHandover(
            row["id"],
            row["token"],
            row["attempts"],
            OutgoingChange(
                message_id(row["change_id"], row["mark"], row["key"]),
                row["seq"],
                row["op"],
                row["provider"],
                row["account"],
                row["kind"],
                row["external_id"],
                row["changed"],
                row["event_id"],
                row["at"],
                row["record"],
                row["sealed"],
            )
            if row["op"]
            else None,
        )
        for row in sorted((row for row in rows if row["id"] is not None), key=itemgetter("seq"))
    ]
