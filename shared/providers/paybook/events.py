"""What Paybook sends: the seed's form (V1) and the V3 envelope around it, read into one shape.

Unknown fields are ignored. ``endpoints`` stays unread here, so that an event of an unknown type, whose endpoints look
otherwise (a list for ``documents.*``), is known by its type before anything else is said about it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, StringConstraints, Tag

from shared.providers.interface import Delivery
from shared.providers.json_text import read_delivery


EventName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
EventId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
# It stands in the Authorization header of every read, so nothing that could end or extend the header's value.
UserId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,128}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Payload(_Part):
    """The body of V1, and the ``payload`` of V3; here only what the follow-up needs."""

    id_user: UserId | None = None
    endpoints: Any = None


class SeedForm(Payload):
    """V1, the seed's form: one event is the whole body."""

    event: EventName


class EventHeader(_Part):
    """``header.event`` of V3."""

    name: EventName
    eid: EventId | None = None


class UserHeader(_Part):
    """``header.user`` of V3."""

    id_user: UserId | None = None


class Header(_Part):
    """``header`` of V3."""

    event: EventHeader
    user: UserHeader | None = None


class EnvelopedEvent(_Part):
    """One of ``events`` of V3. Its type is the header's name; ``payload.event`` repeats it in V1's words."""

    header: Header
    payload: Payload


class Envelope(_Part):
    """V3: any number of events in one body."""

    events: Annotated[tuple[EnvelopedEvent, ...], Field(min_length=1)]


def _form(body: Any) -> str | None:
    if not isinstance(body, dict):
        return None
    return "seed" if "event" in body else "v3" if "events" in body else None


class Body(
    RootModel[Annotated[Annotated[SeedForm, Tag("seed")] | Annotated[Envelope, Tag("v3")], Discriminator(_form)]]
):
    """A delivery's body in either form."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing that happened: its name as sent, whose it is (empty: not said), and the unread ``endpoints``."""

    type: str
    id_user: str
    endpoints: Any


@dataclass(frozen=True, slots=True)
class PaybookEvent:
    """One delivery: what makes it the same as another, and everything that it notifies of."""

    identity: str
    notifications: Sequence[Notification]


def read(delivery: Delivery) -> PaybookEvent:
    """Parse a body in either form. Raises Unreadable: ``empty``, ``not-json``, ``wrong-shape``."""
    body = delivery.body
    form = read_delivery(body, Body).root
    if isinstance(form, SeedForm):
        notification = Notification(form.event, form.id_user or "", form.endpoints)
        return PaybookEvent(hashlib.sha256(body).hexdigest(), (notification,))
    return PaybookEvent(_identity(form, body), tuple(_notification(event) for event in form.events))


def _notification(event: EnvelopedEvent) -> Notification:
    user = event.payload.id_user or (event.header.user.id_user if event.header.user else None)
    return Notification(event.header.event.name, user or "", event.payload.endpoints)


def _identity(envelope: Envelope, body: bytes) -> str:
    """The ``eid``; of several events the sha256 of their ``eid``s in order; where one is missing, of the body."""
    eids = [event.header.event.eid for event in envelope.events]
    if None in eids:
        return hashlib.sha256(body).hexdigest()
    return str(eids[0]) if len(eids) == 1 else hashlib.sha256("\n".join(map(str, eids)).encode()).hexdigest()
