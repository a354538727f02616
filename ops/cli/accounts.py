"""``penstock accounts``: the configured accounts and how each stands with its provider."""

import asyncio

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import found, reading_store
from shared.budgets import Budgets
from shared.configuration import read_configuration
from shared.store.reading.accounts import list_accounts
from shared.store.reading.connecting import reading
from shared.store.reading.shapes import Account


app = typer.Typer(add_completion=False, no_args_is_help=True)

_COLUMNS = (
    Column("provider", lambda account: account.provider),
    Column("account", lambda account: account.account),
    Column("last event", lambda account: account.last_event_at),
    Column("circuit", lambda account: account.circuit),
    Column("used", lambda account: account.budget_used, figure=True),
    Column("limit", lambda account: account.budget_limit, figure=True),
    Column("next call", lambda account: account.next_call_at),
)


@app.callback()
def accounts() -> None:
    """The configured accounts."""


@app.command("list", epilog=examples("penstock accounts list", "penstock accounts list --provider magicline --json"))
def list_(provider: choices.Provider = None, as_json: choices.Json = False) -> None:
    """List accounts: the last event of each, its circuit, and how many calls of its budget are used."""
    settings = found()
    configured = [
        (name, account)
        for name, of_provider in read_configuration(settings.config).accounts.items()
        if provider in {None, name}
        for account in of_provider.values()
    ]

    async def run() -> list[Account]:
        budgets = Budgets(settings.redis_url.get_secret_value()) if settings.redis_url else None
        try:
            async with reading_store(settings) as engine, reading(engine) as connection:
                return await list_accounts(connection, configured, budgets)
        finally:
            if budgets:
                await budgets.close()

    rows = asyncio.run(run())
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, _COLUMNS)
    else:
        note(f"No account is configured in {settings.config}.")
