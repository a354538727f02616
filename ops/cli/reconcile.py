"""``penstock reconcile``: what a provider holds against what is known here."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, note, print_json, print_table
from ops.cli.store import writing_store
from ops.installation import find
from shared.budgets import Wait
from shared.configuration import Configuration, read_configuration
from shared.errors import PenstockError, SettingsError
from shared.providers.account import AccountSettings
from shared.sealing import Keys
from shared.settings import Settings
from shared.store.gaps.walks import Tally
from workers.reconcile.reconciling import Reconciliation, Report
from workers.reconcile.surveying import surveyor


app = typer.Typer(add_completion=False)

_NOTE_SECONDS: Final = 10.0
"""Between two lines where no terminal is; a longer wait is told as it begins."""

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
    with _telling(provider) as told:
        async with writing_store(settings) as connection, surveyor(settings, told.waiting) as asking:
            for account in accounts:
                told.begin(account.name)
                walk = Reconciliation(connection, asking, keys, configuration, provider, account, told.step)
                reports.append(await walk.run(since, dry_run=dry_run))
    return reports


class _Told:
    """How far a walk has come and what it waits for: a line that changes on a terminal, now and then one elsewhere."""

    def __init__(self, provider: str, progress: Progress) -> None:
        self._provider = provider
        self._progress = progress
        self._line = progress.add_task("", total=None)
        self._noted_at = time.monotonic()
        self._known_until = 0.0
        self.begin("")

    def begin(self, account: str) -> None:
        """Another account's turn."""
        self._who, self._far, self._waits = f"{self._provider} {account}", "begins", ""

    def step(self, name: str, tally: Tally) -> None:
        """A step was made."""
        self._far, self._waits = f"{name}: {_counts(tally)}", ""
        self._show(long=False)

    def waiting(self, wait: Wait) -> None:
        """Calls wait for a budget."""
        until = time.monotonic() + wait.seconds
        self._waits = f"; waits for the {wait.why}: next call in {max(wait.seconds, 0.1):,.1f} s"
        long = until > self._known_until + _NOTE_SECONDS and wait.seconds > _NOTE_SECONDS
        self._known_until = max(until, self._known_until)
        self._show(long=long)

    def _show(self, *, long: bool) -> None:
        said = f"{self._who}, {self._far}{self._waits}"
        if not self._progress.disable:
            self._progress.update(self._line, description=said)
        elif long or time.monotonic() >= self._noted_at + _NOTE_SECONDS:
            self._noted_at = time.monotonic()
            note(said)


@contextmanager
def _telling(provider: str) -> Iterator[_Told]:
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        yield _Told(provider, progress)


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
