"""``penstock handlers``: who is told of changes."""

import asyncio
import sys
from typing import Annotated

import msgspec
import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table, write
from ops.cli.store import found, reading_store, writing_store
from ops.subscribed import wanted_by
from penstock.records import KINDS, schema
from shared.configuration import read_configuration
from shared.errors import PenstockError
from shared.store.handovers import forgetting
from shared.store.handovers import handlers as stored
from shared.store.reading.connecting import reading
from shared.store.reading.handlers import handler_standings


app = typer.Typer(add_completion=False, no_args_is_help=True)

_COLUMNS = (
    Column("name", lambda handler: handler.name),
    Column("behind", lambda handler: handler.behind, figure=True),
    Column("pending", lambda handler: handler.pending, figure=True),
    Column("running", lambda handler: handler.running, figure=True),
    Column("waiting", lambda handler: handler.waiting, figure=True),
    Column("parked", lambda handler: handler.parked, figure=True),
    Column("failures", lambda handler: handler.failures, figure=True),
    Column("stopped", lambda handler: handler.stopped_reason),
)


@app.callback()
def handlers() -> None:
    """Handlers: the functions and URLs that changes are handed to."""


@app.command("list", epilog=examples("penstock handlers list", "penstock handlers list --json"))
def list_handlers(as_json: choices.Json = False) -> None:
    """List every handler that was ever known: how far behind the feed it is, and what waits for it."""

    async def run() -> None:
        async with reading_store(found()) as engine, reading(engine) as connection:
            rows = await handler_standings(connection)
        if as_json:
            print_json(rows)
        elif rows:
            print_table(rows, _COLUMNS)
        if not rows:
            note("There is no handler.")

    asyncio.run(run())


@app.command(epilog=examples("penstock handlers resume crm"))
def resume(name: Annotated[str, typer.Argument(help="The handler.")]) -> None:
    """Let a handler go on at once that was stopped, or that is only tried now and then because it kept failing."""

    async def run() -> bool:
        async with writing_store(found()) as connection:
            return await stored.resume(connection, name)

    if not asyncio.run(run()):
        raise _unknown(name)
    note(f"{name} goes on.")


@app.command(epilog=examples("penstock handlers forget crm", "penstock handlers forget crm --yes"))
def forget(
    name: Annotated[str, typer.Argument(help="The handler.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a handler that will not come back: its place in the feed, and all that waits for it.

    Until then its changes are kept for it, whatever [retention] says. One that is in the settings or in an installed
    package is refused; one that comes back later under this name begins anew.
    """
    settings = found()
    read_configuration(settings.config)  # while it is wrong nobody knows who is in it
    if wanted_by(settings, name):
        raise PenstockError(f"{name} is in the settings or in an installed package: take it out first")
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody is there to be asked: add --yes", param_hint="--yes")
        typer.confirm(f"Forget {name}, and all that waits for it?", abort=True)

    async def run() -> int | None:
        async with writing_store(settings) as connection:
            return await forgetting.forget(connection, name)

    gone = asyncio.run(run())
    if gone is None:
        raise _unknown(name)
    note(f"{name} is forgotten, with {gone:,} hand-overs.")


@app.command("schema", epilog=examples("penstock handlers schema magicline.customer", "penstock handlers schema"))
def print_schema(
    kind: Annotated[str | None, typer.Argument(help="A record kind; all of them unless given.")] = None,
) -> None:
    """Print the JSON Schema of a kind's records, or of all kinds by name."""
    if kind is not None and kind not in KINDS:
        raise PenstockError(f"there is no record kind {kind}; known are {', '.join(KINDS)}")
    shown = {each: schema(each) for each in KINDS} if kind is None else schema(kind)
    write(msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n")


def _unknown(name: str) -> PenstockError:
    return PenstockError(f"there is no handler {name}; `penstock handlers list` names those that there are")
