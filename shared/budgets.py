"""How many calls an account may make: one budget per account and scope, shared by all workers through Redis.

A sliding log in one Lua script, by Redis's own clock: it takes a place or says, to the millisecond, when the next one
comes free. (The ``limits`` library counts in whole seconds and does not say how long to wait; see
docs/decisions/0005-budgets.md.)
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Limit
from shared.settings import without_password


_TAKE: Final = """
local paused = math.max(redis.call('PTTL', KEYS[2]), redis.call('PTTL', KEYS[3]))
if paused > 0 then return {paused, redis.call('GET', KEYS[3]) or ''} end
local calls, window = tonumber(ARGV[1]), tonumber(ARGV[2])
if calls == 0 then return {0, ''} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local taken = redis.call('ZCARD', KEYS[1])
if taken == 0 then redis.call('HSET', KEYS[4], ARGV[4], calls) end
if taken < calls then
    redis.call('ZADD', KEYS[1], now, time[1] .. '.' .. time[2] .. '.' .. ARGV[3])
    redis.call('PEXPIRE', KEYS[1], window)
    return {0, ''}
end
return {redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window - now, ''}
"""

# Our window is a little longer than the provider's, which sees calls later and less evenly than we send them.
_MARGIN_SECONDS: Final = 0.1
_MARGIN_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a call may not be made now, and for how many seconds."""

    seconds: float
    why: str
    account_refused: bool = False


@dataclass(frozen=True, slots=True)
class AccountBudget:
    """One account's state for people: ``next_call_seconds`` is 0 when a call may be made now."""

    used: int
    limit: int | None
    circuit: str
    next_call_seconds: float


class Budgets:
    """The accounts' budgets and circuits in Redis. Every method raises StoreAway when Redis does not answer."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._redis = Redis.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=2.0, decode_responses=True)
        self._take = self._redis.register_script(_TAKE)
        self._number = 0

    async def take(self, provider: str, account: AccountSettings, limit: Limit | None, label: str) -> Wait | None:
        """Take one call out of the budget; None when it may be made now. ``label`` names the call for people."""
        self._number += 1
        calls, seconds = _allowed(account, limit)
        scope = limit.scope if limit else ""
        try:
            milliseconds, refused = await self._take(
                keys=[
                    _key("budget", provider, account.name, scope),
                    _key("pause", provider, account.name, scope),
                    _circuit_key(provider, account),
                    _key("limits", provider, account.name),
                ],
                args=[calls, _milliseconds(seconds * (1 + _MARGIN_SHARE) + _MARGIN_SECONDS), self._number, scope],
            )
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        if milliseconds <= 0:
            return None
        wait = milliseconds / 1000
        if refused:
            return Wait(wait, refused, account_refused=True)
        return Wait(wait, f"budget of {account.name}, {label}, {calls}/{_window(seconds)}")

    async def pause(self, provider: str, account: AccountSettings, limit: Limit | None, seconds: float) -> None:
        """Make no call of this scope for so long: the provider said 429."""
        key = _key("pause", provider, account.name, limit.scope if limit else "")
        try:
            await self._redis.set(key, b"", px=_milliseconds(seconds))
        except (RedisError, OSError) as error:
            raise self._away(error) from None

    async def open_circuit(self, provider: str, account: AccountSettings, why: str, seconds: float) -> None:
        """Make no call at all for so long: the provider does not accept this account's credentials.

        The circuit belongs to the credentials: an account with mended ones is called at once.
        """
        try:
            await self._redis.set(_circuit_key(provider, account), why.encode(), px=_milliseconds(seconds))
        except (RedisError, OSError) as error:
            raise self._away(error) from None

    async def state(self, provider: str, account: AccountSettings) -> AccountBudget:
        """The fullest of the account's budgets, and whether its circuit is ``closed`` or ``open``."""
        used, most, wait = 0, None, 0.0
        try:
            refused = await self._redis.pttl(_circuit_key(provider, account))
            limits = await self._redis.hgetall(_key("limits", provider, account.name))
            for scope, calls in ((str(scope), int(calls)) for scope, calls in limits.items()):
                taken = await self._redis.zcard(_key("budget", provider, account.name, scope))
                paused = await self._redis.pttl(_key("pause", provider, account.name, scope))
                wait = max(wait, paused / 1000)
                if most is None or taken * most > used * calls:
                    used, most = taken, calls
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        return AccountBudget(used, most, "open" if refused > 0 else "closed", max(wait, refused / 1000, 0.0))

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()

    def _away(self, error: Exception) -> StoreAway:
        reason = str(error) or type(error).__name__
        return StoreAway(f"Redis does not answer at {without_password(self._url)}: {reason}")


def _allowed(account: AccountSettings, limit: Limit | None) -> tuple[int, float]:
    """Calls and seconds in force: the account's own budget before the provider's; 0 calls: no limit."""
    if account.budget is not None:
        return account.budget.calls, account.budget.seconds
    return (limit.calls, limit.seconds) if limit else (0, 1.0)


def _window(seconds: float) -> str:
    return {1.0: "s", 60.0: "min", 3600.0: "h"}.get(seconds, f"{seconds:g} s")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _key(what: str, provider: str, account: str, scope: str = "") -> str:
    return f"penstock:{what}:{provider}:{account}:{scope}"


def _circuit_key(provider: str, account: AccountSettings) -> str:
    secrets = "\0".join((account.base_url, *(key.get_secret_value() for key in account.outbound_secrets())))
    return _key("circuit", provider, account.name, hashlib.sha256(secrets.encode()).hexdigest()[:16])
