"""How fast an operator's work on many rows goes: so many in a transaction, then a pause for live traffic."""

from typing import NamedTuple


class Pace(NamedTuple):
    """``batch`` rows in one transaction, then a pause."""

    batch: int = 500
    pause_seconds: float = 0.1


STEADY = Pace()
"""As fast as the database takes it, with a short pause between batches."""


def pace_of(per_second: float | None) -> Pace:
    """At most so many a second; None: ``STEADY``."""
    if per_second is None:
        return STEADY
    batch = max(1, min(STEADY.batch, int(per_second)))
    return Pace(batch, batch / per_second)
