"""``penstock handovers replay`` and ``discard``: rows change in ``shared.store.handovers``; here is what is told."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ops.cli import choices, selecting
from ops.cli.following import changes_told, follow, handovers_told, tell
from ops.cli.output import note
from ops.cli.resuming import given_reason, resumable
from ops.cli.store import found, reading_store, writing_store
from ops.operator import operator
from ops.subscribed import subscription_of, wanted_by
from shared.settings import Settings
from shared.store.handovers import backfilling, discarding, replaying
from shared.store.handovers.finding import places_of
from shared.store.handovers.selecting import BEGINNING, Place, Selection, refuse_missing
from shared.store.pacing import Pace, pace_of
from shared.store.postgres import Connection
from shared.store.reading.connecting import reading
from shared.store.reading.handlers import handler_standings


Times = tuple[choices.Typed | None, choices.Typed | None]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="The hand-overs; or use the filters.")]

_REPLAYED = handovers_told(replaying.EXPLANATIONS)
_DISCARDED = handovers_told(discarding.EXPLANATIONS)
_BACKFILLED = changes_told(backfilling.EXPLANATIONS)


def replay(
    ids: Ids = None,
    changes: choices.Changes = None,
    handler: choices.Handler = None,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing",
            help="Those that --handler never got: of changes from before it began, or of kinds that it wants only now.",
        ),
    ] = False,
    state: choices.HandedOver = None,
    provider: choices.Provider = None,
    kind: choices.Kind = None,
    error: choices.Error = None,
    since: choices.SinceTyped = None,
    until: choices.UntilTyped = None,
    after: Annotated[
        int | None, typer.Option(min=0, metavar="SEQ", help="Only of changes behind this place in the feed.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept with each hand-over.")] = "",
    rate: choices.Rate = None,
    as_json: choices.Json = False,
) -> None:
    """Send stored changes again, under the ids that they always had: parked ones go on, delivered ones come once more.

    Of a record the order is kept. A receiver that uses the id has no effect twice. --since and --until are about when
    the change happened. Discarded ones only by id, of a --change, or with --state discarded. With --missing, what the
    handler has or had is left alone, and it gets what it never had. Broken off, the same command goes on
    where it stopped; `penstock replays list` shows who replayed what. Exit status 1 if something named is unknown
    (then nothing is sent) or could not be sent again.
    """
    if missing and (ids or state or error or not handler):
        raise typer.BadParameter("--missing takes --handler, and not ids, --state or --error: there are none yet")
    selection = selecting.handovers(
        ids,
        named=changes,
        handler=handler,
        state=state,
        provider=provider,
        kind=kind,
        error=error,
        since=since,
        until=until,
        after=after,
    )
    work = _Work(selection, changes or (), pace_of(rate), dry_run=dry_run, as_json=as_json)
    if missing:
        _backfill(work, (since, until), reason)
    else:
        _replay(work, (since, until), reason)


def discard(
    reason: Annotated[str, typer.Option(help="Why; it is kept with each hand-over.", callback=given_reason)],
    ids: Ids = None,
    changes: choices.Changes = None,
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
    selection = selecting.handovers(
        ids,
        named=changes,
        handler=handler,
        state=state,
        provider=provider,
        kind=kind,
        error=error,
        since=since,
        until=until,
    )
    if not (ids or changes or state):
        selection = selection._replace(state="parked")
    work = _Work(selection, changes or (), pace_of(rate), dry_run=dry_run, as_json=as_json)
    outcomes = asyncio.run(_discarded(work, f"{reason} (by {operator()})"))
    tell(outcomes, _DISCARDED, discarding.DONE if dry_run else ())
    if work.named and outcomes.keys() - discarding.DONE:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Work:
    """What is meant and how it is gone about; ``names`` are changes as they were typed."""

    selection: Selection
    names: Sequence[str]
    pace: Pace
    dry_run: bool
    as_json: bool

    @property
    def named(self) -> bool:
        """Whether each one is meant, so that it matters if one of them cannot be done."""
        return bool(self.selection.ids or self.names)

    async def meant(self, connection: Connection) -> Selection:
        """The selection with its changes looked up. Raises ChangeMissing."""
        return self.selection._replace(changes=await places_of(connection, self.names))

    def asked(self, **more: object) -> Mapping[str, Any]:
        """What was typed, but for the times."""
        typed = {name: value for name, value in self.selection._asdict().items() if name not in {"since", "until"}}
        return {**typed, "changes": self.names, **more}


def _replay(work: _Work, times: Times, reason: str) -> None:
    handlers: Counter[str] = Counter()
    outcomes = asyncio.run(_replayed(work, times, reason, handlers))
    tell(outcomes, _REPLAYED, replaying.DONE if work.dry_run else ())
    if handlers:
        asyncio.run(_tell_of_handlers(found(), handlers, dry_run=work.dry_run))
    if work.named and outcomes.keys() - replaying.DONE:
        raise typer.Exit(1)


async def _replayed(work: _Work, times: Times, reason: str, handlers: Counter[str]) -> Counter[Any]:
    def seen(handover: replaying.Replay) -> None:
        if handover.outcome in replaying.DONE:
            handlers[handover.handler] += 1

    async with writing_store(found()) as connection:
        meant = await refuse_missing(connection, await work.meant(connection))
        if work.dry_run:
            batches = replaying.replay(connection, meant, note="", dry_run=True)
            return await follow(batches, _REPLAYED, listed=True, as_json=work.as_json, seen=seen)
        async with resumable(connection, "handovers", work.asked(), times, reason) as run:
            batches = replaying.replay(
                connection,
                meant._replace(since=run.since, until=run.until),
                note=run.note,
                place=Place(*run.position) if run.position else BEGINNING,
                replay_id=run.id,
                pace=work.pace,
            )
            return await follow(batches, _REPLAYED, listed=bool(meant.ids), as_json=work.as_json, seen=seen)


def _backfill(work: _Work, times: Times, reason: str) -> None:
    settings = found()
    outcomes = asyncio.run(_backfilled(work, times, reason, settings))
    handler = work.selection.handler or ""
    if not outcomes:
        note(f"There is no such change that {handler} wants and never had.")
        raise typer.Exit(1 if work.named else 0)
    tell(outcomes, _BACKFILLED)
    asyncio.run(_tell_of_handlers(settings, Counter({handler: outcomes.total()}), dry_run=work.dry_run))


async def _backfilled(work: _Work, times: Times, reason: str, settings: Settings) -> Counter[Any]:
    subscription = subscription_of(settings, work.selection.handler or "")
    async with writing_store(settings) as connection:
        meant = await work.meant(connection)
        await refuse_missing(connection, meant._replace(changes=()))
        if work.dry_run:
            batches = backfilling.backfill(connection, subscription, meant, note="", dry_run=True)
            return await follow(batches, _BACKFILLED, listed=True, as_json=work.as_json)
        async with resumable(connection, "handovers", work.asked(missing=True), times, reason) as run:
            batches = backfilling.backfill(
                connection,
                subscription,
                meant._replace(since=run.since, until=run.until),
                note=run.note,
                place=Place(*run.position).seq if run.position else 0,
                replay_id=run.id,
                pace=work.pace,
            )
            return await follow(batches, _BACKFILLED, listed=bool(meant.changes), as_json=work.as_json)


async def _discarded(work: _Work, note_of_it: str) -> Counter[Any]:
    async with writing_store(found()) as connection:
        meant = await refuse_missing(connection, await work.meant(connection))
        batches = discarding.discard(connection, meant, note=note_of_it, dry_run=work.dry_run, pace=work.pace)
        return await follow(batches, _DISCARDED, listed=work.dry_run or bool(meant.ids), as_json=work.as_json)


async def _tell_of_handlers(settings: Settings, handlers: Counter[str], *, dry_run: bool) -> None:
    """How long a handler's own budget takes, and why one gets nothing at present."""
    async with reading_store(settings) as engine, reading(engine) as connection:
        standings = {standing.name: standing for standing in await handler_standings(connection)}
    for name, number in sorted(handlers.items()):
        standing, wanted = standings[name], wanted_by(settings, name)
        if not wanted:
            note(f"{name} is neither in the settings nor in an installed package: they wait until it is back.")
        if standing.stopped_reason:
            note(f"{name} is stopped ({standing.stopped_reason}): they wait for `penstock handlers resume {name}`.")
        elif standing.open_until:
            note(f"{name} failed {standing.failures} times in a row: it gets one at a time until one goes through.")
        if dry_run and wanted and wanted.calls:
            seconds = number * wanted.seconds / wanted.calls
            note(f"{name}: {number:,} messages take {seconds:,.0f} s or more in its budget.")
