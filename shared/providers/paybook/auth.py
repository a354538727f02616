"""Who sent a delivery: Paybook V1 signs nothing, so a secret path segment and a secret custom header prove it."""

import hmac
from collections.abc import Collection, Sequence

from shared.errors import NotAuthentic
from shared.providers.interface import Admission, Inbound, Unverified
from shared.providers.keys import KeyRing
from shared.providers.paybook.settings import PaybookAccount


class PaybookInbound(Inbound):
    """``POST /webhooks/paybook/{token}``; with ``webhook_header`` set, that header must be right as well."""

    success_status = 200
    takes_token = True

    def __init__(self, accounts: Sequence[PaybookAccount]) -> None:
        self._tokens = KeyRing((account.name, token) for account in accounts for token in account.webhook_tokens)
        self._headers = {
            account.name: (header.name.lower().encode(), header.value.get_secret_value().encode())
            for account in accounts
            if (header := account.webhook_header)
        }
        self.secret_headers = frozenset({b"authorization", b"cookie", *(name for name, _ in self._headers.values())})

    def authenticate(self, request: Unverified) -> Admission:
        """The account whose token is in the path. Raises NotAuthentic."""
        account = self._tokens.account(request.token)
        if header := self._headers.get(account):
            name, value = header
            if not hmac.compare_digest(value, request.one(name)):
                raise NotAuthentic("the webhook header does not have the account's value", "wrong-header")
        return Admission(account)

    def take_used_keys(self) -> Collection[tuple[str, bytes]]:
        """The tokens that deliveries came with."""
        return self._tokens.take_used()
