"""TLS to Postgres as libpq's ``ssl...`` parameters ask for it; the environment has no say in it."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from shared.database_url import Database, Host


_ALPN: Final = "postgresql"
"""Versions 17 and later want it where TLS comes first."""
_FOLDER: Final = ".postgresql"
_VERSIONS: Final = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}

Way = ssl.SSLContext | Literal[False]
"""With TLS, or in the clear."""


class Unusable(OSError):
    """A file of TLS that cannot be used now: to whoever connects, the server is as good as away."""


class _Context(ssl.SSLContext):
    """One that asks for the certificate of another name than it connects to, or names nobody."""

    named: str | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the signature is ssl's
        server_hostname: str | bytes | None = None,  # noqa: ARG002 - the same
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As any context's, for our own name."""
        return super().wrap_bio(incoming, outgoing, server_side, self.named, session)


def ways(database: Database, host: Host) -> Sequence[Way]:
    """How to connect, in the order in which it is tried. Raises Unusable for a file that cannot be used."""
    mode = database.parameters.get("sslmode", "prefer")
    if host.is_socket or mode == "disable":
        return (False,)
    context = _context(database, host, mode)
    if mode == "allow":
        return (False, context)
    return (context, False) if mode == "prefer" else (context,)


def _context(database: Database, host: Host, mode: str) -> ssl.SSLContext:
    told = database.parameters
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.named = host.name if told.get("sslsni", "1") == "1" or mode == "verify-full" else None
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([_ALPN])
    context.minimum_version = _VERSIONS[told.get("ssl_min_protocol_version", "TLSv1.2")]
    if latest := told.get("ssl_max_protocol_version"):
        context.maximum_version = _VERSIONS[latest]
    if mode not in {"allow", "prefer"}:
        _trust(context, database, mode)
    if told.get("sslcertmode") != "disable":
        _show(context, database)
    return context


def _trust(context: ssl.SSLContext, database: Database, mode: str) -> None:
    """Load who vouches for the server. As with libpq, ``require`` believes anybody unless there is such a file."""
    told = database.parameters
    named = told.get("sslrootcert")
    if named == "system":
        context.load_default_certs()
    elif named or (file := _at_home("root.crt")).exists():
        _load(context, "sslrootcert", Path(named) if named else file)
    elif mode == "require":
        return
    else:
        raise Unusable(
            f"sslmode={mode} needs to know who vouches for the server: add"
            " sslrootcert=/path/to/its/authority.crt, or sslrootcert=system"
        )
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = mode == "verify-full"
    revoked = told.get("sslcrl")
    if revoked or (not told.get("sslcrldir") and _at_home("root.crl").exists()):
        _load(context, "sslcrl", Path(revoked) if revoked else _at_home("root.crl"))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if folder := told.get("sslcrldir"):
        context.load_verify_locations(capath=folder)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _show(context: ssl.SSLContext, database: Database) -> None:
    """Load the certificate that we show, if there is one."""
    told = database.parameters
    certificate = Path(told["sslcert"]) if told.get("sslcert") else _at_home("postgresql.crt")
    if not told.get("sslcert") and not certificate.exists():
        return
    key = Path(told["sslkey"]) if told.get("sslkey") else _at_home("postgresql.key")
    passphrase = told.get("sslpassword", "")
    try:
        context.load_cert_chain(certificate, key if key.exists() or told.get("sslkey") else None, lambda: passphrase)
    except (OSError, ValueError) as error:
        raise Unusable(f"sslcert {certificate} with sslkey {key} cannot be used: {error}") from None


def _load(context: ssl.SSLContext, name: str, file: Path) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:
        raise Unusable(f"{name} {file} cannot be used: {error}") from None


def _at_home(name: str) -> Path:
    try:
        return Path.home() / _FOLDER / name
    except RuntimeError:
        return Path("/nonexistent") / name
