"""What the screen shows while all runs: how far each provider's events are."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from rich.table import Table


Counts = Sequence[Mapping[str, Any]]
"""One object per provider, as ``penstock stats --json`` prints them."""

ReadCounts = Callable[[], Awaitable[Counts]]
OpenCounts = Callable[[str, str], AbstractAsyncContextManager[ReadCounts]]
"""Opened with the database URL and the Redis URL, for as long as the screen needs it."""

COLUMNS = ("received", "done", "waiting", "failed", "parked", "duplicate")


def figures(one: Mapping[str, Any]) -> dict[str, int]:
    """The columns of one provider. ``received`` is everything ever received, whatever became of it."""
    events: Mapping[str, int] = one.get("events", {})
    return {name: sum(events.values()) if name == "received" else events.get(name, 0) for name in COLUMNS}


def age(one: Mapping[str, Any]) -> str:
    """How long the oldest due work of this provider has been due; a dash when none is."""
    seconds = one.get("oldest_due_seconds")
    return "-" if seconds is None else f"{seconds:.1f} s"


def table(counts: Counts) -> Table:
    """For a terminal."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("provider")
    for name in (*COLUMNS, "oldest due"):
        shown.add_column(name, justify="right", min_width=10)
    for one in counts:
        shown.add_row(str(one["provider"]), *(str(value) for value in figures(one).values()), age(one))
    return shown


def line(counts: Counts) -> str:
    """For a log."""
    return " | ".join(
        " ".join([str(one["provider"]), *(f"{name} {value}" for name, value in figures(one).items()), "due", age(one)])
        for one in counts
    )
