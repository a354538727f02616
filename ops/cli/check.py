"""``penstock check``: every setting, store and credential tested, a line each."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Final

import typer
from rich.text import Text

from ops.checks.accounts import check_accounts
from ops.checks.environment import check_environment
from ops.checks.finding import Finding, fix
from ops.checks.handlers import check_handlers
from ops.checks.keys import check_keys
from ops.checks.production import check_production
from ops.checks.retention import check_retention
from ops.checks.settings import check_settings
from ops.checks.silence import check_silence
from ops.checks.stores import check_blobs, check_postgres, check_redis
from ops.checks.stuck import check_stuck
from ops.checks.vanished import check_vanished
from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import paper, print_json, printable
from ops.installation import find
from shared.errors import SettingsError
from shared.settings import Settings


app = typer.Typer(add_completion=False)

_STYLES: Final = {"ok": "green", "advice": "yellow", "fix": "bold red"}


@app.command(epilog=examples("penstock check", "penstock check --production", "penstock check --json"))
def check(
    production: Annotated[
        bool, typer.Option("--production", help="Also refuse what could lose data or stands open in production.")
    ] = False,
    as_json: choices.Json = False,
) -> None:
    """Test every setting, store and provider credential: a line each, ok or what to do.

    Exit status 1 when something needs fixing; advice alone is 0.
    """
    findings = asyncio.run(_check(production=production))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        _print(findings)
    if any(finding.level == "fix" for finding in findings):
        raise typer.Exit(1)


async def _check(*, production: bool) -> Sequence[Finding]:
    try:
        given = settings = Settings.read()
    except SettingsError as error:
        return [fix("environment", str(error))]
    # where no installation runs here, the checks below say which store is missing
    with suppress(SettingsError):
        settings = find(given)
    findings, configuration = check_settings(settings)
    findings.extend(check_environment())
    for of_store in await asyncio.gather(check_postgres(settings), check_redis(settings), check_blobs(settings)):
        findings.extend(of_store)
    findings.extend(await check_keys(settings))
    findings.extend(await check_vanished(settings, configuration))
    if configuration:
        findings.extend(await check_accounts(configuration))
        findings.extend(await check_silence(settings))
        findings.extend(await check_stuck(settings, configuration))
    findings.extend(await check_retention(settings))
    findings.extend(await check_handlers(settings, configuration))
    if production:
        findings.extend(await check_production(given, settings, configuration))
    return findings


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.item) for finding in findings)
    page = paper()
    for finding in findings:
        line = Text.assemble((f"{finding.level:<6}", _STYLES[finding.level]), f"  {finding.item:<{width}}  ")
        page.print(line.append(printable(finding.sentence)))
