"""What is due of a provider: the conditions, and one look that says whether there is anything at all.

A worker looks after every step. What a claim costs it then pays only where there is something to claim.
"""

from typing import Final, NamedTuple

from shared.store.fairness import any_due
from shared.store.postgres import Connection


EVENT_WAITS: Final = "state = 'received' AND claimed_by IS NULL AND NOT suspect AND due_at IS NULL"
"""What was put off has a time, and is due once the relay has taken that away."""
EVENT_SUSPECT: Final = "state = 'received' AND claimed_by IS NULL AND suspect AND due_at IS NULL"
FETCH_OPEN: Final = "state IN ('pending', 'waiting')"
FETCH_WAITS: Final = f"{FETCH_OPEN} AND NOT suspect"
FETCH_DUE: Final = """
    due_at <= now()
    AND NOT EXISTS (SELECT FROM fetches r WHERE r.resource = fetches.resource AND r.state = 'running' OFFSET 0)
"""

_LOOK: Final = f"""
    SELECT EXISTS (
            SELECT FROM events WHERE provider = $1 AND {EVENT_WAITS} ORDER BY account OFFSET 0
        ) AS events,
        {any_due("fetches", FETCH_WAITS, "due_at", FETCH_DUE)} AS fetches,
        EXISTS (
            SELECT FROM events WHERE provider = $1 AND {EVENT_SUSPECT} ORDER BY id OFFSET 0
        ) OR EXISTS (
            SELECT FROM fetches WHERE provider = $1 AND {FETCH_OPEN} AND suspect AND {FETCH_DUE}
        ) AS suspects
"""  # noqa: S608 - put together from constants of this module


class Due(NamedTuple):
    """Whether there are events to plan, calls to make, and either of them that must be tried alone."""

    events: bool
    fetches: bool
    suspects: bool


async def look(connection: Connection, provider: str) -> Due:
    """What is due now, whoever will have taken it a moment later. To be asked on a connection ``in_index_order``."""
    row = await connection.fetchrow(_LOOK, provider)
    if row is None:
        raise AssertionError("a SELECT without FROM returned no row")
    return Due(*row)
