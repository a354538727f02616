"""What ingress tells the console of arrivals, by way of Redis."""

import asyncio
from typing import TYPE_CHECKING

import redis
from pydantic import SecretStr
from redis.asyncio import Redis

from shared import arrivals
from shared.sealing import Keys, generate_key
from support.conditions import HANG_SECONDS


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Server, Start


OF_IMIN = ("imin", "main")


def _keys_in_use(ingress: "Ingress") -> arrivals.KeyUses:
    async def ask() -> arrivals.KeyUses:
        async with Redis.from_url(ingress.redis_url) as client:
            secrets = [SecretStr("imin-key"), SecretStr("imin-old-key")]
            return await arrivals.key_uses(client, {OF_IMIN: secrets}, ingress.keys)

    return asyncio.run(ask())


def _acknowledged(ingress: "Ingress") -> arrivals.Acknowledged:
    async def ask() -> arrivals.Acknowledged:
        async with Redis.from_url(ingress.redis_url) as client:
            return (await arrivals.acknowledged(client, ["imin"]))["imin"]

    return asyncio.run(ask())


def test_how_fast_it_acknowledged_and_which_key_proved_it_are_told_at_the_latest_at_its_end(
    start_ingress: "Start", redis_server: "Server"
) -> None:
    """Refused deliveries count for neither; the key itself, and what it could be guessed from, is not in Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        ingress = start_ingress()
        for _ in range(3):
            assert 204 == ingress.imin(b"{}").status
        assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "imin-old-kez"}).status
        ingress.process.terminate()
        ingress.process.wait(HANG_SECONDS)

        told = _acknowledged(ingress)
        assert 3 == told.number
        assert told.p50 is not None
        assert told.p99 is not None
        assert 0 < told.p50 <= told.p99 <= 10
        uses = _keys_in_use(ingress)
        assert uses.since is not None
        newer, older = uses.by_account[OF_IMIN]
        assert (True, None) == (newer.last_used_at is not None, older.last_used_at)
        assert b"imin-key" not in b"".join(client.hgetall("penstock:webhook-keys"))


def test_a_redis_that_holds_nothing_says_that_nothing_is_known(ingress: "Ingress", redis_server: "Server") -> None:
    """A key without a time was not used since counting began; before that nobody can say."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete("penstock:webhook-keys:since")
    assert (None, {}) == _keys_in_use(ingress)


def test_figures_older_than_an_hour_are_left_out(ingress: "Ingress") -> None:
    """The hour moves on in slots of five minutes."""

    async def at(now: float) -> arrivals.Acknowledged:
        async with Redis.from_url(ingress.redis_url) as client:
            return (await arrivals.acknowledged(client, ["acme"], at=now))["acme"]

    async def tell() -> None:
        async with Redis.from_url(ingress.redis_url) as client:
            await arrivals.tell(client, {"acme": [0, 2, 1]}, (), ingress.keys, at=1e9)

    asyncio.run(tell())
    assert [3, 3, 0] == [asyncio.run(at(1e9 + later)).number for later in (0, 3000, 3900)]


def test_while_the_master_key_rotates_the_newest_use_counts(ingress: "Ingress") -> None:
    """Processes that still write under the older key, and those that already write under the newer, are both heard."""
    older, newer = generate_key(), generate_key()
    before, during = Keys.parse([SecretStr(older)]), Keys.parse([SecretStr(newer), SecretStr(older)])
    account = ("acme", "main")

    async def used_at(at: float, keys: Keys) -> float:
        async with Redis.from_url(ingress.redis_url) as client:
            await arrivals.tell(client, {}, [(*account, b"k")], keys, at=at)
            uses = await arrivals.key_uses(client, {account: [SecretStr("k")]}, during)
            last = uses.by_account[account][0].last_used_at
            return last.timestamp() if last else 0

    assert [1e9, 2e9, 3e9] == [
        asyncio.run(used_at(at, keys)) for at, keys in ((1e9, before), (2e9, during), (3e9, before))
    ]
