"""A change as a handler receives it."""

from datetime import datetime
from typing import Generic, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from penstock.records import Record


Op = Literal["created", "updated", "deleted"]

RecordT = TypeVar("RecordT", bound=Record, default=Record)


class Change(BaseModel, Generic[RecordT]):
    """A record was created, updated or deleted."""

    model_config = ConfigDict(frozen=True)

    id: str
    """The idempotency key: the same each time this change is handed over, whatever happened in between. Keep it
    together with what you do about the change, and a change that comes twice has its effect once."""
    seq: int
    """The change's place in the feed; those of one record come in this order."""
    op: Op
    provider: str
    account: str
    kind: str
    """The record kind, such as ``magicline.customer``."""
    external_id: str
    """The record's id at the provider."""
    changed: tuple[str, ...] = ()
    """Of an update: which top-level fields of the record have another value."""
    event_id: UUID | None = None
    """The webhook that led to this."""
    at: datetime
    record: RecordT | None = None
    """The record as it is now, which may be newer than the change: later changes of it follow. None once erased."""
