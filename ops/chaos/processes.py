"""Processes by their ids: their descendants, signals to all of them, limits on the files that they write."""

import os
import resource
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def family(pid: int) -> list[int]:
    """The process and everything that descends from it, parents first."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                # The second field is the program's name in brackets and may hold spaces and brackets itself.
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                children[int(fields[1])].append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(children[each])
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each of them that still lives."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Stopped for the time of the block: they hold their connections and answer nothing."""
    stopped: list[int] = []
    try:
        for pid in pids:
            stopped.append(pid)
            send([pid], signal.SIGSTOP)  # first, so that it starts no further child
            children = family(pid)[1:]
            stopped.extend(children)
            send(children, signal.SIGSTOP)
        yield
    finally:
        send(reversed(stopped), signal.SIGCONT)


def limit_files(pids: Iterable[int], size: int | None) -> None:
    """Let these processes write no file past this size; None lifts the limit again.

    To them it is a full disk: a write fails with "File too large" where it would fail with "No space left on device".
    """
    for pid in pids:
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
