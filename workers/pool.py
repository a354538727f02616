"""The children of a worker, as Celery's prefork pool keeps them, but for two faults of Celery 5.6 and their memory.

After a lost connection its pool takes every child for free (``AsynPool.flush``), and hands the next task to one that
still works on another: the task waits behind it, for up to the time limit, while other children have nothing to do.
Mended in 5.7 (https://github.com/celery/celery/pull/10346), which cannot be used: docs/decisions/0002-celery.md.

It forgets as well what a child was only just handed, and then hears nothing of it: ``_Children.flush``.

A child shares its parent's memory until one of them writes to it, and a garbage collector writes into every object that
it looks at: what is there before the fork is hidden from it (https://docs.python.org/3/library/gc.html#gc.freeze).

The parent can see that a child has ended, long before the child's lease lapses: ``ended`` tells who looks.
"""

import gc
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

from workers.forking import FORK_LOCK


_children: Final[dict[int, UUID]] = {}
"""What those hold leases as that were started and not yet seen to have ended, by process id."""
_forked_as: UUID | None = None
"""In a child its own id, drawn before its fork: its process id may be that of one that ended, or of a later one."""


def own_id() -> UUID:
    """What this child holds leases as."""
    return _forked_as or uuid4()


def ended() -> list[UUID]:
    """The children that have ended since the last time, in whatever way, by what they held leases as."""
    gone = [pid for pid in tuple(_children) if not _lives(pid)]
    replaced, _replaced[:] = list(_replaced), []
    return [*replaced, *(_children.pop(pid) for pid in gone)]


_replaced: Final[list[UUID]] = []
"""Those whose process id was given to the next child before anybody had looked."""


def _lives(pid: int) -> bool:
    """Whether a child works on; not one that is dead and only not waited for. Where there is no /proc, who knows."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/stat").exists()


class _Children(AsynPool):
    _busy_workers: set[int]
    _cache: dict[int, Any]

    def _create_worker_process(self, number: int) -> Any:
        global _forked_as  # noqa: PLW0603 - a fork hands on nothing else than what is there already
        gc.collect()
        gc.freeze()
        with FORK_LOCK:
            known_as = _forked_as = uuid4()
            child = super()._create_worker_process(number)  # type: ignore[misc]  # celery-types do not know it
            if (before := _children.get(child.pid)) is not None:
                _replaced.append(before)
            _children[child.pid] = known_as
        return child

    def flush(self) -> None:
        """Forget what no child has been handed, but nothing that one works on or has in its pipe."""
        busy = set(self._busy_workers)
        given = {number: job for number, job in self._cache.items() if self._pipe(job) is not None}
        super().flush()
        # Celery's own forgets what was handed over and not yet reported as begun. The child does it all the same, and
        # when it is to end it waits for half a minute for somebody to read the result.
        self._cache.update((number, job) for number, job in given.items() if not job.ready() and self._pipe(job))
        self._busy_workers |= busy & {self._pipe(job) for job in self._cache.values()}

    @staticmethod
    def _pipe(job: Any) -> int | None:
        """What the child is known by that lives and was handed the job, or a part of it."""
        child = job._write_to  # noqa: SLF001 - as Celery's own pool does
        return int(child.inqW_fd) if child is not None and child._is_alive() else None  # noqa: SLF001


class TaskPool(prefork.TaskPool):
    """Celery's own, with these children."""

    Pool = _Children
