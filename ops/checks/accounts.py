"""Checks of each account's credentials: its provider's cheapest read, made once, with the account's own key."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from ops.checks.finding import Finding, advice, fix, ok
from shared.configuration import Configuration
from shared.errors import AnswerError, BrokenAnswer
from shared.providers.account import AccountSettings
from shared.providers.interface import Call, Probe
from shared.providers.paybook.api import registrations
from shared.providers.registry import PROVIDERS
from workers.calling import Caller, NoAnswer
from workers.redacting import without_secrets


_SECONDS: Final = 5.0
_AT_ONCE: Final = 20
_REFUSED: Final = frozenset({401, 402, 403})
_TOO_MANY: Final = 429
_FAULT: Final = 500


async def check_accounts(configuration: Configuration) -> list[Finding]:
    """The findings on every account, in the order of the settings."""
    places = asyncio.Semaphore(_AT_ONCE)
    caller = Caller()

    async def check(provider: str, account: AccountSettings) -> Sequence[Finding]:
        async with places:
            return await _check(caller, provider, account, configuration)

    try:
        found = await asyncio.gather(
            *(
                check(provider, account)
                for provider, accounts in configuration.accounts.items()
                for account in accounts.values()
            )
        )
    finally:
        await caller.close()
    return [finding for of_account in found for finding in of_account]


async def _check(
    caller: Caller, provider: str, account: AccountSettings, configuration: Configuration
) -> Sequence[Finding]:
    item = f"{provider} {account.name}"
    probe = PROVIDERS[provider].follow_up.probe()
    if probe is None:
        return [ok(item, "its credentials are not tested: no read of this provider is known to be cheap")]
    headers = PROVIDERS[provider].follow_up.credentials(Call(path=probe.path, purpose="check"), account)
    try:
        answer = await caller.ask(account, probe.method, probe.path, headers, configuration, seconds=_SECONDS)
    except NoAnswer as error:
        return [fix(item, f"{account.base_url} does not answer: {error}; check base_url and the network")]
    except BrokenAnswer as error:
        return [fix(item, f"{account.base_url} gives no answer that can be read: {error}; check base_url")]
    findings = [_verdict(item, account, probe, answer.status)]
    if provider == "paybook" and findings[0].level == "ok":
        findings = list(_registered(item, account, answer.body, findings[0]))
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
    if status == _TOO_MANY:
        return advice(item, f"its limit is used up ({said}): check again in a minute")
    if status >= _FAULT:
        return advice(item, f"the provider is in trouble ({said}): check again later")
    return advice(item, f"{said}, which tells nothing about its credentials: see that base_url is right")


def _registered(item: str, account: AccountSettings, body: bytes, accepted: Finding) -> Iterator[Finding]:
    """Paybook: the envelope counts as well as the status, and a registration that fails is disabled after a while."""
    try:
        found = registrations(body)
    except AnswerError as error:
        yield fix(item, f"its credentials are refused: {without_secrets(str(error), account)}")
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
