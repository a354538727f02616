"""The accounts of Authenteq."""

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field, SecretStr

from shared.providers.account import AccountSettings


SignatureForm = Literal["hmac-sha256", "sha256-body-secret", "sha256-secret-body"]
"""The readings of "SHA256 digest of the request body and your Client Secret" (seed 004)."""
SIGNATURE_FORMS: tuple[SignatureForm, ...] = get_args(SignatureForm)


class AuthenteqAccount(AccountSettings):
    """One client: its id, and its secret, which signs deliveries and opens the export API alike.

    ``client_secrets`` holds one secret, or two during a rotation, the newest first: calls are made with that one.
    """

    base_url: str = "https://api.app.authenteq.com"
    """The origin of Authenteq's API; the account's secret goes nowhere else."""
    client_id: SecretStr
    """What Authenteq sends as ``X-CLIENT-ID``."""
    client_secrets: tuple[SecretStr, ...] = Field(min_length=1, max_length=2)
    """What signs deliveries and opens the API; two during a rotation, the newest first."""
    signature: Literal["auto"] | SignatureForm = "auto"
    """The form of the signature; ``auto`` accepts each of them until one is pinned."""
    strict_parts: bool = False
    """Park a delivery that lacks a required image, instead of noting it on the record as ``missing_parts``."""
    confirm: bool = False
    """Fetch each result again from the export API and note on the record whether it is the same."""

    def inbound_secrets(self) -> Sequence[SecretStr]:
        """The client id, by which the account is found, and the secrets; no two accounts may share either."""
        return (self.client_id, *self.client_secrets)

    def proving_secrets(self) -> Sequence[SecretStr]:
        """The client secrets, which sign deliveries."""
        return self.client_secrets

    def shared_secrets(self) -> Sequence[SecretStr]:
        """The client secrets: the same ones sign deliveries and authenticate calls (README.md, "Follow-up")."""
        return self.client_secrets

    def outbound_secrets(self) -> Sequence[SecretStr]:
        """The client secrets, as the password of Basic authentication."""
        return self.client_secrets
