"""`penstock quarantine`: deliveries that were refused, why, and letting in what a mended key proves."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from ingress.releasing import Outcome, Selection
from ingress.releasing import release as release_deliveries
from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_rows, print_table
from ops.cli.store import found, writing_store
from shared.configuration import read_configuration
from shared.errors import PenstockError
from shared.providers.registry import PROVIDERS
from shared.quarantine import unseal_head
from shared.sealing import Keys
from shared.settings import Settings
from shared.store import quarantine


app = typer.Typer(add_completion=False, no_args_is_help=True)

_COLUMNS = (
    Column("id", lambda held: held.id),
    Column("provider", lambda held: held.provider),
    Column("cause", lambda held: held.cause),
    Column("from", lambda held: held.source),
    Column("received", lambda held: held.received_at),
    Column("bytes", lambda held: held.body_bytes, figure=True),
    Column("gone after", lambda held: held.lapses_at),
)
_OUTCOMES = (
    Column("id", lambda outcome: outcome.id),
    Column("provider", lambda outcome: outcome.provider),
    Column("released", lambda outcome: "yes" if outcome.released else "no"),
    Column("account", lambda outcome: outcome.account),
    Column("why not", lambda outcome: outcome.reason),
)


@app.callback()
def _quarantine() -> None:
    """Refused deliveries, kept for a day within bounds."""


@app.command(
    name="list", epilog=examples("penstock quarantine list", "penstock quarantine list --provider imin --json")
)
def list_held(provider: choices.Provider = None, limit: choices.Limit = 50, as_json: choices.Json = False) -> None:
    """List what is in quarantine, newest first: from where it came, and why it was refused."""
    asyncio.run(_list(provider, limit or quarantine.MOST, as_json=as_json))


@app.command(epilog=examples("penstock quarantine show 0198c5a0-1111-7222-8333-444455556666"))
def show(
    event: Annotated[UUID, typer.Argument(metavar="ID")],
    as_json: choices.Json = False,
) -> None:
    """Show one refused delivery: its cause and which headers it had, without their values.

    Its body is printed by `penstock events body ID`. Exit status 1 if there is none with this id.
    """
    asyncio.run(_show(event, as_json=as_json))


@app.command(
    epilog=examples(
        "penstock quarantine release --provider imin --dry-run", "penstock quarantine release --provider imin"
    )
)
def release(
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...", help="These; or use a filter.")] = None,
    provider: choices.Provider = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever is in quarantine.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be let in.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it goes into each event's timeline.")] = "",
    as_json: choices.Json = False,
) -> None:
    """Authenticate deliveries once more, with the settings in force now, and let in what passes.

    Exit status 1 if an id is unknown (then nothing is released), or a named delivery is still not authentic.
    """
    if sum((bool(ids), bool(provider), everything)) != 1:
        raise typer.BadParameter("name deliveries by id, or select them by --provider or --all")
    selection = Selection(tuple(ids or ()), provider)
    released, refused = asyncio.run(_release(selection, reason, dry_run=dry_run, as_json=as_json))
    note(f"{released:,} {'would be' if dry_run else 'were'} released; {refused:,} are still not authentic.")
    if ids and refused:
        raise typer.Exit(1)


async def _list(provider: str | None, limit: int, *, as_json: bool) -> None:
    async with writing_store(found()) as connection:
        held = await quarantine.held(connection, provider=provider, limit=limit)

    async def batches() -> AsyncIterator[Sequence[Any]]:
        if held:
            yield [one._asdict() for one in held] if as_json else held

    await print_rows(batches(), _COLUMNS, as_json=as_json, none="Nothing is in quarantine.")


async def _show(event: UUID, *, as_json: bool) -> None:
    settings = found()
    async with writing_store(settings) as connection:
        held = await quarantine.held(connection, event=event)
        if not held:
            raise PenstockError(f"no delivery in quarantine has the id {event}")
        async with connection.transaction():
            (sealed,) = await quarantine.take(connection, UUID(int=0), [event], None, 1)
    names = [name.decode("latin-1") for name, _ in unseal_head(_keys(settings), sealed.head, event).headers]
    if as_json:
        print_json([{**held[0]._asdict(), "header_names": names}])
    else:
        print_table(held, _COLUMNS)
        note(f"Its headers: {', '.join(names)}")


async def _release(selection: Selection, reason: str, *, dry_run: bool, as_json: bool) -> tuple[int, int]:
    settings = found()
    counts = [0, 0]
    async with writing_store(settings) as connection:
        batches = release_deliveries(
            connection,
            selection,
            PROVIDERS,
            read_configuration(settings.config),
            _keys(settings),
            note=f"{reason or 'no reason given'} (by {getpass.getuser()})",
            dry_run=dry_run,
        )
        async for batch in batches:
            _print(batch, as_json=as_json)
            for outcome in batch:
                counts[not outcome.released] += 1
    return counts[0], counts[1]


def _print(batch: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        print_json([outcome._asdict() for outcome in batch])
    else:
        print_table(batch, _OUTCOMES)


def _keys(settings: Settings) -> Keys:
    return Keys.parse(settings.encryption_keys)
