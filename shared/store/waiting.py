"""Why a fetch waits, in words: for the event that it waits with, and for each that joins it later."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID


HELD: Final = "circuit"
"""The reason of a fetch that waits until its account's circuit closes."""


def words(reason: str | None, seconds: float, detail: str) -> str:
    """For how long, and why; nobody knows for how long a fetch is held."""
    if reason == HELD:
        return f"until the API takes calls again: {detail}"
    return f"{max(0.0, seconds):.0f} s: {detail}"


def joined(events: Iterable[UUID], path: str, wait: str) -> list[tuple[UUID, str, str]]:
    """The timeline's lines of events that joined a fetch which waits already."""
    return [(event, "joined", f"GET {path}, which waits {wait}") for event in events]
