"""What a change changed: each member before and after it, as far as that is kept.

A change keeps what its members were before it (``MOST_BEFORE``); what they were after it is what the next change of the
same member keeps, or what the record is now.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.private import MARK


LONGEST: Final = 1000
"""Values are cut to so many letters."""


class Value(msgspec.Struct, frozen=True):
    """A member's value as JSON text. ``kind`` is ``value``, ``absent``, ``sealed`` (private), or ``unkept``."""

    kind: str
    text: str = ""


class Difference(msgspec.Struct, frozen=True):
    """One top-level member of a record before and after a change."""

    member: str
    before: Value
    after: Value


_DIFFERENCES: Final = text("""
    SELECT c.id, member, c.before IS NOT NULL AS kept, left((c.before -> member)::text, :longest) AS before,
           later.id IS NOT NULL AS changed_later, later.before IS NOT NULL AS later_kept,
           left((later.before -> member)::text, :longest) AS later_before,
           r.data IS NOT NULL AS has_record, left((r.data -> member)::text, :longest) AS now
    FROM changes c CROSS JOIN unnest(c.changed) AS member
    LEFT JOIN LATERAL (
        SELECT n.id, n.before FROM changes n
        WHERE n.external_id = c.external_id AND n.id > c.id AND n.provider = c.provider AND n.account = c.account
          AND n.kind = c.kind AND n.seq IS NOT NULL AND n.changed @> ARRAY[member]
        ORDER BY n.id LIMIT 1
    ) AS later ON true
    LEFT JOIN records r ON later.id IS NULL AND r.provider = c.provider AND r.account = c.account AND r.kind = c.kind
                           AND r.external_id = c.external_id
    WHERE c.id = ANY(CAST(:ids AS bigint[]))
    ORDER BY c.id, member
""")
_ABSENT: Final = Value("absent")
_UNKEPT: Final = Value("unkept")


async def differences_of(connection: AsyncConnection, ids: Sequence[int]) -> Mapping[int, Sequence[Difference]]:
    """The differences that each of these changes made, by its id; none for one that changed no member."""
    found: dict[int, list[Difference]] = {}
    # a list's brackets, and one more letter to tell what was cut
    rows = await connection.execute(_DIFFERENCES, {"ids": list(ids), "longest": LONGEST + 3})
    for row in rows:
        before = _kept(row.before) if row.kept else _UNKEPT
        if row.changed_later:
            after = _kept(row.later_before) if row.later_kept else _UNKEPT
        else:
            after = _shown(row.now) if row.has_record else _UNKEPT
        found.setdefault(row.id, []).append(Difference(row.member, before, after))
    return found


def _kept(wrapped: str | None) -> Value:
    """A value as a change keeps it: in a list."""
    if wrapped in {None, "null"}:
        return _UNKEPT
    inner = wrapped.removeprefix("[").removesuffix("]") if wrapped else ""
    return _shown(inner or None)


def _shown(value: Any) -> Value:
    if value is None:
        return _ABSENT
    if str(value).startswith(f'"{MARK}'):
        return Value("sealed")
    return Value("value", value if len(value) <= LONGEST else f"{value[:LONGEST]}…")
