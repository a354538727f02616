"""Accounts that are silent for longer than they should be, as people look at them."""

from collections.abc import Collection
from datetime import datetime

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared import rhythm
from shared.rhythm import Rhythm
from shared.store.schema import rhythms


class Silence(msgspec.Struct, frozen=True):
    """One account; ``expected_spans`` of five minutes with an event would have been usual since the last one."""

    provider: str
    account: str
    last_event_at: datetime
    expected_spans: float


_ROWS = select(
    rhythms.c.provider,
    rhythms.c.account,
    rhythms.c.spans,
    rhythms.c.weeks,
    rhythms.c.hour,
    rhythms.c.in_hour,
    rhythms.c.whole,
    rhythms.c.looked_at,
    rhythms.c.last_event_at,
    func.now(),
).order_by(rhythms.c.provider, rhythms.c.account)


async def silences(
    connection: AsyncConnection, configured: Collection[tuple[str, str]], silence_spans: float
) -> list[Silence]:
    """The configured accounts (provider and name) that are silent, by what the relay has seen of them."""
    found = []
    for provider, account, *known, now in await connection.execute(_ROWS):
        seen = Rhythm(*known)
        if (provider, account) not in configured or seen.last_event_at is None:
            continue
        if rhythm.is_silent(seen, now, silence_spans):
            amount = round(rhythm.expected(seen, now), 1)
            found.append(Silence(provider, account, seen.last_event_at, amount))
    return found
