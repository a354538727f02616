"""Whether a process noted earlier is still the same one: process ids are given out again."""

from pathlib import Path


def started_at(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone or a zombie (``man 5 proc``)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may hold spaces and brackets itself.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(fields[18])


def alive(pid: int, started: int) -> bool:
    """Whether this very process still runs."""
    return started_at(pid) == started
