"""What an event asks for that reconciliation made itself: no provider sent it, so its body is our own.

Only rows of ``events`` that are marked ``reconciled`` are read so; nothing that a sender can write sets that mark.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from shared.providers.interface import Call


TYPE = "reconciled"
"""The one type of such events."""
CONTENT_TYPE = "application/json"


class _Call(msgspec.Struct, omit_defaults=True):
    path: str
    purpose: str
    context: dict[str, Any] = msgspec.field(default_factory=dict)
    pick: str = ""
    missing: Literal["retry", "tombstone"] = "retry"
    page: int = 1
    completes: bool = False


class _Body(msgspec.Struct):
    identity: str
    found: str
    calls: list[_Call]


class Reconciled(msgspec.Struct, frozen=True):
    """What such an event says: what makes it the same as another, and the calls to make."""

    identity: str
    calls: Sequence[Call]


def identity_of(call: Call, differences: Sequence[str]) -> str:
    """The same for the same call and the same differences: a second walk, or the same page again, asks no second time.

    Each difference names a record, the moment of its last change, and a digest of what the provider showed.
    """
    text = "\n".join((call.resource, *sorted(differences)))
    return f"reconciled:{hashlib.sha256(text.encode()).hexdigest()}"


def encode(identity: str, found: str, calls: Sequence[Call]) -> bytes:
    """The body of an event; ``found`` is a sentence for people."""
    return msgspec.json.encode(_Body(identity, found, [_Call(**as_json(call)) for call in calls]))


def decode(body: bytes) -> Reconciled:
    """The body of an event that is marked ``reconciled``. Raises msgspec.MsgspecError for what we did not write."""
    read = msgspec.json.decode(body, type=_Body)
    return Reconciled(read.identity, [as_call(msgspec.structs.asdict(call)) for call in read.calls])


def as_json(call: Call) -> dict[str, Any]:
    """A call as JSON values."""
    return {
        "path": call.path,
        "purpose": call.purpose,
        "context": dict(call.context),
        "pick": call.pick,
        "missing": call.missing,
        "page": call.page,
        "completes": call.completes,
    }


def as_call(values: dict[str, Any]) -> Call:
    """A call from what ``as_json`` made of it."""
    return Call(**values)
