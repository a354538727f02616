"""Which shop a delivery is from."""

from collections.abc import Sequence

from shared.providers.acme.settings import AcmeAccount
from shared.providers.interface import Admission, Inbound, Unverified
from shared.providers.keys import KeyRing


class AcmeInbound(Inbound):
    """The shop's key proves the sender; nothing is signed."""

    success_status = 202
    secret_headers = frozenset({b"x-acme-key", b"authorization", b"cookie"})

    def __init__(self, accounts: Sequence[AcmeAccount]) -> None:
        self._keys = KeyRing((account.name, key) for account in accounts for key in account.webhook_keys)

    def authenticate(self, request: Unverified) -> Admission:
        """The account that holds the key in ``x-acme-key``. Raises NotAuthentic."""
        return Admission(self._keys.account(request.one(b"x-acme-key")))
