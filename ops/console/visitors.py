"""Who asks: a user who signed in, one whom a trusted proxy names, or somebody at this machine itself."""

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import Scope

from ops.console.passwords import matches, nobodys
from ops.console.sessions import Session, stamp_of
from shared.console_access import Role
from shared.errors import SettingsError
from shared.providers.account import is_loopback
from shared.watching import ConfigurationWatch


SHARED_USER: Final = "penstock"
"""Whom PENSTOCK_CONSOLE_PASSWORD lets in, as an operator."""

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may look; ``signed_in`` where there is something to sign out of."""

    name: str
    role: Role
    signed_in: bool = False

    @property
    def may_act(self) -> bool:
        """Whether more than looking is allowed."""
        return self.role == "operator"


class Visitors:
    """Tells visitors by the settings in force at each request: who is taken out of them is out at once."""

    def __init__(self, watch: ConfigurationWatch, *, password: SecretStr | None, proxies: Sequence[str]) -> None:
        self._watch = watch
        self._password = password.get_secret_value() if password else None
        try:
            self._proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in proxies]
        except ValueError as error:
            raise SettingsError(f"PENSTOCK_TRUSTED_PROXIES: {error}") from None

    @property
    def sign_in_exists(self) -> bool:
        """Whether anybody can sign in at all."""
        users = self._watch.current.console.users
        return self._password is not None or any(user.password_hash for user in users)

    def known(self, scope: Scope, session: Session) -> Visitor | None:
        """Who this request is from; None for nobody who may look."""
        access = self._watch.current.console
        headers = Headers(scope=scope)
        header = access.proxy_user_header
        if header and self.from_trusted_proxy(scope) and len(named := headers.getlist(header)) == 1:
            user = access.user(named[0])
            return Visitor(user.name, user.role) if user else None
        if session.user is not None:
            kept, role = self._of(session.user)
            if kept is not None and hmac.compare_digest(session.stamp, stamp_of(kept)):
                return Visitor(session.user, role, signed_in=True)
        if self._password is None and not access.users and is_this_machine(scope, headers):
            return Visitor("somebody at this machine", access.local_role)
        return None

    def stamp(self, name: str, password: str) -> str | None:
        """The stamp of a session if name and password fit, else None. As slow for a name that does not exist."""
        kept, _ = self._of(name)
        if self._password is not None and name == SHARED_USER and kept == self._password:
            return stamp_of(kept) if hmac.compare_digest(password.encode(), kept.encode()) else None
        right = matches(password, kept or nobodys())
        return stamp_of(kept) if right and kept is not None else None

    def from_trusted_proxy(self, scope: Scope) -> bool:
        """Whether the connection comes from one of PENSTOCK_TRUSTED_PROXIES."""
        try:
            address = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    def _of(self, name: str) -> tuple[str | None, Role]:
        """What a user's password is held against, and the role. A user of the file goes before the shared one."""
        user = self._watch.current.console.user(name)
        if user is not None:
            return user.password_hash.get_secret_value() if user.password_hash else None, user.role
        if self._password is not None and name == SHARED_USER:
            return self._password, "operator"
        return None, "viewer"


def is_this_machine(scope: Scope, headers: Headers) -> bool:
    """A loopback client that also named a loopback host.

    The host counts because a page from elsewhere may point its own name at 127.0.0.1 (DNS rebinding); a request that a
    proxy passed on comes from somebody else, whatever address the proxy has.
    """
    client = scope.get("client")
    if client is None or any(name in headers for name in _FORWARDED):
        return False
    try:
        near = ipaddress.ip_address(client[0]).is_loopback
        named = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return False
    return near and is_loopback(named or "")
