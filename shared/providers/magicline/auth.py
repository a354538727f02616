"""Which studio sent a delivery."""

from collections.abc import Collection, Sequence

from shared.providers.interface import Admission, Inbound, Unverified
from shared.providers.keys import KeyRing
from shared.providers.magicline.settings import MagiclineAccount


class MagiclineInbound(Inbound):
    """The key of a delivery finds its studio among any number of them (seed 001, "Headers"); nothing is signed."""

    success_status = 200
    secret_headers = frozenset({b"x-api-key", b"authorization", b"cookie"})

    def __init__(self, accounts: Sequence[MagiclineAccount]) -> None:
        self._keys = KeyRing((account.name, key) for account in accounts for key in account.webhook_keys)

    def authenticate(self, request: Unverified) -> Admission:
        """The studio that holds the key in ``x-api-key``. Raises NotAuthentic."""
        return Admission(self._keys.account(request.one(b"x-api-key")))

    def take_used_keys(self) -> Collection[tuple[str, bytes]]:
        """The keys that deliveries came with."""
        return self._keys.take_used()
