"""`penstock relay`."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from ops.cli.examples import examples
from ops.installation import find
from shared import strangers
from shared.logs import set_up_logs
from shared.settings import Settings
from workers.health.metrics import serve
from workers.relay.relay import Relay


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock relay", "penstock relay --metrics-port 9102"))
def relay(
    heartbeat: Annotated[
        Path | None, typer.Option(help="A file to touch every second; one that is 20 s old tells of a hung relay.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where /metrics and /health/live are; none unless given.")
    ] = None,
) -> None:
    """Queue again whatever is due; any number of relays may run."""
    settings = find(Settings.read(), redis=True)
    set_up_logs(settings.log_level, settings.log_format)
    strangers.tell()
    process = Relay(settings, heartbeat)
    if metrics_port is not None:
        serve(metrics_port, settings.host, lambda: process.goes_on)
    uvloop.run(_until_told(process))


async def _until_told(process: Relay) -> None:
    running = asyncio.ensure_future(process.run())
    for told in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(told, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
