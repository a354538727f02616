"""The step-by-step story of each event, written in the same transaction as the state that it tells of."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from shared.store.postgres import Connection
from shared.store.text import storable


MAX_DETAIL = 500


Line = tuple[UUID, str, str]
"""Event, step, detail."""

_WRITE = "INSERT INTO timeline (event_id, step, detail) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])"


async def write(connection: Connection, lines: Iterable[Line]) -> None:
    """Append lines, in order."""
    rows = list(lines)
    if rows:
        await connection.execute(_WRITE, *columns(rows))


def columns(lines: Sequence[Line]) -> tuple[list[UUID], list[str], list[str]]:
    """Events, steps, details: for a statement that writes them with something else."""
    return (
        [event for event, _, _ in lines],
        [step for _, step, _ in lines],
        [storable(detail, MAX_DETAIL) for _, _, detail in lines],
    )
