"""``penstock changes``: the change feed."""

import asyncio
from typing import Annotated

import typer
from msgspec import structs

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import found, reading_store, writing_store
from shared.store.reading.changes import changes_after, found_change, newest_changes
from shared.store.reading.connecting import reading
from shared.store.reading.handovers import Filters, list_handovers
from shared.store.reading.shapes import Change, Handover
from shared.store.records.numbering import number_changes


app = typer.Typer(add_completion=False, no_args_is_help=True)

_POLL_SECONDS = 0.5
_ROUND = 10_000
_SHOWN_BY_DEFAULT = 50

_COLUMNS = (
    Column("seq", lambda change: change.seq, figure=True),
    Column("at", lambda change: change.at),
    Column("op", lambda change: change.op),
    Column("kind", lambda change: change.kind),
    Column("account", lambda change: change.account),
    Column("id", lambda change: change.external_id),
    Column("changed", lambda change: change.changed),
    Column("event", lambda change: change.event_id),
    Column("change", lambda change: change.id),
)
_HANDED_OVER = (
    Column("hand-over", lambda handover: handover.id),
    Column("handler", lambda handover: handover.handler),
    Column("state", lambda handover: handover.state),
    Column("attempts", lambda handover: handover.attempts, figure=True),
    Column("next attempt", lambda handover: handover.next_attempt_at),
    Column("finished", lambda handover: handover.finished_at),
    Column("error", lambda handover: handover.error and f"{handover.error.reason}: {handover.error.detail}"),
)


@app.callback()
def changes() -> None:
    """The change feed: one entry each time a record was created, updated or deleted."""


@app.command(epilog=examples("penstock changes tail --follow", "penstock changes tail --after 41200 --json"))
def tail(
    after: Annotated[int | None, typer.Option(min=0, help="Begin behind this seq; 0 is the beginning.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="At most so many; 0 is all. [the last 50, or all that follow --after]")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    as_json: choices.Json = False,
) -> None:
    """Print changes in the order of seq: the last ones, or those behind --after. A reader may go on from any seq."""
    asyncio.run(_tail(after, limit=limit, follow=follow, as_json=as_json))


@app.command(
    epilog=examples("penstock changes show chg_5e0c6a1f0b7d4c3e9a8b7c6d5e4f3a2b", "penstock changes show 349 --json")
)
def show(
    named: Annotated[
        str,
        typer.Argument(
            metavar="SEQ|ID",
            parser=choices.change_name,
            help="The change: its place in the feed, or its id, which a receiver gets as webhook-id.",
        ),
    ],
    as_json: choices.Json = False,
) -> None:
    """Show one change, and what became of it at each handler."""

    async def run() -> tuple[Change, list[Handover]]:
        async with reading_store(found()) as engine, reading(engine) as connection:
            change = await found_change(connection, named)
            batches = list_handovers(connection, Filters(change=change.seq), limit=0)
            return change, [handover async for batch in batches for handover in batch]

    change, handovers = asyncio.run(run())
    if as_json:
        print_json([{**structs.asdict(change), "handovers": [structs.asdict(each) for each in handovers]}])
        return
    print_table([change], _COLUMNS)
    if handovers:
        print_table(handovers, _HANDED_OVER)
    else:
        note("It was handed over to nobody: no handler wants it, or none has come to it yet.")


async def _tail(after: int | None, *, limit: int | None, follow: bool, as_json: bool) -> None:
    settings = found()
    last = after or 0
    printed = 0
    async with writing_store(settings) as numbering, reading_store(settings) as engine:
        while True:
            while await number_changes(numbering, _ROUND) == _ROUND:
                pass
            async with reading(engine) as connection:
                batches = (
                    newest_changes(connection, limit=_SHOWN_BY_DEFAULT if limit is None else limit)
                    if after is None and not printed and last == 0
                    else changes_after(connection, last, limit=(limit or 0) if not printed else 0)
                )
                async for batch in batches:
                    if as_json:
                        print_json(batch)
                    else:
                        print_table(batch, _COLUMNS)
                    printed += len(batch)
                    last = batch[-1].seq
            if not follow:
                break
            await asyncio.sleep(_POLL_SECONDS)
    if not printed:
        note("There is no such change.")
