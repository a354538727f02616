"""The accounts of Magicline: one per studio."""

from collections.abc import Sequence

from pydantic import Field, SecretStr

from shared.providers.account import AccountSettings


class MagiclineAccount(AccountSettings):
    """One studio: the keys that Magicline sends to us, the key that we send, and the tenant's host.

    Both keys are per studio, and a delivery names neither studio nor tenant: its key alone leads to the host and to
    the key to call with (seed 001, "Headers": "Validate it and match with studio").
    """

    webhook_keys: tuple[SecretStr, ...] = Field(min_length=1, max_length=2)
    """What Magicline sends as ``x-api-key`` for this studio; two during a rotation."""
    api_key: SecretStr
    """The studio's Open API key, which Penstock sends as ``x-api-key``."""

    def inbound_secrets(self) -> Sequence[SecretStr]:
        """What Magicline sends as ``x-api-key``: one key, or two during a rotation."""
        return self.webhook_keys

    def outbound_secrets(self) -> Sequence[SecretStr]:
        """What we send as ``x-api-key``."""
        return (self.api_key,)
