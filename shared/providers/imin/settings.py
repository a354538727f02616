"""The accounts of imin."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator

from shared.providers.account import AccountSettings


ExtraPath = Annotated[
    str, StringConstraints(pattern=r"\A[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\z")
]
"""A path below a customer account, such as ``linked-accounts``: no leading slash, no dot segments, no query."""

# Documented members of an account, which an extra answer of the same name would hide (README.md, "Quirks").
_MEMBERS_OF_AN_ACCOUNT = frozenset({"identifier", "customer", "accessPass", "entitlement"})


class IminAccount(AccountSettings):
    """One broker: the keys that imin sends to us, and the key that we send; they are never the same (seed 000)."""

    webhook_keys: tuple[SecretStr, ...] = Field(min_length=1, max_length=2)
    """What imin sends as ``X-Api-Key``; two during a rotation."""
    api_key: SecretStr
    """What Penstock sends as ``X-API-KEY``; never one of ``webhook_keys``."""
    extra_paths: tuple[ExtraPath, ...] = ()
    """Further GETs below a delivery's ``@id``, whose answers are kept in the same record under their own names."""
    notification_keys: str = "(?i)notification"
    """A regular expression: lists under keys that it finds hold update notifications."""

    @field_validator("extra_paths")
    @classmethod
    def _hides_nothing(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(paths)) != len(paths):
            raise ValueError("a path is listed twice")
        if hidden := sorted(_MEMBERS_OF_AN_ACCOUNT & set(paths)):
            raise ValueError(f"{hidden[0]} is the name of a member of the customer account itself")
        return paths

    @field_validator("notification_keys")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return pattern

    def inbound_secrets(self) -> Sequence[SecretStr]:
        """What imin sends as ``X-Api-Key``: one key, or two during a rotation."""
        return self.webhook_keys

    def outbound_secrets(self) -> Sequence[SecretStr]:
        """What we send as ``X-API-KEY``."""
        return (self.api_key,)
