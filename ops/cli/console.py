"""``penstock console``."""

import typer

from ops.cli.examples import examples
from ops.console.app import serve
from ops.installation import find
from shared.logs import set_up_logs
from shared.settings import Settings


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock console", "PENSTOCK_CONSOLE_PORT=9000 penstock console"))
def console() -> None:
    """Serve the console, for a browser, on PENSTOCK_CONSOLE_PORT.

    With PENSTOCK_CONSOLE_PASSWORD it asks for that password (user penstock); without one it serves this machine alone.
    """
    settings = find(Settings.read())
    set_up_logs(settings.log_level, settings.log_format)
    serve(settings)
