"""The relay: queues again whatever is due, so that a lost message, a flushed Redis or a dead worker loses nothing.

Any number may run: rows are taken by SKIP LOCKED and stamped before the message is sent, a bounded number a tick.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from shared.configuration import Configuration
from shared.errors import StoreAway
from shared.heartbeat import beat
from shared.providers.registry import PROVIDERS
from shared.publishing import Publisher
from shared.queue import HAND_OVER_TASK, HANDLERS_QUEUE, fetch_task, plan_task, queue_of
from shared.redis_clients import open_redis
from shared.settings import Settings
from shared.spool import Spool
from shared.store import known_accounts, quarantine, queueing, returning, settings_trouble
from shared.store.postgres import AWAY, Connection, Pool, open_pool
from shared.store.records.numbering import number_backlog
from shared.watching import ConfigurationWatch
from workers.hand_over.waking import WakingHandlers
from workers.relay.draining import Draining
from workers.relay.gauging import keep_gauges
from workers.relay.lapsing import end_lapsed_leases
from workers.relay.metrics import relay_metrics
from workers.relay.schedules import keep_schedules
from workers.transactions import CONFLICTS


log = structlog.get_logger("penstock.relay")

TICK_SECONDS = 0.5
NUMBERING_SECONDS = 0.5
"""So much of a tick goes at most to a backlog of changes: what is due must not wait for all of it, nor is the numbering
of what a large refresh brings to take half a processor from the refresh."""
HOUSEKEEPING_SECONDS = 10.0
REDIS_SECONDS = 2.0
LONGEST_TICK_SECONDS = 60.0
"""Whatever takes longer waits for what has no deadline: the heartbeat stops, and the relay is started anew."""
IDS_A_TICK = 2000
IDS_A_MESSAGE = 100
LONG_QUEUE = 100
"""A queue with this many messages gets no copies: its workers take up whatever is due with each message anyway."""


class Relay:
    """One relay process."""

    def __init__(self, settings: Settings, heartbeat: Path | None = None) -> None:
        if settings.database_url is None or settings.redis_url is None:
            raise StoreAway(
                "no database or Redis is set: start `penstock up`, or set PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL"
            )
        self._settings = settings
        self._database_url = settings.database_url.get_secret_value()
        redis_url = self._redis_url = settings.redis_url.get_secret_value()
        self._metrics = relay_metrics()
        self._watch = ConfigurationWatch(settings.config)
        self._publisher = Publisher(redis_url, self._watch.current.timing, PROVIDERS)
        # The next tick is the retry.
        self._redis = open_redis(redis_url, seconds=REDIS_SECONDS, retries=0)
        self._draining = Draining(Spool(self._redis), PROVIDERS, self._announce)
        self._waking = WakingHandlers(lambda name: self._publisher.publish(HAND_OVER_TASK, HANDLERS_QUEUE, [name]))
        self._seen_version = 0
        self._kept_house_at = 0.0
        self._heartbeat = heartbeat
        self._ticked_at = time.monotonic()

    async def run(self) -> None:
        """Tick until cancelled; a store that is away is waited for."""
        task = asyncio.current_task()
        pool: Pool | None = None
        background = [
            asyncio.create_task(self._watch.run()),
            asyncio.create_task(end_lapsed_leases(self._database_url, self._watch)),
            asyncio.create_task(known_accounts.keep(self._database_url, self._watch, tell=settings_trouble.tell)),
            asyncio.create_task(keep_schedules(self._database_url, self._settings, self._watch)),
            asyncio.create_task(keep_gauges(self._database_url, self._redis_url, self._watch, self._metrics)),
        ]
        if self._heartbeat:
            background.append(asyncio.create_task(beat(self._heartbeat, lambda: self.goes_on)))
        try:
            # redis-py can lose a cancellation that comes while it reads; the task still knows of it.
            while not (task and task.cancelling()):
                try:
                    pool = pool or await open_pool(self._database_url, name="relay", size=2)
                    async with pool.acquire() as connection:
                        await self._tick(connection)
                    self._metrics.ticked()
                except (StoreAway, *AWAY, *CONFLICTS) as error:
                    log.warning("a store is away; trying again", reason=str(error) or type(error).__name__)
                self._ticked_at = time.monotonic()
                await asyncio.sleep(TICK_SECONDS)
        finally:
            for task in background:
                task.cancel()
            if pool is not None:
                pool.terminate()
            await self._redis.aclose()
            self._publisher.close()

    @property
    def goes_on(self) -> bool:
        """Whether it ticks, or waits for a store as it should; not while one tick takes too long."""
        return time.monotonic() - self._ticked_at < LONGEST_TICK_SECONDS

    async def _tick(self, connection: Connection) -> None:
        configuration = self._watch.current
        await self._waking.register(connection, configuration)
        await number_backlog(connection, NUMBERING_SECONDS)
        housekeeping = time.monotonic() - self._kept_house_at > HOUSEKEEPING_SECONDS
        if housekeeping or self._watch.version != self._seen_version:
            self._seen_version = self._watch.version
            await self._welcome(connection, configuration)
            await queueing.fold_tallies(connection)
            await quarantine.lapse(connection)
            self._kept_house_at = time.monotonic()
        await self._draining.drain(connection)
        await self._queue(connection)
        await self._waking.tick(connection, configuration)

    async def _welcome(self, connection: Connection, configuration: Configuration) -> None:
        """What waited for an account that is (again) configured goes on.

        Again and again, not only when the settings change: a worker that saw the change later parks events after it.
        """
        accounts = [(provider, name) for provider, accounts in configuration.accounts.items() for name in accounts]
        if went_on := await returning.go_on(connection, accounts):
            log.info("accounts are configured again; their events go on", events=went_on)

    async def _queue(self, connection: Connection) -> None:
        providers = await self._with_room()
        for due, task in ((queueing.due_events, plan_task), (queueing.due_fetches, fetch_task)):
            async with connection.transaction():
                for provider, ids in await due(connection, providers, IDS_A_TICK):
                    await asyncio.to_thread(self._publish, task(provider), queue_of(provider), ids)

    def _announce(self, provider: str, events: Sequence[UUID]) -> None:
        self._publish(plan_task(provider), queue_of(provider), events)

    def _publish(self, task: str, queue: str, ids: Sequence[int | UUID]) -> None:
        plain = [str(one) if isinstance(one, UUID) else one for one in ids]
        for start in range(0, len(plain), IDS_A_MESSAGE):
            self._publisher.publish(task, queue, [plain[start : start + IDS_A_MESSAGE]])

    async def _with_room(self) -> list[str]:
        """The providers whose queues take more, asked for all at once."""
        try:
            async with self._redis.pipeline(transaction=False) as asking:
                for provider in PROVIDERS:
                    asking.llen(queue_of(provider))
                lengths = await asking.execute()
        except (RedisError, OSError) as error:
            raise StoreAway(f"Redis does not answer: {error}") from None
        return [provider for provider, length in zip(PROVIDERS, lengths, strict=True) if length < LONG_QUEUE]
