"""``penstock stats``: counts per provider."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import found, queue_store, reading_store
from ops.forecasts import forecasts_by_provider
from ops.silences import sentence, silent_accounts
from ops.spooled import Spooled, sentences, spooled
from shared.providers.registry import PROVIDERS
from shared.store.reading.connecting import reading
from shared.store.reading.counting import stats as count
from shared.store.reading.removed import Removed, removed_by_retention
from shared.store.reading.shapes import Forecast, ProviderStats
from shared.store.reading.silences import Silence
from shared.store.schema import EVENT_STATES


app = typer.Typer(add_completion=False)


def _events_in(state: str, row: ProviderStats) -> int:
    return row["events"][state]


_COLUMNS = (
    Column("provider", lambda row: row["provider"]),
    *(Column(state, partial(_events_in, state), figure=True) for state in EVENT_STATES),
    Column("oldest due (s)", lambda row: row["oldest_due_seconds"], figure=True),
    Column("queue", lambda row: row["queue_length"], figure=True),
    Column("API calls", lambda row: row["api_calls"], figure=True),
    Column("events per call", lambda row: row["events_per_call"], figure=True),
)


_FORECASTS = (
    Column("provider", lambda row: row[0]),
    Column("account", lambda row: row[1].account),
    Column("calls to make", lambda row: row[1].calls, figure=True),
    Column("done", lambda row: row[1].done_at),
    Column("at the present budget", lambda row: row[1].detail),
)


_REMOVED = (
    Column("provider", lambda row: row.provider or "all"),
    Column("account", lambda row: row.account or "all"),
    Column("retention of", lambda row: row.what),
    Column("removed", lambda row: row.removed, figure=True),
    Column("last looked", lambda row: row.moved_at),
)


class _Found(NamedTuple):
    rows: list[ProviderStats]
    spool: Spooled | None
    forecasts: Mapping[str, Sequence[Forecast]]
    silent: Sequence[Silence]
    removed: Sequence[Removed]


@app.command(epilog=examples("penstock stats", "penstock stats --json"))
def stats(as_json: choices.Json = False) -> None:
    """Count events by state, calls and queue lengths, one line a provider; and say when what waits will be done."""

    async def run() -> _Found:
        settings = found()
        async with reading_store(settings) as engine, queue_store(settings) as redis:
            rows = await count(engine, redis, list(PROVIDERS))
            spool = await spooled(redis)
            async with reading(engine) as connection:
                forecasts = await forecasts_by_provider(connection, settings)
                silent = await silent_accounts(connection, settings)
                return _Found(rows, spool, forecasts, silent, await removed_by_retention(connection))

    rows, spool, forecasts, silent, removed = asyncio.run(run())
    if as_json:
        print_json(
            [
                {
                    **row,
                    "spool": spool,
                    "forecast": forecasts.get(row["provider"], ()),
                    "silent": [each for each in silent if each.provider == row["provider"]],
                    "retention": [each for each in removed if each.provider in {row["provider"], ""}],
                }
                for row in rows
            ]
        )
        return
    print_table(rows, _COLUMNS)
    if forecasts:
        print_table([(provider, each) for provider, some in forecasts.items() for each in some], _FORECASTS)
    if any(each.removed for each in removed):
        print_table([each for each in removed if each.removed], _REMOVED)
    for told in sentences(spool):
        note(told)
    for each in silent:
        note(f"{each.provider} {each.account} is {sentence(each)}.")
