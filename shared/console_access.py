"""Who may see the console, and who may change something: the ``[console]`` section of ``penstock.toml``."""

from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from shared.providers.account import Name, Section


Role = Literal["viewer", "operator"]
"""A viewer looks; an operator also reads bodies, retries and discards."""

HASH_PREFIX: Final = "$argon2id$"


class User(Section):
    """One person. Without a hash nobody signs in by this name: then only a trusted proxy may name it."""

    name: Name
    """What the user types, or a trusted proxy says."""
    role: Role = "viewer"
    """A viewer looks; an operator also reads bodies, retries and discards."""
    password_hash: SecretStr | None = None
    """What `penstock console hash-password` printed. Unset: only a trusted proxy may name this user."""

    @field_validator("password_hash")
    @classmethod
    def _is_a_hash(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(HASH_PREFIX):
            raise ValueError("must be what `penstock console hash-password` printed, not the password itself")
        return value


class ConsoleAccess(Section):
    """The users, and what somebody at this machine may do while there are none.

    ``proxy_user_header`` names the header in which a proxy of PENSTOCK_TRUSTED_PROXIES says who signed in at it.
    """

    users: tuple[User, ...] = ()
    """Who may sign in."""
    local_role: Role = "viewer"
    """What somebody at this machine may do while there is no user and no password."""
    proxy_user_header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = Field(default=None)
    """The header in which a proxy of PENSTOCK_TRUSTED_PROXIES says who signed in at it."""

    flower_url: str | None = None
    """Where flower is, as a browser reaches it, such as ``https://flower.example.com``: events link to their tasks.

    Unset: the flower of `penstock up`, for whoever can reach it.
    """

    @field_validator("flower_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("must be a URL such as https://flower.example.com")
            return value.rstrip("/")
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [user.name for user in self.users]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"users: two of them are named {twice[0]}; give each a name of its own")
        return self

    def user(self, name: str) -> User | None:
        """The user of this name."""
        return next((user for user in self.users if user.name == name), None)
