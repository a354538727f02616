"""Replays as people look at them: what was asked for, by whom and why, and how far each has come."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.shapes import ReplayRun
from shared.store.schema import replays


_COLUMNS = ("id", "what", "who", "reason", "asked", "since", "until", "counts", "began_at", "moved_at", "finished_at")


async def list_replays(
    connection: AsyncConnection, *, unfinished: bool = False, limit: int = 50
) -> Sequence[ReplayRun]:
    """The newest first; ``limit`` 0 is all."""
    statement = select(*(replays.c[name] for name in _COLUMNS)).order_by(replays.c.id.desc())
    if unfinished:
        statement = statement.where(replays.c.finished_at.is_(None))
    if limit:
        statement = statement.limit(limit)
    return [ReplayRun(*row) for row in await connection.execute(statement)]


async def replay_of(connection: AsyncConnection, replay_id: int) -> ReplayRun | None:
    """One replay; None where there is none of this id."""
    statement = select(*(replays.c[name] for name in _COLUMNS)).where(replays.c.id == replay_id)
    row = (await connection.execute(statement)).one_or_none()
    return ReplayRun(*row) if row else None
