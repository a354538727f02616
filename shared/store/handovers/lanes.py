"""Which hand-overs of a handler may be taken: of each lane (a record) the earliest unfinished one, if it is due.

The earliest of all are found by walking along what is due. Where that leads along the changes of a few records only,
the others are found by leaps from lane to lane (https://wiki.postgresql.org/wiki/Loose_indexscan). So what a claim
costs is bounded, and does not grow with the changes of a record that has many.
"""

from typing import Final


WINDOW: Final = 100
"""So many due hand-overs, the earliest, are looked at in one claim: as many as a handler may have under way."""

LEAPS: Final = 500
"""So many lanes are looked at beside those; where there are more, the next claim goes on behind them."""

FIRST: Final = -(2**63)
_LAST: Final = 2**63 - 1

_OPEN: Final = "state IN ('pending', 'waiting')"
_UNFINISHED: Final = "state IN ('pending', 'running', 'waiting')"

# Sub-selects with a limit, not NOT EXISTS: without statistics (a table that has only just grown) Postgres joins the
# latter by the handler alone and compares all rows with all, which took 20 s with 16,000 that wait.
_NONE_RUNS: Final = """
    NOT coalesce((
        SELECT true FROM handovers r
        WHERE r.handler = h.handler AND r.lane = h.lane AND r.state = 'running' LIMIT 1
    ), false)
"""

# "<=" where "=" says the same, since nothing of a lane is before its earliest: of what is equal Postgres expects hardly
# a row, and then reads and sorts everything that is due instead of walking along the index until it has enough.
EARLIEST: Final = f"""
    found (id) AS MATERIALIZED (
        SELECT id FROM (
            SELECT id, handler, lane, seq, due_at FROM handovers
            WHERE handler = $1 AND {_OPEN} AND due_at <= now() ORDER BY due_at, seq LIMIT {WINDOW}
        ) AS h
        WHERE seq <= (
            SELECT e.seq FROM handovers e
            WHERE e.handler = h.handler AND e.lane = h.lane AND e.{_UNFINISHED} ORDER BY e.seq LIMIT 1
        ) AND {_NONE_RUNS}
        ORDER BY due_at, seq LIMIT $2
    ), seen (whole, lane) AS MATERIALIZED (
        SELECT (SELECT count(*) FROM found) < $2 AND (
            SELECT true FROM handovers WHERE handler = $1 AND {_OPEN} AND due_at <= now()
            ORDER BY due_at, seq OFFSET {WINDOW} LIMIT 1
        ) IS NULL, NULL::bigint
    )
"""  # noqa: S608 - put together from constants of this module
"""CTEs that lead to ``found``: of handler $1 the ``$2`` earliest that may be taken, of a bounded number that is due.

``seen`` says whether that was all that is due; not where enough was found.
"""


def _head(behind: str) -> str:
    """The earliest unfinished hand-over of the next lane, and whether it may be taken."""
    return f"""(
        SELECT id, lane, {_OPEN} AND due_at <= now() AND {_NONE_RUNS} AS free FROM handovers h
        WHERE handler = $1 AND {_UNFINISHED} AND lane {behind} ORDER BY lane, seq LIMIT 1
    )"""  # noqa: S608 - the same


BY_LEAPS: Final = f"""
    heads (id, lane, free, number, enough) AS (
        SELECT id, lane, free, 1, free::int FROM {_head(">= $5")} AS first
        UNION ALL
        SELECT following.id, following.lane, following.free, number + 1, enough + following.free::int
        FROM heads CROSS JOIN LATERAL {_head("> heads.lane")} AS following WHERE number < {LEAPS} AND enough < $2
    ), found (id) AS MATERIALIZED (
        SELECT id FROM heads WHERE free
    ), seen (whole, lane) AS MATERIALIZED (
        SELECT count(*) < {LEAPS} AND coalesce(max(enough), 0) < $2, max(lane) FROM heads
    )
"""  # noqa: S608 - the same
"""The same by leaps: of the lanes from $5 on, a bounded number, the first ``$2`` that have one that may be taken.

``seen`` says whether that was all of them, and which was the last.
"""


class Search:
    """Where the leaps begin: kept from claim to claim by whoever claims, so that they come round to every lane."""

    def __init__(self) -> None:
        self.over = True
        """Whether nothing can be left that may be taken: if not, the next claim may find what this one did not."""
        self.begin = FIRST
        self._from_first = True
        """Whether this round began at the first lane, and has found nothing."""

    def saw_all(self) -> None:
        """What is due was looked at without leaps."""
        self.over = True

    def leapt(self, last: int | None, *, whole: bool, found: bool) -> None:
        """The leaps came to this lane; ``whole``: there is none behind it."""
        end = whole or last is None or last == _LAST
        self.over = end and self._from_first and not found
        self._from_first = end or (self._from_first and not found)
        self.begin = FIRST if end or last is None else last + 1
