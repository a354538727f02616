"""What every provider's ``Inbound`` must do; a provider's test inherits ``InboundContract`` and fills in its hooks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from shared.errors import NotAuthentic
from shared.providers.interface import Inbound, Unverified


Headers = list[tuple[bytes, bytes]]


class InboundContract(ABC):
    """One account called ``main`` with two keys in rotation, and what its provider would send.

    ``test_*`` methods are inherited. A provider whose key is in the path overrides ``token``; one that signs the body
    sets ``signs_body``.
    """

    account = "main"
    success_status: int
    secret_headers: Sequence[bytes]
    """The headers that carry a credential here; also the ones that are varied, each by itself."""
    varied_headers: Sequence[bytes] = ()
    """Fewer headers to vary than ``secret_headers``, where not each of them must be there."""
    signs_body = False

    @abstractmethod
    def inbound(self) -> Inbound:
        """The provider's inbound face with the account ``main``, two keys, and at least one more account."""

    @abstractmethod
    def genuine_headers(self, key_number: int, body: bytes) -> Headers:
        """The headers of a genuine delivery to ``main`` under its first (0) or second (1) key, names in lower case."""

    def token(self, key_number: int) -> bytes:
        """The last path segment of a genuine delivery, where the route has one."""
        del key_number
        return b""

    # ── how a request is tried ────────────────────────────────────────────────────────────────────────────────────

    def request(self, key_number: int = 0, body: bytes = b"{}") -> Unverified:
        """A genuine request."""
        return Unverified(self.genuine_headers(key_number, body), self.token(key_number))

    def admit(self, request: Unverified, body: bytes = b"{}", *, chunk: int = 1024) -> str:
        """The account, once the body has streamed in as well. Raises NotAuthentic."""
        admission = self.inbound().authenticate(request)
        if admission.body_check is not None:
            for start in range(0, len(body), chunk):
                admission.body_check.update(body[start : start + chunk])
            admission.body_check.finish()
        return admission.account

    def refused(self, request: Unverified, body: bytes = b"{}") -> None:
        """Assert that the request is refused as not authentic, and never by another error."""
        with pytest.raises(NotAuthentic):
            self.admit(request, body)

    def names(self) -> Sequence[bytes]:
        """The credential headers that must be there."""
        return self.varied_headers or self.secret_headers

    def with_values(self, name: bytes, *values: bytes) -> Unverified:
        """A genuine request whose header ``name`` has these values instead."""
        others = [(key, value) for key, value in self.request().headers if key != name]
        return Unverified([*others, *((name, value) for value in values)], self.token(0))

    # ── the contract ──────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("key_number", [0, 1])
    def test_both_keys_of_a_rotation_are_admitted(self, key_number: int) -> None:
        """During a rotation either of an account's two keys is right."""
        assert self.account == self.admit(self.request(key_number))

    @pytest.mark.parametrize("key_number", [0, 1])
    def test_which_key_proved_a_delivery_is_told_once(self, key_number: int) -> None:
        """So that an operator sees when a rotation is over: the old key is not used any more."""
        inbound, request = self.inbound(), self.request(key_number)
        inbound.check(request, b"{}")
        ((account, key),) = inbound.take_used_keys()
        assert self.account == account
        other = self.inbound()
        other.check(self.request(1 - key_number), b"{}")
        assert {(account, key)}.isdisjoint(other.take_used_keys())
        assert not inbound.take_used_keys()

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff\x00", b"x" * 5000])
    def test_an_authentic_body_is_never_refused_for_what_it_contains(self, body: bytes) -> None:
        """Empty, cut off, binary and long bodies are admitted all the same."""
        assert self.account == self.admit(self.request(body=body), body)

    def test_the_same_delivery_twice_is_admitted_twice(self) -> None:
        """A redelivery proves itself as the first one did."""
        assert [self.account] * 2 == [self.admit(self.request()), self.admit(self.request())]

    def test_a_request_without_credentials_is_refused(self) -> None:
        """No header and no token is nobody."""
        self.refused(Unverified([]))

    def test_a_wrong_credential_header_is_refused(self) -> None:
        """Each credential header by itself is enough to refuse."""
        for name in self.names():
            self.refused(self.with_values(name, b"wrong"))

    def test_a_credential_that_only_begins_right_is_refused(self) -> None:
        """A prefix of a key, or a key with something after it, is not the key."""
        for name in self.names():
            genuine = dict(self.request().headers)[name]
            self.refused(self.with_values(name, genuine[:-1]))
            self.refused(self.with_values(name, genuine + b"0"))

    def test_a_missing_credential_header_is_refused(self) -> None:
        """Every credential header must be there."""
        for name in self.names():
            self.refused(self.with_values(name))

    def test_an_empty_credential_header_is_refused(self) -> None:
        """An empty value is never a key."""
        for name in self.names():
            self.refused(self.with_values(name, b""))

    def test_a_repeated_credential_header_is_refused(self) -> None:
        """Two values are refused even when both are right: another reader might take the other one."""
        for name in self.names():
            genuine = dict(self.request().headers)[name]
            self.refused(self.with_values(name, genuine, genuine))
            self.refused(self.with_values(name, genuine, b"wrong"))

    @pytest.mark.parametrize("value", [b"\xe4\xf6\xfc", b"\xff\xfe\x00", "schlüssel".encode(), "ключ".encode()])
    def test_a_credential_that_is_not_ascii_is_refused_quietly(self, value: bytes) -> None:
        """Bytes outside ASCII are a wrong key, never an error of ours."""
        for name in self.names():
            self.refused(self.with_values(name, value))
        if self.inbound().takes_token:
            self.refused(Unverified(self.request().headers, value))

    def test_a_wrong_or_missing_token_is_refused(self) -> None:
        """Where the route has a token, only the account's own is right."""
        if self.inbound().takes_token:
            for token in (b"", b"wrong", self.token(0)[:-1], self.token(0) + b"0"):
                self.refused(Unverified(self.request().headers, token))

    def test_a_changed_body_is_refused_where_bodies_are_signed(self) -> None:
        """A body that was cut off, extended or altered by one bit does not fit its signature."""
        if self.signs_body:
            body = b'{"amount": 1}'
            for other in (body[:-1], body + b" ", b"", bytes([body[0] ^ 1]) + body[1:]):
                self.refused(self.request(body=body), other)

    def test_the_answer_is_the_providers_own_success_status(self) -> None:
        """The provider takes exactly this status for success."""
        assert self.success_status == self.inbound().success_status

    def test_credentials_are_among_the_headers_that_are_never_kept(self) -> None:
        """The provider's own credential headers, and those that any proxy may add, are named as secret."""
        assert {*self.secret_headers, b"authorization", b"cookie"} <= self.inbound().secret_headers


class Recorded(NamedTuple):
    """One folder of ``tests/deliveries/<provider>/``: a delivery as it came in, and what is expected of it."""

    name: str
    headers: Headers
    """In the order sent, names in lower case."""
    body: bytes
    expected: dict[str, Any]

    @property
    def content_type(self) -> str:
        """The value of the header, as ingress keeps it."""
        return dict(self.headers).get(b"content-type", b"").decode("latin-1")


def recorded_deliveries(provider: str) -> list[Recorded]:
    """All recorded deliveries of a provider, by name."""
    root = Path(__file__).parents[2] / "deliveries" / provider
    return [
        Recorded(
            name=folder.name,
            headers=[
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in orjson.loads((folder / "headers.json").read_bytes())
            ],
            body=(folder / "body.raw").read_bytes(),
            expected=orjson.loads((folder / "expected.json").read_bytes()),
        )
        for folder in sorted(root.iterdir())
    ]
