"""``penstock roles``: what each process may do in the database."""

import re
from typing import Annotated

import typer

from ops.cli.examples import examples
from shared.store.roles import PREFIX, sql


app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples("penstock roles", "penstock roles | psql DATABASE_URL", "penstock roles --prefix staging_")
)
def roles(
    prefix: Annotated[
        str, typer.Option(help="What the roles' names begin with; another for each installation of one server.")
    ] = PREFIX,
) -> None:
    """Print the SQL that makes a database role for ingress, worker, relay and console, with what each needs.

    To be run by the tables' owner after each `penstock migrate`; `penstock migrate --roles` does both at once. The
    roles have no password yet: set one with `ALTER ROLE ... PASSWORD`, and give each process its own
    PENSTOCK_DATABASE_URL.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,40}", prefix):
        raise typer.BadParameter("small letters, digits and _ only", param_hint="--prefix")
    typer.echo(sql(prefix), nl=False)
