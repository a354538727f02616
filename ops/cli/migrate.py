"""``penstock migrate``: the database's schema."""

import asyncio
from typing import Annotated

import asyncpg
import typer

from ops.cli.examples import examples
from ops.cli.store import database_url, found
from shared.errors import PenstockError
from shared.logs import set_up_logs
from shared.store.migrating import current, newest, upgrade
from shared.store.roles import grant
from workers.hand_over.preparing import prepare


app = typer.Typer(add_completion=False)


@app.command(epilog=examples("penstock migrate", "penstock migrate --roles", "penstock migrate --check"))
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit status 1 if a migration is missing.")
    ] = False,
    roles: Annotated[
        bool, typer.Option("--roles", help="Also make the processes' database roles, as `penstock roles` prints them.")
    ] = False,
) -> None:
    """Bring the database to the schema that this version knows, and note where in the feed new handlers begin."""
    settings = found()
    set_up_logs(settings.log_level, settings.log_format)
    url = database_url(settings)
    before, wanted = current(url), newest()
    if before == wanted:
        typer.echo(f"The database is at revision {wanted}, the newest.")
    elif check:
        raise PenstockError(
            f"the database is at revision {before or 'none'}, this version needs {wanted}: run `penstock migrate`"
        )
    else:
        upgrade(url)
        typer.echo(f"The database is at revision {wanted} now; it was at {before or 'none'}.")
    if check:
        return
    prepare(settings)
    if roles:
        _grant(url)


def _grant(url: str) -> None:
    try:
        asyncio.run(grant(url))
    except asyncpg.InsufficientPrivilegeError as error:
        raise PenstockError(
            f"this user may not make the roles ({error}): run `penstock roles | psql` as one who may,"
            " or give it CREATEROLE"
        ) from None
    typer.echo("The roles of ingress, worker, relay and console may do what their processes need.")
