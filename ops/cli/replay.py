"""``penstock events replay``: the rows change in ``shared.store.replaying``; here is what an operator sees of it."""

import asyncio
import getpass
import sys
from collections import Counter
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.cli import choices
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import found, writing_store
from shared.store import replaying
from shared.store.replaying import DONE, EXPLANATIONS, Selection


_COLUMNS = (
    Column("id", lambda event: event.id),
    Column("provider", lambda event: event.provider),
    Column("account", lambda event: event.account),
    Column("state", lambda event: event.state),
    Column("what", lambda event: EXPLANATIONS[event.outcome]),
)


def replay(
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...", help="The events; or use the filters.")] = None,
    state: choices.State = None,
    provider: choices.Provider = None,
    since: choices.Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be replayed.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it goes into each event's timeline.")] = "",
    as_json: choices.Json = False,
) -> None:
    """Replay events: plan them again from their kept bodies. Waiting ones make their calls at once.

    With ids those events, with filters every event that they let through. Done events are replayed too when they are
    selected. Exit status 1 if an id is unknown (then nothing is replayed) or could not be replayed.
    """
    if not ids and not (state or provider or since):
        raise typer.BadParameter("name events by id, or select them by --state, --provider or --since")
    if ids and (state or provider or since):
        raise typer.BadParameter("name events by id or select them by filters, not both")
    selection = Selection(tuple(ids or ()), provider, state, since)
    outcomes = asyncio.run(_replay(selection, dry_run=dry_run, reason=reason, as_json=as_json))
    for outcome, number in outcomes.items():
        if not dry_run or outcome not in DONE:
            note(f"{number:,} {'event' if number == 1 else 'events'}: {EXPLANATIONS[outcome]}")
    if not outcomes:
        note("There is no such event.")
    if ids and outcomes.keys() - DONE:
        raise typer.Exit(1)


async def _replay(selection: Selection, *, dry_run: bool, reason: str, as_json: bool) -> Counter[replaying.Outcome]:
    outcomes: Counter[replaying.Outcome] = Counter()
    async with writing_store(found()) as connection:
        total = await replaying.count(connection, selection)
        with _progress() as progress:
            task = progress.add_task("replaying", total=total, visible=not dry_run)
            batches = replaying.replay(
                connection, selection, note=f"{reason or 'no reason given'} (by {getpass.getuser()})", dry_run=dry_run
            )
            async for batch in batches:
                outcomes.update(event.outcome for event in batch)
                progress.update(task, advance=len(batch))
                if as_json:
                    print_json([event._asdict() for event in batch])
                elif dry_run or selection.ids:
                    print_table(batch, _COLUMNS)
    return outcomes


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
