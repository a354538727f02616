"""`penstock worker`."""

from typing import Annotated

import typer

from ops.cli.examples import examples
from ops.installation import find
from shared.errors import SettingsError
from shared.providers.registry import PROVIDERS
from shared.queue import queue_of
from shared.settings import Settings
from workers.app import create


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock worker magicline", "penstock worker imin paybook --concurrency 4"))
def worker(
    providers: Annotated[list[str], typer.Argument(metavar="PROVIDER...", help="Whose events to follow up.")],
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="How many processes work side by side.")] = 2,
) -> None:
    """Follow up the events of one provider or several: plan, call, store."""
    if unknown := sorted(set(providers) - set(PROVIDERS)):
        raise SettingsError(f"there is no provider {unknown[0]}; known are {', '.join(PROVIDERS)}")
    name = f"worker-{'-'.join(providers)}"
    create(find(Settings.read(), redis=True), name).worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={concurrency}",
            f"--queues={','.join(queue_of(provider) for provider in providers)}",
            f"--hostname={name}@%h",
            # Talk among workers only costs here: the store says who does what.
            "--without-gossip",
            "--without-mingle",
            "--loglevel=INFO",
        ]
    )
