"""``penstock handlers``: who is told of changes."""

import asyncio
from typing import Annotated

import msgspec
import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table, write
from ops.cli.store import found, reading_store, writing_store
from penstock.records import KINDS, schema
from shared.errors import PenstockError
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
        raise PenstockError(f"there is no handler {name}; `penstock handlers list` names those that there are")
    note(f"{name} goes on.")


@app.command("schema", epilog=examples("penstock handlers schema magicline.customer", "penstock handlers schema"))
def print_schema(
    kind: Annotated[str | None, typer.Argument(help="A record kind; all of them unless given.")] = None,
) -> None:
    """Print the JSON Schema of a kind's records, or of all kinds by name."""
    if kind is not None and kind not in KINDS:
        raise PenstockError(f"there is no record kind {kind}; known are {', '.join(KINDS)}")
    shown = {each: schema(each) for each in KINDS} if kind is None else schema(kind)
    write(msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n")
