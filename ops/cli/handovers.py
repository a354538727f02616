"""``penstock handovers``: each change on its way to each handler."""

import asyncio
from typing import Annotated

import typer
from msgspec import structs

from ops import advice
from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, cell, paper, print_json, print_rows
from ops.cli.send_again import discard, replay
from ops.cli.store import found, reading_store
from shared.errors import PenstockError
from shared.store.reading.changes import found_change
from shared.store.reading.connecting import reading
from shared.store.reading.handovers import Filters, list_handovers, show_handover
from shared.store.reading.shapes import Handover


app = typer.Typer(add_completion=False, no_args_is_help=True)

_COLUMNS = (
    Column("id", lambda handover: handover.id),
    Column("handler", lambda handover: handover.handler),
    Column("state", lambda handover: handover.state),
    Column("seq", lambda handover: handover.seq, figure=True),
    Column("change", lambda handover: handover.change),
    Column("op", lambda handover: handover.op),
    Column("kind", lambda handover: handover.kind),
    Column("of", lambda handover: handover.external_id),
    Column("attempts", lambda handover: handover.attempts, figure=True),
    Column("next attempt", lambda handover: handover.next_attempt_at),
    Column("error", lambda handover: handover.error and handover.error.reason),
)


@app.callback()
def handovers() -> None:
    """List, show, replay and discard hand-overs: each is one change for one handler."""


@app.command(
    "list",
    epilog=examples(
        "penstock handovers list --state parked",
        "penstock handovers list --handler crm --since 2h --limit 0 --json",
        "penstock handovers list --change chg_5e0c6a1f0b7d4c3e9a8b7c6d5e4f3a2b",
    ),
)
def list_(
    handler: choices.Handler = None,
    state: choices.HandedOver = None,
    provider: choices.Provider = None,
    kind: choices.Kind = None,
    error: choices.Error = None,
    since: choices.Since = None,
    change: choices.ChangeName = None,
    limit: choices.Limit = 50,
    as_json: choices.Json = False,
) -> None:
    """List hand-overs, the newest change first; discarded ones only with --state discarded, or of one change.

    --change takes the id that the receiver of a message has, too. --since is about when the change happened. A change
    has a hand-over once its handler has come to that place in the feed: `penstock handlers list` says how far
    behind it is.
    """

    async def run() -> None:
        async with reading_store(found()) as engine, reading(engine) as connection:
            seq = None if change is None else (await found_change(connection, change)).seq
            filters = Filters(handler, state, provider, kind, error, since, seq)
            batches = list_handovers(connection, filters, limit=limit)
            await print_rows(batches, _COLUMNS, as_json=as_json, none="There is no such hand-over.")

    asyncio.run(run())


@app.command(epilog=examples("penstock handovers show 4711"))
def show(
    handover_id: Annotated[int, typer.Argument(metavar="ID", help="The hand-over.")], as_json: choices.Json = False
) -> None:
    """Show one hand-over, and say what to do about it."""

    async def run() -> Handover | None:
        async with reading_store(found()) as engine, reading(engine) as connection:
            return await show_handover(connection, handover_id)

    handover = asyncio.run(run())
    if handover is None:
        raise PenstockError(f"there is no hand-over {handover_id}")
    reason = handover.error.reason if handover.error else None
    sentence = advice.about_handover(handover.state, reason, handover.handler)
    if as_json:
        print_json([{**structs.asdict(handover), "advice": sentence}])
    else:
        _print(handover, sentence)


def _print(handover: Handover, sentence: str) -> None:
    error = handover.error
    facts = (
        ("hand-over", handover.id),
        ("handler", handover.handler),
        ("state", handover.state),
        ("change", f"{handover.change} (seq {handover.seq})" if handover.change else "not kept any more"),
        ("record", handover.op and f"{handover.kind} {handover.external_id} ({handover.op}, {handover.account})"),
        ("event", handover.event_id),
        ("changed", handover.changed_at),
        ("attempts", handover.attempts),
        ("status", handover.status),
        ("next attempt", handover.next_attempt_at),
        ("finished", handover.finished_at),
        ("error", error and f"{error.reason}: {error.detail}"),
        ("operator", handover.note),
        ("what to do", sentence),
    )
    page = paper()
    for name, value in facts:
        if value is not None:
            page.print(f"{name:<14}", cell(value), sep="")


app.command(
    epilog=examples(
        "penstock handovers replay 4711 --reason 'mapping fixed'",
        "penstock handovers replay --change chg_5e0c6a1f0b7d4c3e9a8b7c6d5e4f3a2b",
        "penstock handovers replay --handler crm --state parked --dry-run",
        "penstock handovers replay --handler crm --since 2026-05-01T10:00Z --until 2026-05-01T11:00Z --rate 20/s",
        "penstock handovers replay --handler crm --missing --kind magicline.contract --since 30d --dry-run",
    )
)(replay)
app.command(
    epilog=examples(
        "penstock handovers discard 4711 --reason 'test customer'",
        "penstock handovers discard --handler crm --state parked --until 7d --reason 'too old to matter'",
    )
)(discard)
