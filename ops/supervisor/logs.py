"""The log files of children: one a process, kept over one start, bounded in size."""

import shutil
from collections.abc import Iterable
from pathlib import Path


MOST_BYTES = 10 * 1024 * 1024
_TAIL_BYTES = 16 * 1024


def rotate(log: Path) -> None:
    """Put the log of the run before beside this run's, as ``NAME.log.1``."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists():
        log.replace(_before(log))


def bound(logs: Iterable[Path], most: int = MOST_BYTES) -> None:
    """Move aside what grew past the bound; the writers hold the files open for appending, so these are cut in place."""
    for log in logs:
        if log.exists() and log.stat().st_size > most:
            shutil.copyfile(log, _before(log))
            with log.open("r+b") as file:
                file.truncate(0)


def tail(log: Path, lines: int = 10) -> str:
    """The last lines of the log, for a message; empty when there are none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _before(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")
