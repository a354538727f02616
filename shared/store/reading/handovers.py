"""Hand-overs as people look at them, newest change first, a page at a time: each page costs the same."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.handovers.message_ids import MADE_OF, message_id
from shared.store.handovers.selecting import CHANGE_OF, seq_bounds
from shared.store.reading.connecting import driver_of
from shared.store.reading.shapes import Handover, error_of
from shared.store.schema import HANDOVER_STATES


PAGE: Final = 200
"""So many rows are looked at for one page, at most."""

_NEWEST: Final = 2**63 - 1


class Filters(NamedTuple):
    """Which hand-overs; None means any. Discarded ones only where the state or the change (by seq) is asked for."""

    handler: str | None = None
    state: str | None = None
    provider: str | None = None
    kind: str | None = None
    error: str | None = None
    since: datetime | None = None
    change: int | None = None


_ANY = Filters()

_COLUMNS = f"""
    h.id, h.handler, h.seq, {MADE_OF}, h.state, h.attempts, h.status, h.error_reason, h.error_detail,
    c.op, c.provider, c.account, c.kind, c.external_id, c.event_id, c.at, h.created_at,
    CASE WHEN h.state IN ('pending', 'waiting') THEN h.due_at END AS next_attempt_at, h.finished_at, h.note
"""

# One walk along the index for each handler and state, merged; what the filters leave out is looked at once and passed.
_PAGE = text(
    f"""
    WITH page AS MATERIALIZED (
        SELECT h.* FROM (
            SELECT name FROM handlers WHERE CAST(:handler AS text) IS NULL OR name = CAST(:handler AS text)
        ) AS n CROSS JOIN unnest(CAST(:states AS text[])) AS s (state) CROSS JOIN LATERAL (
            SELECT h.* FROM handovers h
            WHERE h.handler = n.name AND h.state = s.state AND h.seq <= CAST(:seq AS bigint)
              AND (h.seq, h.id) < (CAST(:seq AS bigint), CAST(:id AS bigint))
            ORDER BY h.seq DESC LIMIT CAST(:most AS int)
        ) AS h ORDER BY h.seq DESC, h.id DESC LIMIT CAST(:most AS int)
    )
    SELECT {_COLUMNS},
           (CAST(:provider AS text) IS NULL OR coalesce(c.provider = CAST(:provider AS text), false))
           AND (CAST(:kind AS text) IS NULL OR coalesce(c.kind = CAST(:kind AS text), false))
           AND (CAST(:error AS text) IS NULL OR coalesce(h.error_reason = CAST(:error AS text), false))
           AND (CAST(:since AS timestamptz) IS NULL OR coalesce(c.at, h.created_at) >= CAST(:since AS timestamptz))
           AS meant
    FROM page h CROSS JOIN installation i {CHANGE_OF}
    ORDER BY h.seq DESC, h.id DESC
    """  # noqa: S608 - put together from constants
)
_ONE = text(
    f"""
    SELECT {_COLUMNS} FROM handovers h CROSS JOIN installation i {CHANGE_OF}
    WHERE h.id = CAST(:id AS bigint)
    """  # noqa: S608 - the same
)


async def list_handovers(
    connection: AsyncConnection, filters: Filters = _ANY, *, limit: int = 50
) -> AsyncIterator[Sequence[Handover]]:
    """Hand-overs in batches; ``limit`` 0 is all."""
    first_seq, last_seq = filters.change or 0, filters.change or _NEWEST
    if filters.since is not None:
        since_seq, _ = await seq_bounds(await driver_of(connection), filters.since, None)
        first_seq = max(first_seq, since_seq)
    unasked = () if filters.state or filters.change else ("discarded",)
    states = [filters.state] if filters.state else [state for state in HANDOVER_STATES if state not in unasked]
    narrow = any((filters.provider, filters.kind, filters.error, filters.since))
    arguments = {
        **filters._asdict(),
        "states": states,
        "most": PAGE if narrow or not limit else min(limit, PAGE),
        "seq": last_seq,
        "id": _NEWEST,
    }
    left = limit or _NEWEST
    while left > 0:
        rows = (await connection.execute(_PAGE, arguments)).all()
        found = [_handover(row) for row in rows if row.meant and row.seq >= first_seq][:left]
        if found:
            yield found
        left -= len(found)
        if len(rows) < arguments["most"] or rows[-1].seq < first_seq:
            return
        arguments |= {"seq": rows[-1].seq, "id": rows[-1].id}


async def show_handover(connection: AsyncConnection, handover_id: int) -> Handover | None:
    """One hand-over; None where there is no such one."""
    row = (await connection.execute(_ONE, {"id": handover_id})).one_or_none()
    return None if row is None else _handover(row)


def _handover(row: Any) -> Handover:
    return Handover(
        id=row.id,
        handler=row.handler,
        seq=row.seq,
        change=None if row.change_id is None else message_id(row.change_id, row.mark, row.key),
        state=row.state,
        attempts=row.attempts,
        status=row.status,
        error=error_of(row.error_reason, row.error_detail),
        op=row.op,
        provider=row.provider,
        account=row.account,
        kind=row.kind,
        external_id=row.external_id,
        event_id=row.event_id,
        changed_at=row.at,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        finished_at=row.finished_at,
        note=row.note,
    )
