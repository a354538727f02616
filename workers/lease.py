"""The lease of a worker process: a beat every few seconds, from a thread of its own.

The work's loop also reads answers of many megabytes, and a thread that shares a processor with busier programs may get
a tenth of it: a beat on that loop comes late although the process lives, and its claims would go to others. So the beat
waits for nothing of the work. But it must not vouch for a loop that stands still: it beats only while that loop has
shown a sign of life lately, and ends a process whose loop shows none for longer than any task may last.
"""

import asyncio
import os
import signal
import threading
import time
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from shared.configuration import Timing
from shared.errors import StoreAway
from shared.store import leases
from shared.store.postgres import AWAY, Connection, connect_once
from shared.watching import ConfigurationWatch


RETRY_SECONDS: Final = 1.0
LIFE_SECONDS: Final = 0.5
"""How often the work's loop shows a sign of life."""
LOOK_SECONDS: Final = 0.5
STALL_SECONDS: Final = 10.0
"""A look that comes so late says that this thread stood still itself, and perhaps the whole machine."""
LATE_SECONDS: Final = 10.0
"""A loop that has stood still for so long is told of in the log."""
STOP_SECONDS: Final = 5.0


class Life:
    """The signs of life of a loop, as another thread sees them: none while it is busy with one thing, or hangs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._shown = self._looked = time.monotonic()

    def begin(self) -> None:
        """Show signs from now on; on the loop itself."""
        self._shown = time.monotonic()
        self._loop.call_later(LIFE_SECONDS, self.begin)

    def still(self) -> float:
        """For how many seconds there was no sign. To be asked all the time: whoever asks late knows nothing."""
        now = time.monotonic()
        if now - self._looked > STALL_SECONDS:
            self._shown = max(self._shown, now)
        self._looked = now
        return now - self._shown


class Lease:
    """Keeps a process's lease in force from ``start`` to ``stop``."""

    def __init__(self, url: str, worker: UUID, name: str, watch: ConfigurationWatch, life: Life) -> None:
        self._url = url
        self._worker = worker
        self._name = name
        self._watch = watch
        self._life = life
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._told = False
        self._log = structlog.get_logger("penstock.worker").bind(process=name)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; blocks until the last beat is over, or given up."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._beat())

    async def _beat(self) -> None:
        """On a connection of its own: no statement of the work holds it up."""
        while not self._stopped.is_set():
            try:
                connection = await connect_once(self._url)
                try:
                    await self._beat_until_away(connection)
                finally:
                    connection.terminate()
            except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
                self._log.warning("the lease could not be renewed", reason=str(error) or type(error).__name__)
            except Exception:  # noqa: BLE001 - this thread is all that keeps the process's claims
                self._log.exception("the lease could not be renewed")
            await self._wait(RETRY_SECONDS)

    async def _beat_until_away(self, connection: Connection) -> None:
        while not self._stopped.is_set():
            timing = self._watch.current.timing
            if self._lives(timing):
                async with asyncio.timeout(timing.lease_seconds / 2):
                    await leases.beat(connection, self._worker, self._name)
            await self._wait(timing.beat_seconds)

    async def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopped.is_set() and (left := until - time.monotonic()) > 0:
            self._lives(self._watch.current.timing)
            await asyncio.sleep(min(left, LOOK_SECONDS))

    def _lives(self, timing: Timing) -> bool:
        """Whether the work's loop goes on; one that did not within the time of a task never will."""
        still = self._life.still()
        if still < LATE_SECONDS:
            self._told = False
        elif not self._told:
            self._told = True
            self._log.warning("the loop of this process is busy with one thing", seconds=round(still, 1))
        if still > timing.time_limit_seconds:
            self._log.error("the loop of this process hangs; the process is ended", seconds=round(still, 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return still <= timing.soft_limit_seconds
