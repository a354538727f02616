"""What one worker process has for its whole life: an event loop, a database pool, an HTTP client, a lease.

Celery calls tasks in the process's main thread; the work itself runs on one long-lived asyncio loop in a second
thread, so that connections outlive tasks. Everything is made after the fork and closed before the process ends.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import structlog
import uvloop

from shared.background import Background
from shared.blobs import BlobStore
from shared.budgets import Budgets
from shared.errors import PenstockError, StoreAway
from shared.providers.registry import PROVIDERS
from shared.publishing import Publisher
from shared.queue import queue_of
from shared.sealing import Keys, UnknownKey
from shared.settings import Settings
from shared.store import keys as data_keys
from shared.store import known_accounts, leases
from shared.store.fetching import ClaimedFetch
from shared.store.planning import ClaimedEvent
from shared.store.postgres import AWAY, Connection, Pool, open_pool
from shared.tracing import Tracing, open_tracing
from shared.watching import ConfigurationWatch
from workers.calling import Caller
from workers.follow_up.metrics import follow_up_metrics
from workers.follow_up.probing import Probing
from workers.follow_up.sessions import Sessions
from workers.lease import Lease, Life
from workers.transactions import again_on_conflict


T = TypeVar("T")

POOL_SIZE = 3
START_SECONDS = 30.0
STOP_SECONDS = 5.0
RETRY_START_SECONDS = 1.0
LEAST_USES = 100_000
"""More than a batch seals."""


class WorkerProcess:
    """The process's belongings. ``start`` after the fork, ``stop`` before the end; ``run`` from the main thread."""

    pool: Pool
    claims: Pool
    """One connection: claims wait for each other anyway."""
    caller: Caller
    sessions: Sessions
    budgets: Budgets
    publisher: Publisher

    def __init__(self, settings: Settings, watch: ConfigurationWatch, name: str, leased_as: UUID | None = None) -> None:
        self.settings = settings
        self.watch = watch
        self.id: UUID = leased_as or uuid4()
        self.name = f"{name}-{os.getpid()}"
        self.keys = Keys.parse(settings.encryption_keys)
        self.blobs = BlobStore.open(settings.blobs, self.keys)
        self.metrics = follow_up_metrics()
        self.tracing: Tracing | None = None
        self._held: set[UUID | int] = set()
        self._claiming = asyncio.Lock()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="work", daemon=True)
        self._background = Background()
        self._life = Life(self._loop)
        self._opened = contextlib.AsyncExitStack()
        # One: what it does needs the interpreter, so two would only hold each other up, and the loop.
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._log = structlog.get_logger("penstock.worker").bind(process=self.name)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Connect and take up a lease; waits for a Postgres that is only now starting."""
        self.tracing = open_tracing("penstock-worker")
        self._thread.start()
        self._submit(self._open()).result()

    def stop(self) -> None:
        """Give claims and connections back; what cannot be given back in time lapses by itself."""
        closed = False
        with contextlib.suppress(TimeoutError, PenstockError, *AWAY):
            self._submit(self._close()).result(STOP_SECONDS)
            closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        # uvloop waits for ever for a connection that is still being closed; the process ends with it all the same.
        if closed and not self._thread.is_alive():
            self._loop.close()
        if self.tracing:
            self.tracing.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the loop and wait; an exception in this thread (a soft time limit) cancels the work."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def wake(self, provider: str, task: str, ids: Sequence[int] = ()) -> None:
        """Put a task on the provider's queue, for whoever is free; if Redis is away the relay does it later."""
        try:
            await asyncio.to_thread(self.publisher.publish, task, queue_of(provider), [list(ids)])
        except StoreAway as error:
            self._log.warning("a message could not be sent; the relay will", reason=str(error))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _open(self) -> None:
        if self.settings.database_url is None or self.settings.redis_url is None:
            raise StoreAway(
                "no database or Redis is set: start `penstock up`, or set PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL"
            )
        database_url = self.settings.database_url.get_secret_value()
        redis_url = self.settings.redis_url.get_secret_value()
        timing = self.watch.current.timing
        self.publisher = Publisher(redis_url, timing, PROVIDERS)
        self.budgets = Budgets(redis_url)
        self.caller = Caller()
        self.sessions = Sessions(self.caller, self.budgets)
        while True:
            async with contextlib.AsyncExitStack() as opened:
                try:
                    pool = await open_pool(database_url, name=self.name, size=POOL_SIZE)
                    opened.callback(pool.terminate)
                    claims = await open_pool(database_url, name=self.name, size=1, in_index_order=True)
                    opened.callback(claims.terminate)
                    async with pool.acquire() as connection:
                        await leases.beat(connection, self.id, self.name)
                # Any refusal: whoever may not connect yet, or finds no tables, waits for somebody to change that.
                except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
                    self._log.warning("waiting for Postgres", reason=str(error) or type(error).__name__)
                else:
                    self.pool, self.claims = pool, claims
                    self._opened = opened.pop_all()
                    break
            await asyncio.sleep(RETRY_START_SECONDS)
        self._life.begin()
        lease = Lease(database_url, self.id, self.name, self.watch, self._life)
        lease.start()
        self._opened.push_async_callback(self._leave)
        self._opened.push_async_callback(asyncio.to_thread, lease.stop)
        probing = Probing(self.pool, self.budgets, self.caller, self.sessions, self.watch)
        self._background.start("returning", self._return_what_is_not_held)
        self._background.start("configuration", self.watch.run)
        self._background.start("probing", probing.run)
        self._background.start("data-keys", partial(data_keys.keep, database_url, self.keys, tuple))
        self._background.start("known-accounts", partial(known_accounts.keep, database_url, self.watch))

    async def _close(self) -> None:
        await self._background.stop()
        async with self._opened:
            await self.caller.close()
            await self.budgets.close()
            await asyncio.to_thread(self.publisher.close)
        self._aside.shutdown(wait=False, cancel_futures=True)

    async def _leave(self) -> None:
        async with self.pool.acquire() as connection:
            await leases.leave(connection, self.id)
        await self.claims.close()
        await self.pool.close()

    async def aside(self, work: Callable[[], T]) -> T:
        """Do what takes long and waits for nothing in a thread beside the loop, which goes on meanwhile."""
        return await self._loop.run_in_executor(self._aside, work)

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def may_seal(self, provider: str, account: str) -> None:
        """See to it that this process may seal for an account, with its data key. Raises StoreAway."""
        if self.keys.data.left((provider, account)) > LEAST_USES:
            return
        async with self.pool.acquire() as connection:
            await data_keys.look(connection, self.keys)
            await data_keys.reserve(connection, self.keys, [(provider, account)])

    async def unsealing(self, unseal: Callable[[], Awaitable[T]]) -> T:
        """Do it, again after a look at the data keys if one of them is not known here yet. Raises BrokenSeal."""
        try:
            return await unseal()
        except UnknownKey:
            async with self.pool.acquire() as connection:
                await data_keys.look(connection, self.keys)
            return await unseal()

    # ── lease ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def take(
        self,
        work: Callable[[Connection], Awaitable[T]],
        taken: Callable[[T], Iterable[ClaimedEvent | ClaimedFetch]],
        pool: Pool,
    ) -> T:
        """Do a transaction that claims something, and hold what it took until ``let_go``.

        The next beat gives back what is still claimed but not held: a batch whose commit failed, or that was
        cancelled, is due again although its process lives on.
        """
        ids: set[UUID | int] = set()
        try:
            # Giving the connection back may fail as well: what was claimed by then must not stay held.
            async with self._claiming, pool.acquire() as connection:
                done = await again_on_conflict(lambda: work(connection))
                ids.update(item.id for item in taken(done))
                self._held |= ids
        except BaseException:
            self._held -= ids
            raise
        return done

    def let_go(self, ids: Iterable[UUID | int]) -> None:
        """Hold these no more."""
        self._held.difference_update(ids)

    async def _return_what_is_not_held(self) -> None:
        """Until cancelled, as often as it beats: what is claimed and not held is due again."""
        while True:
            timing = self.watch.current.timing
            try:
                async with (
                    asyncio.timeout(timing.lease_seconds / 2),
                    self._claiming,
                    self.claims.acquire() as connection,
                ):
                    await again_on_conflict(partial(self._give_back, connection))
            except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
                self._log.warning("what is not held was not given back", reason=str(error) or type(error).__name__)
            await asyncio.sleep(timing.beat_seconds)

    async def _give_back(self, connection: Connection) -> None:
        events = [held for held in self._held if isinstance(held, UUID)]
        fetches = [held for held in self._held if isinstance(held, int)]
        await leases.give_back(connection, self.id, events, fetches)
