"""Events that are parked or failed, counted by provider and reason: from an index that holds nothing else."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.shapes import DeadLetters
from shared.store.schema import events


async def dead_letters(connection: AsyncConnection, provider: str | None = None) -> Sequence[DeadLetters]:
    """The reasons, the most frequent of each provider first; discarded events are left out."""
    reason = func.coalesce(events.c.error_reason, "")
    number = func.count()
    statement = (
        select(events.c.provider, reason, number, func.min(events.c.received_at), func.max(events.c.received_at))
        .where(events.c.state.in_(("parked", "failed")), events.c.discarded_at.is_(None))
        .group_by(events.c.provider, reason)
        .order_by(events.c.provider, number.desc())
    )
    if provider is not None:
        statement = statement.where(events.c.provider == provider)
    return [DeadLetters(*row) for row in await connection.execute(statement)]
