"""What ingress tells the console by way of Redis: how fast deliveries were acknowledged, and which keys proved them.

Figures for people, a few commands every ten seconds: if Redis loses them, nothing is lost but the figures.
docs/decisions/0020-arrivals.md says why they lie there.
"""

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shared.measuring import LATENCY_BUCKETS, quantile
from shared.sealing import Keys


if TYPE_CHECKING:
    from pydantic import SecretStr
    from redis.asyncio import Redis

SLOT_SECONDS: Final = 300
"""Acknowledgements are counted in slots of this length, so that the last hour can be put together."""

_SLOTS: Final = 12
_KEPT_SECONDS: Final = SLOT_SECONDS * (_SLOTS + 1)
_ACKNOWLEDGED: Final = "penstock:acknowledged"
_KEYS: Final = "penstock:webhook-keys"
_SINCE: Final = "penstock:webhook-keys:since"
_DIGEST_BYTES: Final = 8

UsedKey = tuple[str, str, bytes]
"""Provider, account, and the key itself, which never goes to Redis."""


class Acknowledged(NamedTuple):
    """Acknowledgements of the last hour: their number, and the seconds within which half and 99 of 100 were made."""

    number: int
    p50: float | None
    p99: float | None


NOTHING_ACKNOWLEDGED: Final = Acknowledged(0, None, None)


class KeyUse(NamedTuple):
    """One of an account's webhook keys, by its place in the settings, and when it last proved a delivery."""

    place: int
    last_used_at: datetime | None


class KeyUses(NamedTuple):
    """``since`` is when counting began: a key without a time was not used after it. None: nothing is known."""

    since: datetime | None
    by_account: Mapping[tuple[str, str], Sequence[KeyUse]]


async def tell(
    redis: "Redis",
    acknowledged: Mapping[str, Sequence[int]],
    used: Iterable[UsedKey],
    keys: Keys,
    *,
    at: float | None = None,
) -> None:
    """Add so many acknowledgements in each of LATENCY_BUCKETS, by provider, and note that these keys are in use.

    Raises what redis-py raises.
    """
    now = time.time() if at is None else at
    slot = f"{_ACKNOWLEDGED}:{int(now) // SLOT_SECONDS}"
    pipeline = redis.pipeline(transaction=False)
    for provider, counts in acknowledged.items():
        for bucket, count in enumerate(counts):
            if count:
                pipeline.hincrby(slot, f"{provider}:{bucket}", count)
    if acknowledged:
        pipeline.expire(slot, _KEPT_SECONDS)
    times: dict[Any, Any] = {
        _field(provider, account, key, keys.by_id[keys.newest]): int(now) for provider, account, key in used
    }
    pipeline.set(_SINCE, int(now), nx=True)
    if times:
        pipeline.hset(_KEYS, mapping=times)
    await pipeline.execute()


async def acknowledged(redis: "Redis", providers: Iterable[str], *, at: float | None = None) -> dict[str, Acknowledged]:
    """The last hour by provider. Raises what redis-py raises."""
    last = int(time.time() if at is None else at) // SLOT_SECONDS
    pipeline = redis.pipeline(transaction=False)
    for slot in range(last - _SLOTS + 1, last + 1):
        pipeline.hgetall(f"{_ACKNOWLEDGED}:{slot}")
    sums: dict[str, list[int]] = {provider: [0] * (len(LATENCY_BUCKETS) + 1) for provider in providers}
    for found in await pipeline.execute():
        for field, count in found.items():
            provider, _, bucket = _text(field).rpartition(":")
            if provider in sums and int(bucket) < len(sums[provider]):
                sums[provider][int(bucket)] += int(count)
    return {
        provider: Acknowledged(
            sum(counts), quantile(LATENCY_BUCKETS, counts, 0.5), quantile(LATENCY_BUCKETS, counts, 0.99)
        )
        for provider, counts in sums.items()
    }


async def key_uses(
    redis: "Redis",
    accounts: Mapping[tuple[str, str], Sequence["SecretStr"]],
    keys: Keys,
) -> KeyUses:
    """When each key of these accounts was last used. Raises what redis-py raises."""
    since = await redis.get(_SINCE)
    if since is None:
        return KeyUses(None, {})
    # while the master key rotates, some processes still write under the older one
    fields = {
        (account, place): [_field(*account, key.get_secret_value().encode(), master) for master in keys.by_id.values()]
        for account, its in accounts.items()
        for place, key in enumerate(its)
    }
    asked = [field for several in fields.values() for field in several]
    times = dict(zip(asked, await redis.hmget(_KEYS, asked), strict=True)) if asked else {}
    found: dict[tuple[str, str], list[KeyUse]] = {account: [] for account in accounts}
    for (account, place), several in fields.items():
        known = [int(at) for field in several if (at := times[field]) is not None]
        found[account].append(KeyUse(place, _moment(max(known)) if known else None))
    return KeyUses(_moment(int(since)), found)


def _field(provider: str, account: str, key: bytes, master: bytes) -> str:
    """A digest under the encryption key: whoever reads Redis cannot try keys out."""
    derived = hashlib.blake2b(master, person=b"penstock keyuse", digest_size=32).digest()
    digest = hmac.new(derived, b"\0".join((provider.encode(), account.encode(), key)), hashlib.sha256).hexdigest()
    return f"{provider}:{account}:{digest[: 2 * _DIGEST_BYTES]}"


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
