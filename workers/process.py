"""What one worker process has for its whole life: an event loop, a database pool, an HTTP client, a lease.

Celery calls tasks in the process's main thread; the work itself runs on one long-lived asyncio loop in a second
thread, so that connections outlive tasks. Everything is made after the fork and closed before the process ends.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import UUID, uuid4

import structlog

from shared.blobs import BlobStore
from shared.budgets import Budgets
from shared.errors import PenstockError, StoreAway
from shared.providers.registry import PROVIDERS
from shared.publishing import Publisher
from shared.queue import fetch_task, queue_of
from shared.sealing import Keys
from shared.settings import Settings
from shared.store import leases
from shared.store.fetching import ClaimedFetch
from shared.store.planning import ClaimedEvent
from shared.store.postgres import AWAY, Connection, Pool, open_pool
from shared.watching import ConfigurationWatch
from workers.calling import Caller
from workers.sessions import Sessions


T = TypeVar("T")
ClaimT = TypeVar("ClaimT", ClaimedEvent, ClaimedFetch)

POOL_SIZE = 4
START_SECONDS = 30.0
STOP_SECONDS = 5.0
RETRY_START_SECONDS = 1.0


class WorkerProcess:
    """The process's belongings. ``start`` after the fork, ``stop`` before the end; ``run`` from the main thread."""

    pool: Pool
    caller: Caller
    sessions: Sessions
    budgets: Budgets
    publisher: Publisher

    def __init__(self, settings: Settings, watch: ConfigurationWatch, name: str) -> None:
        self.settings = settings
        self.watch = watch
        self.id: UUID = uuid4()
        self.name = f"{name}-{os.getpid()}"
        self.keys = Keys.parse(settings.encryption_keys)
        self.blobs = BlobStore.open(settings.blobs, self.keys)
        self._held: set[UUID | int] = set()
        self._claiming = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="work", daemon=True)
        self._background: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("penstock.worker").bind(process=self.name)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Connect and take up a lease; waits for a Postgres that is only now starting."""
        self._thread.start()
        self._submit(self._open()).result()

    def stop(self) -> None:
        """Give claims and connections back; what cannot be given back in time lapses by itself."""
        with contextlib.suppress(TimeoutError, PenstockError, *AWAY):
            self._submit(self._close()).result(STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the loop and wait; an exception in this thread (a soft time limit) cancels the work."""
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def wake(self, provider: str, fetches: Sequence[int]) -> None:
        """Put fetches on the provider's queue for other processes; if Redis is away the relay does it later."""
        try:
            await asyncio.to_thread(self.publisher.publish, fetch_task(provider), queue_of(provider), [list(fetches)])
        except StoreAway as error:
            self._log.warning("a message could not be sent; the relay will", reason=str(error))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _open(self) -> None:
        if self.settings.database_url is None or self.settings.redis_url is None:
            raise StoreAway(
                "no database or Redis is set: start `penstock up`, or set PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL"
            )
        redis_url = self.settings.redis_url.get_secret_value()
        timing = self.watch.current.timing
        self.publisher = Publisher(redis_url, timing, PROVIDERS)
        self.budgets = Budgets(redis_url)
        self.caller = Caller()
        self.sessions = Sessions(self.caller)
        while True:
            try:
                self.pool = await open_pool(
                    self.settings.database_url.get_secret_value(), name=self.name, size=POOL_SIZE
                )
                await self._beat_once()
                break
            except (StoreAway, *AWAY) as error:
                self._log.warning("waiting for Postgres", reason=str(error))
                await asyncio.sleep(RETRY_START_SECONDS)
        self._background = [asyncio.create_task(self._beat()), asyncio.create_task(self.watch.run())]

    async def _close(self) -> None:
        for task in self._background:
            task.cancel()
        async with self.pool.acquire() as connection:
            await leases.leave(connection, self.id)
        await self.caller.close()
        await self.budgets.close()
        await asyncio.to_thread(self.publisher.close)
        await self.pool.close()

    # ── lease ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def holding(self, claim: Callable[[Connection], Awaitable[list[ClaimT]]]) -> AsyncIterator[list[ClaimT]]:
        """Hold what ``claim`` takes for the time of the block.

        Whatever way the block ends, the next beat gives back what is still claimed but no longer held: a batch whose
        commit failed, or that was cancelled, is due again although its process lives on.
        """
        async with self._claiming, self.pool.acquire() as connection:
            claimed = await claim(connection)
            ids = {item.id for item in claimed}
            self._held |= ids
        try:
            yield claimed
        finally:
            self._held -= ids

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.watch.current.timing.beat_seconds)
            try:
                await self._beat_once()
            except AWAY as error:
                self._log.warning("the lease could not be renewed", reason=str(error) or type(error).__name__)

    async def _beat_once(self) -> None:
        async with self._claiming, self.pool.acquire() as connection:
            await leases.beat(connection, self.id, self.name)
            events = [held for held in self._held if isinstance(held, UUID)]
            fetches = [held for held in self._held if isinstance(held, int)]
            await leases.give_back(connection, self.id, events, fetches)
