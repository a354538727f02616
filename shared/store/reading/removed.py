"""What retention removed, as people look at it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.schema import retention


class Removed(msgspec.Struct, frozen=True):
    """What of an account (of all, where provider and account are empty) was removed so far, and when it was looked."""

    provider: str
    account: str
    what: str
    removed: int
    round_at: datetime
    moved_at: datetime


async def removed_by_retention(connection: AsyncConnection) -> Sequence[Removed]:
    """A row for each account and kind of data."""
    columns = (
        retention.c.provider,
        retention.c.account,
        retention.c.what,
        retention.c.removed,
        retention.c.round_at,
        retention.c.moved_at,
    )
    rows = await connection.execute(select(*columns).order_by(*columns[:3]))
    return [Removed(*row) for row in rows]
