"""``penstock handovers replay`` and ``discard``: rows change in ``shared.store.handovers``; here is what is told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any

import typer

from ops.cli import choices
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.resuming import given_reason, require_one_way, require_order, resumable, tell
from ops.cli.store import found, reading_store, writing_store
from ops.operator import operator
from penstock.handlers import registered
from penstock.loading import load
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.settings import Settings
from shared.store.handovers import discarding, replaying
from shared.store.handovers.selecting import BEGINNING, Place, Selection, refuse_missing
from shared.store.pacing import Pace, pace_of
from shared.store.reading.connecting import reading
from shared.store.reading.handlers import handler_standings


Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="The hand-overs; or use the filters.")]
Changes = Annotated[list[int] | None, typer.Option("--change", metavar="SEQ", help="Those of this change; repeatable.")]

_NOUNS = ("hand-over", "hand-overs")


def replay(
    ids: Ids = None,
    changes: Changes = None,
    handler: choices.Handler = None,
    state: choices.HandedOver = None,
    provider: choices.Provider = None,
    kind: choices.Kind = None,
    error: choices.Error = None,
    since: choices.SinceTyped = None,
    until: choices.UntilTyped = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent again.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept with each hand-over.")] = "",
    rate: choices.Rate = None,
    as_json: choices.Json = False,
) -> None:
    """Send stored changes again, under the ids that they always had: parked ones go on, delivered ones come once more.

    Of a record the order is kept. A receiver that uses the id has no effect twice. --since and --until are about when
    the change happened. Discarded ones only by id, or with --state discarded. Broken off, the same command goes on
    where it stopped; `penstock replays list` shows who replayed what. Exit status 1 if something named is unknown
    (then nothing is sent) or could not be sent again.
    """
    selection = _selection(ids, changes, handler, state, provider, kind, error, since, until)
    outcomes, handlers = asyncio.run(
        _replay(selection, (since, until), reason, pace_of(rate), dry_run=dry_run, as_json=as_json)
    )
    tell(outcomes, replaying.EXPLANATIONS, _NOUNS, replaying.DONE if dry_run else ())
    if handlers:
        asyncio.run(_tell_of_handlers(found(), handlers, dry_run=dry_run))
    if (ids or changes) and outcomes.keys() - replaying.DONE:
        raise typer.Exit(1)


def discard(
    reason: Annotated[str, typer.Option(help="Why; it is kept with each hand-over.", callback=given_reason)],
    ids: Ids = None,
    changes: Changes = None,
    handler: choices.Handler = None,
    state: Annotated[
        choices.HandoverState | None, typer.Option("--state", help="Only in this state. [parked, unless named by id]")
    ] = None,
    provider: choices.Provider = None,
    kind: choices.Kind = None,
    error: choices.Error = None,
    since: choices.SinceTyped = None,
    until: choices.UntilTyped = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be discarded.")] = False,
    rate: choices.Rate = None,
    as_json: choices.Json = False,
) -> None:
    """Say that a handler does not get these changes: the next change of the same record goes on.

    What was handed over, or is at this moment, is left alone. Exit status 1 if something named is unknown (then nothing
    is discarded) or could not be discarded.
    """
    selection = _selection(ids, changes, handler, state, provider, kind, error, since, until)
    if not (ids or changes or state):
        selection = selection._replace(state="parked")
    outcomes = asyncio.run(_discard(selection, reason, pace_of(rate), dry_run=dry_run, as_json=as_json))
    tell(outcomes, discarding.EXPLANATIONS, _NOUNS, discarding.DONE if dry_run else ())
    if (ids or changes) and outcomes.keys() - discarding.DONE:
        raise typer.Exit(1)


def _selection(
    ids: Sequence[int] | None,
    changes: Sequence[int] | None,
    handler: str | None,
    state: str | None,
    provider: str | None,
    kind: str | None,
    error: str | None,
    since: choices.Typed | None,
    until: choices.Typed | None,
) -> Selection:
    require_one_way(ids, any((changes, handler, state, provider, kind, error, since, until)))
    require_order(since, until)
    return Selection(
        tuple(dict.fromkeys(ids or ())),
        tuple(dict.fromkeys(changes or ())),
        handler,
        state,
        provider,
        kind,
        error,
        choices.at_of(since),
        choices.at_of(until),
    )


async def _replay(
    selection: Selection,
    times: tuple[choices.Typed | None, choices.Typed | None],
    reason: str,
    pace: Pace,
    *,
    dry_run: bool,
    as_json: bool,
) -> tuple[Counter[replaying.Outcome], Counter[str]]:
    asked = {name: value for name, value in selection._asdict().items() if name not in {"since", "until"}}
    handlers: Counter[str] = Counter()
    async with writing_store(found()) as connection:
        meant = await refuse_missing(connection, selection)
        listed = dry_run or bool(meant.ids)
        if dry_run:
            batches = replaying.replay(connection, meant, note="", dry_run=True)
            return await _follow(batches, replaying.EXPLANATIONS, handlers, listed=listed, as_json=as_json), handlers
        async with resumable(connection, "handovers", asked, times, reason) as run:
            batches = replaying.replay(
                connection,
                meant._replace(since=run.since, until=run.until),
                note=run.note,
                place=Place(*run.position) if run.position else BEGINNING,
                replay_id=run.id,
                pace=pace,
            )
            return await _follow(batches, replaying.EXPLANATIONS, handlers, listed=listed, as_json=as_json), handlers


async def _discard(
    selection: Selection, reason: str, pace: Pace, *, dry_run: bool, as_json: bool
) -> Counter[discarding.Outcome]:
    async with writing_store(found()) as connection:
        meant = await refuse_missing(connection, selection)
        batches = discarding.discard(connection, meant, note=f"{reason} (by {operator()})", dry_run=dry_run, pace=pace)
        listed = dry_run or bool(meant.ids)
        return await _follow(batches, discarding.EXPLANATIONS, Counter(), listed=listed, as_json=as_json)


async def _follow(
    batches: AsyncIterator[Sequence[Any]],
    explanations: Mapping[Any, str],
    handlers: Counter[str],
    *,
    listed: bool,
    as_json: bool,
) -> Counter[Any]:
    columns = (
        Column("id", lambda handover: handover.id),
        Column("handler", lambda handover: handover.handler),
        Column("seq", lambda handover: handover.seq, figure=True),
        Column("state", lambda handover: handover.state),
        Column("what", lambda handover: explanations[handover.outcome]),
    )
    outcomes: Counter[Any] = Counter()
    async for batch in batches:
        outcomes.update(handover.outcome for handover in batch)
        handlers.update(handover.handler for handover in batch if handover.outcome in replaying.DONE)
        if as_json:
            print_json([handover._asdict() for handover in batch])
        elif listed:
            print_table(batch, columns)
    return outcomes


@cache
def _functions() -> frozenset[str]:
    """The handlers of installed packages."""
    load()
    return frozenset(registered())


async def _tell_of_handlers(settings: Settings, handlers: Counter[str], *, dry_run: bool) -> None:
    """How long a handler's own budget takes, and why one gets nothing at present."""
    async with reading_store(settings) as engine, reading(engine) as connection:
        standings = {standing.name: standing for standing in await handler_standings(connection)}
    try:
        by_http = {handler.name: handler for handler in read_configuration(settings.config).handlers}
    except SettingsError:
        by_http = {}
    for name, number in sorted(handlers.items()):
        standing, handler = standings[name], by_http.get(name)
        if not handler and name not in _functions():
            note(f"{name} is neither in the settings nor in an installed package: they wait until it is back.")
        if standing.stopped_reason:
            note(f"{name} is stopped ({standing.stopped_reason}): they wait for `penstock handlers resume {name}`.")
        elif standing.open_until:
            note(f"{name} failed {standing.failures} times in a row: it gets one at a time until one goes through.")
        if dry_run and handler and handler.budget and handler.budget.calls:
            seconds = number * handler.budget.seconds / handler.budget.calls
            note(f"{name}: {number:,} messages take {seconds:,.0f} s or more in its budget.")
