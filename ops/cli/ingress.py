"""`penstock ingress`."""

from pathlib import Path
from typing import Annotated

import typer

from ingress.server import serve
from ops.cli.examples import examples
from ops.installation import find
from shared.settings import Settings


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock ingress", "penstock ingress --host 0.0.0.0 --port 8443 --metrics-port 9101"))
def ingress(
    fd: Annotated[int | None, typer.Option(help="A bound socket to take over instead of opening one.")] = None,
    host: Annotated[str | None, typer.Option(help="Where to listen; PENSTOCK_HOST unless given.")] = None,
    port: Annotated[int | None, typer.Option(help="Where to listen; PENSTOCK_INGRESS_PORT unless given.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Where /metrics is; 0 serves none.")] = None,
    heartbeat: Annotated[
        Path | None, typer.Option(help="A file to touch every second; one that is 10 s old tells of a hung process.")
    ] = None,
) -> None:
    """Receive webhooks: authenticate, keep, acknowledge."""
    settings = find(Settings.read(), redis=True)
    serve(
        settings,
        fd=fd,
        host=settings.host if host is None else host,
        port=settings.ingress_port if port is None else port,
        metrics_port=settings.metrics_port if metrics_port is None else metrics_port,
        heartbeat=heartbeat,
    )
