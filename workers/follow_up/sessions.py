"""Sessions at providers whose calls need one: opened by a POST, shared by calls, kept in this process's memory only.

A session's token is a credential: it is never written down, so each worker process opens its own. The POST that opens
it is a call like any other to the provider, so it takes a place in the account's budget.
"""

import asyncio
import hashlib
import time
from typing import Any, NamedTuple, TypeAlias

from shared.budgets import Budgets, Wait
from shared.configuration import Configuration
from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Answer, Call, FollowUp, Login
from workers.calling import Caller


UNAUTHORIZED = 401
SUCCESS = range(200, 300)

WAIT_HERE_SECONDS = 2.0
"""A shorter wait for the budget is spent holding the call; a longer one is left to whoever makes it."""

BUDGET_AWAY_SECONDS = 2.0


class NotNow(Exception):
    """No session may be opened now; ``wait`` says why, and for how long."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.why)
        self.wait = wait


_Key: TypeAlias = tuple[str, str, str, bytes]
"""Provider, account, the session's name, and a digest of what opens it: other credentials or hosts have their own."""


class _Session(NamedTuple):
    headers: dict[str, str]
    used_at: float


class Sessions:
    """Asks providers, within a session where the call needs one."""

    def __init__(self, caller: Caller, budgets: Budgets) -> None:
        self._caller = caller
        self._budgets = budgets
        self._open: dict[_Key, _Session] = {}

    async def get(
        self,
        provider: str,
        account: AccountSettings,
        call: Call,
        follow_up: FollowUp[Any, Any],
        configuration: Configuration,
        *,
        background: bool = False,
        probing: bool = False,
    ) -> Answer:
        """The answer to a call that has its place in the budget, or to the POST that should have opened its session.

        ``background`` and ``probing`` are as for ``Budgets.take``. Raises NoAnswer, AnswerError, NotNow.
        """
        login = follow_up.login(call, account)
        if login is None:
            headers = follow_up.credentials(call, account)
            return await self._caller.get(account, call.path, headers, configuration)
        key = (provider, account.name, login.session, _digest(account, login))
        known = self._open.pop(key, None)
        if known and time.monotonic() - known.used_at < login.idle_seconds:
            answer = await self._within(key, known.headers, account, call, configuration)
            if answer.status != UNAUTHORIZED:
                return answer
        await self._place(provider, account, call, follow_up, configuration, background=background, probing=probing)
        opened = await self._caller.ask(account, "POST", login.path, login.headers, configuration, body=login.body)
        if opened.status not in SUCCESS:
            return opened
        return await self._within(key, follow_up.session_credentials(opened), account, call, configuration)

    async def _place(
        self,
        provider: str,
        account: AccountSettings,
        call: Call,
        follow_up: FollowUp[Any, Any],
        configuration: Configuration,
        *,
        background: bool,
        probing: bool,
    ) -> None:
        """Take the log-in's place in the budget. Raises NotNow."""
        limit, shares, waited = follow_up.limit(call, account), configuration.following_up.shares, 0.0
        while True:
            try:
                wait = await self._budgets.take(
                    provider, account, limit, "POST session", background=background, shares=shares, probing=probing
                )
            except StoreAway as error:
                raise NotNow(Wait(BUDGET_AWAY_SECONDS, f"the budget cannot be asked: {error}")) from None
            if wait is None:
                return
            if wait.circuit or waited + wait.seconds > WAIT_HERE_SECONDS:
                raise NotNow(wait)
            await asyncio.sleep(wait.seconds)
            waited += wait.seconds

    async def _within(
        self,
        key: _Key,
        headers: dict[str, str],
        account: AccountSettings,
        call: Call,
        configuration: Configuration,
    ) -> Answer:
        answer = await self._caller.get(account, call.path, headers, configuration)
        if answer.status != UNAUTHORIZED:
            self._open[key] = _Session(headers, time.monotonic())
        return answer


def _digest(account: AccountSettings, login: Login) -> bytes:
    """Of the host and of everything that is sent to it to open the session, credentials among it."""
    sent = (account.base_url, login.path, sorted(login.headers.items()), login.body)
    return hashlib.sha256(repr(sent).encode()).digest()
