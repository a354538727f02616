"""How many calls an account may make: one budget per account and scope, shared by all workers through Redis.

A question takes a place in the budget, or hears to the millisecond when the asker's turn comes
(``shared/budget_questions.py``). Those who wait stand in line, so that not all of them wake for the next free place.
(The ``limits`` library counts in whole seconds and does not say how long to wait; see docs/decisions/0005-budgets.md.)
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from shared.budget_questions import Keys, Question, Questions
from shared.circuits import Circuits, circuit_key, failures_key
from shared.configuration import Shares
from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Limit
from shared.redis_clients import open_redis
from shared.settings import Settings, without_password


_PAUSE: Final = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '', 'PX', ARGV[1]) end
"""

# Our window is a little longer than the provider's, which sees calls later and less evenly than we send them.
_MARGIN_SECONDS: Final = 0.1
_MARGIN_SHARE: Final = 0.01

REDIS_SECONDS: Final = 2.0
_SHARES: Final = Shares()
_LOGS: Final = {"sliding": "budget", "fixed": "budget-fixed"}
"""Two kinds of values in Redis, so two names: the settings may change from one to the other."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a call may not be made now, and for how many seconds.

    ``circuit``: until the account's circuit closes, for which nobody knows the time.
    """

    seconds: float
    why: str
    circuit: bool = False


@dataclass(frozen=True, slots=True)
class AccountBudget:
    """One account's state for people: its fullest budget, and when a call of each may be made again (0: now)."""

    used: int
    limit: int | None
    circuit: str
    next_call_seconds: float


class Budgets:
    """The accounts' budgets in Redis, and beside them their circuits. Raises StoreAway when Redis does not answer."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._redis = open_redis(redis_url, seconds=REDIS_SECONDS, decode=True)
        self._questions = Questions(self._redis)
        self._pause = self._redis.register_script(_PAUSE)
        self._number = 0
        self._keys: dict[tuple[str, str, str, str], tuple[AccountSettings, Keys]] = {}
        self.circuits = Circuits(self._redis, redis_url)

    async def take(
        self,
        provider: str,
        account: AccountSettings,
        limit: Limit | None,
        label: str,
        *,
        resource: str = "",
        background: bool = False,
        shares: Shares = _SHARES,
        probing: bool = False,
    ) -> Wait | None:
        """Take one call out of the budget; None when it may be made now. ``label`` names the call for people.

        ``resource`` is what is read, for the share of what is read again. ``background`` calls leave the reserved
        share to live events. Only a probe may go through an open circuit.
        """
        allowed = in_force(account, limit)
        share = shares.background if background else 1.0
        keys = self._keys_of(provider, account, allowed)
        if allowed.calls:
            self._number += 1
            read = _digest(resource) if resource else str(self._number)
            question = Question(
                keys._replace(seen=keys.seen + read),
                allowed.calls,
                _milliseconds(allowed.seconds * (1 + _MARGIN_SHARE) + _MARGIN_SECONDS),
                allowed.window,
                room(allowed.calls, share),
                room(allowed.calls, min(share, shares.again)) if resource else allowed.calls,
                self._number,
                allowed.scope,
                int(probing),
            )
        else:
            question = Question(keys, scope=allowed.scope, probing=int(probing))
        try:
            said, milliseconds, why, failures = await self._questions.ask(question)
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        if failures:
            self.circuits.know_of_failures(provider, account)
        if said == "go":
            return None
        if said == "open":
            return Wait(0.0, why, circuit=True)
        pace = f", {allowed.calls}/{window_name(allowed.seconds)}" if allowed.calls else ""
        after = ", empty since the API answered 429" if said == "paused" else ""
        return Wait(float(milliseconds) / 1000, f"budget of {account.name}, {label}{pace}{after}")

    async def pause(self, provider: str, account: AccountSettings, limit: Limit | None, seconds: float) -> None:
        """Empty the budget of this scope for so long: the provider said 429. A longer pause stays in force."""
        key = _key("pause", provider, account.name, in_force(account, limit).scope)
        try:
            await self._pause(keys=[key], args=[_milliseconds(seconds + _MARGIN_SECONDS)])
        except (RedisError, OSError) as error:
            raise self._away(error) from None

    async def free_in(
        self, provider: str, account: AccountSettings, limit: Limit | None, calls: int
    ) -> tuple[float, float]:
        """Seconds until so many calls can have been made at the present budget, and how many of them are a pause."""
        allowed = in_force(account, limit)
        try:
            used = await self._used(provider, account.name, allowed.scope)
            paused = max(0.0, await self._redis.pttl(_key("pause", provider, account.name, allowed.scope)) / 1000)
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        return paused + drain_seconds(allowed, calls, used), paused

    async def state(self, provider: str, account: AccountSettings) -> AccountBudget:
        """The fullest of the account's budgets, and whether its circuit is ``closed`` or ``open``."""
        used, most, wait = 0, None, 0.0
        circuit = await self.circuits.get(provider, account)
        try:
            limits = await self._redis.hgetall(_key("limits", provider, account.name))
            for scope, kept in ((str(scope), str(kept)) for scope, kept in limits.items()):
                calls = int(kept.split()[0])
                taken = await self._used(provider, account.name, scope)
                paused = await self._redis.pttl(_key("pause", provider, account.name, scope))
                full = await self._full(provider, account.name, scope, kept) if taken >= calls else 0.0
                wait = max(wait, paused / 1000, full)
                if most is None or taken * most > used * calls:
                    used, most = taken, calls
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        return AccountBudget(
            used, most, "open" if circuit else "closed", max(wait, circuit.next_probe_seconds if circuit else 0.0)
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()

    def _keys_of(self, provider: str, account: AccountSettings, allowed: Limit) -> Keys:
        """Made once for an account as it is configured now: its circuit's names are digests of its credentials."""
        scope = allowed.scope
        known = self._keys.get((provider, account.name, scope, allowed.window))
        if known and known[0] is account:
            return known[1]
        keys = Keys(
            log=_key(_LOGS[allowed.window], provider, account.name, scope),
            pause=_key("pause", provider, account.name, scope),
            circuit=circuit_key(provider, account),
            limits=_key("limits", provider, account.name),
            line=_key("line", provider, account.name, scope),
            seen=_key("seen", provider, account.name, f"{scope}:"),
            down=failures_key(provider, account, "down"),
            refused=failures_key(provider, account, "refused"),
        )
        self._keys[provider, account.name, scope, allowed.window] = (account, keys)
        return keys

    async def _used(self, provider: str, account: str, scope: str) -> int:
        """How many calls of the scope are in its window at this moment."""
        kept = await self._redis.hget(_key("limits", provider, account), scope)
        if kept is None:
            return 0
        _, window, kind = str(kept).split()
        key = _key(_LOGS[kind], provider, account, scope)
        if kind == "fixed":
            return int(await self._redis.get(key) or 0)
        return int(await self._redis.zcount(key, await self._now() - int(window) + 1, "+inf"))

    async def _full(self, provider: str, account: str, scope: str, kept: str) -> float:
        """Seconds until a budget that is used up has a place again: until so many calls have left its window."""
        calls, window, kind = kept.split()
        key = _key(_LOGS[kind], provider, account, scope)
        if kind == "fixed":
            return max(0.0, await self._redis.pttl(key) / 1000)
        now = await self._now()
        last: Any = await self._redis.zrevrange(key, int(calls) - 1, int(calls) - 1, withscores=True)
        return max(0.0, (last[0][1] + int(window) - now) / 1000) if last else 0.0

    async def _now(self) -> int:
        """Milliseconds by Redis's own clock."""
        seconds, microseconds = await self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def _away(self, error: Exception) -> StoreAway:
        reason = str(error) or type(error).__name__
        return StoreAway(f"Redis does not answer at {without_password(self._url)}: {reason}")


@asynccontextmanager
async def open_budgets(settings: Settings) -> AsyncIterator[Budgets]:
    """The budgets that the workers share, on connections of their own. Raises StoreAway when no Redis is known."""
    if settings.redis_url is None:
        raise StoreAway("no Redis is set: start `penstock up`, or set PENSTOCK_REDIS_URL")
    budgets = Budgets(settings.redis_url.get_secret_value())
    try:
        yield budgets
    finally:
        await budgets.close()


def in_force(account: AccountSettings, limit: Limit | None) -> Limit:
    """The limit in force: the account's own budget before the provider's; 0 calls: none."""
    published = limit or Limit("", 0, 1.0, 0.0)
    if account.budget is None:
        return published
    penalty = account.budget.penalty_seconds
    return Limit(
        published.scope,
        account.budget.calls,
        account.budget.seconds,
        published.penalty_seconds if penalty is None else penalty,
        account.budget.window,
    )


def room(calls: int, share: float) -> int:
    """How many of ``calls`` a share of them is; never none."""
    return max(1, int(calls * share)) if calls else 0


def drain_seconds(limit: Limit, calls: int, used: int = 0) -> float:
    """How long so many calls take at a limit of which ``used`` are used up; 0 where there is no limit."""
    if not limit.calls:
        return 0.0
    return max(0, calls - max(0, limit.calls - used)) * limit.seconds / limit.calls


def window_name(seconds: float) -> str:
    """``s``, ``min``, ``h``, ``day``, or the number of seconds."""
    return {1.0: "s", 60.0: "min", 3600.0: "h", 86_400.0: "day"}.get(seconds, f"{seconds:g} s")


def _digest(resource: str) -> str:
    return hashlib.blake2b(resource.encode(), digest_size=12).hexdigest()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _key(what: str, provider: str, account: str, scope: str = "") -> str:
    return f"penstock:{what}:{provider}:{account}:{scope}"
