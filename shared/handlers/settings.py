"""``[[handlers]]`` in ``penstock.toml``: an application's URL that changes are sent to."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.handlers.signing import unusable
from shared.providers.account import Budget, Name, Section, is_loopback


Op = Literal["created", "updated", "deleted"]
OPS: tuple[Op, ...] = ("created", "updated", "deleted")

TASK_SECONDS = 10.0
"""After this long a hand-over task begins nothing new; what is under way then may take its own timeout."""


class Handler(Section):
    """Where changes go by HTTP, and how gently."""

    name: Name
    """What the handler is remembered by: its place in the feed belongs to the name."""
    url: str
    """Where messages are sent, by ``POST``."""
    secret: SecretStr
    """The newest signing secret: ``whsec_`` and base64, as the Standard Webhooks specification has them."""
    older_secrets: tuple[SecretStr, ...] = ()
    """Secrets on their way out: each message carries a signature of every one, so a receiver may know any of them."""
    kinds: tuple[str, ...] = ()
    """Which record kinds; none named: all."""
    ops: tuple[Op, ...] = OPS
    """Which changes."""
    start: Literal["now", "beginning"] = "now"
    """Whether a handler that is new begins with what changes from now on, or with all that the feed still holds."""
    concurrency: int = Field(default=10, ge=1, le=100)
    """How many messages may be under way at a time, over all workers; of one record always one."""
    budget: Budget | None = None
    """At most so many messages in such a time; unset: as fast as the application answers."""
    timeout_seconds: float = Field(default=15.0, gt=0, le=60)
    """How long an answer may take."""
    allow_insecure: bool = False
    """True: ``http://`` also to other machines than this one."""
    allow_private: bool = False
    """Whether the name may resolve to an address of a private network. A loopback address in the URL itself may."""

    @field_validator("secret")
    @classmethod
    def _signs(cls, value: SecretStr) -> SecretStr:
        if why := unusable(value.get_secret_value()):
            raise ValueError(why)
        return value

    @field_validator("older_secrets")
    @classmethod
    def _sign(cls, values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for value in values:
            cls._signs(value)
        return values

    @field_validator("ops")
    @classmethod
    def _names_one(cls, value: tuple[Op, ...]) -> tuple[Op, ...]:
        if not value:
            raise ValueError("name at least one of created, updated, deleted")
        return value

    @model_validator(mode="after")
    def _is_encrypted_or_at_home(self) -> Self:
        parts = urlsplit(self.url)
        try:
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port is no number up to 65535
            usable = False
        if not usable or parts.username or parts.password or parts.fragment:
            raise ValueError("url: must be a URL such as https://app.example.com/hooks, without a user or a fragment")
        if parts.scheme == "http" and not (self.allow_insecure or is_loopback(parts.hostname or "")):
            raise ValueError(
                "url: http:// is accepted for loopback addresses only; use https://, or set allow_insecure = true"
            )
        return self
