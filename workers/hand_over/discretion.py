"""Takes out of what an application says of a change the private values that it was given: it is kept in plain text."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shared.handlers.change import OutgoingChange
from shared.providers.registry import PROVIDERS
from workers.redacting import HIDDEN


SHORTEST: Final = 4
"""Shorter values ("DE", "12") stand in many sentences, and tell nothing there."""

_members = msgspec.json.Decoder(dict[str, Any], float_hook=str)


def discreet(said: str, change: OutgoingChange | None) -> str:
    """The sentence without any value of the record's private members, nor the beginning of one where it was cut off."""
    values = sorted(_private_values(change), key=len, reverse=True) if change else []
    for value in values:
        said = said.replace(value, HIDDEN)
    for value in values:
        for length in range(min(len(value) - 1, len(said)), SHORTEST - 1, -1):
            if said.endswith(value[:length]):
                return said[:-length] + HIDDEN
    return said


def _private_values(change: OutgoingChange) -> Iterator[str]:
    provider = PROVIDERS.get(change.provider)
    rule = provider.privacy.records.get(change.kind) if provider else None
    if rule is None or change.record is None:
        return
    for name, value in _members.decode(change.record).items():
        if rule.private(name):
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for member in value.values():
                yield from _texts(member)
        case list():
            for item in value:
                yield from _texts(item)
        case bool() | None:
            return
        case _:
            if len(text := str(value)) >= SHORTEST:
                yield text
