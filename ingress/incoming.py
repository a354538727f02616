"""The temporary area: where large bodies lie, sealed, until their signature matched and the blob store has them."""

import asyncio
import contextlib
import fcntl
import io
import os
import shutil
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from shared.errors import StoreAway
from shared.sealing import Keys, Sealer


LIMIT_BYTES: Final = 512 * 1024 * 1024
THREADS: Final = 4
SYNC_BYTES: Final = 256 * 1024
"""What may wait for the disk. On ext4 the next commit of Postgres waits for all of it (ext4(5), ``data=ordered``): with
one flush at the end of 64 MiB the slowest hundredth of the others took 15 times as long, not 1.3."""
BYTES_A_SECOND: Final = 64 * 1024 * 1024
"""Of all bodies beyond their first ``AT_ONCE_BYTES`` together. They are digested, sealed and flushed at some five times
the speed: so the small deliveries beside them find a processor and the disk free. Few senders are as fast."""
AT_ONCE_BYTES: Final = 1024 * 1024
NICENESS: Final = 10
"""Large bodies may take their time; small ones, and the loop that serves them, go first."""


class IncomingArea:
    """A folder of this process alone, bounded over all its requests. Folders of processes that died are removed.

    A folder belongs to the process that holds the lock on its file ``lock``; the lock ends with the process, however
    that ends.
    """

    def __init__(self, parent: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Make the folder. Raises StoreAway."""
        self._limit = limit_bytes
        self._used = 0
        self._free_at = 0.0
        self._counting = threading.Lock()
        # Threads of their own: a disk that hangs must hold up nothing but large bodies.
        self.threads: Executor = ThreadPoolExecutor(THREADS, "bodies", initializer=_step_back)
        self.folder = parent / uuid4().hex
        try:
            parent.mkdir(parents=True, exist_ok=True)
            # Whoever starts at the same time must not see this folder between its making and its lock.
            with (parent / "lock").open("a") as everybody:
                fcntl.flock(everybody, fcntl.LOCK_EX)
                _remove_leftovers(parent)
                self.folder.mkdir()
                self._lock = (self.folder / "lock").open("a")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreAway(f"the temporary area {parent} cannot be used: {error}") from None

    def take(self, count: int) -> None:
        """Claim space. Raises StoreAway when the area is full."""
        with self._counting:
            if self._used + count > self._limit:
                raise StoreAway(f"the temporary area {self.folder.parent} is full: {self._limit} bytes")
            self._used += count

    def give_back(self, count: int) -> None:
        """Return space that was claimed."""
        with self._counting:
            self._used -= count

    def pace(self, count: int) -> float:
        """When the next bytes may be taken, by the loop's clock, after so many. From the loop alone."""
        self._free_at = max(self._free_at, asyncio.get_running_loop().time()) + count / BYTES_A_SECOND
        return self._free_at

    def close(self) -> None:
        """Remove the folder."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


class IncomingFile:
    """One body on its way in: sealed as it comes, and deleted by ``discard_soon`` whatever became of it."""

    def __init__(self, area: IncomingArea, keys: Keys, event_id: UUID, account: tuple[str, str] | None = None) -> None:
        self.path = area.folder / event_id.hex
        self._area = area
        self._sealer = Sealer(keys, event_id, account)
        self._reserved = 0
        self._file: io.FileIO | None = None
        self._busy = threading.Lock()
        self._discarded = False
        self._unsynced = 0

    @property
    def threads(self) -> Executor:
        """Where what blocks is to run."""
        return self._area.threads

    def reserve(self, count: int) -> float:
        """Claim space for the next bytes; says when those after them may be taken (``pace``). Raises StoreAway."""
        self._area.take(count)
        self._reserved += count
        return self._area.pace(count) if self._reserved > AT_ONCE_BYTES else 0.0

    def write(self, data: bytes) -> None:
        """Seal and write the next plain bytes. Blocks. Raises StoreAway."""
        self._append(self._sealer.update(data))

    def finish(self) -> None:
        """Write the end. Blocks. Raises StoreAway."""
        self._append(self._sealer.finish())

    def discard_soon(self) -> "asyncio.Future[None]":
        """Delete the file and give its space back, in a thread: a write that hangs may have to end first."""
        return asyncio.get_running_loop().run_in_executor(None, self._discard)

    def _append(self, sealed: bytes) -> None:
        with self._busy:
            if self._discarded:
                raise StoreAway("the body was given up")
            try:
                if self._file is None:
                    # Unbuffered: what comes here is large.
                    self._file = io.FileIO(self.path, "xb")
                self._unsynced += len(sealed)
                view = memoryview(sealed)
                while view:
                    view = view[self._file.write(view) or 0 :]
                if self._unsynced >= SYNC_BYTES:
                    os.fdatasync(self._file.fileno())
                    self._unsynced = 0
            except (OSError, ValueError) as error:
                raise StoreAway(f"the temporary area {self.path.parent} cannot be written: {error}") from None

    def _discard(self) -> None:
        with self._busy:
            self._discarded = True
            if self._file is not None:
                self._file.close()
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            self._area.give_back(self._reserved)
            self._reserved = 0


def _step_back() -> None:
    """Lower the priority of this thread alone, which Linux can (setpriority(2), "C library/kernel differences")."""
    if sys.platform == "linux":
        # A sandbox may forbid it; a thread pool whose threads fail to start would refuse every large body.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.iterdir():
        if not folder.is_dir():
            continue
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)
