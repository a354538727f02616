"""``penstock accounts``: the configured accounts, how each stands with its provider, and how one is removed."""

import asyncio
from typing import Annotated

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import found, reading_store, writing_store
from shared.budgets import Budgets
from shared.configuration import read_configuration
from shared.errors import PenstockError, SettingsError
from shared.settings import Settings
from shared.store import known_accounts
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


@app.command(
    epilog=examples("penstock accounts remove magicline/studio-hamburg", "penstock accounts remove imin/old --force")
)
def remove(
    account: Annotated[str, typer.Argument(metavar="PROVIDER/ACCOUNT", help="As `penstock check` names it.")],
    force: Annotated[bool, typer.Option("--force", help="Also while events of it are not finished.")] = False,
    as_json: choices.Json = False,
) -> None:
    """Remove an account that is no longer in penstock.toml: until then what it had stays in force.

    Take it out of the file first, wherever processes read one. Within 5 s its deliveries are refused, and what is not
    finished is parked as `account-removed` until the account returns to the file. Nothing that was kept is erased: that
    is `penstock erase`. Exit status 1 if the file still has it, nobody knows it, or events wait.
    """
    provider, _, name = account.partition("/")
    if not name:
        raise typer.BadParameter("write PROVIDER/ACCOUNT, such as imin/main", param_hint="PROVIDER/ACCOUNT")
    choices.known_provider(provider)
    settings = found()
    if read_configuration(settings.config).account(provider, name):
        raise SettingsError(f"{settings.config} still has {account}: take it out there first; nothing was changed")
    unfinished = asyncio.run(_remove(settings, (provider, name), force=force))
    if as_json:
        print_json([{"provider": provider, "account": name, "unfinished": unfinished}])
        return
    note(f"{account} is removed: every process takes that over within 5 s.")
    if unfinished:
        note(f"{unfinished:,} of its events are not finished: they are parked as account-removed until it returns.")


async def _remove(settings: Settings, account: tuple[str, str], *, force: bool) -> int:
    """How many of its events are not finished. Raises PenstockError where it may not go."""
    name = "/".join(account)
    async with writing_store(settings) as connection:
        known, unfinished = await known_accounts.look(connection), await known_accounts.unfinished(connection, account)
        if account not in known.accounts and not unfinished:
            raise PenstockError(f"nobody knows an account {name}: see `penstock check` for those that have vanished")
        if unfinished and not force:
            raise PenstockError(
                f"{unfinished:,} events of {name} are not finished, and would be parked as account-removed: put its"
                " settings back until they are, or add --force; nothing was changed"
            )
        await known_accounts.remove(connection, account)
    return unfinished
