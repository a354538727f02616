"""`penstock up`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from ops.cli.examples import examples
from ops.supervisor.counts import Counts, ReadCounts
from ops.supervisor.screen import Screen
from ops.supervisor.table import Options
from ops.supervisor.up import up as run
from shared.configuration import read_configuration
from shared.providers.registry import PROVIDERS
from shared.queue import HANDLERS
from shared.settings import Settings
from shared.store.postgres import connect_once
from shared.store.tallying import progress


app = typer.Typer(add_completion=False)


@asynccontextmanager
async def open_counts(database_url: str, _redis_url: str) -> AsyncIterator[ReadCounts]:
    """What the screen reads its counts with, on one connection: a new one every second would cost more than they do."""
    connection = await connect_once(database_url)

    async def read() -> Counts:
        return await progress(connection, list(PROVIDERS))

    try:
        yield read
    finally:
        connection.terminate()


@app.command(epilog=examples("penstock up --demo", "penstock up --ingress 4"))
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Add the provider lab and its traffic.")] = False,
    ingress: Annotated[int, typer.Option(min=1, max=64, help="How many ingress processes.")] = 1,
) -> None:
    """Run everything on this machine: the stores that are not set, ingress, workers, relay, console and flower."""
    settings = Settings.read()
    # A mistake is told before anything is started; the demo's settings are only written later.
    if not demo:
        read_configuration(settings.config)
    run(settings, Options(providers=(*PROVIDERS, HANDLERS), ingress=ingress, demo=demo), open_counts, Screen())
