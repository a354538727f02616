"""How providers stand beyond what is counted: acknowledgements, API budget and circuits. Redis alone knows it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from redis.exceptions import RedisError

from shared.arrivals import NOTHING_ACKNOWLEDGED, Acknowledged, acknowledged
from shared.errors import StoreAway
from shared.providers.registry import PROVIDERS


if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.budgets import AccountBudget, Budgets
    from shared.providers.account import AccountSettings
    from shared.watching import ConfigurationWatch

_FRESH_SECONDS: Final = 5.0
_REDIS_SECONDS: Final = 2.0


class Standing(TypedDict):
    """One provider now; what is unknown is None.

    ``budget_left`` is that of the account with the least of it, of ``budget_limit`` calls.
    """

    provider: str
    acknowledged: int
    acknowledged_p50: float | None
    acknowledged_p99: float | None
    budget_account: str | None
    budget_left: int | None
    budget_limit: int | None
    accounts: int
    circuits_open: int | None


class Standings:
    """Asks Redis at most every five seconds, however many look."""

    def __init__(self, watch: "ConfigurationWatch", redis: "Redis | None", budgets: "Budgets | None") -> None:
        self._watch = watch
        self._redis = redis
        self._budgets = budgets
        self._asking = asyncio.Lock()
        self._known: list[Standing] = []
        self._at = -_FRESH_SECONDS

    async def now(self) -> Sequence[Standing]:
        """Every provider, in the registry's order."""
        async with self._asking:
            if time.monotonic() - self._at >= _FRESH_SECONDS:
                self._known = await self._ask()
                self._at = time.monotonic()
            return self._known

    async def _ask(self) -> list[Standing]:
        told: dict[str, Acknowledged] = {}
        if self._redis is not None:
            try:
                async with asyncio.timeout(_REDIS_SECONDS):
                    told = await acknowledged(self._redis, PROVIDERS)
            except (RedisError, OSError):  # TimeoutError is an OSError
                return [_standing(provider, None, {}) for provider in PROVIDERS]
        configured = self._watch.current.accounts
        return [
            _standing(provider, told.get(provider), await self._budgets_of(provider, configured.get(provider, {})))
            for provider in PROVIDERS
        ]

    async def _budgets_of(
        self, provider: str, accounts: "Mapping[str, AccountSettings]"
    ) -> "dict[str, AccountBudget | None]":
        found: dict[str, AccountBudget | None] = dict.fromkeys(accounts)
        if self._budgets is not None:
            try:
                for name, account in accounts.items():
                    found[name] = await self._budgets.state(provider, account)
            except StoreAway:
                pass
        return found


def _standing(provider: str, told: Acknowledged | None, budgets: "dict[str, AccountBudget | None]") -> Standing:
    known = {name: budget for name, budget in budgets.items() if budget is not None}
    shares = {name: (budget.limit - budget.used) / budget.limit for name, budget in known.items() if budget.limit}
    tightest = min(shares, key=lambda name: shares[name], default=None)
    budget = known[tightest] if tightest else None
    number, p50, p99 = told or NOTHING_ACKNOWLEDGED
    return {
        "provider": provider,
        "acknowledged": number,
        "acknowledged_p50": p50,
        "acknowledged_p99": p99,
        "budget_account": tightest,
        "budget_left": max(0, (budget.limit or 0) - budget.used) if budget else None,
        "budget_limit": budget.limit if budget else None,
        "accounts": len(budgets),
        "circuits_open": sum(budget.circuit != "closed" for budget in known.values()) if known else None,
    }
