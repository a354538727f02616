"""``penstock events``: list, show, body, replay."""

import asyncio
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ops.calls import urls_of_calls
from ops.cli import choices
from ops.cli.dead_letters import discard, failed
from ops.cli.examples import examples
from ops.cli.output import Column, cell, moment, paper, print_json, print_rows, print_table, write
from ops.cli.replay import replay
from ops.cli.store import found, opening_keys, reading_store
from ops.forecasts import with_forecast
from shared.blobs import BlobStore
from shared.errors import PenstockError
from shared.store.reading.connecting import reading
from shared.store.reading.events import Filters, body_of, list_events, show_event
from shared.store.reading.shapes import Error, EventDetail, EventForecast


if TYPE_CHECKING:
    from collections.abc import Sequence


app = typer.Typer(add_completion=False, no_args_is_help=True)

EventId = Annotated[UUID, typer.Argument(metavar="ID", help="The receipt: what X-Penstock-Event said.")]

_LIST = (
    Column("id", lambda event: event.id),
    Column("provider", lambda event: event.provider),
    Column("account", lambda event: event.account),
    Column("state", lambda event: event.state),
    Column("received", lambda event: event.received_at),
    Column("attempts", lambda event: event.attempts, figure=True),
    Column("types", lambda event: event.event_types),
    Column("error", lambda event: event.error and event.error.reason),
)
_FETCHES = (
    Column("fetch", lambda fetch: fetch.id, figure=True),
    Column("url", lambda fetch: fetch.url),
    Column("state", lambda fetch: fetch.state),
    Column("attempts", lambda fetch: fetch.attempts, figure=True),
    Column("status", lambda fetch: fetch.status),
    Column("next attempt", lambda fetch: fetch.next_attempt_at),
    Column("error", lambda fetch: _sentence(fetch.error)),
)
_TIMELINE = (
    Column("at", lambda step: step.at),
    Column("step", lambda step: step.step),
    Column("detail", lambda step: step.detail),
)


@app.callback()
def events() -> None:
    """List, show and replay events: each is one authenticated delivery."""


@app.command(
    "list", epilog=examples("penstock events list --state failed --since 2h", "penstock events list --limit 0 --json")
)
def list_(
    provider: choices.Provider = None,
    account: choices.Account = None,
    state: choices.State = None,
    error: choices.Error = None,
    since: choices.Since = None,
    discarded: Annotated[bool, typer.Option("--discarded", help="Only those that were discarded.")] = False,
    limit: choices.Limit = 50,
    as_json: choices.Json = False,
) -> None:
    """List events, newest first; discarded ones only with --discarded."""

    async def run() -> None:
        async with reading_store(found()) as engine, reading(engine) as connection:
            filters = Filters(provider, account, state, since, error=error, discarded=discarded)
            batches = list_events(connection, filters, limit=limit)
            await print_rows(batches, _LIST, as_json=as_json, none="There is no such event.")

    asyncio.run(run())


@app.command(epilog=examples("penstock events show 01998f3e-6f3a-7c1e-9d55-0d6f1c1a2b3c"))
def show(event_id: EventId, as_json: choices.Json = False) -> None:
    """Show one event: its calls, and what happened to it step by step."""
    settings = found()

    async def run() -> EventDetail | None:
        async with reading_store(settings) as engine, reading(engine) as connection:
            shown = await show_event(connection, event_id, urls_of_calls(settings))
            return shown and await with_forecast(connection, shown, settings)

    event = asyncio.run(run())
    if event is None:
        raise _missing(event_id)
    if as_json:
        print_json([event])
    else:
        _print_detail(event)


@app.command(epilog=examples("penstock events body 01998f3e-6f3a-7c1e-9d55-0d6f1c1a2b3c > body"))
def body(event_id: EventId) -> None:
    """Write an event's raw body to standard output, byte for byte."""
    settings = found()

    async def run() -> bytes | None:
        async with reading_store(settings) as engine, reading(engine) as connection:
            kept = await body_of(connection, event_id)
        if kept is None:
            return None
        if kept.sealed is None and kept.blob is None:
            raise PenstockError(f"the body of {event_id} is not kept any more: retention removed it")
        keys = (await opening_keys(settings))()
        if kept.sealed is not None:
            return keys.unseal(kept.sealed, event_id)
        # whole, not in pieces: nothing is printed before the last byte is proved to be what was sealed
        return await BlobStore.open(settings.blobs, keys).read(kept.blob or "", event_id)

    content = asyncio.run(run())
    if content is None:
        raise _missing(event_id)
    write(content)


app.command(
    epilog=examples(
        "penstock events replay 01998f3e-6f3a-7c1e-9d55-0d6f1c1a2b3c --reason 'mapping fixed'",
        "penstock events replay --state failed --provider magicline --since 2h --dry-run",
        "penstock events replay --state failed --error attempts-used-up --rate 50/s --reason 'API is back'",
    )
)(replay)


app.command(epilog=examples("penstock events failed", "penstock events failed --provider magicline --json"))(failed)
app.command(
    epilog=examples(
        "penstock events discard 01998f3e-6f3a-7c1e-9d55-0d6f1c1a2b3c --reason 'sent by a test'",
        "penstock events discard --provider imin --error not-json --until 30d --reason 'provider mended it'",
    )
)(discard)


def _missing(event_id: UUID) -> PenstockError:
    return PenstockError(f"there is no event {event_id}")


def _sentence(error: Error | None) -> str | None:
    return f"{error.reason}: {error.detail}" if error else None


def _expectation(forecast: EventForecast | None) -> str | None:
    if forecast is None:
        return None
    return f"{forecast.detail}; done about {moment(forecast.done_at)}" if forecast.done_at else forecast.detail


def _print_detail(event: EventDetail) -> None:
    facts: Sequence[tuple[str, object]] = (
        ("event", event.id),
        ("provider", f"{event.provider} ({event.account})"),
        ("state", event.state),
        ("types", event.event_types or None),
        ("received", event.received_at),
        ("finished", event.finished_at),
        ("kept in", event.durability),
        ("body", f"{event.body_bytes:,} bytes, sha256 {event.body_sha256}"),
        ("duplicate of", event.duplicate_of),
        ("error", _sentence(event.error)),
        ("forecast", _expectation(event.forecast)),
    )
    page = paper()
    for name, value in facts:
        if value is not None:
            page.print(f"{name:<13}", cell(value), sep="")
    page.print()
    if event.fetches:
        print_table(event.fetches, _FETCHES)
        page.print()
    print_table(event.timeline, _TIMELINE)
