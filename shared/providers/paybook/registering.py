"""What is to be said and done about an account's registered webhooks; Paybook disables one after too many failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.providers.paybook.api import Registration
from shared.providers.paybook.settings import PaybookAccount


@dataclass(frozen=True, slots=True)
class Examination:
    """``warnings`` for people; whether to register the webhook, and afterwards which registrations to remove."""

    warnings: Sequence[str]
    create: bool = False
    delete: Sequence[str] = ()


def url_of(account: PaybookAccount) -> str | None:
    """Where the account's deliveries go, token and all; None unless the settings say where ingress is."""
    if account.registration is None:
        return None
    return _url(account.registration.ingress, account.webhook_tokens[0].get_secret_value())


def examine(account: PaybookAccount, found: Sequence[Registration], failures_before: Mapping[str, int]) -> Examination:
    """Look at the registrations of an API key; ``failures_before`` is what was counted at the last look, by id.

    Only registrations of our own URLs are ever replaced: others of the same key are somebody else's.
    """
    warnings = [warning for each in found if (warning := _warning(each, failures_before))]
    if not found:
        warnings.append("no webhook is registered")
    registration = account.registration
    if registration is None or not registration.again:
        return Examination(warnings)
    urls = {_url(registration.ingress, token.get_secret_value()) for token in account.webhook_tokens}
    ours = [each for each in found if each.url in urls]
    disabled = [each.id_webhook for each in ours if each.is_disabled]
    return Examination(warnings, create=len(disabled) == len(ours), delete=disabled)


def is_as_wanted(found: Registration, events: Sequence[str], delay: int) -> bool:
    """Whether a registration is in force and tells of these events, after so many seconds."""
    return not found.is_disabled and set(found.events) == set(events) and (found.delay or 0) == delay


def _warning(found: Registration, failures_before: Mapping[str, int]) -> str | None:
    failures, before = found.ct_failed or 0, failures_before.get(found.id_webhook, 0)
    if found.is_disabled:
        return f"webhook {found.id_webhook} is disabled after {failures} failures"
    if failures > before:
        return (
            f"webhook {found.id_webhook} has failed {failures} times, {failures - before} of them since the last look"
        )
    return None


def _url(ingress: str, token: str) -> str:
    return f"{ingress}/webhooks/paybook/{token}"
