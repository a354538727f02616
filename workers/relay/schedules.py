"""What the relay does by the clock, beside its ticks: listens for silence, reconciles, watches registrations, retains.

Each on a connection of its own; any number of relays may run, for rows and locks in Postgres decide who does what.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import structlog

from shared.blobs import BlobStore
from shared.budgets import open_budgets
from shared.errors import PenstockError, StoreAway
from shared.providers.account import AccountSettings
from shared.providers.paybook.settings import PaybookAccount
from shared.sealing import Keys
from shared.settings import Settings
from shared.store.gaps import rhythms, walks
from shared.store.postgres import AWAY, Connection, connect_once
from shared.watching import ConfigurationWatch
from workers.relay.retaining import Retaining


log = structlog.get_logger("penstock.relay")

LOOK_SECONDS = 15.0
AGAIN_SECONDS = 600.0
"""A walk that stopped goes on after this time."""


async def keep_schedules(database_url: str, settings: Settings, watch: ConfigurationWatch) -> None:
    """Until cancelled; a store that is away is waited for."""
    schedules = _Schedules(settings, watch)
    async with asyncio.TaskGroup() as tasks:
        for due in (schedules.listen, schedules.reconcile, schedules.watch_registrations, schedules.retain):
            tasks.create_task(_again_and_again(database_url, due))


async def _again_and_again(database_url: str, due: Callable[[Connection], Awaitable[None]]) -> None:
    while True:
        try:
            connection = await connect_once(database_url)
            try:
                while True:
                    await due(connection)
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                connection.terminate()
        except (PenstockError, asyncpg.PostgresError, *AWAY) as error:
            log.warning("what is done by the clock is put off", reason=str(error) or type(error).__name__)
        except Exception:
            # A fault of ours in one of these must not end the others, nor the relay's own work.
            log.exception("what is done by the clock failed")
        await asyncio.sleep(LOOK_SECONDS)


class _Schedules:
    """What is due, by the settings in force."""

    def __init__(self, settings: Settings, watch: ConfigurationWatch) -> None:
        self._settings = settings
        self._watch = watch
        self._not_before: dict[tuple[str, str], float] = {}
        self._looked_at: dict[str, float] = {}

    async def listen(self, connection: Connection) -> None:
        """Learn when accounts speak, and warn of silence that is unusual."""
        accounts = [(provider, account.name) for provider, account in self._accounts()]
        for silence in await rhythms.look(connection, accounts, self._watch.current.watch.silence_spans):
            told = log.info if silence.over else log.warning
            told(
                "the account speaks again" if silence.over else "the account is silent for longer than it should be",
                provider=silence.provider,
                account=silence.account,
                last_event_at=silence.last_event_at.isoformat(timespec="seconds"),
                expected_spans=round(silence.expected, 1),
            )

    async def reconcile(self, connection: Connection) -> None:
        """Begin or go on with the walks of today."""
        if self._watch.current.reconcile.schedule == "off":
            return
        for provider, account in self._accounts():
            began = self._watch.current.reconcile.latest(datetime.now(UTC))
            waits = self._not_before.get((provider, account.name), 0.0) > asyncio.get_running_loop().time()
            if waits or await walks.finished_since(connection, provider, account.name, began):
                continue
            await self._reconcile(connection, provider, account)

    async def _reconcile(self, connection: Connection, provider: str, account: AccountSettings) -> None:
        # Not with the others above: a relay that never reconciles does without a worker's HTTP client, 12 MB.
        from workers.reconcile.reconciling import Reconciliation  # noqa: PLC0415
        from workers.reconcile.surveying import surveyor  # noqa: PLC0415

        keys = Keys.parse(self._settings.encryption_keys)
        async with surveyor(self._settings) as asking:
            walk = Reconciliation(connection, asking, keys, self._watch.current, provider, account)
            report = await walk.run()
        counts = report.tally._asdict()
        if report.stopped:
            self._not_before[provider, account.name] = asyncio.get_running_loop().time() + AGAIN_SECONDS
            log.warning(
                "reconciliation stopped", provider=provider, account=account.name, reason=report.stopped, **counts
            )
        else:
            log.info("reconciled", provider=provider, account=account.name, **counts)

    async def retain(self, connection: Connection) -> None:
        """Remove what is older than the settings say; nothing while some have vanished, for they may have said more."""
        if self._watch.missing:
            return
        blobs = BlobStore.open(self._settings.blobs, Keys.parse(self._settings.encryption_keys))
        await Retaining(connection, blobs, self._watch.current).look()

    async def watch_registrations(self, connection: Connection) -> None:
        """Look at what is registered at Paybook, and mend it where the settings say so."""
        # as below: a relay without Paybook does without a worker's HTTP client
        from workers.relay.registering import look  # noqa: PLC0415

        seconds = self._watch.current.watch.registrations_seconds
        now = asyncio.get_running_loop().time()
        for _, account in self._accounts():
            looked_at = self._looked_at.get(account.name)
            if not isinstance(account, PaybookAccount) or not seconds:
                continue
            if looked_at is not None and now - looked_at < seconds:
                continue
            self._looked_at[account.name] = now
            try:
                async with open_budgets(self._settings) as budgets:
                    looked = await look(connection, account, budgets, self._watch.current)
            except StoreAway:
                raise
            except PenstockError as error:
                log.warning("registrations cannot be looked at", account=account.name, reason=str(error))
                continue
            for warning in looked.warnings:
                log.warning("registration at paybook", account=account.name, said=warning)
            for done in looked.done:
                log.info("registration at paybook", account=account.name, said=done)

    def _accounts(self) -> list[tuple[str, AccountSettings]]:
        return [
            (provider, account)
            for provider, accounts in self._watch.current.accounts.items()
            for account in accounts.values()
        ]
