"""``penstock records``: the newest known state of each thing at the providers."""

import asyncio
from typing import Annotated

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, print_rows
from ops.cli.store import found, opening_keys, reading_store
from shared.store.reading.connecting import reading
from shared.store.reading.records import list_records


app = typer.Typer(add_completion=False, no_args_is_help=True)

_SHOWN = 80

_COLUMNS = (
    Column("provider", lambda record: record.provider),
    Column("account", lambda record: record.account),
    Column("kind", lambda record: record.kind),
    Column("id", lambda record: record.external_id),
    Column("changed", lambda record: record.changed_at),
    Column("deleted", lambda record: record.deleted_at),
    Column("data", lambda record: _beginning(bytes(record.data).decode())),
)


@app.callback()
def records() -> None:
    """The newest known state of customers, accounts, transactions, verifications ..."""


@app.command(
    "list",
    epilog=examples(
        "penstock records list --kind magicline.customer", "penstock records list --limit 0 --json > records.jsonl"
    ),
)
def list_(
    provider: choices.Provider = None,
    account: choices.Account = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, such as paybook.transaction.")] = None,
    limit: choices.Limit = 50,
    as_json: choices.Json = False,
) -> None:
    """List records in the order of their keys. With --json, numbers have the digits that the provider sent."""
    settings = found()

    async def run() -> None:
        async with reading_store(settings) as engine, reading(engine) as connection:
            keys = await opening_keys(settings)
            batches = list_records(connection, provider=provider, account=account, kind=kind, limit=limit, keys=keys)
            await print_rows(batches, _COLUMNS, as_json=as_json, none="There is no such record.")

    asyncio.run(run())


def _beginning(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
