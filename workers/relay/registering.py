"""Watches the webhooks that are registered at Paybook, and registers one again where the settings say so.

Each request takes a place in the account's budget: Paybook counts it as it counts any other.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from shared.budgets import Budgets
from shared.configuration import Configuration
from shared.errors import AnswerError, BrokenAnswer, PenstockError
from shared.providers.paybook import api
from shared.providers.paybook.api import ApiRequest, Registration
from shared.providers.paybook.registering import examine, url_of
from shared.providers.paybook.settings import PaybookAccount
from shared.store.gaps import registrations
from shared.store.locking import alone
from shared.store.postgres import Connection
from workers.calling import Caller, NoAnswer
from workers.redacting import without_secrets


_PROVIDER: Final = "paybook"
_LONGEST_WAIT_SECONDS: Final = 10.0
"""For a place in the budget; who looks at registrations has other things to do."""


class Looked(NamedTuple):
    """What a look found and did; ``registrations`` are those that are there now."""

    registrations: Sequence[Registration]
    warnings: Sequence[str]
    done: Sequence[str]


async def look(
    connection: Connection, account: PaybookAccount, budgets: Budgets, configuration: Configuration
) -> Looked:
    """Look at the account's registrations once, and mend them if the settings say so. Raises PenstockError.

    That is also raised where no call may be made now, or not soon: nothing is known then that was not known before.

    The new one is registered before the disabled one is removed: whatever happens between the two, the next look
    finds a working one and only removes.
    """
    async with alone(connection, "registrations", account.name) as mine:
        if not mine:
            raise PenstockError(f"another process looks at the registrations of {account.name} now")
        caller = Caller()
        try:
            return await _look(connection, _Paybook(caller, account, budgets, configuration))
        finally:
            await caller.close()


async def send(caller: Caller, account: PaybookAccount, request: ApiRequest, configuration: Configuration) -> bytes:
    """The answer's body, in which Paybook says that it went well. Raises PenstockError."""
    try:
        answer = await caller.ask(
            account, request.method, request.path, request.headers, configuration, body=request.body or None
        )
        api.open_envelope(answer.body)
    except NoAnswer as error:
        raise PenstockError(f"Paybook does not answer at {account.base_url}: {error}") from None
    except BrokenAnswer as error:
        raise PenstockError(f"Paybook gives no answer that can be read at {account.base_url}: {error}") from None
    except AnswerError as error:
        raise refused(account, error) from None
    return answer.body


def refused(account: PaybookAccount, error: AnswerError) -> PenstockError:
    """What is told of it: Paybook's own sentence, without the keys that it may repeat."""
    return PenstockError(f"Paybook refused it for account {account.name}: {without_secrets(str(error), account)}")


async def _look(connection: Connection, paybook: "_Paybook") -> Looked:
    account = paybook.account
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

    caller: Caller
    account: PaybookAccount
    budgets: Budgets
    configuration: Configuration

    async def registrations(self, request: ApiRequest) -> Sequence[Registration]:
        """Those in the answer. Raises PenstockError."""
        body = await self.send(request)
        try:
            return api.registrations(body)
        except AnswerError as error:
            raise refused(self.account, error) from None

    async def send(self, request: ApiRequest) -> bytes:
        """The answer's body, in its turn. Raises PenstockError."""
        await self._place()
        return await send(self.caller, self.account, request, self.configuration)

    async def _place(self) -> None:
        """Wait for a place in the budget. Raises StoreAway, and PenstockError where there is none soon."""
        waited = 0.0
        while wait := await self.budgets.take(_PROVIDER, self.account, api.LIMIT, "registrations"):
            if wait.circuit or waited + wait.seconds > _LONGEST_WAIT_SECONDS:
                raise PenstockError(f"no call of account {self.account.name} may be made now: {wait.why}")
            await asyncio.sleep(wait.seconds)
            waited += wait.seconds
