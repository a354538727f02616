"""The Redis that the settings name, as Celery and kombu are told of it."""

from typing import Any, NamedTuple
from urllib.parse import quote

from kombu import Connection

# Resolved by name otherwise, at the first connection: no import may be under way in a thread when a child is forked.
from kombu.transport.redis import SentinelTransport, Transport

from shared.redis_clients import of_sentinels, refused
from shared.redis_url import sentinels_of, tls_of, without_tls_options


class Broker(NamedTuple):
    """How kombu reaches the same Redis. ``options`` belong into its transport options."""

    url: str
    tls: dict[str, Any] | None
    options: dict[str, Any]
    transport: type[Transport]

    def connection(self, options: dict[str, Any]) -> Connection:
        """A connection of its own, beside Celery's."""
        return Connection(
            self.url, ssl=self.tls or False, transport=self.transport, transport_options=self.options | options
        )


def broker_of(url: str) -> Broker:
    """The broker that the URL means. Raises SettingsError for what is no URL."""
    try:
        if not (sentinels := sentinels_of(url)):
            tls = tls_of(url)
            return Broker(without_tls_options(url) if tls else url, dict(tls) if tls else None, {}, Transport)
    except ValueError as error:
        raise refused(error) from None
    # When one cannot be reached kombu turns to the next and takes everything from its URL, so each says all.
    who = ":".join(quote(part or "", safe="") for part in (sentinels.username, sentinels.password))
    who = f"{who}@" if sentinels.password else ""
    named = (f"[{host}]" if ":" in host else host for host, _ in sentinels.hosts)
    ports = (port for _, port in sentinels.hosts)
    return Broker(
        url=";".join(f"sentinel://{who}{host}:{port}/{sentinels.db}" for host, port in zip(named, ports, strict=True)),
        tls=dict(sentinels.tls) if sentinels.tls is not None else None,
        options={
            "master_name": sentinels.service,
            "sentinel_kwargs": of_sentinels(sentinels),
        },
        transport=SentinelTransport,
    )
