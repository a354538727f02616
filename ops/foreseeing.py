"""What events would ask for that never made a call: planned from their kept bodies as workers do it, and nothing kept.

Providers are pure, so planning calls nobody. What cannot be read or planned as it stands stays unknown.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from shared import reconciled
from shared.blobs import BlobStore
from shared.configuration import Configuration
from shared.providers.interface import Call, Delivery, FollowUp
from shared.providers.registry import PROVIDERS
from shared.sealing import Keys
from shared.store.postgres import Connection
from shared.store.reading.touching import CallsOf, Touched


AT_ONCE: Final = 100
"""So many bodies are in memory at a time."""


class Foresight:
    """Plans with the settings in force now, and the keys that open bodies."""

    def __init__(self, configuration: Configuration, keys: Keys, blobs: BlobStore) -> None:
        self._configuration = configuration
        self._keys = keys
        self._blobs = blobs

    async def add(self, connection: Connection, events: Sequence[UUID], into: Touched) -> None:
        """Add the calls of these events, of which none was known, and take out those of which they are known now."""
        for first in range(0, len(events), AT_ONCE):
            asked: dict[bytes, tuple[CallsOf, str]] = {}
            planned: Counter[tuple[str, str]] = Counter()
            rows = await connection.fetch(
                """
                SELECT id, provider, account, body, blob, content_type, reconciled FROM events
                WHERE id = ANY($1::uuid[]) AND (body IS NOT NULL OR blob IS NOT NULL)
                """,
                events[first : first + AT_ONCE],
            )
            for row in rows:
                if (calls := await self._calls(row)) is not None:
                    planned[row["provider"], row["account"]] += 1
                    for call in calls:
                        key = CallsOf(row["provider"], row["account"], call.purpose)
                        asked[f"{key.provider} {key.account} {call.resource}".encode()] = (key, call.path)
            for key, path in asked.values():
                into.calls[key] += 1
                into.paths[key] = path
            into.without_calls.subtract(planned)

    async def _calls(self, row: Any) -> Sequence[Call] | None:
        account = self._configuration.account(row["provider"], row["account"])
        if row["provider"] not in PROVIDERS or account is None:
            return None
        follow_up: FollowUp[Any, Any] = PROVIDERS[row["provider"]].follow_up
        try:
            if row["blob"] is not None:
                body = await self._blobs.read(row["blob"], row["id"])
            else:
                body = self._keys.unseal(row["body"], row["id"])
            if row["reconciled"]:
                return reconciled.decode(body).calls
            delivery = Delivery(row["id"], row["account"], body, row["content_type"])
            return follow_up.plan(follow_up.read(delivery, account), delivery, account).calls
        except Exception:  # noqa: BLE001 - a worker would park such an event, whatever is wrong; here it stays unknown
            return None
