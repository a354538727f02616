"""``penstock console``."""

import getpass
import sys

import typer

from ops.cli.examples import examples
from ops.installation import find
from shared import strangers
from shared.logs import set_up_logs
from shared.settings import Settings


app = typer.Typer(add_completion=False)


@app.callback(
    invoke_without_command=True, epilog=examples("penstock console", "PENSTOCK_CONSOLE_PORT=9000 penstock console")
)
def console(context: typer.Context) -> None:
    """Serve the console, for a browser, on PENSTOCK_CONSOLE_PORT.

    Users are the console.users of penstock.toml, each with a name, a role (viewer or operator) and a password_hash;
    PENSTOCK_CONSOLE_PASSWORD alone lets in one operator, penstock. Without either it serves this machine alone.
    """
    if context.invoked_subcommand is not None:
        return
    from ops.console.app import serve  # noqa: PLC0415 - hashing a password needs no server

    settings = find(Settings.read())
    set_up_logs(settings.log_level, settings.log_format)
    strangers.tell()
    serve(settings)


@app.command("hash-password", epilog=examples("penstock console hash-password"))
def hash_password() -> None:
    """Ask for a password and print its hash, for the password_hash of a user in penstock.toml."""
    from ops.console.passwords import hash_of  # noqa: PLC0415 - serving asks for no password

    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise typer.BadParameter("the two differ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise typer.BadParameter("an empty password would let anybody in")
    typer.echo(hash_of(password))
