"""What PENSTOCK_REDIS_URL says: one server, or the sentinels that know which server is the primary; TLS or not.

One server as redis-py reads it: ``redis://[user]:password@host:6379/0``, with TLS ``rediss://``. A primary that
Sentinel fails over: ``redis+sentinel://[user]:password@host:26379,host:26379/<service>/<db>``, with TLS
``rediss+sentinel://``. User and password are those of the servers; those of the sentinels are options
(``?sentinel_username=...&sentinel_password=...``).
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit


SENTINEL_PORT: Final = 26379
_FORM: Final = "redis+sentinel://:password@host:26379,host:26379,host:26379/<service>/<database number>"
_SENTINEL: Final = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<who>[^@/]*)@)?(?P<hosts>[^@/?]+)/(?P<service>[^/?]+)(?:/(?P<db>\d*))?"
    r"(?:\?(?P<options>.*))?"
)
_HOST: Final = re.compile(r"(?:\[(?P<address>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d{1,5}))?")
_OWN_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_TLS_OPTIONS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"},
)


class NotARedisUrl(ValueError):
    """The sentence says what is wrong with it, without the URL, which holds a password."""


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Who is asked for the primary of ``service``, and how one signs in to it and to them. ``tls``: None is without."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    db: int
    username: str | None
    password: str | None
    sentinel_username: str | None
    sentinel_password: str | None
    tls: Mapping[str, Any] | None


def sentinels_of(url: str) -> Sentinels | None:
    """The sentinels that the URL names; None where it names one server. Raises NotARedisUrl."""
    if "+sentinel://" not in url:
        return None
    if not (found := _SENTINEL.fullmatch(url)):
        raise NotARedisUrl(f"write {_FORM}; an @, / or ? in a password is written as %40, %2F or %3F")
    user, _, password = (found["who"] or "").partition(":")
    options = dict(parse_qsl(found["options"] or "", keep_blank_values=True))
    if unknown := sorted(options.keys() - _OWN_OPTIONS - _TLS_OPTIONS):
        raise NotARedisUrl(
            f"{unknown[0]} is no option of it; known are {', '.join(sorted(_OWN_OPTIONS | _TLS_OPTIONS))}"
        )
    return Sentinels(
        hosts=tuple(_host(each) for each in found["hosts"].split(",")),
        service=unquote(found["service"]),
        db=int(found["db"] or 0),
        username=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_username") or None,
        sentinel_password=options.get("sentinel_password") or None,
        tls=_tls(options) if found["scheme"] == "rediss" else None,
    )


def tls_of(url: str) -> Mapping[str, Any] | None:
    """The TLS options of a URL of one server, as both libraries want them; None is without. Raises NotARedisUrl.

    The certificate is verified unless the URL says otherwise: kombu, left alone with ``rediss://``, would not.
    """
    parts = urlsplit(url)
    return _tls(dict(parse_qsl(parts.query))) if parts.scheme == "rediss" else None


def without_tls_options(url: str) -> str:
    """The URL for a library that is given ``tls_of`` beside it."""
    parts = urlsplit(url)
    kept = "&".join(each for each in parts.query.split("&") if each.partition("=")[0] not in _TLS_OPTIONS)
    return urlunsplit(parts._replace(query=kept))


def _host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text.strip())
    if not found:
        raise NotARedisUrl(f"{text!r} is no sentinel's host and port: write {_FORM}")
    return found["address"] or found["name"], int(found["port"] or SENTINEL_PORT)


def _tls(options: Mapping[str, str]) -> Mapping[str, Any]:
    told: dict[str, Any] = {name: text for name, text in options.items() if name in _TLS_OPTIONS}
    verify = told.get("ssl_cert_reqs", "required")
    if verify not in _VERIFY:
        raise NotARedisUrl(f"ssl_cert_reqs={verify}: write {', '.join(_VERIFY)}")
    told["ssl_cert_reqs"] = _VERIFY[verify]
    if "ssl_check_hostname" in told:
        told["ssl_check_hostname"] = told["ssl_check_hostname"].lower() not in {"false", "no", "0"}
    return told
