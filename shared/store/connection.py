"""One connection to Postgres, made the same way for pools, commands, migrations and the console.

Everything that asyncpg would otherwise take from ``PG...`` variables is told to it here, and every setting of a session
on which a statement's meaning or a deadline depends: neither an environment nor an ``ALTER ROLE`` changes what we do.
"""

import socket
from contextlib import suppress
from typing import Any, Final

import asyncpg

from shared.database_tls import Way, ways
from shared.database_url import Database, Host, goes_through_pgbouncer


CONNECT_SECONDS: Final = 5.0
LEAST_SECONDS: Final = 2.0
"""For one of several hosts; libpq gives none less either."""
ENCODING: Final = "UTF8"
OLDEST: Final = 14

SESSION: Final = {
    # What a statement means, whatever the server, the database or the role has as its default.
    "default_transaction_isolation": "read committed",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    # Deadlines are ours (``command_timeout``): a role's would end a backup's transaction, or a claim, halfway.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""Not default_transaction_read_only: who turns it on means it. Nor search_path, which says where the tables are."""
_THROUGH_PGBOUNCER: Final = frozenset({"TimeZone", "DateStyle", "standard_conforming_strings"})
"""What every pgbouncer keeps for each client; it refuses others (``ignore_startup_parameters`` in its manual)."""

_NEXT_HOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.TargetServerAttributeNotMatched,
)
_UNREACHABLE: Final = (ConnectionRefusedError, TimeoutError, socket.gaierror)
"""There is nobody whom TLS could have put off."""

_ABOUT_THE_SERVER: Final = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)
"""What else is told of a connection and known to who asks for one (``shared.store.postgres.AWAY``)."""
_OF_SOCKET: Final = {
    "keepalives_idle": socket.TCP_KEEPIDLE,
    "keepalives_interval": socket.TCP_KEEPINTVL,
    "keepalives_count": socket.TCP_KEEPCNT,
    "tcp_user_timeout": socket.TCP_USER_TIMEOUT,
}


class Refused(asyncpg.ConnectionRejectionError):
    """The server does not let us in as we are; to callers it is as good as away."""


class Unfit(asyncpg.ConnectionRejectionError):
    """The server answers, and its database cannot hold what we are sent."""


async def connect(
    url: str,
    *_: Any,
    name: str = "",
    timeout: float = CONNECT_SECONDS,  # noqa: ASYNC109 - asyncpg's own word, and its pool's
    server_settings: dict[str, str] | None = None,
    **options: Any,
) -> Any:
    """Connect to the first host that fits. ``options`` are asyncpg's, ``name`` is what ``pg_stat_activity`` shows.

    Raises what asyncpg raises, Refused, Unfit: each of them is one of ``shared.store.postgres.AWAY``.
    """
    try:
        database = Database.read(url)
    except ValueError as error:
        # Settings were read with it, so a file that it leans on has changed since.
        raise Refused(f"PENSTOCK_DATABASE_URL: {error}") from None
    settings = _settings(database, url, name, server_settings or {})
    try:
        connection = await _first(database, timeout, {**options, "server_settings": settings})
    except (asyncpg.PostgresConnectionError, asyncpg.InvalidAuthorizationSpecificationError, *_ABOUT_THE_SERVER):
        raise
    except asyncpg.PostgresError as error:
        raise Refused(str(error) or type(error).__name__) from None
    if said := _unfit(connection):
        connection.terminate()
        raise Unfit(said)
    _keep_alive(connection, database)
    return connection


def _unfit(connection: Any) -> str:
    """What the server said of itself as it let us in, where that is not what we need; else empty."""
    if (version := connection.get_server_version().major) < OLDEST:
        return f"it is version {version}, and Penstock needs {OLDEST} or later: bring it up to date, or name another"
    if (encoding := connection.get_settings().server_encoding) != ENCODING:
        return (
            f"its database has the encoding {encoding}, which cannot hold every text: make one by"
            " `createdb --encoding=UTF8 --template=template0 NAME` and put NAME into PENSTOCK_DATABASE_URL"
        )
    return ""


def _settings(database: Database, url: str, name: str, ours: dict[str, str]) -> dict[str, str]:
    session = SESSION
    if goes_through_pgbouncer(url):
        session = {each: text for each, text in SESSION.items() if each in _THROUGH_PGBOUNCER}
    settings = {**session, **ours}
    if options := database.parameters.get("options"):
        # The server takes these first, so that what we set stays.
        settings["options"] = options
    known = database.parameters.get("application_name") or "penstock"
    settings["application_name"] = f"{known} {name}".strip()
    return settings


async def _first(database: Database, seconds: float, options: dict[str, Any]) -> Any:
    """The first connection that succeeds, host by host as libpq goes."""
    wanted = database.parameters.get("target_session_attrs", "any")
    if options["server_settings"].get("default_transaction_read_only") == "on":
        # Read-only by our own will, which says nothing of the server.
        wanted = {"read-write": "primary", "read-only": "standby"}.get(wanted, wanted)
    share = seconds if len(database.hosts) == 1 else max(LEAST_SECONDS, seconds / len(database.hosts))
    each = database.number("connect_timeout") or share
    last: Exception = OSError("no host was tried")
    for attributes in ("standby", "any") if wanted == "prefer-standby" else (wanted,):
        for host in database.hosts:
            try:
                return await _one(database, host, each, {**options, "target_session_attrs": attributes})
            except _NEXT_HOST as error:
                last = error
    raise last


async def _one(database: Database, host: Host, seconds: float, options: dict[str, Any]) -> Any:
    """A connection to this host, with TLS or without as the URL leaves open."""
    *others, last = ways(database, host)
    for way in others:
        try:
            return await _by(database, host, way, seconds, options)
        except (*_UNREACHABLE, asyncpg.InvalidPasswordError):
            raise
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InvalidAuthorizationSpecificationError):
            continue  # the other way may be the one that this server takes
    return await _by(database, host, last, seconds, options)


async def _by(database: Database, host: Host, way: Way, seconds: float, options: dict[str, Any]) -> Any:
    told = database.parameters
    return await asyncpg.connect(
        host=host.address,
        port=host.port,
        user=database.user,
        # Empty rather than none: for none a variable would be looked at.
        password=database.password(host),
        database=database.name,
        ssl=way,
        direct_tls=bool(way) and told.get("sslnegotiation") == "direct",
        krbsrvname=told.get("krbsrvname", "postgres"),
        gsslib="gssapi",
        timeout=seconds,
        **options,
    )


def _keep_alive(connection: Any, database: Database) -> None:
    """Set what the URL says of the socket; it is on unless it says otherwise, as with libpq."""
    transport = connection._transport  # noqa: SLF001 - asyncpg hands its socket out in no other way
    if not (wire := transport.get_extra_info("socket")) or wire.family == socket.AF_UNIX:
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(database.parameters.get("keepalives", "1")))
    for name, option in _OF_SOCKET.items():
        if value := database.number(name):
            with suppress(OSError):
                wire.setsockopt(socket.IPPROTO_TCP, option, value)
