"""``penstock migrate``: the database's schema."""

from typing import Annotated

import typer

from ops.cli.examples import examples
from ops.cli.store import database_url, found
from shared.errors import PenstockError
from shared.store.migrating import current, newest, upgrade


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock migrate", "penstock migrate --check"))
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit status 1 if a migration is missing.")
    ] = False,
) -> None:
    """Bring the database to the schema that this version knows."""
    url = database_url(found())
    before, wanted = current(url), newest()
    if before == wanted:
        typer.echo(f"The database is at revision {wanted}, the newest.")
        return
    if check:
        raise PenstockError(
            f"the database is at revision {before or 'none'}, this version needs {wanted}: run `penstock migrate`"
        )
    upgrade(url)
    typer.echo(f"The database is at revision {wanted} now; it was at {before or 'none'}.")
