"""What Magicline sends: seed 001 ("Sample JSON of a webhook call"). Unknown properties are ignored, as it asks."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from shared.errors import Unreadable
from shared.providers.interface import Delivery
from shared.providers.json_text import read_delivery


_INT64 = range(-(2**63), 2**63)
_DIGITS = re.compile(r"[0-9]{1,19}")

# The last day that still has a next one: the days around an event are asked for.
_LAST_MILLISECOND = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000) - 1

EntityId = Annotated[int, Field(strict=True, ge=_INT64.start, lt=_INT64.stop)]
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=_LAST_MILLISECOND)]
"""Since the epoch."""
Uuid = Annotated[str, StringConstraints(pattern=r"\A[!-~]{1,200}\z")]
# The length stands apart: as ``{1,200}`` of a Unicode class the pattern takes 8 MB of each process for each model.
TypeName = Annotated[str, StringConstraints(pattern=r"\A\P{C}+\z", max_length=200)]
"""Fit for a column and a log line: no control characters, not endless."""
EVENT_SHAPE = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class Entry(BaseModel):
    """One thing that happened to the entity. ``content`` carries further ids, for some types only."""

    model_config = EVENT_SHAPE

    timestamp: Milliseconds
    type: TypeName
    content: dict[str, Any] | None = None

    @property
    def day(self) -> date:
        """The day of the event in UTC."""
        return datetime.fromtimestamp(self.timestamp // 1000, UTC).date()

    def named(self, name: str) -> Any:
        """A value of ``content``; None where there is none."""
        return (self.content or {}).get(name)

    def id(self, name: str) -> int:
        """An id that this type has in ``content``. Raises Unreadable when it is missing or not an int64."""
        return as_id(self.named(name), f"{self.type}: content.{name}")


class MagiclineEvent(BaseModel):
    """One delivery. ``payload`` has one entry as far as is known, and is a list for more (seed 001)."""

    model_config = EVENT_SHAPE

    entity_id: EntityId
    uuid: Uuid
    payload: Annotated[tuple[Entry, ...], Field(min_length=1)]


def read(delivery: Delivery) -> MagiclineEvent:
    """Parse a body. Raises Unreadable: ``empty``, ``not-json`` or ``wrong-shape``."""
    return read_delivery(delivery.body, MagiclineEvent)


def as_id(value: object, where: str) -> int:
    """An int64 given as a number or as its digits. Raises Unreadable, naming ``where`` it was looked for."""
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or number not in _INT64:
        raise Unreadable("wrong-shape", f"{where} must be an id (a whole number)")
    return number
