"""``penstock reconcile``: what a provider holds against what is known here."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import writing_store
from ops.installation import find
from shared.configuration import Configuration, read_configuration
from shared.errors import PenstockError, SettingsError
from shared.providers.account import AccountSettings
from shared.sealing import Keys
from shared.settings import Settings
from shared.store.gaps.walks import Tally
from workers.reconcile.reconciling import Reconciliation, Report
from workers.reconcile.surveying import surveyor


app = typer.Typer(add_completion=False)

_COLUMNS = (
    Column("account", lambda report: report.account),
    Column("looked at", lambda report: report.tally.looked_at, figure=True),
    Column("missing", lambda report: report.tally.missing, figure=True),
    Column("differing", lambda report: report.tally.differing, figure=True),
    Column("repaired", lambda report: report.tally.repaired, figure=True),
    Column("finished", lambda report: "no" if report.stopped else "yes"),
)


def _provider(name: str) -> str:
    return choices.known_provider(name) or name


def _past(text: str) -> datetime:
    at = choices.moment(text)
    if at > datetime.now(at.tzinfo):
        raise typer.BadParameter("--since lies in the future: nothing can have been missed then")
    return at


@app.command(
    epilog=examples(
        "penstock reconcile magicline --dry-run",
        "penstock reconcile paybook --account main --since 7d",
    )
)
def reconcile(
    provider: Annotated[
        str, typer.Argument(metavar="PROVIDER", help="Whose accounts are gone through.", callback=_provider)
    ],
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_past, metavar="TIME", help="Only since: a time, or an age such as 2h or 7d."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what differs; change nothing.")] = False,
    as_json: choices.Json = False,
) -> None:
    """Go through what a provider holds, and make an event, marked `reconciled`, for whatever no delivery told of.

    The events go the ordinary way: fetch, record, change feed. Calls keep to the share of the budget that is left to
    background work. What was interrupted within a day goes on where it stopped. Exit status 1 if an account's walk
    did not come to its end.
    """
    settings = find(Settings.read(), redis=True)
    configuration = read_configuration(settings.config)
    chosen = _accounts(configuration, provider, account, settings)
    reports = asyncio.run(_run(settings, configuration, provider, chosen, since, dry_run=dry_run))
    if as_json:
        print_json([_row(report) for report in reports])
    else:
        print_table(reports, _COLUMNS)
    for report in reports:
        if not as_json:
            _tell(report)
        if report.stopped:
            note(f"{report.account}: {report.stopped}")
    if any(report.stopped for report in reports):
        raise typer.Exit(1)


def _accounts(
    configuration: Configuration, provider: str, name: str | None, settings: Settings
) -> Sequence[AccountSettings]:
    accounts = configuration.accounts.get(provider, {})
    if not accounts:
        raise SettingsError(f"no account of {provider} is configured in {settings.config}")
    if name is None:
        return list(accounts.values())
    if name not in accounts:
        raise PenstockError(f"{provider} has no account {name}; configured are {', '.join(accounts)}")
    return [accounts[name]]


async def _run(
    settings: Settings,
    configuration: Configuration,
    provider: str,
    accounts: Sequence[AccountSettings],
    since: datetime | None,
    *,
    dry_run: bool,
) -> list[Report]:
    """The accounts one after the other: each has its own budget, but they share the provider."""
    keys = Keys.parse(settings.encryption_keys)
    reports = []
    with _progress() as progress:
        line = progress.add_task("", total=None)

        async with writing_store(settings) as connection, surveyor(settings) as asking:
            for account in accounts:

                def tell(name: str, tally: Tally, account: str = account.name) -> None:
                    progress.update(line, description=f"{provider} {account}, {name}: {_counts(tally)}")

                walk = Reconciliation(connection, asking, keys, configuration, provider, account, tell)
                reports.append(await walk.run(since, dry_run=dry_run))
    return reports


def _progress() -> Progress:
    """A line on a terminal, nothing elsewhere."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


def _counts(tally: Tally) -> str:
    return f"{tally.looked_at:,} looked at, {tally.missing:,} missing, {tally.differing:,} differing"


def _tell(report: Report) -> None:
    if report.resumed:
        note(f"{report.account}: went on where an earlier run stopped; the counts are of both.")
    if report.dry_run and report.tally.missing + report.tally.differing:
        note(f"{report.account}: nothing was changed (--dry-run).")
    for said in report.notes:
        note(f"{report.account}: {said}.")


def _row(report: Report) -> dict[str, object]:
    return {
        "provider": report.provider,
        "account": report.account,
        "since": report.since,
        "dry_run": report.dry_run,
        "resumed": report.resumed,
        **report.tally._asdict(),
        "finished": report.stopped is None,
        "stopped": report.stopped,
        "notes": list(report.notes),
    }
