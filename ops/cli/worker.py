"""`penstock worker`."""

from pathlib import Path
from typing import Annotated

import typer
from celery.utils.nodenames import host_format

from ops.cli.examples import examples
from ops.installation import find
from shared.errors import SettingsError
from shared.logs import set_up_logs
from shared.providers.registry import PROVIDERS
from shared.queue import HANDLERS, queue_of
from shared.settings import Settings
from workers.app import More, create
from workers.health.watchdog import watch


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock worker magicline", "penstock worker imin paybook --concurrency 4"))
def worker(
    providers: Annotated[
        list[str],
        typer.Argument(metavar="PROVIDER...", help="Whose events to follow up; `handlers` hands changes over."),
    ],
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="How many processes work side by side.")] = 2,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where /metrics and /health/live are; none unless given.")
    ] = None,
    heartbeat: Annotated[
        Path | None, typer.Option(help="A file to touch every second; one that is 20 s old tells of a dead worker.")
    ] = None,
) -> None:
    """Follow up the events of one provider or several: plan, call, store."""
    if unknown := sorted(set(providers) - {*PROVIDERS, HANDLERS}):
        raise SettingsError(f"there is no provider {unknown[0]}; known are {', '.join((*PROVIDERS, HANDLERS))}")
    name = f"worker-{'-'.join(providers)}"
    settings = find(Settings.read(), redis=True)
    celery = create(settings, name, _handing_over(settings) if HANDLERS in providers else None)
    longest = celery.conf.task_time_limit
    canaries = watch(
        celery, settings, name, children=concurrency, longest=longest, heartbeat=heartbeat, port=metrics_port
    )
    # Not worker_main: Celery's command line takes 14 MB, for a shell and for flower's own command.
    serving = celery.Worker(
        hostname=host_format(f"{name}@%h"),
        concurrency=concurrency,
        queues=[*(queue_of(provider) for provider in providers), canaries],
        # Talk among workers only costs here: the store says who does what.
        without_gossip=True,
        without_mingle=True,
        loglevel="INFO",
    )
    serving.start()
    raise typer.Exit(serving.exitcode or 0)


def _handing_over(settings: Settings) -> More:
    """What a worker for handlers has more than others: imported here alone, with the applications' own code."""
    from workers.hand_over.preparing import prepare  # noqa: PLC0415 - the same
    from workers.hand_over.task import register  # noqa: PLC0415 - no other worker needs the libraries behind it

    set_up_logs(settings.log_level, settings.log_format)
    prepare(settings)
    return register
