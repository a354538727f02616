"""The calls of a reconciliation: within the share of the budget that is left to background work, and tried again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from shared.budgets import Budgets, in_force
from shared.configuration import Configuration
from shared.errors import BrokenAnswer, PenstockError, RefusedAnswer, StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Call, FollowUp, Limit, Outcome
from shared.providers.registry import PROVIDERS
from shared.settings import Settings
from workers.backoff import retry_after, wait_seconds
from workers.calling import Caller, NoAnswer
from workers.follow_up.sessions import Sessions


TRIES: Final = 6
SUCCESS: Final = range(200, 300)
_GONE: Final = 404
_ACCOUNT: Final = frozenset({401, 402})
_WITHHELD: Final = frozenset({403, _GONE, 410})
"""410 is final for a fetch and leaves no tombstone: taken for gone here, each walk would make an event that fails."""
_TOO_MANY: Final = 429


class Stopped(PenstockError):
    """The walk cannot go on now; the sentence says why. It goes on from here when it is started again."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a call showed; ``withheld``: the provider has nothing there, or does not let us see it."""

    call: Call
    outcome: Outcome
    withheld: bool = False


class _Failed(NamedTuple):
    """A call to be made again; ``asked`` are the seconds of its Retry-After."""

    status: int
    said: str
    asked: float | None = None


class Surveyor:
    """Makes the calls of surveys, for any account."""

    def __init__(self, caller: Caller, budgets: Budgets) -> None:
        self._sessions = Sessions(caller)
        self._budgets = budgets

    async def ask(self, provider: str, account: AccountSettings, call: Call, configuration: Configuration) -> Shown:
        """What the provider shows. Raises Stopped when it does not answer for good, or refuses the account."""
        follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
        limit = follow_up.limit(call, account)
        policy = configuration.retry[provider]
        failures = 0
        while True:
            await self._within_budget(provider, account, limit, call, configuration)
            shown = await self._once(provider, account, call, configuration)
            if isinstance(shown, Shown):
                return shown
            failures += 1
            if failures >= TRIES:
                raise Stopped(f"GET {call.path}: {shown.said}, {failures} times")
            longest = min(policy.max_seconds, configuration.following_up.longest_retry_after_seconds)
            if shown.status == _TOO_MANY:
                penalty = max(policy.base_seconds, in_force(account, limit).penalty_seconds)
                await self._budgets.pause(provider, account, limit, min(shown.asked or penalty, longest))
            await asyncio.sleep(wait_seconds(policy, failures, min(shown.asked or 0.0, longest)))

    async def _once(
        self, provider: str, account: AccountSettings, call: Call, configuration: Configuration
    ) -> "Shown | _Failed":
        """One call. Raises Stopped for an account that is refused, and opens its circuit."""
        follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
        asked: float | None = None
        try:
            answer = await self._sessions.get(provider, account, call, follow_up, configuration)
            if answer.status in SUCCESS:
                return Shown(call, follow_up.interpret(call, answer, account))
            status, said = answer.status, f"the API answered {answer.status}"
            asked = retry_after(answer.headers.get("retry-after"))
        except RefusedAnswer as error:
            status, said = error.status, str(error)
        except (NoAnswer, BrokenAnswer) as error:
            return _Failed(0, str(error))
        if status == _GONE and call.missing == "tombstone":
            return Shown(call, Outcome(records=follow_up.tombstones(call)))
        if status in _WITHHELD:
            return Shown(call, Outcome(), withheld=True)
        if status in _ACCOUNT:
            why, seconds = f"check the API key of {account.name}: {said}", configuration.following_up.probe_seconds
            await self._budgets.circuits.open(provider, account, "refused", why, seconds)
            raise Stopped(why)
        return _Failed(status, said, asked)

    async def _within_budget(
        self, provider: str, account: AccountSettings, limit: Limit | None, call: Call, configuration: Configuration
    ) -> None:
        label, shares = f"GET {call.purpose}", configuration.following_up.shares
        while wait := await self._budgets.take(provider, account, limit, label, background=True, shares=shares):
            if wait.circuit:
                raise Stopped(wait.why)
            await asyncio.sleep(wait.seconds)


@asynccontextmanager
async def surveyor(settings: Settings) -> AsyncIterator[Surveyor]:
    """A surveyor with connections of its own. Raises StoreAway when no Redis is known."""
    if settings.redis_url is None:
        raise StoreAway("no Redis is set: start `penstock up`, or set PENSTOCK_REDIS_URL")
    caller, budgets = Caller(), Budgets(settings.redis_url.get_secret_value())
    try:
        yield Surveyor(caller, budgets)
    finally:
        await caller.close()
        await budgets.close()
