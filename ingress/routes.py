"""Which provider a path belongs to, and the providers' inbound faces for the accounts that are configured now."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import structlog

from ingress.refusals import UnknownRoute
from shared.arrivals import UsedKey
from shared.errors import Cause
from shared.providers.account import AccountSettings
from shared.providers.interface import Inbound, Provider, Unverified


class Accounts(Protocol):
    """The part of the configuration that routes depend on."""

    @property
    def accounts(self) -> Mapping[str, Mapping[str, AccountSettings]]:
        """The settings by provider and account name."""


class Watch(Protocol):
    """What ``shared.watching.ConfigurationWatch`` offers: ``version`` grows whenever ``current`` is a new one."""

    @property
    def version(self) -> int:
        """Grows by one with each change."""

    @property
    def current(self) -> Accounts:
        """The settings in force."""

    def in_doubt(self, provider: str) -> bool:
        """Whether the provider may have accounts that these settings lack."""


class Route(NamedTuple):
    """A path under ``/webhooks/``; ``inbound`` is None while the provider has no account."""

    provider: str
    inbound: Inbound | None
    token: bytes = b""


class Routes:
    """Finds the route of a request; the inbound faces are made anew when the configuration changes."""

    def __init__(self, providers: Mapping[str, Provider[Any, Any]], watch: Watch) -> None:
        self._providers = providers
        self._watch = watch
        self._version = -1
        self._plain: dict[bytes, Route] = {}
        self._with_token: dict[bytes, Route] = {}
        self._log = structlog.get_logger("penstock.ingress")

    def find(self, raw_path: bytes) -> Route:
        """The route of a path as it was sent, without the query. Raises UnknownRoute."""
        if self._watch.version != self._version:
            self._renew()
        if route := self._plain.get(raw_path):
            return route
        head, _, token = raw_path.rpartition(b"/")
        if token and (route := self._with_token.get(head)):
            return route._replace(token=token)
        raise UnknownRoute("there is no such route")

    def in_doubt(self, provider: str) -> bool:
        """Whether the provider may have accounts that are not known here: then nobody is told that there are none."""
        return self._watch.in_doubt(provider)

    def cause(self, provider: str, request: Unverified, body: bytes) -> Cause | None:
        """Why this delivery is not authentic; None: it is (by now), or its provider has no account any more."""
        for route in (*self._plain.values(), *self._with_token.values()):
            if route.provider == provider and route.inbound:
                return route.inbound.cause(request, body)
        return None

    def learned(self) -> Iterator[tuple[str, str, str]]:
        """What deliveries have taught: provider, account, phrase."""
        for route in (*self._plain.values(), *self._with_token.values()):
            if route.inbound:
                yield from ((route.provider, account, phrase) for account, phrase in route.inbound.learned().items())

    def take_used_keys(self) -> Iterator[UsedKey]:
        """Provider, account and key of what proved deliveries since this was asked last."""
        for route in (*self._plain.values(), *self._with_token.values()):
            if route.inbound:
                yield from ((route.provider, account, key) for account, key in route.inbound.take_used_keys())

    def _renew(self) -> None:
        self._version = self._watch.version
        configured = self._watch.current.accounts
        plain: dict[bytes, Route] = {}
        with_token: dict[bytes, Route] = {}
        for name, provider in self._providers.items():
            accounts = list(configured.get(name, {}).values())
            # Made even without an account: it says whether the route has a token.
            inbound = provider.inbound(accounts)
            routes = with_token if inbound.takes_token else plain
            routes[b"/webhooks/" + name.encode()] = Route(name, inbound if accounts else None)
        self._plain, self._with_token = plain, with_token
        self._log.info("accounts in force", **{name: sorted(accounts) for name, accounts in configured.items()})
