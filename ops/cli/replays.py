"""``penstock replays``: who replayed what."""

import asyncio
from typing import Annotated, Any

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import found, reading_store
from shared.store.reading.connecting import reading
from shared.store.reading.replays import list_replays


app = typer.Typer(add_completion=False, no_args_is_help=True)

_COLUMNS = (
    Column("id", lambda replay: replay.id),
    Column("of", lambda replay: replay.what),
    Column("asked for", lambda replay: _said(replay.asked)),
    Column("why", lambda replay: replay.reason or None),
    Column("who", lambda replay: replay.who),
    Column("began", lambda replay: replay.began_at),
    Column("finished", lambda replay: replay.finished_at),
    Column("what became of them", lambda replay: _said(replay.counts)),
)


@app.callback()
def replays() -> None:
    """Replays of events and of hand-overs: who, when, why, which."""


@app.command("list", epilog=examples("penstock replays list", "penstock replays list --unfinished --json"))
def list_(
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that run, or were broken off.")] = False,
    limit: choices.Limit = 50,
    as_json: choices.Json = False,
) -> None:
    """List replays, newest first. One that was broken off goes on when the same command is typed within a day."""

    async def run() -> None:
        async with reading_store(found()) as engine, reading(engine) as connection:
            rows = await list_replays(connection, unfinished=unfinished, limit=limit)
        if as_json:
            print_json(rows)
        elif rows:
            print_table(rows, _COLUMNS)
        if not rows:
            note("There is no such replay.")

    asyncio.run(run())


def _said(values: dict[str, Any]) -> str | None:
    """``state parked, since 2h``; of many ids their number."""
    said = (f"{name} {_short(value)}" for name, value in values.items())
    return ", ".join(said) or None


def _short(value: object) -> str:
    if not isinstance(value, list):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(map(str, value)) if len(value) <= 3 else f"({len(value):,} of them)"  # noqa: PLR2004 - as fits a line
