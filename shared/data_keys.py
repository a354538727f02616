"""Data keys as one process knows them: every one unseals, and of each account one seals, as often as was granted.

Postgres holds them wrapped, and counts their uses in blocks (``shared/store/keys.py``). A process that has not seen
Postgres for ``LEASE_SECONDS`` seals with none of them: one that was destroyed meanwhile would make a delivery
unreadable that was acknowledged.
"""

import threading
import time
from collections.abc import Collection
from typing import Final, NamedTuple


LEASE_SECONDS: Final = 10.0

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8


class _Grant(NamedTuple):
    key_id: bytes
    uses: int
    at: float


class DataKeys:
    """Accounts are pairs of provider and name. To be used from any thread.

    Looks at Postgres may come back in another order than they were asked in: each says when it was asked (by the
    monotonic clock), and takes nothing away that was learned or granted since.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: dict[bytes, bytes] = {}
        self._learned_at: dict[bytes, float] = {}
        self._first: dict[tuple[str, str], bytes] = {}
        self._granted: dict[tuple[str, str], _Grant] = {}
        self._until = float("-inf")

    def add(self, account: tuple[str, str], key_id: bytes, secret: bytes, asked_at: float = float("-inf")) -> None:
        """Know a key; of an account they come in the order in which they were made."""
        with self._lock:
            self._secrets[key_id] = secret
            self._learned_at[key_id] = max(asked_at, self._learned_at.get(key_id, asked_at))
            self._first.setdefault(account, secret)

    def seen(self, there: Collection[bytes], current: Collection[bytes], asked_at: float) -> None:
        """Postgres was asked then: ``there`` are kept still, of which ``current`` seal."""
        with self._lock:
            for key_id in self._secrets.keys() - set(there):
                if self._learned_at[key_id] <= asked_at:
                    self._forget(key_id)
            for key_id in self._secrets.keys() & set(there):
                self._learned_at[key_id] = max(self._learned_at[key_id], asked_at)
            still = set(current)
            self._granted = {
                account: grant
                for account, grant in self._granted.items()
                if grant.key_id in still or grant.at > asked_at
            }
            self._until = max(self._until, asked_at + LEASE_SECONDS)

    def unchanged(self, asked_at: float) -> None:
        """Postgres was asked then, and holds what it held when it was seen last."""
        with self._lock:
            self._until = max(self._until, asked_at + LEASE_SECONDS)

    def known(self) -> list[bytes]:
        """The ids of all."""
        with self._lock:
            return list(self._secrets)

    def secret(self, key_id: bytes) -> bytes | None:
        """A key by its id; None where this process does not have it."""
        return self._secrets.get(key_id)

    def grant(self, account: tuple[str, str], key_id: bytes, uses: int) -> None:
        """From now on a key may seal so often."""
        with self._lock:
            self._granted[account] = _Grant(key_id, uses, time.monotonic())

    def left(self, account: tuple[str, str]) -> int:
        """How often this process may still seal for an account before it asks again."""
        grant = self._granted.get(account)
        return grant.uses if grant and time.monotonic() < self._until else 0

    def take(self, account: tuple[str, str]) -> tuple[bytes, bytes] | None:
        """One use: the id and the key; None where none may be used."""
        with self._lock:
            grant = self._granted.get(account)
            if grant is None or grant.uses <= 0 or time.monotonic() >= self._until:
                return None
            secret = self._secrets.get(grant.key_id)
            if secret is None:
                return None
            self._granted[account] = grant._replace(uses=grant.uses - 1)
            return grant.key_id, secret

    def first(self, account: tuple[str, str]) -> bytes | None:
        """The account's first key, which stays until all of them are destroyed: digests that must stay alike use it."""
        return self._first.get(account)

    def _forget(self, key_id: bytes) -> None:
        secret = self._secrets.pop(key_id)
        del self._learned_at[key_id]
        self._first = {account: first for account, first in self._first.items() if first != secret}
