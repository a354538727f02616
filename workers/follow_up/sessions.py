"""Sessions at providers whose calls need one: opened by a POST, shared by calls, kept in this process's memory only.

A session's token is a credential: it is never written down, so each worker process opens its own.
"""

import time
from typing import Any, NamedTuple

from shared.configuration import Configuration
from shared.providers.account import AccountSettings
from shared.providers.interface import Answer, Call, FollowUp
from workers.calling import Caller


UNAUTHORIZED = 401
SUCCESS = range(200, 300)


class _Session(NamedTuple):
    headers: dict[str, str]
    used_at: float


class Sessions:
    """Asks providers, within a session where the call needs one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._open: dict[tuple[str, str, str], _Session] = {}

    async def get(
        self,
        provider: str,
        account: AccountSettings,
        call: Call,
        follow_up: FollowUp[Any, Any],
        configuration: Configuration,
    ) -> Answer:
        """The answer to a call, or to the POST that should have opened its session. Raises NoAnswer, AnswerError."""
        login = follow_up.login(call, account)
        if login is None:
            headers = follow_up.credentials(call, account)
            return await self._caller.get(account, call.path, headers, configuration)
        key = (provider, account.name, login.session)
        known = self._open.pop(key, None)
        if known and time.monotonic() - known.used_at < login.idle_seconds:
            answer = await self._within(key, known.headers, account, call, configuration)
            if answer.status != UNAUTHORIZED:
                return answer
        opened = await self._caller.post(account, login.path, login.headers, login.body, configuration)
        if opened.status not in SUCCESS:
            return opened
        return await self._within(key, follow_up.session_credentials(opened), account, call, configuration)

    async def _within(
        self,
        key: tuple[str, str, str],
        headers: dict[str, str],
        account: AccountSettings,
        call: Call,
        configuration: Configuration,
    ) -> Answer:
        answer = await self._caller.get(account, call.path, headers, configuration)
        if answer.status != UNAUTHORIZED:
            self._open[key] = _Session(headers, time.monotonic())
        return answer
