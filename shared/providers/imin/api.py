"""imin's API: where customer accounts are, and the key that reads them."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from shared.errors import Unreadable
from shared.providers.imin.settings import IminAccount
from shared.providers.interface import Limit, Probe


PROBE: Final = Probe("GET", "/api/v2/entitlements")
"""The broker's pre-agreed entitlements [IM-web, entitlement]."""

LIMIT: Limit | None = None
"""imin publishes no limit (README.md, "Limits"); ``budget`` in the account's settings sets one."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

# One string, matched as a whole and in ASCII, so that no second parser of URLs can read it otherwise: no user
# information, query, fragment, backslash or space. A ";" is left out because some servers take "..;" for "..".
_CUSTOMER_ACCOUNT = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/api/v2/customer-accounts/(?P<segment>(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-Fa-f]{2}){1,255}))"
)
# To a server that decodes before it looks these are another path: dot, slash, percent, backslash, control characters.
_NEVER_ENCODED = re.compile(r"%(?:2[EeFf5]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])")


def path_of_account(url: str, account: IminAccount) -> str:
    """The path of a delivery's ``@id``, if it is that of one customer account at the account's own origin.

    Raises Unreadable (``untrusted-url``): our API key is sent to whatever is called.
    """
    match = _CUSTOMER_ACCOUNT.fullmatch(url)
    if (
        match is None
        or _origin(match["scheme"], match["host"], match["port"]) != _origin_of(account)
        or match["segment"] in {".", ".."}
        or _NEVER_ENCODED.search(match["segment"])
        or not _is_utf8(match["segment"])
    ):
        raise Unreadable(
            "untrusted-url",
            f"the @id is not the address of one customer account at {account.base_url}; nothing is called",
        )
    return match["path"]


def identifier_in(path: str) -> str:
    """The customer's identifier: the last segment of an account's path, decoded."""
    return unquote_to_bytes(path.rpartition("/")[2]).decode()


def credentials(account: IminAccount) -> dict[str, str]:
    """The key for our calls, which is not the one that imin sends to us (seed 000)."""
    return {"X-API-KEY": account.api_key.get_secret_value()}


def _origin_of(account: IminAccount) -> tuple[str, str, int | None]:
    parts = urlsplit(account.base_url)
    return _origin(parts.scheme, parts.hostname or "", parts.port)


def _origin(scheme: str, host: str, port: str | int | None) -> tuple[str, str, int | None]:
    scheme = scheme.lower()
    return scheme, host.strip("[]").lower(), int(port) if port is not None else _DEFAULT_PORTS.get(scheme)


def _is_utf8(segment: str) -> bool:
    try:
        unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return False
    return True
