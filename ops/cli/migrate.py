"""``penstock migrate``: the database's schema."""

from typing import Annotated

import typer

from ops.cli.examples import examples
from ops.cli.store import database_url, found
from shared.errors import PenstockError
from shared.logs import set_up_logs
from shared.store.migrating import current, newest, upgrade
from workers.hand_over.preparing import prepare


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock migrate", "penstock migrate --check"))
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit status 1 if a migration is missing.")
    ] = False,
) -> None:
    """Bring the database to the schema that this version knows, and note where in the feed new handlers begin."""
    settings = found()
    set_up_logs(settings.log_level, settings.log_format)
    url = database_url(settings)
    before, wanted = current(url), newest()
    if before == wanted:
        typer.echo(f"The database is at revision {wanted}, the newest.")
        if not check:
            prepare(settings)
        return
    if check:
        raise PenstockError(
            f"the database is at revision {before or 'none'}, this version needs {wanted}: run `penstock migrate`"
        )
    upgrade(url)
    prepare(settings)
    typer.echo(f"The database is at revision {wanted} now; it was at {before or 'none'}.")
