"""The watchdog of a worker process: sends the canary, judges by it, and ends a process that works no more.

Whoever starts the worker again (the supervisor, Kubernetes) needs no judgement of its own, except for a process that
stands still as a whole: its heartbeat, a file that is touched every second, grows old. docs/decisions/0010-canary.md
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import asyncpg
import structlog
from billiard import active_children
from celery import Celery
from celery.signals import worker_init, worker_shutting_down
from celery.worker import state

from shared.errors import StoreAway
from shared.settings import Settings
from shared.store import leases
from shared.store.postgres import AWAY, connect_once
from workers.forking import FORK_LOCK
from workers.health.canary import Canary
from workers.health.metrics import WorkerMetrics, serve
from workers.pool import ended


if TYPE_CHECKING:
    from uuid import UUID

TICK_SECONDS: Final = 1.0
SEND_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 30.0
"""Longer than the slowest reconnect of a worker that needs no help (connections cut without a word)."""
STALL_SECONDS: Final = 5.0
"""A watchdog that stood still this long knows nothing of the time before."""
GRACE_SECONDS: Final = 10.0
END_SECONDS: Final = 3.0
"""For ending the leases of dead children: a Postgres that stands still must not stop the heartbeat."""

log = structlog.get_logger("penstock.worker")


class Occupied:
    """Whether every child of this process has work, so that no message is taken; believed for ``longest`` seconds.

    Prefetch is 1: a worker whose children are all busy leaves everything on the queue, the canary as well. No task
    outlives the hard time limit, so a process that began nothing for longer than that is not busy but broken.
    """

    def __init__(self, children: int, longest: float) -> None:
        self._children = children
        self._longest = longest
        self._begun = 0
        self._begun_at = time.monotonic()

    def __call__(self) -> bool:
        """Whether it is so now."""
        now = time.monotonic()
        if self._begun != (begun := state.all_total_count[0]):
            self._begun, self._begun_at = begun, now
        # Not reserved_requests: a lost connection empties that while the children work on.
        return len(state.active_requests) >= self._children and now - self._begun_at < self._longest


class Verdict:
    """Whether the worker lives: it is dead when it was due to take its canary for ``patience`` seconds and did not.

    It is not due to while a store is away or all children are busy: a new process would be no better off.
    """

    def __init__(self, seen_at: Callable[[], float], patience: float = PATIENCE_SECONDS) -> None:
        self._seen_at = seen_at
        self._patience = patience
        self._due_since = self._looked = time.monotonic()

    def excuse(self) -> None:
        """The worker cannot be expected to have taken the canary until now."""
        self._due_since = time.monotonic()

    def overdue(self) -> float:
        """For how long the canary has been due, in seconds; 0.0 within the patience. To be asked every second."""
        now = time.monotonic()
        if now - self._looked > STALL_SECONDS:
            self._due_since = now
        self._looked = now
        self._due_since = max(self._due_since, self._seen_at())
        due = now - self._due_since
        return due if due > self._patience else 0.0


class Watchdog:
    """Runs in a thread of the worker's main process from its start."""

    def __init__(
        self, canary: Canary, occupied: Occupied, metrics: WorkerMetrics, database_url: str, heartbeat: Path | None
    ) -> None:
        self.dead = False
        self._canary = canary
        self._occupied = occupied
        self._verdict = Verdict(lambda: canary.seen_at)
        self._metrics = metrics
        self._database_url = database_url
        self._heartbeat = heartbeat
        self._sent_at = float("-inf")
        self._idle_until: float | None = None
        self._dead_children: list[UUID] = []

    def start(self) -> None:
        """Begin to watch."""
        if self._heartbeat:
            self._heartbeat.parent.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def drain(self) -> None:
        """The worker was asked to end: it takes no message any more, and that is right; it ends with its last task."""
        self._idle_until = time.monotonic() + GRACE_SECONDS

    def _run(self) -> None:
        while not self.dead:
            self._tick()
            time.sleep(TICK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        _end_at_once()

    def _tick(self) -> None:
        with FORK_LOCK:
            if self._heartbeat:
                self._heartbeat.touch()
            self._end_leases_of_dead_children()
            self._metrics.canary_age(time.monotonic() - self._canary.seen_at)
            if self._idle_until is None:
                self._look()
            else:
                self._see_it_end()

    def _see_it_end(self) -> None:
        """End the process that nothing holds back but its own attempts to tell an absent Redis of its end.

        kombu tries again for ever (``Connection.ensure`` without ``max_retries``, in the consumer's heartbeat), and
        asks nobody meanwhile whether to stop.
        """
        if state.active_requests:
            self._idle_until = time.monotonic() + GRACE_SECONDS
        elif self._idle_until is not None and time.monotonic() > self._idle_until:
            log.warning("nothing is left to finish, yet the worker does not end; it is ended")
            _end_at_once()

    def _look(self) -> None:
        if time.monotonic() - self._sent_at >= SEND_SECONDS:
            self._sent_at = time.monotonic()
            try:
                self._canary.send()
            except StoreAway:
                self._verdict.excuse()
        if self._occupied():
            self._verdict.excuse()
        if not (overdue := self._verdict.overdue()):
            return
        # A child that is only now starting waits for Postgres, and runs nothing before.
        if not self._postgres_answers():
            self._verdict.excuse()
            return
        self.dead = True
        log.error(
            "the worker takes no messages although both stores answer and it has room; it ends, to be started again",
            overdue_seconds=round(overdue, 1),
        )

    def _end_leases_of_dead_children(self) -> None:
        """What a dead child held is due again at once, and not only when its lease has lapsed: its parent knows."""
        self._dead_children += ended()
        if not self._dead_children:
            return

        async def end() -> int:
            async with asyncio.timeout(END_SECONDS):
                connection = await connect_once(self._database_url)
                try:
                    return await leases.end(connection, self._dead_children)
                finally:
                    connection.terminate()

        try:
            if asyncio.run(end()):
                log.warning("a child died; its work is due again")
            self._dead_children.clear()
        except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
            # At the next look again, if the relay is not quicker.
            log.warning("the lease of a dead child stays", reason=str(error) or type(error).__name__)

    def _postgres_answers(self) -> bool:
        async def connect() -> None:
            connection = await connect_once(self._database_url)
            connection.terminate()

        try:
            asyncio.run(connect())
        except StoreAway:
            return False
        return True


def _end_at_once() -> NoReturn:
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)
    os._exit(os.EX_SOFTWARE)


def watch(
    app: Celery,
    settings: Settings,
    name: str,
    *,
    children: int,
    longest: float,
    heartbeat: Path | None,
    port: int | None,
) -> str:
    """Watch the worker that ``app`` is about to be; the queue that it must consume too.

    ``longest`` is the hard time limit of a task; ``port`` is where ``/metrics`` and ``/health/live`` answer. Raises
    StoreAway where no store is set, SettingsError where the port is taken.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise StoreAway(
            "no database or Redis is set: start `penstock up`, or set PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL"
        )
    canary = Canary(app, settings.redis_url.get_secret_value())
    occupied = Occupied(children, longest + PATIENCE_SECONDS)
    database_url = settings.database_url.get_secret_value()
    watchdog = Watchdog(canary, occupied, WorkerMetrics(name), database_url, heartbeat)
    if port is not None:
        serve(port, settings.host, lambda: not watchdog.dead)

    @worker_init.connect(weak=False)
    def start(**_: Any) -> None:
        watchdog.start()

    @worker_shutting_down.connect(weak=False)
    def drain(**_: Any) -> None:
        watchdog.drain()

    return str(canary.queue.name)
