"""Claiming fetches and committing what came of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from shared.errors import Reason
from shared.providers.interface import Call, Outcome
from shared.store import finishing, opening, waiting
from shared.store.due import FETCH_DUE, FETCH_OPEN, FETCH_WAITS
from shared.store.fairness import Room, in_turn
from shared.store.postgres import Connection
from shared.store.records import recognising, recording
from shared.store.records.sighting import Row, Sighting
from shared.store.text import storable


EVENTS_NAMED = 5
ASIDES_TOLD = 10
SET_ASIDE: Final[Reason] = "row-set-aside"


class ClaimedFetch(NamedTuple):
    """A fetch held by this process; ``token`` is also the number under which its call began."""

    id: int
    provider: str
    account: str
    token: int
    attempts: int
    call: Call
    chain_began: int | None = None
    suspect: bool = False
    """A worker died while it made this call: it is claimed alone."""
    background: bool = False
    """Only replays and reconciliation ask for it: live calls go before it."""
    events: tuple[UUID, ...] = ()
    """The first of the events that it is made for, ``EVENTS_NAMED`` at most: what logs and traces name."""
    refusals: int = 0
    """So many answers before refused this one thing (403, 404): other failures do not count to its few tries."""

    @property
    def read_at(self) -> int:
        """The number of the call as of which its answer is to be taken: of the chain's first where it completes one."""
        return self.token if self.chain_began is None else self.chain_began


NOTHING = Outcome()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one claimed fetch.

    ``seen`` is a large answer by its digest; the outcome of one that is known is not read from it.
    ``done``: the outcome is stored. ``waiting``: tried again after ``wait_seconds``. ``failed``: final. ``called``
    is False where no call was made (over budget); ``counted`` is False where it uses up no attempt.
    """

    fetch: ClaimedFetch
    state: str
    outcome: Outcome = NOTHING
    status: int | None = None
    reason: str | None = None
    detail: str = ""
    wait_seconds: float = 0.0
    counted: bool = True
    called: bool = True
    seen: recognising.Seen | None = None
    refused: bool = False
    """The answer refused this one thing."""

    @property
    def known(self) -> recognising.Known | None:
        """The answer, if it came before."""
        if self.seen is None or self.seen.records is None:
            return None
        return recognising.Known(_resource(self.fetch), self.seen.digest, self.seen.records, self.fetch.read_at)

    @property
    def error(self) -> tuple[str | None, str]:
        """Reason and detail as they stand on the fetch; of an answer that is stored, what was set aside of it."""
        aside = self.outcome.set_aside
        if not aside:
            return self.reason, self.detail
        rows = len(aside) + self.records
        return SET_ASIDE, f"{len(aside):,} of {rows:,} rows cannot be stored: {aside[0].what}: {aside[0].why}"

    @property
    def records(self) -> int:
        """How many records the answer held."""
        return self.known.records if self.known else len(self.outcome.records)


class Stored(NamedTuple):
    """What a commit of results led to: the fetches that were opened for next pages, the events that are done now."""

    opened: list[opening.Opened]
    done: list[UUID]


_CLAIM = f"""
    WITH RECURSIVE alone AS MATERIALIZED (
        SELECT id, state FROM fetches WHERE provider = $1 AND {FETCH_OPEN} AND suspect AND $8 AND {FETCH_DUE}
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ), {in_turn("fetches", FETCH_WAITS, "due_at", due=FETCH_DUE, provided="NOT EXISTS (SELECT FROM alone)")}
    , taken AS MATERIALIZED (
        SELECT id, state FROM alone UNION ALL SELECT id, state FROM in_turn
    )
    UPDATE fetches f SET state = 'running', claimed_by = $7, token = nextval('claims'),
                         attempts = attempts + 1, began_at = clock_timestamp()
    FROM taken WHERE f.id = ANY(ARRAY(SELECT id FROM taken)) AND f.id = taken.id
    RETURNING f.id, provider, account, token, attempts, path, purpose, context, pick, missing, page,
              completes, chain_began, suspect, background, refusals, taken.state AS was,
              ARRAY(SELECT event_id FROM event_fetches WHERE fetch_id = f.id ORDER BY event_id LIMIT {EVENTS_NAMED})
              AS events
"""  # noqa: S608 - put together from constants of this module


async def claim(
    connection: Connection, provider: str, room: Room, worker: UUID, *, suspects: bool = True, after: str = ""
) -> list[ClaimedFetch]:
    """Take fetches that are due: of each account those due first, alike many of each, of accounts after ``after``.

    Never two of one resource at a time. Each gets a number from the sequence: calls began in that order. A fetch that
    is suspected of having killed a worker is taken alone, before the others, unless ``suspects`` is False.
    """
    async with connection.transaction():
        rows = await connection.fetch(_CLAIM, provider, *room.columns(), after, worker, suspects)
        if again := [row["id"] for row in rows if row["was"] == "waiting"]:
            await connection.execute("SET LOCAL enable_sort = on")
            await _go_on(connection, again)
    return [_claimed(row) for row in rows]


async def _go_on(connection: Connection, fetches: Sequence[int]) -> None:
    """The events of calls that waited are worked on again."""
    events = await _events_by_fetch(connection, fetches)
    first = finishing.within_bounds(events)
    await finishing.settle_events(connection, _all(first))
    await finishing.leave_the_rest(connection, events, first)


async def _events_by_fetch(connection: Connection, fetches: Sequence[int]) -> dict[int, list[UUID]]:
    rows = await connection.fetch(
        "SELECT fetch_id, event_id FROM event_fetches WHERE fetch_id = ANY($1) ORDER BY event_id", fetches
    )
    events: dict[int, list[UUID]] = {}
    for row in rows:
        events.setdefault(row["fetch_id"], []).append(row["event_id"])
    return events


def _all(events: Mapping[int, Sequence[UUID]]) -> list[UUID]:
    """In the order in which they are locked."""
    return sorted({event for ids in events.values() for event in ids})


async def begin_anew(connection: Connection, fetch: ClaimedFetch) -> ClaimedFetch | None:
    """Number a call again that begins later than its claim (it waited for its budget); None if the claim is lost."""
    token = await connection.fetchval(
        """
        UPDATE fetches SET token = nextval('claims'), began_at = clock_timestamp()
        WHERE id = $1 AND token = $2 RETURNING token
        """,
        fetch.id,
        fetch.token,
    )
    return fetch._replace(token=token) if token is not None else None


async def commit(connection: Connection, results: Sequence[Result], coalesce_seconds: float) -> Stored:
    """Store results in one transaction: records, next pages, the fetches' and their events' states, the timeline.

    Results whose claim was lost meanwhile are dropped: their rows are due again and another process has them. Raises
    NotAsBefore where a known answer is to be read after all; then nothing is stored.
    """
    async with connection.transaction():
        events = await _held(connection, results)
        results = [result for result in results if result.fetch.id in events]
        await recognising.note(connection, [result.known for result in results if result.known])
        rows = await recording.apply(
            connection,
            [
                Sighting(
                    result.fetch.provider,
                    result.fetch.account,
                    record,
                    result.fetch.read_at,
                    max(events[result.fetch.id], default=None),
                )
                for result in results
                for record in result.outcome.records
            ],
        )
        for result in results:
            await _remember(connection, result, rows)
        heirs = await _update(connection, results)
        wanted = opening.by_resource(
            opening.Wanted(
                result.fetch.provider,
                result.fetch.account,
                call,
                sorted(events[result.fetch.id]),
                result.fetch.read_at if call.completes else None,
                result.fetch.background,
            )
            for result in results
            for call in result.outcome.next
        )
        opened = await opening.open_fetches(connection, wanted, coalesce_seconds)
        # One that was merged left its events to the newer one, which may have more.
        concerned = {fetch: ids for fetch, ids in events.items() if fetch not in heirs}
        concerned |= await _events_by_fetch(connection, [*heirs.values()]) if heirs else {}
        first = finishing.within_bounds(concerned)
        named = _all(first)
        told = [line for result in results for line in _lines(result, heirs, events, first)]
        among = set(named)
        told += [line for fetch in opened for line in fetch.told if line[0] in among]
        done = await finishing.settle_events(connection, named, told)
        lines = {heirs.get(result.fetch.id, result.fetch.id): finishing.Told(*_line(result)) for result in results}
        await finishing.leave_the_rest(connection, concerned, first, lines)
        return Stored(opened, done)


async def _remember(connection: Connection, result: Result, rows: Sequence[Row]) -> None:
    """Know the answer from now on, if it was read and leads nowhere else; not where another had news of its records."""
    if result.seen is None or result.known or result.outcome.next:
        return
    mine = [row for row in rows if row.sighting.began == result.fetch.read_at]
    if len(mine) == len(result.outcome.records):
        await recognising.remember(connection, _resource(result.fetch), result.seen.digest, mine)


def _resource(fetch: ClaimedFetch) -> bytes:
    return opening.resource_key(fetch.provider, fetch.account, fetch.call)


async def _held(connection: Connection, results: Sequence[Result]) -> Mapping[int, list[UUID]]:
    """The events of each fetch, for the fetches whose claim is still this process's, locked until the commit.

    Only what is running has a token. (To ask for the state as well would lead through the index of what runs.)
    """
    rows = await connection.fetch(
        """
        SELECT f.id, ARRAY(SELECT event_id FROM event_fetches WHERE fetch_id = f.id ORDER BY event_id) AS events
        FROM unnest($1::bigint[], $2::bigint[]) AS mine (id, token)
        JOIN fetches f ON f.id = mine.id AND f.token = mine.token
        ORDER BY f.id FOR UPDATE OF f
        """,
        [result.fetch.id for result in results],
        [result.fetch.token for result in results],
    )
    return {row["id"]: row["events"] for row in rows}


def _lines(
    result: Result,
    heirs: Mapping[int, int],
    events: Mapping[int, Sequence[UUID]],
    first: Mapping[int, Sequence[UUID]],
) -> list[tuple[UUID, str, str]]:
    """What a fetch's ``first`` events are told; those that asked while the call was under way, that they wait now."""
    fetch = result.fetch
    mine = set(events[fetch.id])
    named = first[heirs.get(fetch.id, fetch.id)]
    step, detail = _line(result)
    lines = [(event, step, detail) for event in named if event in mine]
    lines += [(event, "set-aside", aside) for event in named if event in mine for aside in _asides(result)]
    others = [event for event in named if event not in mine]
    if others:
        wait = waiting.words(result.reason, result.wait_seconds, result.detail)
        lines += waiting.joined(others, fetch.call.path, wait)
    return lines


def _asides(result: Result) -> Sequence[str]:
    """What was set aside of an answer, a sentence each, as many as are shown."""
    aside = result.outcome.set_aside
    sentences = [f"{each.what}: {each.why}" for each in aside[:ASIDES_TOLD]]
    return [*sentences, f"and {len(aside) - ASIDES_TOLD:,} more"] if len(aside) > ASIDES_TOLD else sentences


async def _update(connection: Connection, results: Sequence[Result]) -> Mapping[int, int]:
    """Write the fetches' own rows; one that waits again is merged into a newer one for its resource, if there is.

    Returns the newer ones, which wait now, by those that they replace.
    """
    again = [result for result in results if result.state == "waiting"]
    merged = await _merge(connection, again) if again else {}
    ids, *columns = _columns([result for result in results if result.fetch.id not in merged])
    called = Counter(result.fetch.provider for result in results if result.called)
    # The rows are named by id twice: without statistics (a young table) the planner would read the whole of it.
    await connection.execute(
        """
        WITH result AS (
            SELECT * FROM unnest($1::bigint[], $2::text[], $3::int[], $4::text[], $5::text[], $6::interval[],
                                 $7::bool[], $8::bool[])
            AS r (id, state, status, reason, detail, wait, counted, refused)
        ), woken AS (
            -- what was asked for anew while this one ran need not wait for its turn at the relay
            UPDATE fetches f SET queue_at = greatest(f.due_at, now())
            WHERE f.state = 'pending' AND f.resource = ANY(ARRAY(
                SELECT ended.resource FROM fetches ended
                WHERE ended.id = ANY($1) AND ended.id IN (SELECT id FROM result WHERE state <> 'waiting')
            ))
        ), counted AS (
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, 'calls', '', delta FROM unnest($9::text[], $10::bigint[]) AS t (provider, delta)
        )
        UPDATE fetches f SET
            state = r.state, status = coalesce(r.status, f.status), error_reason = r.reason,
            error_detail = nullif(r.detail, ''), claimed_by = NULL, token = NULL, suspect = false, deaths = 0,
            attempts = f.attempts - CASE WHEN r.counted THEN 0 ELSE 1 END, refusals = f.refusals + r.refused::int,
            due_at = CASE WHEN r.state = 'waiting' THEN now() + r.wait ELSE f.due_at END,
            queue_at = CASE WHEN r.state = 'waiting' THEN now() + r.wait ELSE f.queue_at END,
            finished_at = CASE WHEN r.state <> 'waiting' THEN now() END
        FROM result r WHERE f.id = ANY($1) AND f.id = r.id
        """,
        ids,
        *columns,
        [*called],
        [*called.values()],
    )
    return merged


async def _merge(connection: Connection, again: Sequence[Result]) -> dict[int, int]:
    """Merge fetches that wait again into newer open ones for their resources, where there are; old id to new id."""
    rows = await connection.fetch(
        """
        WITH result AS (
            SELECT * FROM unnest($1::bigint[], $2::text[], $3::int[], $4::text[], $5::text[], $6::interval[],
                                 $7::bool[], $8::bool[])
            AS r (id, state, status, reason, detail, wait, counted, refused)
        ), merged AS (
            SELECT result.*, heir.id AS heir, lost.attempts, lost.refusals FROM result
            JOIN fetches lost ON lost.id = ANY($1) AND lost.id = result.id
            CROSS JOIN LATERAL (
                SELECT id FROM fetches WHERE resource = lost.resource AND state IN ('pending', 'waiting') OFFSET 0
            ) AS heir
        ), inherited AS (
            UPDATE fetches f SET
                state = 'waiting', attempts = greatest(f.attempts, m.attempts - CASE WHEN m.counted THEN 0 ELSE 1 END),
                refusals = greatest(f.refusals, m.refusals + m.refused::int),
                status = m.status, error_reason = m.reason, error_detail = m.detail,
                due_at = greatest(f.due_at, now() + m.wait), queue_at = greatest(f.due_at, now() + m.wait)
            FROM merged m WHERE f.id = m.heir
        ), moved AS (
            INSERT INTO event_fetches (event_id, fetch_id)
            SELECT l.event_id, m.heir FROM merged m JOIN event_fetches l ON l.fetch_id = m.id
            ON CONFLICT DO NOTHING
        ), unlinked AS (
            DELETE FROM event_fetches WHERE fetch_id IN (SELECT id FROM merged)
        ), gone AS (
            DELETE FROM fetches WHERE id IN (SELECT id FROM merged)
        )
        SELECT id, heir FROM merged
        """,
        *_columns(again),
    )
    return {row["id"]: row["heir"] for row in rows}


def _columns(results: Sequence[Result]) -> tuple[list[object], ...]:
    """Id, state, status, reason, detail, wait, counted, refused."""
    return (
        [result.fetch.id for result in results],
        [result.state for result in results],
        [result.status for result in results],
        [result.error[0] for result in results],
        [storable(result.error[1]) for result in results],
        [timedelta(seconds=result.wait_seconds) for result in results],
        [result.counted for result in results],
        [result.refused for result in results],
    )


def _line(result: Result) -> tuple[str, str]:
    call = f"GET {result.fetch.call.path}"
    match result.state:
        case "done":
            more = f", {len(result.outcome.next)} more to fetch" if result.outcome.next else ""
            known = " as before" if result.known else ""
            aside = f", {len(result.outcome.set_aside)} set aside" if result.outcome.set_aside else ""
            return "fetched", f"{call}: {result.detail or result.status}, {result.records} records{known}{aside}{more}"
        case "waiting":
            if not result.called:
                return "waiting", waiting.words(result.reason, result.wait_seconds, result.detail)
            return "waiting", f"{result.wait_seconds:.1f} s: {result.detail} ({call}, attempt {result.fetch.attempts})"
        case _:
            return "fetch-failed", f"{call}: {result.detail}"


def call_of(row: Any) -> Call:
    """The call of a row of ``fetches``."""
    return Call(
        path=row["path"],
        purpose=row["purpose"],
        context=msgspec.json.decode(row["context"]),
        pick=row["pick"],
        missing=row["missing"],
        page=row["page"],
        completes=row["completes"],
    )


def _claimed(row: Any) -> ClaimedFetch:
    return ClaimedFetch(
        row["id"],
        row["provider"],
        row["account"],
        row["token"],
        row["attempts"],
        call_of(row),
        row["chain_began"],
        row["suspect"],
        row["background"],
        tuple(row["events"]),
        row["refusals"],
    )
