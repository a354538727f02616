"""The step-by-step story of each event, written in the same transaction as the state that it tells of."""

from collections.abc import Iterable
from uuid import UUID

from shared.store.postgres import Connection


MAX_DETAIL = 500


async def write(connection: Connection, lines: Iterable[tuple[UUID, str, str]]) -> None:
    """Append (event, step, detail) lines, in order."""
    rows = list(lines)
    if rows:
        await connection.execute(
            "INSERT INTO timeline (event_id, step, detail) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])",
            [event for event, _, _ in rows],
            [step for _, step, _ in rows],
            [detail[:MAX_DETAIL] for _, _, detail in rows],
        )
