"""Which account a presented key belongs to, without telling by timing how much of it was right."""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable

from pydantic import SecretStr

from shared.errors import NotAuthentic


class KeyRing:
    """Finds the account of a key among any number of accounts in constant time.

    Keys are looked up by a keyed digest under a secret of this process, so the time of the dictionary's own
    comparison says nothing about a key; what was found is compared once more in constant time, as bytes.
    """

    def __init__(self, keys: Iterable[tuple[str, SecretStr]]) -> None:
        self._pepper = secrets.token_bytes(32)
        self._accounts = {
            self._digest(key): (account, key)
            for account, key in ((account, secret.get_secret_value().encode()) for account, secret in keys)
        }
        self._used: set[tuple[str, bytes]] = set()

    def account(self, presented: bytes) -> str:
        """The name of the account that holds this key. Raises NotAuthentic."""
        account, key = self._accounts.get(self._digest(presented), ("", b""))
        if not hmac.compare_digest(key, presented) or not account:
            raise NotAuthentic("the key is not one of a configured account")
        self._used.add((account, key))
        return account

    def take_used(self) -> Collection[tuple[str, bytes]]:
        """Accounts and their keys that were presented since this was asked last."""
        used, self._used = self._used, set()
        return used

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._pepper, digest_size=32).digest()
