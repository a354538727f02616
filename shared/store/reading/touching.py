"""What a replay of events would touch: how many events of each account, and the calls that they asked for before."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from shared.store.postgres import Connection


class CallsOf(NamedTuple):
    """Calls of one account for one purpose."""

    provider: str
    account: str
    purpose: str


@dataclass
class Touched:
    """Events by (provider, account), calls by purpose with a path of each, and the events that never made a call.

    Events of one batch that need the same resource share its call; what two batches need is counted twice.
    """

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: Counter[CallsOf] = field(default_factory=Counter)
    paths: dict[CallsOf, str] = field(default_factory=dict)
    without_calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: "Touched") -> None:
        """The sum."""
        self.events.update(other.events)
        self.calls.update(other.calls)
        self.paths.update(other.paths)
        self.without_calls.update(other.without_calls)


async def without_calls(connection: Connection, events: Sequence[UUID]) -> Sequence[UUID]:
    """Those of the events that never made a call."""
    rows = await connection.fetch(
        """
        SELECT id FROM unnest($1::uuid[]) AS id
        WHERE NOT EXISTS (SELECT FROM event_fetches l WHERE l.event_id = id) ORDER BY id
        """,
        list(events),
    )
    return [row["id"] for row in rows]


async def touched(connection: Connection, events: Sequence[UUID]) -> Touched:
    """What a replay of these events would touch."""
    result = Touched()
    if not events:
        return result
    for row in await connection.fetch(
        """
        SELECT e.provider, e.account, count(*) AS events,
               count(*) FILTER (WHERE NOT EXISTS (SELECT FROM event_fetches l WHERE l.event_id = e.id)) AS without
        FROM events e WHERE e.id = ANY($1::uuid[]) GROUP BY e.provider, e.account
        """,
        list(events),
    ):
        result.events[row["provider"], row["account"]] += row["events"]
        if row["without"]:
            result.without_calls[row["provider"], row["account"]] += row["without"]
    for row in await connection.fetch(
        """
        SELECT f.provider, f.account, f.purpose, min(f.path) AS path, count(DISTINCT f.resource) AS calls
        FROM event_fetches l JOIN fetches f ON f.id = l.fetch_id
        WHERE l.event_id = ANY($1::uuid[]) GROUP BY f.provider, f.account, f.purpose
        """,
        list(events),
    ):
        key = CallsOf(row["provider"], row["account"], row["purpose"])
        result.calls[key] += row["calls"]
        result.paths[key] = row["path"]
    return result
