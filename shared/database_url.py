"""What PENSTOCK_DATABASE_URL says: every parameter of libpq, taken as libpq means it or refused with a sentence.

The form and the names are libpq's (https://www.postgresql.org/docs/current/libpq-connect.html), so that a URL which a
hosted database hands out can be pasted in; ``pgbouncer`` is ours. Nothing but the URL counts: no ``PG...`` variable of
the environment is looked at. What is not in the table is refused rather than handed to a server as a setting.
"""

import os
import pwd
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from shared.database_files import password_for, service_parameters


PGBOUNCER: Final = "pgbouncer"
FORM: Final = "postgresql://user:password@host:port/database"
DEFAULT_PORT: Final = 5432
LOCAL_HOSTS: Final = ("/run/postgresql", "/var/run/postgresql", "/tmp", "localhost")  # noqa: S108 - where servers put their sockets
"""Where a server of this machine listens, in the order in which they are tried where no host is named."""

_NUMBERS: Final = frozenset(
    {"connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
)
_TEXTS: Final = frozenset(
    {
        *("host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service", "servicefile"),
        *("options", "application_name", "fallback_application_name", "krbsrvname"),
        *("sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
_TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow"),
    "sslsni": ("0", "1"),
    "sslcompression": ("0", "1"),  # libpq itself has not heeded it since version 14
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "gsslib": ("gssapi",),
    "keepalives": ("0", "1"),
    "replication": ("false", "off", "no", "0"),
    "client_encoding": ("UTF8", "utf8", "UTF-8", "utf-8", "auto"),
    "min_protocol_version": ("3.0",),
    "max_protocol_version": ("3.0", "3.2", "latest"),
    PGBOUNCER: ("true", "false"),
}
_ADVICE: Final[Mapping[str, str]] = {
    PGBOUNCER: f"write {PGBOUNCER}=true where the URL leads through pgbouncer, else leave it out",
    "channel_binding": "this driver cannot bind to the channel: leave it out; sslmode=verify-full makes sure of the"
    " server",
    "gssencmode": "this driver cannot encrypt by GSSAPI: use sslmode",
    "client_encoding": "Penstock speaks UTF8: leave it out",
    "replication": "this is no replication connection: leave it out",
    "require_auth": "this driver cannot refuse a server's way of signing in: leave it out; sslmode=verify-full makes"
    " sure of the server",
    "requirepeer": "this driver cannot ask who runs the server: leave it out",
    "sslkeylogfile": "the keys of connections are not written down: leave it out",
    "scram_client_key": "this driver signs in with a password: name it",
    "scram_server_key": "this driver signs in with a password: name it",
    "oauth_issuer": "this driver cannot sign in by OAuth: use a password or sslcert",
    "oauth_client_id": "this driver cannot sign in by OAuth: use a password or sslcert",
    "oauth_client_secret": "this driver cannot sign in by OAuth: use a password or sslcert",
    "oauth_scope": "this driver cannot sign in by OAuth: use a password or sslcert",
}
_KNOWN: Final = _NUMBERS | _TEXTS | _WORDS.keys()
_MOST: Final = 2**31 - 1
_HOST: Final = re.compile(r"(?:\[(?P<address>[^\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[^:]*))?")
_ENCODED: Final = "an @, :, / or ? in a user or password is written as %40, %3A, %2F or %3F"


class NotADatabaseUrl(ValueError):
    """The sentence says what is wrong with it, without the URL, which holds a password."""


@dataclass(frozen=True, slots=True)
class Host:
    """One server: ``name`` is whom its certificate must name, ``address`` where it is looked for."""

    name: str
    address: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether it is reached by a Unix socket, whose folder ``address`` is."""
        return self.address.startswith(("/", "@"))


@dataclass(frozen=True, slots=True)
class Database:
    """Where Postgres is and how one signs in. ``parameters`` holds every other one, checked."""

    hosts: tuple[Host, ...]
    user: str
    name: str
    parameters: Mapping[str, str]
    given_password: str | None

    @classmethod
    def read(cls, url: str) -> "Database":
        """What the URL says, with the parameters of the service that it names. Raises NotADatabaseUrl."""
        named = _parameters(url)
        if service := named.pop("service", ""):
            named = {**_of_service(service, named.get("servicefile")), **named}
        user = named.pop("user", "") or _own_name()
        hosts = _hosts(named.pop("host", ""), named.pop("hostaddr", ""), named.pop("port", ""))
        if named.get("load_balance_hosts") == "random":
            hosts = tuple(random.sample(hosts, len(hosts)))
        if named.get("sslrootcert") == "system":
            if named.setdefault("sslmode", "verify-full") != "verify-full":
                raise NotADatabaseUrl(
                    "sslrootcert=system: such authorities vouch for anybody: write sslmode=verify-full"
                )
        elif named.get("sslnegotiation") == "direct" and named.get("sslmode") in {None, "disable", "allow", "prefer"}:
            raise NotADatabaseUrl("sslnegotiation=direct: write sslmode=require, verify-ca or verify-full with it")
        return cls(hosts, user, named.pop("dbname", "") or user, named, named.pop("password", None))

    def password(self, host: Host) -> str:
        """The one of the URL, else of the password file; empty where neither has it. Reads a file."""
        if self.given_password is not None:
            return self.given_password
        file = self.parameters.get("passfile")
        return password_for(Path(file) if file else None, _file_host(host), host.port, self.name, self.user)

    def number(self, name: str) -> int | None:
        """A parameter that is a whole number; None where it is not set."""
        text = self.parameters.get(name)
        return int(text) if text else None


def goes_through_pgbouncer(url: str) -> bool:
    """Whether the URL says so, by ``?pgbouncer=true``. Raises NotADatabaseUrl."""
    return _parameters(url).get(PGBOUNCER) == "true"


def _parameters(url: str) -> dict[str, str]:
    """What the URL itself names, by libpq's names, each value checked."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise NotADatabaseUrl(f"write {FORM}")
    rest, _, query = rest.partition("?")
    where, _, database = rest.partition("/")
    who, _, hosts = where.rpartition("@")
    user, has_password, password = who.partition(":")
    named: dict[str, str] = {}
    if user:
        named["user"] = unquote(user)
    if has_password:
        named["password"] = unquote(password)
    if database:
        named["dbname"] = unquote(database)
    if hosts:
        named["host"], named["port"] = _split(hosts)
    # Not parse_qsl: to libpq a + is a plus, and a password may hold one.
    for each in filter(None, query.split("&")):
        name, has_value, text = each.partition("=")
        if not has_value:
            raise NotADatabaseUrl(f"{_shown(name)} has no value: write {_shown(name)}=...")
        _take(named, unquote(name), unquote(text))
    return named


def _take(named: dict[str, str], name: str, text: str) -> None:
    if name == "ssl" and text == "true":
        name, text = "sslmode", "require"  # as libpq takes the form that JDBC has
    _check(name, text)
    named[name] = text


def _check(name: str, text: str) -> None:
    """Raise NotADatabaseUrl for what is not known or cannot be done."""
    if name not in _KNOWN:
        advice = _ADVICE.get(name) or (
            "is no parameter of libpq; a setting of the server is written as options=-c%20name%3Dvalue"
        )
        raise NotADatabaseUrl(f"{_shown(name)}{':' if name in _ADVICE else ''} {advice}")
    words = _WORDS.get(name)
    if words and text not in words:
        what = _ADVICE.get(name) or f"write {', '.join(words)}"
        raise NotADatabaseUrl(f"{name}={_shown(text)}: {what}")
    if name in _NUMBERS and not (text.isdecimal() and text.isascii() and int(text) <= _MOST):
        raise NotADatabaseUrl(f"{name}={_shown(text)}: write a whole number")
    if "\0" in text:
        raise NotADatabaseUrl(f"{name}: it holds a character that Postgres cannot take")


def _split(hosts: str) -> tuple[str, str]:
    """``a:1,[::1]:2`` as libpq's lists of hosts and of ports."""
    names: list[str] = []
    ports: list[str] = []
    for each in hosts.split(","):
        if not (found := _HOST.fullmatch(each)):
            raise NotADatabaseUrl(f"its host is not to be understood: write {FORM}; {_ENCODED}")
        names.append(unquote(found["address"] or found["name"]))
        ports.append(unquote(found["port"] or ""))
    return ",".join(names), ",".join(ports) if any(ports) else ""


def _hosts(host: str, hostaddr: str, port: str) -> tuple[Host, ...]:
    names = host.split(",") if host else []
    addresses = hostaddr.split(",") if hostaddr else []
    if not names and not addresses:
        names = list(LOCAL_HOSTS)
        if "," in port:
            raise NotADatabaseUrl("it names several ports and no host")
    if names and addresses and len(names) != len(addresses):
        raise NotADatabaseUrl(f"hostaddr: it names {len(addresses)} addresses for {len(names)} hosts")
    count = max(len(names), len(addresses))
    ports = port.split(",")
    if len(ports) == 1:
        ports *= count
    if len(ports) != count:
        raise NotADatabaseUrl(f"port: it names {len(ports)} ports for {count} hosts")
    names = names or addresses
    addresses = addresses or names
    return tuple(
        Host(name or "localhost", address or name or "localhost", _port(text))
        for name, address, text in zip(names, addresses, ports, strict=True)
    )


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isdecimal() and text.isascii() and 0 < int(text) < 2**16):
        raise NotADatabaseUrl(f"its port is no number from 1 to 65535: write {FORM}; {_ENCODED}")
    return int(text)


def _of_service(service: str, file: str | None) -> dict[str, str]:
    named: dict[str, str] = {}
    for name, text in service_parameters(service, Path(file) if file else None).items():
        _take(named, name, text)
    return named


def _own_name() -> str:
    """As libpq: the user of the process, whatever a variable calls it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise NotADatabaseUrl(f"it names no user, and this process's has no name: write {FORM}") from None


def _file_host(host: Host) -> str:
    return "localhost" if host.is_socket else host.name


def _shown(text: str) -> str:
    """At most the beginning of what stands there, on one line: it may be half of a password."""
    return text if re.fullmatch(r"[\w.-]{1,40}", text) else "one of them"
