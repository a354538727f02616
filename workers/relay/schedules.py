"""What the relay does by the clock: listens for silence, reconciles, watches registrations, retains.

Each on a connection of its own; any number of relays may run, for rows and locks in Postgres decide who does what.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog
from redis.asyncio import Redis

from shared.blobs import BlobStore
from shared.budgets import open_budgets
from shared.errors import PenstockError, StoreAway
from shared.providers.account import AccountSettings
from shared.providers.paybook.settings import PaybookAccount
from shared.redis_clients import open_redis
from shared.sealing import Keys
from shared.settings import Settings
from shared.spool import Spool
from shared.store import retention_guard
from shared.store.gaps import rhythms, walks
from shared.store.postgres import Connection, connect_once
from shared.watching import ConfigurationWatch
from workers.relay.duties import Duty
from workers.relay.metrics import relay_metrics
from workers.relay.retaining import Retaining


log = structlog.get_logger("penstock.relay")

LOOK_SECONDS = 15.0
REDIS_SECONDS = 2.0
AGAIN_SECONDS = 600.0
"""A walk that stopped goes on after this time."""
PATIENCE_SECONDS = 600.0
"""Calls to a provider take their time: a page of a walk may wait for its budget."""


class Schedules:
    """What is due, by the settings in force. ``progressed`` is told that a duty whose rounds are long came further."""

    def __init__(
        self, database_url: str, settings: Settings, watch: ConfigurationWatch, progressed: Callable[[str], None]
    ) -> None:
        self._database_url = database_url
        self._settings = settings
        self._watch = watch
        self._progressed = progressed
        self._not_before: dict[tuple[str, str], float] = {}
        self._looked_at: dict[str, float] = {}
        self._refused: list[retention_guard.Refusal] = []

    def duties(self) -> Sequence[Duty]:
        """Each with a connection of its own, which may hold a lock for longer than a transaction."""
        return [
            Duty(name, LOOK_SECONDS, partial(self._alone, due), patience_seconds=PATIENCE_SECONDS)
            for name, due in (
                ("listen-for-silence", self.listen),
                ("reconcile", self.reconcile),
                ("watch-registrations", self.watch_registrations),
                ("retain", self.retain),
            )
        ]

    async def _alone(self, due: Callable[[Connection], Awaitable[None]]) -> None:
        connection = await connect_once(self._database_url)
        try:
            await due(connection)
        finally:
            connection.terminate()

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
            tell = partial(self._moved, "reconcile")
            walk = Reconciliation(connection, asking, keys, self._watch.current, provider, account, tell)
            report = await walk.run()
        counts = report.tally._asdict()
        if report.stopped:
            self._not_before[provider, account.name] = asyncio.get_running_loop().time() + AGAIN_SECONDS
            log.warning(
                "reconciliation stopped", provider=provider, account=account.name, reason=report.stopped, **counts
            )
        else:
            log.info("reconciled", provider=provider, account=account.name, **counts)

    def _moved(self, duty: str, *_: object) -> None:
        self._progressed(duty)

    async def retain(self, connection: Connection) -> None:
        """Remove what is older than the settings say; nothing while some have vanished, for they may have said more."""
        if self._watch.missing or not (self._watch.knows_accounts or self._watch.removes_by_file):
            return
        blobs = BlobStore.open(self._settings.blobs, Keys.parse(self._settings.encryption_keys))
        async with self._redis() as redis:
            spool = Spool(redis) if redis else None
            await Retaining(connection, blobs, self._watch.current, spool=spool).look()
        refused = await retention_guard.refusals(connection)
        relay_metrics().retention(len(refused))
        for refusal in refused:
            if refusal not in self._refused:
                log.warning(
                    "retention does not remove what is old",
                    provider=refusal.walk.provider,
                    account=refusal.walk.account,
                    what=refusal.walk.what,
                    reason=refusal.sentence,
                )
        self._refused = refused

    @asynccontextmanager
    async def _redis(self) -> AsyncIterator[Redis | None]:
        if self._settings.redis_url is None:
            yield None
            return
        redis = open_redis(self._settings.redis_url.get_secret_value(), seconds=REDIS_SECONDS)
        try:
            yield redis
        finally:
            await redis.aclose()

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
