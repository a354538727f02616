"""A Paybook (Syncfy) account: one API key, its host, and the secret path and header of its webhook."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, field_validator

from shared.providers.account import AccountSettings, Section, is_loopback


# The token is a path segment as it stands: RFC 3986's unreserved characters need no encoding anywhere.
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")
# Visible ASCII, with single blanks at most inside: what every HTTP server hands on unchanged.
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
# The key stands in `Authorization: api_key api_key=K,id_user=U`, where a comma or a blank would end it.
_API_KEY = re.compile(r"[!-+\--~]+")


def _is_a_token(value: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(value.get_secret_value()):
        raise ValueError("a webhook token needs at least 16 characters, each a letter, a digit or one of - . _ ~")
    return value


def _is_a_header_value(value: SecretStr) -> SecretStr:
    if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
        raise ValueError("must be visible ASCII characters, and not be empty")
    return value


def _is_an_api_key(value: SecretStr) -> SecretStr:
    if not _API_KEY.fullmatch(value.get_secret_value()):
        raise ValueError("must be visible ASCII characters without a comma, and not be empty")
    return value


WebhookToken = Annotated[SecretStr, AfterValidator(_is_a_token)]


class WebhookHeader(Section):
    """The custom header that was given when the webhook was registered, and that each delivery carries since."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
    """The header's name, such as ``X-Hook-Secret``."""
    value: Annotated[SecretStr, AfterValidator(_is_a_header_value)]
    """Its value: visible ASCII characters."""


class WebhookRegistration(Section):
    """Where and how the account's webhook is to be registered at Paybook, for those who let Penstock see to it."""

    ingress: str
    """The origin under which Paybook reaches ingress, such as ``https://hooks.example.com``."""
    again: bool = False
    """Register it when it is missing, and anew when Paybook has disabled it."""
    events: Annotated[tuple[str, ...], Field(min_length=1)] = ("credential_create", "credential_update", "refresh")
    """What Paybook is to tell of."""
    delay: int = Field(default=0, ge=0)
    """Seconds between an event and its delivery."""

    @field_validator("ingress")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        encrypted = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        if not encrypted or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ValueError("must be an origin such as https://hooks.example.com: the token in the URL is a secret")
        return value.rstrip("/")


class PaybookAccount(AccountSettings):
    """One API key at Paybook, and the secrets that its webhook carries: a path, and better still a header too."""

    webhook_tokens: Annotated[tuple[WebhookToken, ...], Field(min_length=1, max_length=2)]
    """The secret last segment of the webhook's URL; two while one replaces the other."""
    webhook_header: WebhookHeader | None = None
    """A header that each delivery must carry, beside the token in its URL."""
    api_key: Annotated[SecretStr, AfterValidator(_is_an_api_key)]
    """What Penstock sends as ``Authorization: api_key api_key=...``."""
    auth: Literal["api_key_user", "api_key", "session"] = "api_key_user"
    """How reads are authenticated: the key on behalf of the event's user, the key alone, or a session's token."""
    registration: WebhookRegistration | None = None
    """What `penstock paybook webhooks watch` and the relay are to see to; unset: they only warn."""

    def inbound_secrets(self) -> Sequence[SecretStr]:
        """The path tokens and the header's value: neither may be shared with another account or be an API key."""
        header = (self.webhook_header.value,) if self.webhook_header else ()
        return (*self.webhook_tokens, *header)

    def proving_secrets(self) -> Sequence[SecretStr]:
        """The path tokens."""
        return self.webhook_tokens

    def outbound_secrets(self) -> Sequence[SecretStr]:
        """The API key."""
        return (self.api_key,)
