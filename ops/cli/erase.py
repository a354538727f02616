"""``penstock erase``: remove everything of one customer, or of one account, and show that it is gone."""

import asyncio
import sys
from contextlib import suppress
from typing import Annotated

import typer

from ops.append_only import rewrite
from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import note, print_json
from ops.cli.store import found, queue_store, writing_store
from ops.erasing import Erasure, Report, Whom
from shared.blobs import BlobStore
from shared.configuration import read_configuration
from shared.errors import PenstockError, SettingsError
from shared.sealing import Keys
from shared.settings import Settings
from shared.spool import Spool
from shared.store.locking import REWRITING, alone


app = typer.Typer(add_completion=False)

_BACKUPS = (
    "Backups are not touched: what was sealed with a destroyed key stays unreadable there, all else goes when they do. "
    "Logs and what handlers were given are beyond Penstock."
)


@app.command(
    epilog=examples(
        "penstock erase --provider magicline --account studio-berlin --subject 1234567 --dry-run",
        "penstock erase --provider magicline --account studio-berlin --subject 1234567 --yes",
        "penstock erase --provider authenteq --account main --yes",
    )
)
def erase(
    provider: Annotated[str, typer.Option(callback=choices.known_provider, help="The provider.")],
    account: Annotated[str, typer.Option(help="The account, configured or not.")],
    subject: Annotated[
        str | None, typer.Option(help="The id of one customer, user or verification; without it: everything.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: choices.Json = False,
) -> None:
    """Remove everything of a subject or an account, and look for what is left.

    Bodies, blobs, records, changes, hand-overs, timelines, and of an account also its data keys. Erase it at
    the provider first, or the next read brings it back. Broken off, it is simply run again. Exit status 1
    when something is left.
    """
    if subject is not None and not subject.strip():
        raise typer.BadParameter("the subject's id is empty", param_hint="--subject")
    whom = Whom(provider, account, subject)
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody is there to be asked: add --yes", param_hint="--yes")
        typer.confirm(f"Erase {_name(whom)} for ever?", abort=True)
    settings = found()
    report = asyncio.run(_run(settings, whom, dry_run=dry_run))
    if as_json:
        print_json([_row(whom, report, dry_run=dry_run)])
    else:
        _print(whom, report, dry_run=dry_run)
    if report.left:
        raise typer.Exit(1)


async def _run(settings: Settings, whom: Whom, *, dry_run: bool) -> Report:
    keys = Keys.parse(settings.encryption_keys)
    blobs = BlobStore.open(settings.blobs, keys)
    with suppress(SettingsError):
        if not dry_run and whom.account in read_configuration(settings.config).accounts.get(whom.provider, {}):
            note(f"The account {whom.account} is still configured: what it receives from now on is kept as before.")
    async with writing_store(settings) as connection, queue_store(settings) as redis:
        if redis is None:
            raise PenstockError(
                "no Redis is known, and the spool may hold what is to be erased: set PENSTOCK_REDIS_URL"
            )
        tell = note if sys.stderr.isatty() else _say_nothing
        async with alone(connection, *REWRITING) as mine:
            if not mine:
                raise PenstockError("another process rotates keys or erases now: run it again when that is done")
            report = await Erasure(connection, keys, blobs, Spool(redis), whom, dry_run, tell).run()
            if not dry_run:
                tell("having Redis write its append-only file anew")
                if why := await rewrite(redis):
                    report.left.append(f"Redis's append-only file: entries of the spool, sealed ({why}); BGREWRITEAOF")
            return report


def _say_nothing(_step: str) -> None:
    """Steps are for people who wait."""


def _name(whom: Whom) -> str:
    return f"{whom.provider} {whom.account}" + (f", subject {whom.subject}" if whom.subject else ", everything")


def _row(whom: Whom, report: Report, *, dry_run: bool) -> dict[str, object]:
    return {
        **whom._asdict(),
        "dry_run": dry_run,
        **report.erased._asdict(),
        "blobs": report.blobs,
        "spooled": report.spooled,
        "data_keys": report.data_keys,
        "left": report.left,
    }


def _print(whom: Whom, report: Report, *, dry_run: bool) -> None:
    counts = {**report.erased._asdict(), "blobs": report.blobs, "spooled": report.spooled}
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "nothing"
    typer.echo(f"{_name(whom)}: {told} {'would go' if dry_run else 'removed'}.")
    if dry_run:
        return
    if report.data_keys:
        typer.echo(f"{report.data_keys} data keys destroyed.")
    for left in report.left:
        typer.echo(f"Left: {left}.")
    if not report.left:
        typer.echo("Searched Postgres and the spool again: nothing is left. Counts without content stay (stats).")
    typer.echo(_BACKUPS)
