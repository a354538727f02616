"""The state of an event follows from the states of its fetches; this is the one place that says how.

A commit settles as many events as a transaction may hold. Where very many share a fetch (a thing that was told of again
and again while its API was down), the rest is left to the relay: their state is derived, so it may lag by seconds.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from shared.store import timeline
from shared.store.postgres import Connection
from shared.store.text import storable


AT_ONCE: Final = 1000
"""So many events are settled in one transaction at most."""

_LOCK = "SELECT id, state FROM events WHERE id = ANY($1) ORDER BY id FOR UPDATE"

_OF_FETCHES = "FROM event_fetches l JOIN fetches f ON f.id = l.fetch_id WHERE l.event_id = e.id"
_DERIVED = """
    CASE WHEN bool_or(f.state = 'waiting') THEN 'waiting'
         WHEN bool_or(f.state IN ('pending', 'running')) THEN 'processing'
         WHEN bool_or(f.error_reason IN ('account-removed', 'poison')) THEN 'parked'
         WHEN bool_or(f.state = 'failed') THEN 'failed'
         ELSE 'done' END
"""
# What decided is told: that the account is gone, then poison, then the first failure, then what was set aside of an
# answer whose rest is stored.
_TOLD_FIRST = """
    ORDER BY f.error_reason = 'account-removed' DESC, f.error_reason = 'poison' DESC, f.state = 'failed' DESC, f.id
"""
_ENDED = "state IN ('done', 'failed', 'parked')"
# The rows are named once, by their ids, and nothing is joined to them: what it costs grows as their number does, with
# whatever plan. (A join could read all unfinished events, by a plan that was made while the table was young.)
_SETTLE = f"""
WITH settled AS (
    UPDATE events e SET (state, finished_at, error_reason, error_detail) = (
        SELECT state, CASE WHEN {_ENDED} THEN now() END, CASE WHEN {_ENDED} THEN reason END,
               CASE WHEN {_ENDED} THEN detail END
        FROM (
            SELECT {_DERIVED} AS state,
                   (array_agg(f.error_reason {_TOLD_FIRST}) FILTER (WHERE f.error_reason IS NOT NULL))[1] AS reason,
                   (array_agg(f.error_detail {_TOLD_FIRST}) FILTER (WHERE f.error_reason IS NOT NULL))[1] AS detail
            {_OF_FETCHES}
        ) AS derived
    )
    WHERE e.id = ANY($1) AND e.state <> (SELECT {_DERIVED} {_OF_FETCHES})
    RETURNING e.id, e.state, e.error_detail
), ended AS (
    SELECT id, state, coalesce(error_detail, 'every fetch is in') AS detail FROM settled WHERE {_ENDED}
), told AS (
    INSERT INTO timeline (event_id, step, detail)
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[])
    UNION ALL
    SELECT id, state, left(detail, {timeline.MAX_DETAIL}) FROM ended
)
SELECT id FROM ended WHERE state = 'done'
"""  # noqa: S608 - put together from constants
# No step leads from waiting to an end but through this.
_GO_ON = f"""
UPDATE events e SET state = 'processing'
WHERE e.id = ANY($1) AND e.state = 'waiting' AND (SELECT {_DERIVED} {_OF_FETCHES}) IN ('done', 'failed', 'parked')
"""  # noqa: S608 - the same


class Told(NamedTuple):
    """What a fetch's events are told: a step of their timelines and its detail."""

    step: str
    detail: str


async def events_of(connection: Connection, fetches: Sequence[int]) -> list[UUID]:
    """The events that these fetches are made for, in id order."""
    rows = await connection.fetch(
        "SELECT DISTINCT event_id FROM event_fetches WHERE fetch_id = ANY($1) ORDER BY event_id", fetches
    )
    return [row["event_id"] for row in rows]


def within_bounds(events: Mapping[int, Sequence[UUID]]) -> dict[int, Sequence[UUID]]:
    """Of each fetch its first events, as many as are settled at once with those of the others: of small ones all."""
    room, first = AT_ONCE, {}
    for fetch in sorted(events, key=lambda fetch: len(events[fetch])):
        first[fetch] = events[fetch][:room]
        room -= len(first[fetch])
    return first


async def settle_events(
    connection: Connection, events: Sequence[UUID], told: Sequence[tuple[UUID, str, str]] = ()
) -> list[UUID]:
    """Bring planned events to the state that their fetches give them; ``told`` goes before it in their timelines.

    Returns those that are done now.

    The rows are locked first, in id order, so that of two fetches that finish at the same moment the second sees the
    first: ``waiting`` if any fetch waits for a later attempt, else ``processing`` if any is due or running, else
    ``parked`` if its account was removed or a fetch is poison, else ``failed`` if any failed, else ``done``. The reason
    is that of the fetch that decided.
    """
    if not events:
        return []
    locked = await connection.fetch(_LOCK, events)
    planned = [row["id"] for row in locked if row["state"] in {"processing", "waiting"}]
    done = await connection.fetch(_SETTLE, planned, *timeline.columns(told))
    return [row["id"] for row in done]


async def leave_the_rest(
    connection: Connection,
    events: Mapping[int, Sequence[UUID]],
    first: Mapping[int, Sequence[UUID]],
    told: Mapping[int, Told] | None = None,
) -> None:
    """Have the relay settle, and tell, the events of these fetches that are not among the ``first``."""
    rows = [
        (ids[start : start + AT_ONCE], (told or {}).get(fetch))
        for fetch, ids in events.items()
        for start in range(len(first[fetch]), len(ids), AT_ONCE)
    ]
    if rows:
        await connection.executemany(
            "INSERT INTO settlements (events, step, detail) VALUES ($1, $2, $3)",
            [(ids, line and line.step, line and storable(line.detail, timeline.MAX_DETAIL)) for ids, line in rows],
        )


async def go_on(connection: Connection, events: Sequence[UUID]) -> None:
    """Lock them; those that waited and have their answer by now are worked on again."""
    await connection.execute(_LOCK, events)
    await connection.execute(_GO_ON, events)
