"""Whether what was in force is still in the settings: accounts by what is known of them, the rest as the relay says."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import asyncpg

from ops.checks.finding import Finding, advice, fix
from shared.configuration import Configuration, read_document
from shared.errors import PenstockError
from shared.settings import Settings
from shared.store import known_accounts, settings_trouble
from shared.store.postgres import AWAY, connect_once
from shared.watching import Known


async def check_vanished(settings: Settings, configuration: Configuration | None) -> Sequence[Finding]:
    """The findings; none where Postgres is away, which another check says. None: the file is not valid."""
    if settings.database_url is None:
        return ()
    try:
        connection = await connect_once(settings.database_url.get_secret_value())
        try:
            known, told = await known_accounts.look(connection), await settings_trouble.told(connection)
        finally:
            await connection.close()
    except (PenstockError, asyncpg.PostgresError, *AWAY):
        return ()
    findings = list(_relay(told, configuration)) if told else []
    if configuration:
        findings += [*_accounts(settings, configuration, known), *_unmarked(settings, configuration)]
    return findings


def _relay(told: tuple[str, datetime], configuration: Configuration | None) -> Iterator[Finding]:
    said, since = told
    # a file that is not valid has a finding of its own
    if configuration:
        yield fix("settings in force", f"the relay says, since {since:%Y-%m-%d %H:%M:%S} UTC: {said}")


def _accounts(settings: Settings, configuration: Configuration, known: Known) -> Iterator[Finding]:
    if configuration.removal == "file":
        return
    for provider, account in sorted(known.accounts - known.removed):
        if configuration.account(provider, account) is None:
            yield fix(
                f"{provider} {account}",
                f"it was in force, or has events, and is not in {settings.config}: processes that still know it go on"
                " with it, others answer 503 and leave its events waiting; put it back, or `penstock accounts remove"
                f" {provider}/{account}`",
            )


def _unmarked(settings: Settings, configuration: Configuration) -> Iterator[Finding]:
    document, _ = read_document(settings.config)
    if configuration.removal == "file" and list(document)[-1] != "settings":
        yield advice(
            "settings",
            'removal = "file" should be the last that the file says: put [settings] at its end, so that a file that'
            " was cut is not taken for a whole one",
        )
