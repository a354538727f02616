"""The rows that operators' commands print: one field a JSON key of contract.md, "Operators' commands"."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

import msgspec


class Error(msgspec.Struct, frozen=True):
    """Why it did not go well: a slug for programs, a sentence for people."""

    reason: str
    detail: str


class Event(msgspec.Struct, frozen=True):
    """One delivery and how far it has come; ``attempts`` is the most of any of its fetches."""

    id: UUID
    provider: str
    account: str
    state: str
    received_at: datetime
    finished_at: datetime | None
    duplicate_of: UUID | None
    attempts: int
    durability: str
    body_sha256: str
    body_bytes: int
    event_types: Sequence[str]
    error: Error | None


class Fetch(msgspec.Struct, frozen=True):
    """One call that an event asked for; ``next_attempt_at`` is None unless another attempt is to come."""

    id: int
    method: str
    url: str
    state: str
    attempts: int
    status: int | None
    next_attempt_at: datetime | None
    error: Error | None


class Step(msgspec.Struct, frozen=True):
    """One entry of an event's timeline."""

    at: datetime
    step: str
    detail: str


class EventForecast(msgspec.Struct, frozen=True):
    """When the calls that an event waits for will be made at the present budget; ``done_at`` None: nobody knows."""

    calls: int
    done_at: datetime | None
    detail: str


class EventDetail(Event, frozen=True):
    """An event with everything that happened to it; ``forecast`` is None if it waits for no call."""

    fetches: Sequence[Fetch]
    timeline: Sequence[Step]
    forecast: EventForecast | None = None


class Head(msgspec.Struct, frozen=True):
    """What came with a delivery besides its body: names and values in the order received, without credentials."""

    content_type: str
    headers: Sequence[tuple[str, str]]


class Record(msgspec.Struct, frozen=True):
    """The newest known state of one thing; ``data`` is JSON text, so its numbers keep the digits the provider sent."""

    provider: str
    account: str
    kind: str
    external_id: str
    data: msgspec.Raw
    fetched_at: datetime
    changed_at: datetime
    deleted_at: datetime | None
    event_id: UUID | None


class Change(msgspec.Struct, frozen=True):
    """One entry of the change feed; ``changed`` names the top-level fields, ``id`` is what handlers know it by."""

    seq: int
    op: str
    provider: str
    account: str
    kind: str
    external_id: str
    changed: Sequence[str]
    event_id: UUID | None
    at: datetime
    id: str


class Account(msgspec.Struct, frozen=True):
    """One account's traffic and its budget; what is unknown (Redis away, no limit) is None."""

    provider: str
    account: str
    last_event_at: datetime | None
    circuit: str | None
    budget_used: int | None
    budget_limit: int | None
    next_call_at: datetime | None


class Forecast(msgspec.Struct, frozen=True):
    """When an account's ``calls`` that wait will be made at the present budget; None: nobody knows, and why."""

    account: str
    calls: int
    seconds: float | None
    done_at: datetime | None
    detail: str


class HandlerStanding(msgspec.Struct, frozen=True):
    """A handler: how far it is behind the feed, its hand-overs by state, and why nothing is sent to it."""

    name: str
    cursor: int
    behind: int
    pending: int
    running: int
    waiting: int
    parked: int
    failures: int
    open_until: datetime | None
    stopped_reason: str | None
    stopped_detail: str | None


class Handover(msgspec.Struct, frozen=True):
    """One change for one handler.

    ``change`` is its id, the same at every attempt and replay; what is said of the change is None once it is not kept
    any more. ``note`` is what an operator did last: what, why, who.
    """

    id: int
    handler: str
    seq: int
    change: str | None
    state: str
    attempts: int
    status: int | None
    error: Error | None
    op: str | None
    provider: str | None
    account: str | None
    kind: str | None
    external_id: str | None
    event_id: UUID | None
    changed_at: datetime | None
    created_at: datetime
    next_attempt_at: datetime | None
    finished_at: datetime | None
    note: str | None


class DeadLetters(msgspec.Struct, frozen=True):
    """Events of one provider that are parked or failed for the same reason, and are not discarded."""

    provider: str
    reason: str
    count: int
    oldest: datetime
    newest: datetime


class ReplayRun(msgspec.Struct, frozen=True):
    """One replay: who asked for what and why, how far it has come; ``counts`` by what became of each row."""

    id: int
    what: str
    who: str
    reason: str
    asked: dict[str, Any]
    since: datetime | None
    until: datetime
    counts: dict[str, int]
    began_at: datetime
    moved_at: datetime
    finished_at: datetime | None


class ProviderStats(TypedDict):
    """One provider's counts; every state is there, with 0 where nothing is in it."""

    provider: str
    events: dict[str, int]
    fetches: dict[str, int]
    oldest_due_seconds: float | None
    queue_length: int | None
    api_calls: int
    events_per_call: float | None


def error_of(reason: Any, detail: Any) -> Error | None:
    """The error of a row, or None where there is none."""
    return Error(reason, detail or "") if reason else None
