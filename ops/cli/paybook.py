"""``penstock paybook webhooks``: the registrations at Paybook."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import found, writing_store
from ops.installation import completed
from shared.budgets import open_budgets
from shared.configuration import Configuration, read_configuration
from shared.errors import AnswerError, SettingsError
from shared.providers.paybook.api import (
    REGISTERED_EVENTS,
    ApiRequest,
    Registration,
    create_webhook,
    delete_webhook,
    list_webhooks,
    registrations,
)
from shared.providers.paybook.registering import is_as_wanted
from shared.providers.paybook.settings import PaybookAccount
from shared.settings import Settings
from workers.calling import Caller
from workers.relay.registering import Looked, look, refused, send


app = typer.Typer(add_completion=False, no_args_is_help=True)
webhooks = typer.Typer(add_completion=False, no_args_is_help=True)
app.add_typer(webhooks, name="webhooks", help="The webhooks that are registered for an account's API key.")

_COLUMNS = (
    Column("account", lambda row: row["account"]),
    Column("id", lambda row: row["id_webhook"]),
    Column("url", lambda row: row["url"]),
    Column("events", lambda row: row["events"]),
    Column("delay", lambda row: row["delay"]),
    Column("failed", lambda row: row["ct_failed"], figure=True),
    Column("disabled", lambda row: "yes" if row["is_disabled"] else "no"),
    Column("created", lambda row: row["dt_created"]),
)

AccountName = Annotated[str, typer.Option("--account", help="The account of penstock.toml whose API key is used.")]


@app.callback()
def paybook() -> None:
    """What is set up at Paybook itself."""


@webhooks.command("list", epilog=examples("penstock paybook webhooks list", "penstock paybook webhooks list --json"))
def list_(
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None, as_json: choices.Json = False
) -> None:
    """List the registrations, with how often each has failed and whether it is disabled."""
    accounts = _accounts() if account is None else [_account(account)]
    rows = [row for each in accounts for row in _rows(each, _registered(each, list_webhooks(each)))]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, _COLUMNS)
    else:
        note("No webhook is registered.")


@webhooks.command(
    epilog=examples(
        "penstock paybook webhooks create --account main --url https://hooks.example.com/webhooks/paybook/TOKEN"
    )
)
def create(
    account: AccountName,
    url: Annotated[str, typer.Option(help="Where deliveries go: ingress, with one of the account's webhook_tokens.")],
    event: Annotated[list[str] | None, typer.Option(help="An event to be told of; may be given several times.")] = None,
    delay: Annotated[int, typer.Option(min=0, help="Seconds between an event and its delivery.")] = 0,
    as_json: choices.Json = False,
) -> None:
    """Register a webhook, with the account's webhook_header if it has one. Without --event: the usual three.

    One that is registered already, with the same events and delay, stays as it is. Which header Paybook sends with it
    no list says: after a change of webhook_header delete it and create it anew.
    """
    owner = _account(account)
    events = event or REGISTERED_EVENTS
    beside = [each for each in _registered(owner, list_webhooks(owner)) if each.url == url]
    found = [each for each in beside if is_as_wanted(each, events, delay)]
    if found:
        note(f"This URL is registered already, as {found[0].id_webhook}.")
    else:
        found = list(_registered(owner, create_webhook(owner, url, events, delay)))
        for each in beside:
            note(
                f"{each.id_webhook} of the same URL stands beside it: `penstock paybook webhooks delete"
                f" {each.id_webhook} --account {account}` ends it."
            )
    if as_json:
        print_json(_rows(owner, found))
    else:
        print_table(_rows(owner, found), _COLUMNS)


@webhooks.command(epilog=examples("penstock paybook webhooks delete 5d9bab5b8c91e73b2e4c75d3 --account main"))
def delete(
    id_webhook: Annotated[str, typer.Argument(metavar="ID", help="The registration; `list` shows it.")],
    account: AccountName,
) -> None:
    """Remove a registration: Paybook delivers nothing to its URL any more."""
    owner = _account(account)
    _send(owner, delete_webhook(owner, id_webhook))
    note(f"The webhook {id_webhook} is deleted.")


@webhooks.command(epilog=examples("penstock paybook webhooks watch", "penstock paybook webhooks watch --account main"))
def watch(
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None, as_json: choices.Json = False
) -> None:
    """Look at the registrations once: warn of disabled and failing ones, and mend them where the settings say so.

    With `registration = { ingress = "https://...", again = true }` of an account, its webhook is registered when it is
    missing, and anew when Paybook has disabled it. The relay does the same on a schedule.
    """
    accounts = _accounts() if account is None else [_account(account)]
    settings, configuration = found(), _configuration()

    async def run() -> list[tuple[PaybookAccount, Looked]]:
        async with writing_store(settings) as connection, open_budgets(settings) as budgets:
            return [(each, await look(connection, each, budgets, configuration)) for each in accounts]

    looked = asyncio.run(run())
    rows = [row for owner, seen in looked for row in _rows(owner, seen.registrations)]
    if as_json:
        told = {owner.name: {"warnings": seen.warnings, "done": seen.done} for owner, seen in looked}
        print_json([{"account": name, **said} for name, said in told.items()])
    elif rows:
        print_table(rows, _COLUMNS)
    for owner, seen in looked if not as_json else ():
        for said in (*seen.warnings, *seen.done):
            note(f"{owner.name}: {said}.")


def _accounts() -> Sequence[PaybookAccount]:
    found = _configuration().accounts.get("paybook", {}).values()
    accounts = [account for account in found if isinstance(account, PaybookAccount)]
    if not accounts:
        raise SettingsError(f"no Paybook account is configured in {completed(Settings.read()).config}")
    return accounts


def _configuration() -> Configuration:
    return read_configuration(completed(Settings.read()).config)


def _account(name: str) -> PaybookAccount:
    accounts = {account.name: account for account in _accounts()}
    if name not in accounts:
        raise SettingsError(f"there is no Paybook account {name}; configured are {', '.join(accounts)}")
    return accounts[name]


def _registered(account: PaybookAccount, request: ApiRequest) -> Sequence[Registration]:
    try:
        return registrations(_send(account, request))
    except AnswerError as error:
        raise refused(account, error) from None


def _rows(account: PaybookAccount, found: Sequence[Registration]) -> list[dict[str, object]]:
    return [
        {"account": account.name, **{name: getattr(each, name) for name in Registration.__struct_fields__}}
        for each in found
    ]


def _send(account: PaybookAccount, request: ApiRequest) -> bytes:
    """The answer's body, as the relay would send it, but in nobody's turn. Raises PenstockError."""

    async def run() -> bytes:
        caller = Caller()
        try:
            return await send(caller, account, request, _configuration())
        finally:
            await caller.close()

    return asyncio.run(run())
