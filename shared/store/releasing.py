"""Making due again what a process claimed; what kills its process each time it is tried alone is parked as poison.

A process that died tells nothing about which of its claims killed it: all of them become suspects. A suspect is
claimed alone, so the next death tells; only such deaths are counted.

A lease that lapsed is no certain death. What it brought upon its claims is noted in ``lapses``, and taken back when the
process beats again (``acquitting``).
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.store import finishing, timeline
from shared.store.postgres import Connection


LONE_DEATHS = 2
"""So many workers may die with nothing but this in their hands; a machine that loses its power twice is not enough."""
POISON_AGAIN = timedelta(minutes=10)
"""So long waits what else was asked for of a resource that has proved to be poison: a steady stream of deliveries about
it costs one worker process in this time. A replay, by whoever has mended something, tries it at once."""

_EVENT_POISON = f"its worker process died {LONE_DEATHS} times while it read this event and nothing else"
_FETCH_POISON = f"its worker process died {LONE_DEATHS} times while it made this call and nothing else"


async def give_back(
    connection: Connection, worker: UUID, held_events: Sequence[UUID] = (), held_fetches: Sequence[int] = ()
) -> None:
    """Make due again what a living process claimed, all but what it says it still holds. Nothing becomes suspect."""
    await connection.execute(
        """
        UPDATE events SET claimed_by = NULL, token = NULL, queue_at = now()
        WHERE claimed_by = $1 AND id <> ALL($2)
        """,
        worker,
        held_events,
    )
    await _fetches(connection, [worker], held=held_fetches)


async def give_up(connection: Connection, workers: Sequence[UUID], *, known: bool = True) -> None:
    """Make due again what dead processes had claimed, as suspects; park what has now proved to be poison.

    ``known``: that they died. Otherwise they beat no more, and may only be slow.
    """
    alone = await connection.fetch(
        """
        SELECT claimed_by FROM (
            SELECT claimed_by FROM events WHERE claimed_by = ANY($1)
            UNION ALL SELECT claimed_by FROM fetches WHERE claimed_by = ANY($1)
        ) AS claims
        GROUP BY claimed_by HAVING count(*) = 1
        """,
        workers,
    )
    lone = [row["claimed_by"] for row in alone]
    await _events(connection, workers, lone, known=known)
    await _fetches(connection, workers, died=True, known=known, lone=lone)


async def _events(connection: Connection, workers: Sequence[UUID], lone: Sequence[UUID], *, known: bool) -> None:
    rows = await connection.fetch(
        """
        WITH lost AS (
            SELECT id, claimed_by, suspect, suspect AND claimed_by = ANY($2) AS counted,
                   deaths + CASE WHEN suspect AND claimed_by = ANY($2) THEN 1 ELSE 0 END AS deaths
            FROM events WHERE claimed_by = ANY($1) ORDER BY id FOR UPDATE
        ), noted AS (
            INSERT INTO lapses (worker, event_id, counted)
            SELECT claimed_by, id, counted FROM lost WHERE NOT $5 AND (counted OR NOT suspect)
        )
        UPDATE events e SET
            claimed_by = NULL, token = NULL, queue_at = now(), suspect = true, deaths = lost.deaths,
            state = CASE WHEN lost.deaths < $3 THEN e.state ELSE 'parked' END,
            finished_at = CASE WHEN lost.deaths < $3 THEN NULL ELSE now() END,
            error_reason = CASE WHEN lost.deaths < $3 THEN NULL ELSE 'poison' END,
            error_detail = CASE WHEN lost.deaths < $3 THEN NULL ELSE $4 END
        FROM lost WHERE e.id = lost.id RETURNING e.id, e.state
        """,
        workers,
        lone,
        LONE_DEATHS,
        _EVENT_POISON,
        known,
    )
    parked = [row["id"] for row in rows if row["state"] == "parked"]
    await timeline.write(connection, [(event, "parked", f"poison: {_EVENT_POISON}") for event in parked])


async def _fetches(
    connection: Connection,
    workers: Sequence[UUID],
    *,
    held: Sequence[int] = (),
    died: bool = False,
    known: bool = True,
    lone: Sequence[UUID] = (),
) -> None:
    """Make fetches due again; one that was asked for anew meanwhile is merged into that one, suspicion and all.

    What was asked for anew of a resource that has now proved to be poison waits: one more death alone parks it too.
    """
    poisonous = await connection.fetch(
        """
        WITH lost AS (
            SELECT id, claimed_by, resource, attempts, suspect OR $3 AS suspect, suspect AS was_suspect,
                   suspect AND claimed_by = ANY($4) AS counted,
                   deaths + CASE WHEN suspect AND claimed_by = ANY($4) THEN 1 ELSE 0 END AS deaths
            FROM fetches WHERE claimed_by = ANY($1) AND id <> ALL($2) ORDER BY id FOR UPDATE
        ), asked_anew AS (
            SELECT lost.*, heir.id AS heir FROM lost
            CROSS JOIN LATERAL (
                SELECT id FROM fetches WHERE resource = lost.resource AND state IN ('pending', 'waiting') OFFSET 0
            ) AS heir
        ), inherited AS (
            UPDATE fetches f SET
                suspect = f.suspect OR a.suspect, attempts = greatest(f.attempts, a.attempts),
                deaths = least(greatest(f.deaths, a.deaths), $5 - 1),
                due_at = CASE WHEN a.deaths < $5 THEN f.due_at ELSE greatest(f.due_at, now() + $7) END,
                queue_at = CASE WHEN a.deaths < $5 THEN f.queue_at ELSE greatest(f.due_at, now() + $7) END
            FROM asked_anew a WHERE f.id = a.heir
        ), merged AS (
            SELECT id, heir FROM asked_anew WHERE deaths < $5
        ), moved AS (
            INSERT INTO event_fetches (event_id, fetch_id)
            SELECT link.event_id, merged.heir FROM merged JOIN event_fetches link ON link.fetch_id = merged.id
            ON CONFLICT DO NOTHING
        ), unlinked AS (
            DELETE FROM event_fetches WHERE fetch_id IN (SELECT id FROM merged)
        ), gone AS (
            DELETE FROM fetches WHERE id IN (SELECT id FROM merged)
        ), noted AS (
            INSERT INTO lapses (worker, fetch_id, counted)
            SELECT lost.claimed_by, coalesce(merged.heir, lost.id), lost.counted
            FROM lost LEFT JOIN merged ON merged.id = lost.id LEFT JOIN fetches heir ON heir.id = merged.heir
            WHERE NOT $8 AND $3 AND (lost.counted OR NOT coalesce(heir.suspect, lost.was_suspect))
        ), written AS (
            UPDATE fetches f SET
                state = CASE WHEN lost.deaths < $5 THEN 'pending' ELSE 'failed' END,
                finished_at = CASE WHEN lost.deaths < $5 THEN NULL ELSE now() END,
                error_reason = CASE WHEN lost.deaths < $5 THEN f.error_reason ELSE 'poison' END,
                error_detail = CASE WHEN lost.deaths < $5 THEN f.error_detail ELSE $6 END,
                claimed_by = NULL, token = NULL, due_at = now(), queue_at = now(),
                suspect = lost.suspect, deaths = lost.deaths
            FROM lost WHERE f.id = lost.id AND f.id NOT IN (SELECT id FROM merged)
        )
        SELECT l.event_id, f.path FROM lost JOIN fetches f ON f.id = lost.id
        JOIN event_fetches l ON l.fetch_id = lost.id WHERE lost.deaths >= $5
        ORDER BY l.event_id
        """,
        workers,
        held,
        died,
        lone,
        LONE_DEATHS,
        _FETCH_POISON,
        POISON_AGAIN,
        known,
    )
    await timeline.write(
        connection, [(row["event_id"], "fetch-failed", f"GET {row['path']}: {_FETCH_POISON}") for row in poisonous]
    )
    await finishing.settle_events(connection, sorted({row["event_id"] for row in poisonous}))
