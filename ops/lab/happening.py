"""What the parts of the lab's world have in common: something happens, and a delivery follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.errors import PenstockError


class LabError(PenstockError):
    """The lab was asked for something that it does not have; the sentence says what it has."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened at a provider, as the delivery that follows tells it.

    ``document`` is the delivery's JSON (Authenteq: its ``result`` part); ``images`` are the further parts of a
    multipart delivery, by part name. ``identity`` is what makes two deliveries of it the same to the provider.
    """

    provider: str
    account: str
    event: str
    document: Mapping[str, Any]
    identity: str
    images: Mapping[str, bytes] = field(default_factory=dict)


class Part(Protocol):
    """The world of one account: what its API holds, and what can happen to it."""

    def events(self) -> Sequence[str]:
        """The names that ``happen`` takes; the first is the default."""

    def happen(self, event: str, options: Mapping[str, Any]) -> Happening:
        """Change the world and say which delivery follows. Raises LabError for an unknown event or option."""

    def thing(self, kind: str, external_id: str) -> bytes | None:
        """The JSON of one thing exactly as the API tells it, by record kind (without the provider's name)."""

    def change(self, kind: str, external_id: str, changes: Mapping[str, Any]) -> None:
        """Change fields of one thing without a delivery; ``{"gone": true}`` deletes it. Raises LabError."""


def unknown_event(provider: str, event: str, known: Sequence[str]) -> LabError:
    """The error for an event name that a provider does not send."""
    return LabError(f"{provider} sends no event {event!r}; it sends {', '.join(known)}")


def unknown_thing(kind: str, external_id: str) -> LabError:
    """The error for a thing that the world does not hold."""
    return LabError(f"the lab's world holds no {kind} {external_id!r}")
