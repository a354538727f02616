"""Sightings: records as answers and deliveries showed them, and what each is known and compared by."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from shared.providers.interface import Record


DIGEST_BYTES = 16


class Sighting(NamedTuple):
    """A record as one answer (or delivery) showed it; ``began`` is the claim number of the call that asked."""

    provider: str
    account: str
    record: Record
    began: int
    event_id: UUID | None


class Row(NamedTuple):
    """One record's newest sighting: ``key`` is provider, account, kind and external id.

    ``digest`` tells two texts apart without sending them; None for a tombstone, which keeps whatever data was known.
    ``mark`` is that of a ``once`` record which is seen for the first time.
    """

    key: tuple[str, str, str, str]
    digest: bytes | None
    sighting: Sighting
    mark: bytes | None = None


def newest(sightings: Sequence[Sighting]) -> list[Row]:
    """A row for each record (and owner), in the order of their keys; of two that began alike the last counts."""
    found: dict[tuple[str, str, str, str, str], Sighting] = {}
    for sighting in sightings:
        record = sighting.record
        key = (sighting.provider, sighting.account, record.kind, record.external_id, record.owner)
        if key not in found or found[key].began <= sighting.began:
            found[key] = sighting
    return [Row(key[:4], _digest(sighting.record.data), sighting) for key, sighting in sorted(found.items())]


def keys_of(rows: Sequence[Row]) -> tuple[list[str], ...]:
    """Providers, accounts, kinds, external ids."""
    return tuple(list(column) for column in zip(*(row.key for row in rows), strict=True))


def _digest(data: str | None) -> bytes | None:
    return None if data is None else hashlib.blake2b(data.encode(), digest_size=DIGEST_BYTES).digest()
