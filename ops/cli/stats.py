"""``penstock stats``: counts per provider."""

import asyncio
from functools import partial

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, print_json, print_table
from ops.cli.store import found, queue_store, reading_store
from shared.providers.registry import PROVIDERS
from shared.store.reading.counting import stats as count
from shared.store.reading.shapes import ProviderStats
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


@app.command(epilog=examples("penstock stats", "penstock stats --json"))
def stats(as_json: choices.Json = False) -> None:
    """Count events by state, calls and queue lengths, one line a provider."""

    async def run() -> list[ProviderStats]:
        settings = found()
        async with reading_store(settings) as engine, queue_store(settings) as redis:
            return await count(engine, redis, list(PROVIDERS))

    rows = asyncio.run(run())
    if as_json:
        print_json(rows)
    else:
        print_table(rows, _COLUMNS)
