"""Whether anything stands still: a duty of the relay, a worker that only fails, an event that nobody plans."""

from collections.abc import Sequence

from ops.checks.finding import Finding, advice, fix
from ops.stuck import Stuck, stuck
from shared.configuration import Configuration
from shared.errors import PenstockError
from shared.providers.registry import PROVIDERS
from shared.settings import Settings
from shared.store.reading.connecting import reading, reading_engine
from shared.store.reading.stuck import standing


async def check_stuck(settings: Settings, configuration: Configuration) -> Sequence[Finding]:
    """A finding for each thing that is stuck; none where Postgres is away, which another check says."""
    return [
        (fix if each.urgent else advice)(each.item, each.sentence) for each in await find_stuck(settings, configuration)
    ]


async def find_stuck(settings: Settings, configuration: Configuration) -> Sequence[Stuck]:
    """What is; nothing where Postgres is away."""
    if settings.database_url is None:
        return ()
    try:
        engine = reading_engine(settings.database_url.get_secret_value(), name="check")
    except PenstockError:
        return ()
    try:
        async with reading(engine) as connection:
            found = await standing(connection, [*PROVIDERS], configuration.timing.lease_seconds)
    except PenstockError:
        return ()
    finally:
        await engine.dispose()
    return stuck(found, configuration.watch.stuck_minutes)
