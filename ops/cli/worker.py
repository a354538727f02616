"""`penstock worker`."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from celery.apps import worker as celery_worker
from celery.utils.nodenames import host_format
from prometheus_client import values

from ops.cli.examples import examples
from ops.installation import find
from shared import strangers
from shared.errors import SettingsError
from shared.logs import set_up_logs
from shared.providers.registry import PROVIDERS
from shared.queue import HANDLERS, queue_of
from shared.settings import Settings
from shared.tracing import check_tracing
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
    # Before Celery's own call: what it says until then would be text between the lines.
    set_up_logs(settings.log_level, settings.log_format)
    strangers.tell()
    if metrics_port is not None:
        _share_figures()
    check_tracing()
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
        # Its banner is no line of a log; what it shows is in the settings.
        quiet=True,
    )
    # At the end it says a sentence past all logs, and no setting keeps it from that.
    celery_worker.safe_say = lambda *_: None  # type: ignore[attr-defined]  # its types do not know it
    serving.start()
    raise typer.Exit(serving.exitcode or 0)


def _share_figures() -> None:
    """Have the children, who do the work, write their figures where this process can read them."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="penstock-metrics-")
        # Not for the children, who end before it.
        atexit.register(_remove, folder, os.getpid())
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        # prometheus-client has made its choice when it was imported.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _handing_over(settings: Settings) -> More:
    """What a worker for handlers has more than others: imported here alone, with the applications' own code."""
    from workers.hand_over.preparing import prepare  # noqa: PLC0415 - the same
    from workers.hand_over.task import register  # noqa: PLC0415 - no other worker needs the libraries behind it

    prepare(settings)
    return register
