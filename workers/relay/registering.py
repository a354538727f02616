"""Watches the webhooks that are registered at Paybook, and registers one again where the settings say so.

Each request takes a place in the account's budget: Paybook counts it as it counts any other.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import httpx

from shared.budgets import Budgets
from shared.errors import AnswerError, PenstockError
from shared.providers.paybook import api
from shared.providers.paybook.api import ApiRequest, Registration
from shared.providers.paybook.registering import examine, url_of
from shared.providers.paybook.settings import PaybookAccount
from shared.store.gaps import registrations
from shared.store.locking import alone
from shared.store.postgres import Connection
from workers.agent import USER_AGENT


_SECONDS: Final = 30.0
_PROVIDER: Final = "paybook"
_LONGEST_WAIT_SECONDS: Final = 10.0
"""For a place in the budget; who looks at registrations has other things to do."""


class Looked(NamedTuple):
    """What a look found and did; ``registrations`` are those that are there now."""

    registrations: Sequence[Registration]
    warnings: Sequence[str]
    done: Sequence[str]


async def look(connection: Connection, account: PaybookAccount, budgets: Budgets) -> Looked:
    """Look at the account's registrations once, and mend them if the settings say so. Raises PenstockError.

    That is also raised where no call may be made now, or not soon: nothing is known then that was not known before.

    The new one is registered before the disabled one is removed: whatever happens between the two, the next look
    finds a working one and only removes.
    """
    async with alone(connection, "registrations", account.name) as mine:
        if not mine:
            raise PenstockError(f"another process looks at the registrations of {account.name} now")
        return await _look(connection, account, budgets)


async def _look(connection: Connection, account: PaybookAccount, budgets: Budgets) -> Looked:
    async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=False) as client:
        paybook = _Paybook(client, account, budgets)
        found = await paybook.registrations(api.list_webhooks(account))
        before = await registrations.failures_before(connection, _PROVIDER, account.name)
        examined = examine(account, found, before)
        done = []
        if examined.create and account.registration and (url := url_of(account)):
            request = api.create_webhook(account, url, account.registration.events, account.registration.delay)
            created = await paybook.registrations(request)
            done += [f"registered webhook {made.id_webhook}" for made in created]
        for old in examined.delete:
            await paybook.send(api.delete_webhook(account, old))
            done.append(f"removed the disabled webhook {old}")
        if done:
            found = await paybook.registrations(api.list_webhooks(account))
    seen = {each.id_webhook: (each.ct_failed or 0, bool(each.is_disabled)) for each in found}
    await registrations.keep(connection, _PROVIDER, account.name, seen)
    return Looked(found, examined.warnings, done)


class _Paybook(NamedTuple):
    """One account's requests."""

    client: httpx.AsyncClient
    account: PaybookAccount
    budgets: Budgets

    async def registrations(self, request: ApiRequest) -> Sequence[Registration]:
        """Those in the answer. Raises PenstockError."""
        body = await self.send(request)
        try:
            return api.registrations(body)
        except AnswerError as error:
            raise self._refused(error) from None

    async def send(self, request: ApiRequest) -> bytes:
        """The answer's body, in which Paybook says that it went well. Raises PenstockError."""
        await self._place()
        headers = {"User-Agent": USER_AGENT, **request.headers}
        try:
            answer = await self.client.request(
                request.method, self.account.base_url + request.path, headers=headers, content=request.body or None
            )
            api.open_envelope(answer.content)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise PenstockError(f"Paybook does not answer at {self.account.base_url}: {reason}") from None
        except AnswerError as error:
            raise self._refused(error) from None
        return answer.content

    async def _place(self) -> None:
        """Wait for a place in the budget. Raises StoreAway, and PenstockError where there is none soon."""
        waited = 0.0
        while wait := await self.budgets.take(_PROVIDER, self.account, api.LIMIT, "registrations"):
            if wait.circuit or waited + wait.seconds > _LONGEST_WAIT_SECONDS:
                raise PenstockError(f"no call of account {self.account.name} may be made now: {wait.why}")
            await asyncio.sleep(wait.seconds)
            waited += wait.seconds

    def _refused(self, error: AnswerError) -> PenstockError:
        return PenstockError(f"Paybook refused it for account {self.account.name}: {error}")
