"""Accounts as people look at them: when each last spoke, and how much of its budget is used."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Text, column, select, values
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.budgets import AccountBudget, Budgets
from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.store.reading.shapes import Account
from shared.store.schema import events


async def list_accounts(
    connection: AsyncConnection, configured: Iterable[tuple[str, AccountSettings]], budgets: Budgets | None
) -> list[Account]:
    """The configured accounts, each with its provider, its last delivery and its budget; without Redis no budget."""
    configured = list(configured)
    last = {}
    if configured:
        keys = [(provider, account.name) for provider, account in configured]
        last = {(provider, name): at for provider, name, at in await connection.execute(_newest(keys))}
    found = []
    for provider, account in configured:
        state = None
        if budgets is not None:
            try:
                state = await budgets.state(provider, account)
            except StoreAway:
                budgets = None  # one deadline is waited for, not one an account
        found.append(
            Account(
                provider=provider,
                account=account.name,
                last_event_at=last.get((provider, account.name)),
                circuit=state.circuit if state else None,
                budget_used=state.used if state else None,
                budget_limit=state.limit if state else None,
                next_call_at=_next_call(state),
            )
        )
    return found


def _newest(accounts: Sequence[tuple[str, str]]) -> Any:
    """When each account last delivered: one step into an index each. What reconciliation made is no delivery."""
    named = values(column("provider", Text), column("account", Text), name="named").data(accounts)
    newest = (
        select(events.c.received_at)
        .where(events.c.provider == named.c.provider, events.c.account == named.c.account, ~events.c.reconciled)
        .order_by(events.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(named.c.provider, named.c.account, newest)


def _next_call(state: AccountBudget | None) -> datetime | None:
    """None where a call may be made now, or nothing is known."""
    if state is None or state.next_call_seconds <= 0:
        return None
    return datetime.now(UTC) + timedelta(seconds=state.next_call_seconds)
