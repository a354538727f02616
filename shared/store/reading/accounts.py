"""Accounts as people look at them: when each last spoke, and how much of its budget is used."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Text, Uuid, and_, column, literal, select, true, tuple_, values
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.budgets import AccountBudget, Budgets
from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.store.reading.shapes import Account
from shared.store.schema import events


_LAST_ID: Final = UUID(int=(1 << 128) - 1)


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
    """When each account last delivered: one step into an index each. What reconciliation made is no delivery.

    The step goes to the account's end in the index, and may land on the account before it: asked for the account alone,
    the planner takes the index of all ids for one that never delivered, and walks through everybody's events.
    """
    named = values(column("provider", Text), column("account", Text), name="named").data(accounts)
    end = tuple_(named.c.provider, named.c.account, literal(_LAST_ID, Uuid))
    at_end = (
        select(events.c.provider, events.c.account, events.c.received_at)
        .where(tuple_(events.c.provider, events.c.account, events.c.id) <= end, ~events.c.reconciled)
        .order_by(events.c.provider.desc(), events.c.account.desc(), events.c.id.desc())
        .limit(1)
        .lateral("at_end")
    )
    its_own = and_(at_end.c.provider == named.c.provider, at_end.c.account == named.c.account)
    return (
        select(named.c.provider, named.c.account, at_end.c.received_at)
        .select_from(named.join(at_end, true()))
        .where(its_own)
    )


def _next_call(state: AccountBudget | None) -> datetime | None:
    """None where a call may be made now, or nothing is known."""
    if state is None or state.next_call_seconds <= 0:
        return None
    return datetime.now(UTC) + timedelta(seconds=state.next_call_seconds)
