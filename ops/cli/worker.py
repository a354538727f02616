"""`penstock worker`."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.examples import examples
from ops.installation import find
from shared.errors import SettingsError
from shared.providers.registry import PROVIDERS
from shared.queue import queue_of
from shared.settings import Settings
from workers.app import create
from workers.watchdog import watch


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock worker magicline", "penstock worker imin paybook --concurrency 4"))
def worker(
    providers: Annotated[list[str], typer.Argument(metavar="PROVIDER...", help="Whose events to follow up.")],
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="How many processes work side by side.")] = 2,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where /metrics and /health/live are; none unless given.")
    ] = None,
    heartbeat: Annotated[
        Path | None, typer.Option(help="A file to touch every second; one that is 20 s old tells of a dead worker.")
    ] = None,
) -> None:
    """Follow up the events of one provider or several: plan, call, store."""
    if unknown := sorted(set(providers) - set(PROVIDERS)):
        raise SettingsError(f"there is no provider {unknown[0]}; known are {', '.join(PROVIDERS)}")
    name = f"worker-{'-'.join(providers)}"
    settings = find(Settings.read(), redis=True)
    celery = create(settings, name)
    longest = celery.conf.task_time_limit
    canaries = watch(
        celery, settings, name, children=concurrency, longest=longest, heartbeat=heartbeat, port=metrics_port
    )
    celery.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={concurrency}",
            f"--queues={','.join([*(queue_of(provider) for provider in providers), canaries])}",
            f"--hostname={name}@%h",
            # Talk among workers only costs here: the store says who does what.
            "--without-gossip",
            "--without-mingle",
            "--loglevel=INFO",
        ]
    )
