"""When what waits will be done, for the commands: the forecasts with the settings and the Redis that they need."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.budgets import Budgets
from shared.configuration import Configuration, read_configuration
from shared.errors import SettingsError
from shared.settings import Settings
from shared.store.reading.forecasting import Asked, forecast_of_event, forecasts, forecasts_of_more
from shared.store.reading.shapes import EventDetail, Forecast
from shared.store.reading.touching import Touched


async def forecasts_by_provider(connection: AsyncConnection, settings: Settings) -> Mapping[str, Sequence[Forecast]]:
    """Each account that has calls to make; nothing while the settings do not validate."""
    try:
        configuration = read_configuration(settings.config)
    except SettingsError:
        return {}
    async with _budgets(settings) as budgets:
        return await forecasts(connection, configuration, budgets)


async def with_forecast(connection: AsyncConnection, event: EventDetail, settings: Settings) -> EventDetail:
    """The event, and when the calls that it waits for will be made."""
    try:
        configuration: Configuration = read_configuration(settings.config)
    except SettingsError:
        return event
    async with _budgets(settings) as budgets:
        return structs.replace(event, forecast=await forecast_of_event(connection, event.id, configuration, budgets))


async def forecasts_of_replay(
    connection: AsyncConnection, settings: Settings, touched: Touched
) -> Mapping[tuple[str, str], Forecast]:
    """By (provider, account), when the calls of a replay would be made; nothing while the settings do not validate."""
    try:
        configuration = read_configuration(settings.config)
    except SettingsError:
        return {}
    asked = [Asked(*key, touched.paths[key], calls) for key, calls in touched.calls.items()]
    async with _budgets(settings) as budgets:
        return await forecasts_of_more(connection, configuration, budgets, asked)


@asynccontextmanager
async def _budgets(settings: Settings) -> AsyncIterator[Budgets | None]:
    if settings.redis_url is None:
        yield None
        return
    budgets = Budgets(settings.redis_url.get_secret_value())
    try:
        yield budgets
    finally:
        await budgets.close()
