"""Watches the webhooks that are registered at Paybook, and registers one again where the settings say so."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import httpx

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


class Looked(NamedTuple):
    """What a look found and did; ``registrations`` are those that are there now."""

    registrations: Sequence[Registration]
    warnings: Sequence[str]
    done: Sequence[str]


async def look(connection: Connection, account: PaybookAccount) -> Looked:
    """Look at the account's registrations once, and mend them if the settings say so. Raises PenstockError.

    The new one is registered before the disabled one is removed: whatever happens between the two, the next look
    finds a working one and only removes.
    """
    async with alone(connection, "registrations", account.name) as mine:
        if not mine:
            raise PenstockError(f"another process looks at the registrations of {account.name} now")
        return await _look(connection, account)


async def _look(connection: Connection, account: PaybookAccount) -> Looked:
    async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=False) as client:
        found = await _registrations(client, account, api.list_webhooks(account))
        before = await registrations.failures_before(connection, _PROVIDER, account.name)
        examined = examine(account, found, before)
        done = []
        if examined.create and account.registration and (url := url_of(account)):
            request = api.create_webhook(account, url, account.registration.events, account.registration.delay)
            created = await _registrations(client, account, request)
            done += [f"registered webhook {made.id_webhook}" for made in created]
        for old in examined.delete:
            await _send(client, account, api.delete_webhook(account, old))
            done.append(f"removed the disabled webhook {old}")
        if done:
            found = await _registrations(client, account, api.list_webhooks(account))
    seen = {each.id_webhook: (each.ct_failed or 0, bool(each.is_disabled)) for each in found}
    await registrations.keep(connection, _PROVIDER, account.name, seen)
    return Looked(found, examined.warnings, done)


async def _registrations(
    client: httpx.AsyncClient, account: PaybookAccount, request: ApiRequest
) -> Sequence[Registration]:
    body = await _send(client, account, request)
    try:
        return api.registrations(body)
    except AnswerError as error:
        raise _refused(account, error) from None


async def _send(client: httpx.AsyncClient, account: PaybookAccount, request: ApiRequest) -> bytes:
    headers = {"User-Agent": USER_AGENT, **request.headers}
    try:
        answer = await client.request(
            request.method, account.base_url + request.path, headers=headers, content=request.body or None
        )
        api.open_envelope(answer.content)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise PenstockError(f"Paybook does not answer at {account.base_url}: {reason}") from None
    except AnswerError as error:
        raise _refused(account, error) from None
    return answer.content


def _refused(account: PaybookAccount, error: AnswerError) -> PenstockError:
    return PenstockError(f"Paybook refused it for account {account.name}: {error}")
