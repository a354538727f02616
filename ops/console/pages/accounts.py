"""Accounts: when each last spoke, its budget and circuit, what waits for it, its webhook keys, and registrations."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from ops.console.rendering import page
from ops.console.wording import age, moment
from ops.forecasts import forecasts_by_provider
from ops.silences import sentence, silent_accounts
from shared.arrivals import KeyUse, key_uses
from shared.providers.account import AccountSettings
from shared.sealing import Keys
from shared.store.reading.accounts import list_accounts
from shared.store.reading.connecting import reading
from shared.store.reading.registered import registrations


if TYPE_CHECKING:
    from shared.configuration import Configuration

_REDIS_SECONDS: Final = 2.0
_OUT_OF_USE: Final = timedelta(hours=1)
"""A key that was not used for so long while the other one was is one that the provider has let go of."""


async def show(request: Request) -> Response:
    """Every configured account; what only Redis knows is a dash while it is away."""
    state = request.app.state
    configuration: Configuration = state.watch.current
    configured = [
        (provider, account) for provider, accounts in configuration.accounts.items() for account in accounts.values()
    ]
    async with reading(state.engine) as connection:
        rows = await list_accounts(connection, configured, state.budgets)
        silent = {
            (each.provider, each.account): sentence(each) for each in await silent_accounts(connection, state.settings)
        }
        forecasts = await forecasts_by_provider(connection, state.settings)
        registered = await registrations(connection)
    waiting = {(provider, row.account): row for provider, found in forecasts.items() for row in found}
    context = {
        "accounts": rows,
        "silent": silent,
        "waiting": waiting,
        "registered": registered,
        "keys": await _keys(request, configured),
        "problem": state.watch.problem,
        "config": await asyncio.to_thread(state.settings.config.absolute),
    }
    return page(request, "accounts.html", context)


class _Key(NamedTuple):
    """A webhook key for people: which of an account's it is, when it was last used, and what follows from that."""

    provider: str
    account: str
    name: str
    last_used_at: datetime | None
    advice: str


async def _keys(
    request: Request, configured: Sequence[tuple[str, AccountSettings]]
) -> tuple[datetime | None, list[_Key]]:
    """When counting began, and every configured key; None while Redis does not tell, or without encryption keys."""
    state = request.app.state
    secrets = {(provider, account.name): account.proving_secrets() for provider, account in configured}
    if state.redis is None or not state.settings.encryption_keys:
        return None, []
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            uses = await key_uses(state.redis, secrets, Keys.parse(state.settings.encryption_keys))
    except (RedisError, OSError):  # TimeoutError is an OSError
        return None, []
    if uses.since is None:
        return None, []
    return uses.since, [
        _Key(provider, account, _name(use.place, len(known)), use.last_used_at, _about(use, known, uses.since))
        for (provider, account), known in uses.by_account.items()
        for use in known
    ]


def _name(place: int, of: int) -> str:
    return "the only one" if of == 1 else ("first", "second")[place]


def _about(use: KeyUse, known: Sequence[KeyUse], since: datetime) -> str:
    """What an operator can conclude: a rotation is over when the provider uses the new key alone."""
    if len(known) == 1:
        return ""
    others = [other.last_used_at for other in known if other is not use and other.last_used_at]
    newest = max(others, default=None)
    if newest is None:
        return "in use" if use.last_used_at else "not used yet"
    if use.last_used_at is None:
        return f"not used since counting began, {moment(since)}: the other one is"
    if newest - use.last_used_at > _OUT_OF_USE:
        return f"out of use: the other one has been used for {age((newest - use.last_used_at).total_seconds())} since"
    return "in use"
