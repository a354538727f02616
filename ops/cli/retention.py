"""``penstock retention``: what is removed with age, and letting go on what was held back."""

import asyncio
from typing import Annotated

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import print_json
from ops.cli.store import found, writing_store
from shared.store import retention_guard
from shared.store.retention import Walk
from shared.store.retention_guard import Refusal


app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command("list", epilog=examples("penstock retention list", "penstock retention list --json"))
def list_(as_json: choices.Json = False) -> None:
    """Show what retention does not remove until somebody has looked at it, and why."""
    refused = asyncio.run(_refused())
    if as_json:
        print_json([{**_row(each.walk), "reason": each.sentence} for each in refused])
        return
    for each in refused:
        typer.echo(f"{_name(each.walk)}: {each.sentence}.")
    if not refused:
        typer.echo("Nothing is held back.")


@app.command(epilog=examples("penstock retention allow", "penstock retention allow --provider imin"))
def allow(
    provider: Annotated[
        str | None, typer.Option(callback=choices.known_provider, help="Of this provider alone.")
    ] = None,
    as_json: choices.Json = False,
) -> None:
    """Let what is held back be removed at the relay's next look."""
    allowed = asyncio.run(_allow(provider))
    if as_json:
        print_json([_row(walk) for walk in allowed])
        return
    for walk in allowed:
        typer.echo(f"{_name(walk)}: is removed from now on.")
    if not allowed:
        typer.echo("Nothing is held back that can be allowed.")


async def _refused() -> list[Refusal]:
    async with writing_store(found()) as connection:
        return await retention_guard.refusals(connection)


async def _allow(provider: str | None) -> list[Walk]:
    async with writing_store(found()) as connection:
        return list(await retention_guard.allow(connection, provider))


def _row(walk: Walk) -> dict[str, str]:
    return walk._asdict()


def _name(walk: Walk) -> str:
    return " ".join(part for part in (walk.provider, walk.account, walk.what.replace("_", " ")) if part)
