"""`penstock up`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from redis.asyncio import Redis

from ops.cli.examples import examples
from ops.supervisor.counts import Counts, ReadCounts
from ops.supervisor.screen import Screen
from ops.supervisor.table import Options
from ops.supervisor.up import up as run
from shared.configuration import read_configuration
from shared.providers.registry import PROVIDERS
from shared.settings import Settings
from shared.store.reading.connecting import reading_engine
from shared.store.reading.counting import stats


app = typer.Typer(add_completion=False)

_REDIS_SECONDS = 2.0


@asynccontextmanager
async def open_counts(database_url: str, redis_url: str) -> AsyncIterator[ReadCounts]:
    """What the screen reads its counts with: ``penstock stats``, from stores that are opened once."""
    engine = reading_engine(database_url, name="up")
    async with Redis.from_url(
        redis_url, socket_connect_timeout=_REDIS_SECONDS, socket_timeout=_REDIS_SECONDS
    ) as client:

        async def read() -> Counts:
            return await stats(engine, client, list(PROVIDERS))

        try:
            yield read
        finally:
            await engine.dispose()


@app.command(epilog=examples("penstock up --demo", "penstock up --ingress 4"))
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Add the provider lab and its traffic.")] = False,
    ingress: Annotated[int, typer.Option(min=1, max=64, help="How many ingress processes.")] = 1,
) -> None:
    """Run everything on this machine: the stores that are not set, ingress, workers, relay, console and flower."""
    settings = Settings.read()
    if not demo:
        read_configuration(settings.config)  # a mistake is told before anything is started
    run(settings, Options(providers=tuple(PROVIDERS), ingress=ingress, demo=demo), open_counts, Screen())
