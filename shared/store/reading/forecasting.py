"""When a backlog will be done at the present budget: of an account, and of one event."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.budgets import Budgets, drain_seconds, in_force, window_name
from shared.configuration import Configuration
from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Call, Limit
from shared.providers.registry import PROVIDERS
from shared.store.reading.shapes import EventForecast, Forecast
from shared.store.schema import event_fetches, fetches


DAY_SECONDS: Final = 86_400.0
FARTHEST: Final = timedelta(days=3650)
"""Beyond this a forecast is no time any more, only a sentence."""

_OPEN: Final = fetches.c.state.in_(("pending", "waiting"))


@dataclass(slots=True)
class _Backlog:
    """Calls to make of one scope; ``purpose`` is that of one of them, for people."""

    limit: Limit
    purpose: str
    live: int = 0
    background: int = 0

    def calls(self, background_share: float) -> int:
        """As many calls of the whole budget as these take: background ones have a share of it."""
        return self.live + ceil(self.background / background_share)


class Asked(NamedTuple):
    """Calls that somebody thinks of making for one purpose; ``path`` is that of one of them."""

    provider: str
    account: str
    purpose: str
    path: str
    calls: int
    background: bool = True


async def forecasts(
    connection: AsyncConnection, configuration: Configuration, budgets: Budgets | None
) -> Mapping[str, Sequence[Forecast]]:
    """By provider, each account that has calls to make, those first that take longest. Without Redis: an estimate."""
    backlogs: dict[tuple[str, str], dict[str, _Backlog]] = {}
    for row in await connection.execute(_by_purpose(_OPEN)):
        if (account := configuration.account(row.provider, row.account)) is not None:
            _add(backlogs.setdefault((row.provider, row.account), {}), account, row)
    found: dict[str, list[Forecast]] = {}
    for (provider, name), scopes in backlogs.items():
        account = configuration.accounts[provider][name]
        found.setdefault(provider, []).append(await _forecast(provider, account, scopes, configuration, budgets))
    return {
        provider: sorted(rows, key=lambda row: -(row.seconds if row.seconds is not None else float("inf")))
        for provider, rows in found.items()
    }


async def forecast_of_event(
    connection: AsyncConnection, event_id: UUID, configuration: Configuration, budgets: Budgets | None
) -> EventForecast | None:
    """When the calls that an event waits for will be made, with what waits beside them; None if it waits for none."""
    mine = select(event_fetches.c.fetch_id).where(event_fetches.c.event_id == event_id)
    own = [*await connection.execute(_by_purpose(_OPEN & fetches.c.id.in_(mine)))]
    account = configuration.account(own[0].provider, own[0].account) if own else None
    if account is None:
        return None
    provider = own[0].provider
    scopes: dict[str, _Backlog] = {}
    for row in own:
        _add(scopes, account, row)
    everything: dict[str, _Backlog] = {}
    of_account = (fetches.c.provider == provider) & (fetches.c.account == account.name)
    for row in await connection.execute(_by_purpose(_OPEN & of_account)):
        _add(everything, account, row)
    whole = await _forecast(
        provider,
        account,
        {scope: everything.get(scope, mine) for scope, mine in scopes.items()},
        configuration,
        budgets,
    )
    return EventForecast(
        calls=sum(backlog.live + backlog.background for backlog in scopes.values()),
        done_at=whole.done_at,
        detail=_beyond_a_day(scopes.values(), configuration.following_up.shares.background) or whole.detail,
    )


async def forecasts_of_more(
    connection: AsyncConnection, configuration: Configuration, budgets: Budgets | None, more: Sequence[Asked]
) -> Mapping[tuple[str, str], Forecast]:
    """By (provider, account): when background calls that nobody has asked for yet would be made, after what waits."""
    backlogs: dict[tuple[str, str], dict[str, _Backlog]] = {}
    for call in more:
        if (account := configuration.account(call.provider, call.account)) is not None:
            _add(backlogs.setdefault((call.provider, call.account), {}), account, call)
    for (provider, name), scopes in backlogs.items():
        account = configuration.accounts[provider][name]
        of_account = (fetches.c.provider == provider) & (fetches.c.account == name)
        for row in await connection.execute(_by_purpose(_OPEN & of_account)):
            _add(scopes, account, row)
    return {
        (provider, name): await _forecast(
            provider, configuration.accounts[provider][name], scopes, configuration, budgets
        )
        for (provider, name), scopes in backlogs.items()
    }


def _by_purpose(which: ColumnElement[bool]) -> Select[Any]:
    return (
        select(
            fetches.c.provider,
            fetches.c.account,
            fetches.c.purpose,
            fetches.c.background,
            func.min(fetches.c.path).label("path"),
            func.count().label("calls"),
        )
        .where(which)
        .group_by(fetches.c.provider, fetches.c.account, fetches.c.purpose, fetches.c.background)
    )


def _add(scopes: dict[str, _Backlog], account: AccountSettings, row: Any) -> None:
    call = Call(row.path, row.purpose)
    limit = in_force(account, PROVIDERS[row.provider].follow_up.limit(call, account))
    backlog = scopes.setdefault(limit.scope, _Backlog(limit, row.purpose))
    if row.background:
        backlog.background += row.calls
    else:
        backlog.live += row.calls


async def _forecast(
    provider: str,
    account: AccountSettings,
    scopes: Mapping[str, _Backlog],
    configuration: Configuration,
    budgets: Budgets | None,
) -> Forecast:
    share = configuration.following_up.shares.background
    seconds, slowest, circuit = 0.0, None, None
    for backlog in scopes.values():
        calls = backlog.calls(share)
        takes = drain_seconds(backlog.limit, calls)
        if budgets is not None:
            try:
                takes, _ = await budgets.free_in(provider, account, backlog.limit, calls)
                circuit = circuit or await budgets.circuits.get(provider, account)
            except StoreAway:
                budgets = None  # one deadline is waited for, not one a scope
        if backlog.limit.calls and takes >= seconds:
            seconds, slowest = takes, backlog
    calls = sum(backlog.live + backlog.background for backlog in scopes.values())
    if circuit is not None:
        return Forecast(account.name, calls, None, None, f"no call is made: {circuit.why}")
    if slowest is None:
        return Forecast(account.name, calls, None, None, "no limit is known: as fast as the API answers")
    return Forecast(
        account.name,
        calls,
        seconds,
        datetime.now(UTC) + timedelta(seconds=seconds) if seconds < FARTHEST.total_seconds() else None,
        f"{slowest.live + slowest.background:,} calls at {_pace(slowest)} take {_duration(seconds)}",
    )


def _beyond_a_day(scopes: Iterable[_Backlog], background_share: float) -> str | None:
    for backlog in scopes:
        limit = backlog.limit
        share = background_share if backlog.background else 1.0
        if limit.calls and backlog.calls(background_share) > (most := limit.calls * DAY_SECONDS / limit.seconds):
            calls = backlog.live + backlog.background
            takes = drain_seconds(limit, backlog.calls(background_share))
            return (
                f"its {calls:,} calls are more than a day allows ({most * share:,.0f} at {_pace(backlog)}): they take "
                f"{_duration(takes)}"
            )
    return None


def _pace(backlog: _Backlog) -> str:
    return f"{backlog.limit.calls:,}/{window_name(backlog.limit.seconds)} (GET {backlog.purpose})"


def _duration(seconds: float) -> str:
    for size, name in ((DAY_SECONDS, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:,.0f} s"
