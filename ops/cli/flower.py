"""`penstock flower`."""

import typer

from ops.cli.examples import examples
from ops.flower import application, serve_flower
from ops.installation import find
from shared import strangers
from shared.logs import set_up_logs
from shared.settings import Settings


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock flower", "PENSTOCK_FLOWER_PASSWORD=... penstock flower"))
def flower() -> None:
    """Serve flower, Celery's own page, behind a password (user penstock), on PENSTOCK_FLOWER_PORT."""
    settings = find(Settings.read(), database=False, redis=True)
    set_up_logs(settings.log_level, settings.log_format)
    strangers.tell()
    serve_flower(application(settings), settings)
