"""Where objects lie in the blob store, and what a key tells of whom its object belongs to."""

from collections.abc import Collection
from typing import Final, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5


BODIES: Final = "bodies"
MOST_KEY: Final = 1024
"""Bytes of a key, as S3 has it; what an index of Postgres takes."""


class Kept(NamedTuple):
    """An object; ``sealed_for`` is the id that it opens with: its event's, or one made from its key."""

    key: str
    provider: str
    account: str
    """Empty where the key does not tell."""
    sealed_for: UUID

    @classmethod
    def named(cls, key: str, provider: str, account: str, event: UUID | None) -> "Kept":
        """One that an event brings; without an event one that records name in their member ``blob``."""
        return cls(key, provider, account, event or uuid5(NAMESPACE_URL, key))

    @classmethod
    def of(cls, key: str, providers: Collection[str]) -> "Kept | None":
        """What a key tells; None for one that Penstock does not make."""
        top, *rest = key.split("/")
        if len(key.encode()) > MOST_KEY or not all(rest):
            return None
        if top == BODIES and len(rest) in {2, 4}:
            event = _event(rest[-1])
            provider, account = (rest[1], rest[2]) if len(rest) == 4 else ("", "")  # noqa: PLR2004 - with and without
            return cls(key, provider, account, event) if event else None
        if top in providers and len(rest) > 1:
            return cls(key, top, rest[0], _event(rest[1]) or uuid5(NAMESPACE_URL, key))
        return None


def body_key(day: str, provider: str, account: str, event: UUID) -> str:
    """Where a large body lies: by day, so that what is young is found quickly, and by account, for its erasure."""
    return f"{BODIES}/{day}/{provider}/{account}/{event}"


def _event(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == 36 else None  # noqa: PLR2004 - as Penstock writes them
    except ValueError:
        return None
