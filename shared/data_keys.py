"""Data keys as one process knows them: every one unseals, and of each account one seals, as often as was granted.

Postgres holds them wrapped, and counts their uses in blocks (``shared/store/keys.py``). A process that has not seen
Postgres for ``LEASE_SECONDS`` seals with none of them: one that was destroyed meanwhile would make a delivery
unreadable that was acknowledged.
"""

import time
from collections.abc import Collection
from typing import Final


LEASE_SECONDS: Final = 10.0

KEPT_SECONDS: Final = 4.0
"""So long after it was sealed is a delivery kept, or refused: ingress answers by then."""

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8


class DataKeys:
    """Accounts are pairs of provider and name."""

    def __init__(self) -> None:
        self._secrets: dict[bytes, bytes] = {}
        self._first: dict[tuple[str, str], bytes] = {}
        self._granted: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._until = float("-inf")

    def add(self, account: tuple[str, str], key_id: bytes, secret: bytes) -> None:
        """Know a key; of an account they come in the order in which they were made."""
        self._secrets[key_id] = secret
        self._first.setdefault(account, secret)

    def seen(self, there: Collection[bytes], current: Collection[bytes], asked_at: float) -> None:
        """Postgres was asked (by the monotonic clock): ``there`` are kept still, of which ``current`` seal."""
        for gone in self._secrets.keys() - set(there):
            secret = self._secrets.pop(gone)
            self._first = {account: first for account, first in self._first.items() if first != secret}
        still = set(current)
        self._granted = {account: grant for account, grant in self._granted.items() if grant[0] in still}
        self._until = asked_at + LEASE_SECONDS

    def known(self) -> list[bytes]:
        """The ids of all."""
        return list(self._secrets)

    def secret(self, key_id: bytes) -> bytes | None:
        """A key by its id; None where this process does not have it."""
        return self._secrets.get(key_id)

    def grant(self, account: tuple[str, str], key_id: bytes, uses: int) -> None:
        """From now on a key may seal so often."""
        self._granted[account] = (key_id, uses)

    def left(self, account: tuple[str, str]) -> int:
        """How often this process may still seal for an account before it asks again."""
        return self._granted.get(account, (b"", 0))[1] if time.monotonic() < self._until else 0

    def take(self, account: tuple[str, str]) -> tuple[bytes, bytes] | None:
        """One use: the id and the key; None where none may be used."""
        if self.left(account) <= 0:
            return None
        key_id, uses = self._granted[account]
        secret = self._secrets.get(key_id)
        if secret is None:
            return None
        self._granted[account] = (key_id, uses - 1)
        return key_id, secret

    def is_in_use(self, account: tuple[str, str], key_id: bytes) -> bool:
        """Whether what was begun with a key may be finished with it: the key was not retired, nor the lease over."""
        return time.monotonic() < self._until and self._granted.get(account, (b"", 0))[0] == key_id

    def first(self, account: tuple[str, str]) -> bytes | None:
        """The account's first key, which stays until all of them are destroyed: digests that must stay alike use it."""
        return self._first.get(account)
