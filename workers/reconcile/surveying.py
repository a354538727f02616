"""The calls of a reconciliation: within the share of the budget that is left to background work, and tried again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from shared.budgets import Budgets, Wait, in_force, open_budgets
from shared.configuration import Configuration
from shared.errors import BrokenAnswer, PenstockError, RefusedAnswer
from shared.providers.account import AccountSettings
from shared.providers.interface import Call, FollowUp, Limit, Outcome
from shared.providers.registry import PROVIDERS
from shared.settings import Settings
from workers.backoff import retry_after, wait_seconds
from workers.calling import Caller, NoAnswer
from workers.follow_up import chain
from workers.follow_up.sessions import NotNow, Sessions
from workers.follow_up.verdicts import SERVER_ERRORS
from workers.redacting import without_secrets


TRIES: Final = 6
SUCCESS: Final = range(200, 300)
_GONE: Final = 404
_WITHHELD: Final = frozenset({_GONE, 410})
"""410 is final for a fetch and leaves no tombstone: taken for gone here, each walk would make an event that fails."""
_TOO_MANY: Final = 429


Waiting = Callable[[Wait], None]
"""Told of each wait for a budget, as it begins."""


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
    """Makes the calls of surveys, for any account; what comes of them counts for its budget and circuit, as always."""

    def __init__(self, caller: Caller, budgets: Budgets, waiting: Waiting = lambda _wait: None) -> None:
        self._waiting = waiting
        self._sessions = Sessions(caller, budgets)
        self._budgets = budgets

    async def ask(self, provider: str, account: AccountSettings, call: Call, configuration: Configuration) -> Shown:
        """What the provider shows. Raises Stopped when it does not answer for good, or refuses the account.

        A 429 empties the budget for as long as the provider asks for; only that wait has to be over then.
        """
        follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
        limit = follow_up.limit(call, account)
        policy = configuration.retry[provider]
        failures = 0
        while True:
            await self._within_budget(provider, account, limit, call, configuration)
            try:
                shown = await self._once(provider, account, call, configuration)
            except NotNow as error:
                await self._wait(error.wait)
                continue
            if isinstance(shown, Shown):
                if not shown.withheld:
                    await self._budgets.circuits.succeeded(provider, account)
                return shown
            failures += 1
            if failures >= TRIES:
                raise Stopped(f"GET {call.path}: {shown.said}, {failures} times")
            if shown.status == _TOO_MANY:
                seconds = in_force(account, limit).penalty_seconds if shown.asked is None else shown.asked
                longest = configuration.following_up.longest_retry_after_seconds
                await self._budgets.pause(provider, account, limit, min(max(policy.base_seconds, seconds), longest))
                continue
            await asyncio.sleep(wait_seconds(policy, failures, shown.asked))

    async def _once(
        self, provider: str, account: AccountSettings, call: Call, configuration: Configuration
    ) -> "Shown | _Failed":
        """One call. Raises Stopped for an account that is refused or an API that is down, whose circuit is open then.

        Raises NotNow where it needs a session that may not be opened yet.
        """
        follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
        asked: float | None = None
        try:
            answer = await self._sessions.get(provider, account, call, follow_up, configuration, background=True)
            if answer.status in SUCCESS:
                return Shown(call, chain.onward(call, follow_up.interpret(call, answer, account)))
            status, said = answer.status, f"the API answered {answer.status}"
            refusal = follow_up.refusal(call, status, answer.body.decode(errors="replace"))
            asked = retry_after(answer.headers.get("retry-after"))
        except RefusedAnswer as error:
            # it goes into the circuit, which every process and page shows
            status, said = error.status, without_secrets(str(error), account)
            refusal = follow_up.refusal(call, status, said)
        except NoAnswer as error:
            await self._down(provider, account, str(error), configuration)
            return _Failed(0, str(error))
        except BrokenAnswer as error:
            return _Failed(0, str(error))
        if status == _GONE and call.missing == "tombstone":
            return Shown(call, Outcome(records=follow_up.tombstones(call)))
        if status in _WITHHELD or (refusal and refusal.about == "one"):
            return Shown(call, Outcome(), withheld=True)
        if refusal:
            why = f"{refusal.detail or f'check the API key of {account.name}'}: {said}"
            seconds = configuration.following_up.probe_seconds
            await self._budgets.circuits.open(provider, account, "refused", why, seconds)
            raise Stopped(why)
        if status >= SERVER_ERRORS:
            await self._down(provider, account, said, configuration)
        return _Failed(status, said, asked)

    async def _down(self, provider: str, account: AccountSettings, said: str, configuration: Configuration) -> None:
        """Tell the account's circuit of a failure. Raises Stopped when it is open now."""
        seconds = configuration.following_up.probe_seconds
        if await self._budgets.circuits.failed(provider, account, "down", said, seconds):
            raise Stopped(f"{provider} is down: {said}")

    async def _within_budget(
        self, provider: str, account: AccountSettings, limit: Limit | None, call: Call, configuration: Configuration
    ) -> None:
        label, shares = f"GET {call.purpose}", configuration.following_up.shares
        while wait := await self._budgets.take(provider, account, limit, label, background=True, shares=shares):
            await self._wait(wait)

    async def _wait(self, wait: Wait) -> None:
        if wait.circuit:
            raise Stopped(wait.why)
        self._waiting(wait)
        await asyncio.sleep(wait.seconds)


@asynccontextmanager
async def surveyor(settings: Settings, waiting: Waiting = lambda _wait: None) -> AsyncIterator[Surveyor]:
    """A surveyor with connections of its own. Raises StoreAway when no Redis is known."""
    async with open_budgets(settings) as budgets:
        caller = Caller()
        try:
            yield Surveyor(caller, budgets, waiting)
        finally:
            await caller.close()
