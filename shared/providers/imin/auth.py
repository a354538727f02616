"""Which broker's account a delivery is for."""

from collections.abc import Collection, Sequence

from shared.providers.imin.settings import IminAccount
from shared.providers.interface import Admission, Inbound, Unverified
from shared.providers.keys import KeyRing


class IminInbound(Inbound):
    """The key agreed on beforehand proves the sender (seed 000, "Auth Set-up"); nothing is signed."""

    success_status = 204
    secret_headers = frozenset({b"x-api-key", b"authorization", b"cookie"})

    def __init__(self, accounts: Sequence[IminAccount]) -> None:
        self._keys = KeyRing((account.name, key) for account in accounts for key in account.webhook_keys)

    def authenticate(self, request: Unverified) -> Admission:
        """The account that holds the key in ``x-api-key``. Raises NotAuthentic."""
        return Admission(self._keys.account(request.one(b"x-api-key")))

    def take_used_keys(self) -> Collection[tuple[str, bytes]]:
        """The keys that deliveries came with."""
        return self._keys.take_used()
