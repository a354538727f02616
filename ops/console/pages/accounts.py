"""Accounts: when each last spoke, its budget and circuit, what waits for it, and Paybook's registrations."""

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ops.console.rendering import page
from ops.forecasts import forecasts_by_provider
from ops.silences import sentence, silent_accounts
from shared.store.reading.accounts import list_accounts
from shared.store.reading.connecting import reading
from shared.store.reading.registered import registrations


if TYPE_CHECKING:
    from shared.configuration import Configuration


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
        "problem": state.watch.problem,
        "config": await asyncio.to_thread(state.settings.config.absolute),
    }
    return page(request, "accounts.html", context)
