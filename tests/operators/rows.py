"""Rows for the tables, as statements that ``Store.run`` takes; what a test does not name has a plain value."""

import hashlib
import itertools
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec


Statement = tuple[Any, ...]

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)

_counter = itertools.cycle(range(4096))


def new_id(at: datetime = NOW) -> UUID:
    """An id of UUID version 7: later moments give greater ids, and so do later calls with the same moment."""
    version_and_count = 0x7000 | next(_counter)
    return UUID(int=int(at.timestamp() * 1000) << 80 | version_and_count << 64 | 0b10 << 62 | secrets.randbits(62))


def event(
    event_id: UUID | None = None,
    *,
    provider: str = "imin",
    account: str = "main",
    state: str = "done",
    received_at: datetime = NOW,
    body: bytes | None = b"sealed",
    headers: Any = (("content-type", "application/json"),),
    **columns: Any,
) -> Statement:
    """An event."""
    values = {
        "id": event_id or new_id(received_at),
        "provider": provider,
        "account": account,
        "state": state,
        "received_at": received_at,
        "durability": "postgres",
        "content_type": "application/json",
        "headers": msgspec.json.encode(headers).decode(),
        "body": body,
        "body_bytes": len(body or b""),
        "body_sha256": hashlib.sha256(body or b"").digest(),
        **columns,
    }
    return _insert("events", values)


def fetch(
    resource: str, *, state: str = "done", provider: str = "imin", account: str = "main", **columns: Any
) -> Statement:
    """A fetch; ids are given in the order of insertion, from 1."""
    values = {
        "provider": provider,
        "account": account,
        "resource": resource.encode(),
        "path": "/api/v2/customer-accounts/abc",
        "purpose": "customer-account",
        "context": "{}",
        "pick": "",
        "missing": "retry",
        "page": 1,
        "completes": False,
        "state": state,
        **columns,
    }
    return _insert("fetches", values)


def link(event_id: UUID, fetch_id: int) -> Statement:
    """An event's wish for a fetch."""
    return _insert("event_fetches", {"event_id": event_id, "fetch_id": fetch_id})


def record(external_id: str, data: str = "{}", *, kind: str = "imin.customer-account", **columns: Any) -> Statement:
    """A record with its data as JSON text."""
    values = {
        "provider": "imin",
        "account": "main",
        "kind": kind,
        "external_id": external_id,
        "data": data,
        "began": 1,
        "fetched_at": NOW,
        "changed_at": NOW,
        **columns,
    }
    return _insert("records", values)


def change(external_id: str = "abc", *, op: str = "updated", **columns: Any) -> Statement:
    """A change, without a number unless one is given."""
    values = {
        "op": op,
        "provider": "imin",
        "account": "main",
        "kind": "imin.customer-account",
        "external_id": external_id,
        "changed": ["customer"],
        **columns,
    }
    return _insert("changes", values)


def handler(name: str = "crm", **columns: Any) -> Statement:
    """A handler that has come to the end of any feed."""
    return _insert("handlers", {"name": name, "cursor": 1_000_000, **columns})


def handover(seq: int, *, handler: str = "crm", state: str = "done", **columns: Any) -> Statement:
    """A hand-over of the change with this id, which has this number too; ids are given in the order of insertion."""
    values = {"handler": handler, "change_id": seq, "seq": seq, "lane": seq, "state": state, **columns}
    return _insert("handovers", values)


def step(event_id: UUID, name: str, detail: str = "", *, after: float = 0) -> Statement:
    """A timeline entry."""
    return _insert(
        "timeline", {"event_id": event_id, "step": name, "detail": detail, "at": NOW + timedelta(seconds=after)}
    )


def calls(provider: str, number: int) -> Statement:
    """API calls that were made, as workers tally them."""
    return _insert("tallies", {"provider": provider, "what": "calls", "state": "", "delta": number})


def _insert(table: str, values: dict[str, Any]) -> Statement:
    names = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    return (f"INSERT INTO {table} ({names}) VALUES ({places})", *values.values())  # noqa: S608 - names of this module
