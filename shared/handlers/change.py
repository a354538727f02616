"""One change on its way to a handler: what the feed says, and the record as it is now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec


@dataclass(frozen=True, slots=True)
class OutgoingChange:
    """``id`` is the idempotency key: the same for every attempt and every replay. ``record`` is JSON text, or None."""

    id: str
    seq: int
    op: str
    provider: str
    account: str
    kind: str
    external_id: str
    changed: Sequence[str]
    event_id: UUID | None
    at: datetime
    record: str | None
    sealed: bytes | None = None
    """The record's private members as they lie in Postgres; the worker opens them before anybody gets the change."""

    def as_json(self) -> bytes:
        """The object that handlers get; the record's numbers keep every digit."""
        return msgspec.json.encode(
            {
                "id": self.id,
                "seq": self.seq,
                "op": self.op,
                "provider": self.provider,
                "account": self.account,
                "kind": self.kind,
                "external_id": self.external_id,
                "changed": self.changed,
                "event_id": self.event_id,
                "at": self.at,
                "record": None if self.record is None else msgspec.Raw(self.record.encode()),
            }
        )
