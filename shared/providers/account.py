"""What every provider's account settings have in common. Secrets are never shown by ``repr``."""

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Section(BaseModel):
    """A table of ``penstock.toml``: frozen, and an unknown field is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Budget(Section):
    """Overrides the provider's published limit: ``calls`` per ``seconds``; ``calls = 0`` lifts it.

    ``penalty_seconds`` overrides how long the provider shuts out whoever goes over.
    """

    calls: int = Field(ge=0)
    """How many calls; 0: no limit."""
    seconds: float = Field(default=60.0, gt=0)
    """In how long."""
    window: Literal["sliding", "fixed"] = "sliding"
    """``sliding`` allows so many in any such time, ``fixed`` from a window's first call until its end."""
    penalty_seconds: float | None = Field(default=None, ge=0)
    """How long to keep away after a 429 without ``Retry-After``. Unset: what the provider documents."""


class AccountSettings(Section):
    """One configured relationship with a provider: its name, its host, its budget. Providers add their keys."""

    name: Name
    """What the account is called here."""
    base_url: str
    """The origin of the provider's API, such as ``https://api.example.com``; the account's key goes nowhere else."""
    allow_insecure: bool = False
    """True: ``http://`` also to other machines than this one."""
    allow_private: bool = False
    """True: ``base_url`` may resolve to an address of a private network."""
    budget: Budget | None = None
    """Replaces the provider's published limit, for each endpoint where the provider counts so."""

    @field_validator("base_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        try:
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port is no number up to 65535
            usable = False
        if not usable or parts.username or parts.password:
            raise ValueError("must be an origin such as https://api.example.com")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ValueError("must be an origin without a path, such as https://api.example.com")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _is_encrypted_or_at_home(self) -> Self:
        parts = urlsplit(self.base_url)
        if parts.scheme == "http" and not (self.allow_insecure or is_loopback(parts.hostname or "")):
            raise ValueError(
                "base_url: http:// is accepted for loopback addresses only; use https://, "
                "or set allow_insecure = true beside it"
            )
        return self

    def inbound_secrets(self) -> Sequence[SecretStr]:
        """The keys by which the provider proves itself to us; no two accounts of a provider may share one."""
        return ()

    def proving_secrets(self) -> Sequence[SecretStr]:
        """What a delivery comes with or is signed under, in the order of the settings: what is rotated."""
        return self.inbound_secrets()

    def shared_secrets(self) -> Sequence[SecretStr]:
        """Keys that a provider uses both ways by its own design (Authenteq's client secret)."""
        return ()

    def outbound_secrets(self) -> Sequence[SecretStr]:
        """The keys by which we prove ourselves to the provider."""
        return ()


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal of a URL means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
