"""The accounts of Acme."""

from collections.abc import Sequence

from pydantic import Field, SecretStr

from shared.providers.account import AccountSettings


class AcmeAccount(AccountSettings):
    """One shop: the keys that Acme sends to us, and the key that we send."""

    webhook_keys: tuple[SecretStr, ...] = Field(min_length=1, max_length=2)
    api_key: SecretStr

    def inbound_secrets(self) -> Sequence[SecretStr]:
        """What Acme sends as ``x-acme-key``: one key, or two during a rotation."""
        return self.webhook_keys

    def outbound_secrets(self) -> Sequence[SecretStr]:
        """What we send as a bearer token."""
        return (self.api_key,)
