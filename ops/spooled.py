"""What lies in the spool: events that ingress keeps in Redis while Postgres does not answer, and what was set aside."""

from collections.abc import Iterator
from typing import Final

import msgspec
from redis.asyncio import Redis

from shared.errors import StoreAway
from shared.spool import ASIDE, SPOOL, Spool


AGAIN: Final = "if redis.call('XLEN', KEYS[2]) == 0 then return redis.call('RENAME', KEYS[1], KEYS[2]) end"
"""Makes what was set aside the spool: the reason beside an entry is not looked at."""


class Spooled(msgspec.Struct, frozen=True):
    """How many events wait in the spool, and how many of its entries could not be kept."""

    events: int
    set_aside: int


async def spooled(redis: Redis | None) -> Spooled | None:
    """What is there now; None where Redis is not known or away."""
    if redis is None:
        return None
    spool = Spool(redis)
    try:
        return Spooled(await spool.length(), await spool.set_aside_length())
    except StoreAway:
        return None


def sentences(found: Spooled | None) -> Iterator[str]:
    """What to do about it; nothing where nothing is there."""
    if found and found.events:
        yield (
            f"{found.events} events wait in the spool: the relay moves them into Postgres as soon as it answers; if"
            " they stay, see whether a relay runs."
        )
    if found and found.set_aside:
        yield (
            f"{found.set_aside} entries of the spool could not be kept and were set aside, whole, each with its reason:"
            f" `redis-cli XRANGE {ASIDE} - +` shows them. Once the reasons are mended, this lets the relay try them"
            f' again, provided that the spool is empty: redis-cli EVAL "{AGAIN}" 2 {ASIDE} {SPOOL}'
        )
