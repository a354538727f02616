"""Checks of each account's credentials: its provider's cheapest read, made once, with the account's own key."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import httpx

from ops.checks.finding import Finding, advice, fix, ok
from shared.configuration import Configuration
from shared.errors import AnswerError
from shared.providers.account import AccountSettings
from shared.providers.interface import Call, Probe
from shared.providers.paybook.api import registrations
from shared.providers.registry import PROVIDERS


_SECONDS: Final = 5.0
_AT_ONCE: Final = 20
_REFUSED: Final = frozenset({401, 402, 403})


async def check_accounts(configuration: Configuration) -> list[Finding]:
    """The findings on every account, in the order of the settings."""
    places = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=False) as client:

        async def check(provider: str, account: AccountSettings) -> Sequence[Finding]:
            async with places:
                return await _check(client, provider, account)

        found = await asyncio.gather(
            *(
                check(provider, account)
                for provider, accounts in configuration.accounts.items()
                for account in accounts.values()
            )
        )
    return [finding for of_account in found for finding in of_account]


async def _check(client: httpx.AsyncClient, provider: str, account: AccountSettings) -> Sequence[Finding]:
    item = f"{provider} {account.name}"
    probe = PROVIDERS[provider].follow_up.probe()
    if probe is None:
        return [ok(item, "its credentials are not tested: no read of this provider is known to be cheap")]
    headers = PROVIDERS[provider].follow_up.credentials(Call(path=probe.path, purpose="check"), account)
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await client.request(probe.method, account.base_url + probe.path, headers=headers)
    except (httpx.HTTPError, TimeoutError) as error:
        reason = str(error) or "no answer within 5 s"
        return [fix(item, f"{account.base_url} does not answer: {reason}; check base_url and the network")]
    findings = [_verdict(item, account, probe, answer.status_code)]
    if provider == "paybook" and findings[0].level == "ok":
        findings = list(_registered(item, answer.content, findings[0]))
    if getattr(account, "signature", None) == "auto":
        findings.append(
            advice(
                item, 'signature = "auto" accepts three forms: pin the one that matched (the log of ingress names it)'
            )
        )
    return findings


def _verdict(item: str, account: AccountSettings, probe: Probe, status: int) -> Finding:
    said = f"{account.base_url} answered {status}"
    if status in probe.right:
        return ok(item, f"its credentials are accepted ({said})")
    if status in _REFUSED:
        return fix(item, f"its credentials are refused ({said}): put in the right ones, or ask the provider")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return advice(item, f"its limit is used up ({said}): check again in a minute")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return advice(item, f"the provider is in trouble ({said}): check again later")
    return advice(item, f"{said}, which tells nothing about its credentials: see that base_url is right")


def _registered(item: str, body: bytes, accepted: Finding) -> Iterator[Finding]:
    """Paybook: the envelope counts as well as the status, and a registration that fails is disabled after a while."""
    try:
        found = registrations(body)
    except AnswerError as error:
        yield fix(item, f"its credentials are refused: {error}")
        return
    yield accepted
    if not found:
        yield advice(item, "no webhook is registered: `penstock paybook webhooks create` registers one")
    for webhook in found:
        name = f"webhook {webhook.id_webhook}"
        if webhook.is_disabled:
            yield advice(
                item, f"{name} is disabled after {webhook.ct_failed or 0} failures: delete it and create it anew"
            )
        elif webhook.ct_failed:
            yield advice(item, f"{name} has failed {webhook.ct_failed} times: see that its URL reaches ingress")
