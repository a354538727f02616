"""``penstock events replay``: the rows change in ``shared.store.replaying``; here is what an operator sees of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Annotated
from uuid import UUID

import typer

from ops.cli import choices, selecting
from ops.cli.following import events_told, follow, tell
from ops.cli.output import moment, note
from ops.cli.resuming import resumable
from ops.cli.store import found, opening_keys, reading_store, writing_store
from ops.forecasts import forecasts_of_replay
from ops.foreseeing import Foresight
from shared.blobs import BlobStore
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.settings import Settings
from shared.store import replaying
from shared.store.pacing import Pace, pace_of
from shared.store.postgres import Connection
from shared.store.reading.connecting import reading
from shared.store.reading.touching import Touched, touched, without_calls
from shared.store.replaying import DONE, EXPLANATIONS, Replay
from shared.store.selecting import Selection, refuse_missing


_TOLD = events_told(EXPLANATIONS)


def replay(
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...", help="The events; or use the filters.")] = None,
    state: choices.State = None,
    provider: choices.Provider = None,
    account: choices.Account = None,
    kind: choices.EventType = None,
    error: choices.Error = None,
    since: choices.SinceTyped = None,
    until: choices.UntilTyped = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be replayed, and how long its calls would take.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; it goes into each event's timeline.")] = "",
    rate: choices.Rate = None,
    as_json: choices.Json = False,
) -> None:
    """Replay events: plan them again from their kept bodies. Waiting ones make their calls at once.

    With ids those events, with filters every event that they let through, done ones as well; discarded ones only by
    their ids. Live deliveries go first. Broken off, the same command goes on where it stopped; `penstock replays list`
    shows who replayed what. Exit status 1 if an id is unknown (then nothing is replayed) or could not be replayed.
    """
    selection = selecting.events(
        ids, state=state, provider=provider, account=account, kind=kind, error=error, since=since, until=until
    )
    run = _Run(selection, (since, until), reason, pace_of(rate), as_json=as_json)
    outcomes = asyncio.run(run.dry() if dry_run else run.replay())
    tell(outcomes, _TOLD, DONE if dry_run else ())
    if ids and outcomes.keys() - DONE:
        raise typer.Exit(1)


class _Run:
    def __init__(
        self,
        selection: Selection,
        times: tuple[choices.Typed | None, choices.Typed | None],
        reason: str,
        pace: Pace,
        *,
        as_json: bool,
    ) -> None:
        self._selection = selection
        self._times = times
        self._reason = reason
        self._pace = pace
        self._as_json = as_json

    async def replay(self) -> Counter[replaying.Outcome]:
        """Do it, and count what became of the events."""
        asked = {name: value for name, value in self._selection._asdict().items() if name not in {"since", "until"}}
        async with writing_store(found()) as connection:
            await refuse_missing(connection, self._selection.ids)
            async with resumable(connection, "events", asked, self._times, self._reason) as run:
                batches = replaying.replay(
                    connection,
                    self._selection._replace(since=run.since, until=run.until),
                    note=run.note,
                    after=UUID(run.position) if run.position else None,
                    replay_id=run.id,
                    pace=self._pace,
                )
                return await follow(batches, _TOLD, listed=bool(self._selection.ids), as_json=self._as_json)

    async def dry(self) -> Counter[replaying.Outcome]:
        """List what would be replayed, and say how long its calls would take."""
        settings = found()
        all_touched = Touched()
        async with writing_store(settings) as connection:
            await refuse_missing(connection, self._selection.ids)
            batches = replaying.replay(connection, self._selection, note="", dry_run=True)
            batches = _noting(connection, batches, all_touched, await _foresight(settings))
            outcomes = await follow(batches, _TOLD, listed=True, as_json=self._as_json)
        await _tell_of_calls(settings, all_touched)
        return outcomes


async def _noting(
    connection: Connection, batches: AsyncIterator[Sequence[Replay]], into: Touched, foresight: Foresight | None
) -> AsyncIterator[Sequence[Replay]]:
    async for batch in batches:
        meant = [event.id for event in batch if event.outcome in DONE]
        into.add(await touched(connection, meant))
        if foresight and (unknown := await without_calls(connection, meant)):
            await foresight.add(connection, unknown, into)
        yield batch


async def _foresight(settings: Settings) -> Foresight | None:
    """None where there are no settings of accounts, or no keys, so that no body can be read."""
    try:
        configuration = read_configuration(settings.config)
        keys = (await opening_keys(settings))()
    except SettingsError:
        return None
    return Foresight(configuration, keys, BlobStore.open(settings.blobs, keys))


async def _tell_of_calls(settings: Settings, all_touched: Touched) -> None:
    async with reading_store(settings) as engine, reading(engine) as connection:
        forecasts = await forecasts_of_replay(connection, settings, all_touched)
    for (provider, account), count in sorted(all_touched.events.items()):
        forecast = forecasts.get((provider, account))
        calls = sum(number for key, number in all_touched.calls.items() if key[:2] == (provider, account))
        said = f"{provider} {account}: {count:,} {'event' if count == 1 else 'events'}, about {calls:,} calls"
        if forecast:
            said = f"{said}; with what waits already, {forecast.detail}"
            if forecast.done_at:
                said = f"{said}; done about {moment(forecast.done_at)}"
        note(f"{said}.")
        if unknown := all_touched.without_calls.get((provider, account)):
            note(
                f"{provider} {account}: {unknown:,} of them never made a call and cannot be planned as they are: what"
                " they ask for is known once they can."
            )
