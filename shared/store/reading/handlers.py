"""Handlers as people see them."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.shapes import HandlerStanding
from shared.store.schema import changes, handlers, handovers


_COUNTED = ("pending", "running", "waiting", "parked")


async def handler_standings(connection: AsyncConnection) -> Sequence[HandlerStanding]:
    """Every handler that was ever known, by name."""
    counts = [
        select(func.count()).where(handovers.c.handler == handlers.c.name, handovers.c.state == state).scalar_subquery()
        for state in _COUNTED
    ]
    newest = select(func.coalesce(func.max(changes.c.seq), 0)).scalar_subquery()
    statement = select(
        handlers.c.name,
        handlers.c.cursor,
        (newest - handlers.c.cursor),
        *counts,
        handlers.c.failures,
        handlers.c.open_until,
        handlers.c.stopped_reason,
        handlers.c.stopped_detail,
    ).order_by(handlers.c.name)
    return [HandlerStanding(*row) for row in await connection.execute(statement)]
