"""The webhooks registered at Paybook, with their failure counts (seeds/003, providers.md 3.5)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ops.lab.happening import unknown_thing
from ops.lab.seeded import hexadecimal


# The only evidence of a threshold: the documented sample is disabled at 1001 failures (providers.md 3.5).
_FAILURES_ALLOWED = 1000


class Webhooks:
    """What one API key has registered."""

    def __init__(self, seed: int, account: str) -> None:
        self._seed = seed
        self._account = account
        self._created = 0
        self._hooks: dict[str, dict[str, Any]] = {}
        self._headers: dict[str, Mapping[str, str]] = {}

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Register one; ``dt_created`` is a unix time in this answer and a string in the list, as documented."""
        self._created += 1
        which = hexadecimal(self._seed, self._account, "webhook", self._created)
        now = datetime.now(UTC)
        self._hooks[which] = {
            "id_webhook": which,
            "id_user": body.get("id_user"),
            "is_disabled": 0,
            "events": body["events"],
            "url": body["url"],
            "delay": body.get("delay", 0),
            "ct_failed": 0,
            "dt_created": now.isoformat(timespec="seconds"),
            "dt_modified": now.isoformat(timespec="seconds"),
        }
        self._headers[which] = dict(body.get("headers") or {})
        told = {name: self._hooks[which][name] for name in ("id_webhook", "id_user", "events", "url", "delay")}
        return {**told, "dt_created": int(now.timestamp()), "dt_modified": int(now.timestamp())}

    def listed(self) -> list[dict[str, Any]]:
        """All of them."""
        return list(self._hooks.values())

    def delete(self, which: str) -> bool:
        """Remove one; whether it was there."""
        return self._hooks.pop(which, None) is not None

    def failed(self) -> None:
        """A delivery was not answered with 200: every hook counts it and is disabled past the threshold."""
        for hook in self._hooks.values():
            hook["ct_failed"] += 1
            if hook["ct_failed"] > _FAILURES_ALLOWED:
                hook["is_disabled"] = 1

    def change(self, which: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Set fields of one, such as ``ct_failed``; all of it, with the headers that the list keeps to itself.

        Raises LabError.
        """
        if which not in self._hooks:
            raise unknown_thing("webhook", which)
        self._hooks[which] |= changes
        return {**self._hooks[which], "headers": self._headers[which]}
