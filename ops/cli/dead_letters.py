"""``penstock events failed`` and ``discard``: what waits for a person, and what nobody wants any more."""

import asyncio
from collections import Counter
from typing import Annotated
from uuid import UUID

import typer
from msgspec import structs

from ops import advice
from ops.cli import choices, selecting
from ops.cli.following import events_told, follow, tell
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.resuming import given_reason
from ops.cli.store import found, reading_store, writing_store
from ops.operator import operator
from shared.store import discarding
from shared.store.discarding import DONE, EXPLANATIONS
from shared.store.pacing import Pace, pace_of
from shared.store.reading.connecting import reading
from shared.store.reading.dead_letters import dead_letters
from shared.store.selecting import Selection, refuse_missing


_GROUPS = (
    Column("provider", lambda group: group.provider),
    Column("reason", lambda group: group.reason or None),
    Column("events", lambda group: group.count, figure=True),
    Column("oldest", lambda group: group.oldest),
    Column("newest", lambda group: group.newest),
    Column("what to do", lambda group: advice.about_event(group.reason)),
)
_TOLD = events_told(EXPLANATIONS)


def failed(provider: choices.Provider = None, as_json: choices.Json = False) -> None:
    """Count the events that are parked or failed, by provider and reason, and say what to do about each.

    `penstock events list --error REASON` shows them one by one; `replay` and `discard` take the same filter.
    """

    async def run() -> None:
        async with reading_store(found()) as engine, reading(engine) as connection:
            groups = await dead_letters(connection, provider)
        if as_json:
            print_json([{**structs.asdict(group), "advice": advice.about_event(group.reason)} for group in groups])
        elif groups:
            print_table(groups, _GROUPS)
        if not groups:
            note("No event is parked or failed.")

    asyncio.run(run())


def discard(
    reason: Annotated[
        str, typer.Option(help="Why; it is kept with the event, and with who did it.", callback=given_reason)
    ],
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...", help="The events; or use the filters.")] = None,
    state: choices.DeadState = None,
    provider: choices.Provider = None,
    account: choices.Account = None,
    kind: choices.EventType = None,
    error: choices.Error = None,
    since: choices.SinceTyped = None,
    until: choices.UntilTyped = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be discarded.")] = False,
    rate: choices.Rate = None,
    as_json: choices.Json = False,
) -> None:
    """Discard parked and failed events that nobody wants any more: no list shows them unless it is asked for.

    Nothing is deleted: the body stays as long as that of any other event, and a replay by its id takes it up again.
    Exit status 1 if an id is unknown (then nothing is discarded) or is neither parked nor failed.
    """
    selection = selecting.events(
        ids, state=state, provider=provider, account=account, kind=kind, error=error, since=since, until=until
    )
    outcomes = asyncio.run(_discard(selection, reason, pace_of(rate), dry_run=dry_run, as_json=as_json))
    tell(outcomes, _TOLD, DONE if dry_run else ())
    if ids and outcomes.keys() - DONE:
        raise typer.Exit(1)


async def _discard(
    selection: Selection, reason: str, pace: Pace, *, dry_run: bool, as_json: bool
) -> Counter[discarding.Outcome]:
    outcomes: Counter[discarding.Outcome] = Counter()
    async with writing_store(found()) as connection:
        await refuse_missing(connection, selection.ids)
        # Filters are about dead letters alone, and those have an index.
        states = (selection.state,) if selection.ids or selection.state else sorted(discarding.DEAD)
        for state in states:
            batches = discarding.discard(
                connection,
                selection._replace(state=state),
                reason=reason,
                who=operator(),
                dry_run=dry_run,
                pace=pace,
            )
            listed = dry_run or bool(selection.ids)
            outcomes += await follow(batches, _TOLD, listed=listed, as_json=as_json)
    return outcomes
