"""Webhooks as they were registered at a provider when last looked at."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.schema import registrations as table


class Registration(msgspec.Struct, frozen=True):
    """One webhook; ``failures`` as the provider counts them. No URL: it carries a secret."""

    provider: str
    account: str
    id: str
    failures: int
    disabled: bool
    looked_at: datetime


async def registrations(connection: AsyncConnection) -> Sequence[Registration]:
    """All of them, by account."""
    columns = (table.c.provider, table.c.account, table.c.id, table.c.failures, table.c.disabled, table.c.looked_at)
    return [Registration(*row) for row in await connection.execute(select(*columns).order_by(*columns[:3]))]
