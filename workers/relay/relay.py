"""The relay: queues again whatever is due, so that a lost message, a flushed Redis or a dead worker loses nothing.

Any number may run: rows are taken by SKIP LOCKED and stamped, a bounded number a round. Each duty is a loop of its own:
what was acknowledged is drained, queued and handed over whatever becomes of the housekeeping.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.background import Background
from shared.errors import StoreAway
from shared.heartbeat import beat
from shared.providers.registry import PROVIDERS
from shared.publishing import Publisher
from shared.queue import HAND_OVER_TASK, HANDLERS_QUEUE, fetch_task, plan_task, queue_of
from shared.redis_clients import open_redis
from shared.settings import Settings
from shared.spool import Spool
from shared.store import duties as told_duties
from shared.store import known_accounts, quarantine, queueing, returning, settings_trouble, settlements
from shared.store.postgres import Connection, Pool, acquired, open_pool
from shared.store.records.numbering import number_backlog
from shared.watching import ConfigurationWatch
from workers.hand_over.waking import WakingHandlers
from workers.relay.draining import Draining
from workers.relay.duties import Duties, Duty
from workers.relay.gauging import Gauging
from workers.relay.lapsing import Lapsing
from workers.relay.metrics import relay_metrics
from workers.relay.schedules import Schedules


log = structlog.get_logger("penstock.relay")

TICK_SECONDS = 0.5
NUMBERING_SECONDS = 0.5
"""So much of a round goes at most to a backlog of changes, and as much is rest: the numbering of what a large refresh
brings is not to take a whole processor from the refresh."""
HOUSEKEEPING_SECONDS = 10.0
WELCOME_SECONDS = 5.0
WELCOME_MORE_SECONDS = 0.25
"""Between 500 events that go on and the next 500: they come slower than they are queued, so what is due meanwhile does
not have to wait behind all of them."""
TELL_SECONDS = 5.0
RETRY_START_SECONDS = 1.0
REDIS_SECONDS = 2.0
IDS_A_TICK = 2000
IDS_A_MESSAGE = 100
LONG_QUEUE = 100
"""A queue with this many messages gets no copies: its workers take up whatever is due with each message anyway."""

_Work = Callable[[Connection], Awaitable[object]]


class Relay:
    """One relay process."""

    def __init__(self, settings: Settings, heartbeat: Path | None = None) -> None:
        if settings.database_url is None or settings.redis_url is None:
            raise StoreAway(
                "no database or Redis is set: start `penstock up`, or set PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL"
            )
        self._settings = settings
        self._database_url = settings.database_url.get_secret_value()
        self._redis_url = settings.redis_url.get_secret_value()
        self._metrics = relay_metrics()
        self._watch = ConfigurationWatch(settings.config)
        self._publisher = Publisher(self._redis_url, self._watch.current.timing, PROVIDERS)
        self._duties = Duties(self._metrics)
        self._heartbeat = heartbeat
        self._welcomed = 0

    async def run(self) -> None:
        """Keep every duty until cancelled; a store that is away is waited for."""
        try:
            # The next round is the retry.
            async with (
                Background() as background,
                _closed(open_redis(self._redis_url, seconds=REDIS_SECONDS, retries=0)) as redis,
                Gauging(self._redis_url, self._watch, self._metrics) as gauging,
            ):
                background.start("settings", self._watch.run)
                background.start("accounts", self._keep_known_accounts)
                if self._heartbeat:
                    background.start("heartbeat", partial(beat, self._heartbeat, lambda: self.goes_on))
                async with self._pool() as pool:
                    await self._duties.keep(self._all(redis, gauging, pool))
        finally:
            self._publisher.close()

    @property
    def goes_on(self) -> bool:
        """Whether it works, or waits for a store as it should; not while a round of what is promised takes too long."""
        return self._duties.goes_on

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[Pool]:
        """A connection for each duty at once; opened as soon as Postgres is there, and it outlives its restarts."""
        while True:
            try:
                pool = await open_pool(self._database_url, name="relay", size=_POOLED)
                break
            except StoreAway as error:
                log.warning("a store is away; trying again", reason=str(error))
            await asyncio.sleep(RETRY_START_SECONDS)
        try:
            yield pool
        finally:
            pool.terminate()

    def _all(self, redis: Redis, gauging: Gauging, pool: Pool) -> Sequence[Duty]:
        draining = Draining(Spool(redis), PROVIDERS, self._announce)
        waking = WakingHandlers(lambda name: self._publisher.publish(HAND_OVER_TASK, HANDLERS_QUEUE, [name]))
        lapsing = Lapsing(self._watch)

        def on(work: _Work) -> Callable[[], Awaitable[object]]:
            return partial(self._on, pool, work)

        return (
            Duty("drain-spool", TICK_SECONDS, on(draining.drain), promised=True),
            Duty("queue-due", TICK_SECONDS, on(partial(self._queue, redis)), promised=True),
            Duty("wake-handlers", TICK_SECONDS, on(waking.wake), promised=True),
            Duty("number-changes", TICK_SECONDS, on(partial(self._number, waking))),
            Duty("welcome-accounts", WELCOME_SECONDS, on(self._welcome), more_seconds=WELCOME_MORE_SECONDS),
            Duty("lapse-handovers", waking.LAPSE_SECONDS, on(partial(waking.lapse, self._watch))),
            Duty("end-leases", lapsing.every_seconds, on(lapsing.look)),  # asked for anew: the settings may change it
            Duty("settle-events", TICK_SECONDS, on(settlements.settle_next)),
            Duty("fold-tallies", HOUSEKEEPING_SECONDS, on(queueing.fold_tallies)),
            Duty("lapse-quarantine", HOUSEKEEPING_SECONDS, on(_lapse_quarantine)),
            Duty("gauge-postgres", gauging.LOOK_SECONDS, on(gauging.ask_postgres)),
            Duty("gauge-redis", gauging.LOOK_SECONDS, gauging.ask_redis),
            Duty("tell-standing", TELL_SECONDS, on(self._tell)),
            *Schedules(self._database_url, self._settings, self._watch, self._duties.progressed).duties(),
        )

    async def _on(self, pool: Pool, work: _Work) -> object:
        async with acquired(pool, self._database_url) as connection:
            return await work(connection)

    async def _keep_known_accounts(self) -> None:
        await known_accounts.keep(self._database_url, self._watch, tell=settings_trouble.tell)

    async def _number(self, waking: WakingHandlers, connection: Connection) -> None:
        # In this order: a new handler begins with now, which is the highest number that was given before it was known.
        await waking.register(connection, self._watch.current)
        await number_backlog(connection, NUMBERING_SECONDS)

    async def _welcome(self, connection: Connection) -> bool:
        """What waited for an account that is (again) configured goes on; whether there is more of it.

        Again and again, not only when the settings change: a worker that saw the change later parks events after it.
        """
        accounts = await returning.with_room(connection, self._watch.accounts())
        went_on = await returning.go_on(connection, accounts)
        self._welcomed += went_on
        if went_on == returning.AT_ONCE:
            return True
        if self._welcomed:
            log.info("accounts are configured again; their events go on", events=self._welcomed)
            self._welcomed = 0
        return False

    async def _tell(self, connection: Connection) -> None:
        await told_duties.tell(connection, self._duties.told())

    async def _queue(self, redis: Redis, connection: Connection) -> bool:
        """Queue what is due; whether there may be more of it."""
        # Whatever becomes of the queues: with any message a worker takes up what is due, and this is not before.
        more = await queueing.let_due(connection, IDS_A_TICK) == IDS_A_TICK
        providers = await _with_room(redis)
        for due, task in ((queueing.due_events, plan_task), (queueing.due_fetches, fetch_task)):
            found = await due(connection, providers, IDS_A_TICK)
            more |= sum(len(ids) for _, ids in found) == IDS_A_TICK
            for provider, ids in found:
                await asyncio.to_thread(self._publish, task(provider), queue_of(provider), ids)
        return more

    def _announce(self, provider: str, events: Sequence[UUID]) -> None:
        self._publish(plan_task(provider), queue_of(provider), events)

    def _publish(self, task: str, queue: str, ids: Sequence[int | UUID]) -> None:
        plain = [str(one) if isinstance(one, UUID) else one for one in ids]
        for start in range(0, len(plain), IDS_A_MESSAGE):
            self._publisher.publish(task, queue, [plain[start : start + IDS_A_MESSAGE]])


_POOLED = 12
"""As many as there are duties that take one: none waits for the connection of another."""


async def _lapse_quarantine(connection: Connection) -> bool:
    return await quarantine.lapse(connection) == quarantine.LAPSE_AT_ONCE


@asynccontextmanager
async def _closed(redis: Redis) -> AsyncIterator[Redis]:
    try:
        yield redis
    finally:
        await redis.aclose()


async def _with_room(redis: Redis) -> list[str]:
    """The providers whose queues take more, asked for all at once."""
    try:
        async with redis.pipeline(transaction=False) as asking:
            for provider in PROVIDERS:
                asking.llen(queue_of(provider))
            lengths = await asking.execute()
    except (RedisError, OSError) as error:
        raise StoreAway(f"Redis does not answer: {error}") from None
    return [provider for provider, length in zip(PROVIDERS, lengths, strict=True) if length < LONG_QUEUE]
