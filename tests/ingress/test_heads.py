"""The head of a request has bounds as well."""

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Start

HEAD = b"POST /webhooks/imin HTTP/1.1\r\nHost: x\r\nX-Api-Key: imin-key\r\nContent-Length: 0\r\n"


def test_a_large_head_is_refused(ingress: "Ingress") -> None:
    """More than 64 KiB of headers is 431, in one segment or in many."""
    assert 431 == ingress.ask(HEAD + b"X-Large: " + b"a" * 70_000 + b"\r\n\r\n").status
    assert 431 == ingress.ask(HEAD + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 100) for n in range(700)) + b"\r\n").status


def test_an_endless_head_is_refused_before_it_ends(ingress: "Ingress") -> None:
    """A header that never ends is not held in memory."""
    wire = ingress.wire()
    wire.send(HEAD + b"X-Endless: ", b"a" * 66_000)
    assert 431 == wire.reply().status


def test_a_head_below_the_bound_is_taken(ingress: "Ingress") -> None:
    """Many headers are nothing special, also when one request follows another wherever the reads are cut."""
    head = HEAD + b"X-Large: " + b"a" * 60_000 + b"\r\n\r\n"
    for cut in (10, 30_000, 59_000):
        wire = ingress.wire()
        wire.send(head + head[:cut])
        assert 204 == wire.reply().status
        wire.send(head[cut:])
        assert 204 == wire.reply().status


def test_fields_behind_a_chunked_body_are_no_headers(ingress: "Ingress") -> None:
    """A trailer neither replaces a header nor stands in for one (RFC 9110, 6.5.1), however the reads are cut."""
    keyed, keyless = b"X-Api-Key: imin-key\r\n", b""
    for headers, trailer, status in ((keyed, b"X-Api-Key: other\r\n", 204), (keyless, keyed, 401)):
        request = b"POST /webhooks/imin HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: chunked\r\n\r\n" % headers
        body = b"2\r\n{}\r\n0\r\n%b\r\n" % trailer
        assert status == ingress.ask(request + body).status
        wire = ingress.wire()
        wire.send(request, body)
        assert status == wire.reply().status


def test_half_a_head_is_not_waited_for_without_end(ingress: "Ingress") -> None:
    """A connection that does not finish its head is closed after ten seconds."""
    wire = ingress.wire()
    wire.send(HEAD)
    began = time.monotonic()
    assert b"" == wire.rest()
    assert 9 < time.monotonic() - began < 40


def test_nonsense_gets_400(ingress: "Ingress") -> None:
    """What is not HTTP is told so and cut off."""
    for nonsense in (
        b"hello\r\n\r\n",
        b"POST /webhooks/imin HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /webhooks/imin HTTP/1.1\r\nX-A: \x00\r\n\r\n",
    ):
        assert 400 == ingress.ask(nonsense).status


TOKEN = "/webhooks/paybook/paybook-token-0123456789"
SIGNATURE = hmac.new(b"client-secret", b"{}", hashlib.sha256).hexdigest()
PROVEN: list[tuple[str, dict[str, str]]] = [
    ("/webhooks/imin", {"X-Api-Key": "imin-key"}),
    ("/webhooks/magicline", {"x-api-key": "berlin-key"}),
    (TOKEN, {"X-Hook-Secret": "hook-secret"}),
    ("/webhooks/authenteq", {"X-CLIENT-ID": "client-1", "X-SIGNATURE": SIGNATURE}),
]


def delivery(path: str, headers: dict[str, str], around: str = "{}") -> bytes:
    """A request with something around each header's value."""
    lines = [f"{name}:{around.format(value)}" for name, value in headers.items()]
    head = [f"POST {path} HTTP/1.1", "Host: x", "Content-Length: 2", "Content-Type: text/x\t ", *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n{}"


@pytest.mark.parametrize(("path", "headers"), PROVEN)
@pytest.mark.parametrize("around", ["{}", " {}", "{} ", "{}\t", "\t{}", " \t {} \t ", "{}" + 500 * " \t"])
def test_white_space_around_a_value_is_no_part_of_it(
    ingress: "Ingress", path: str, headers: dict[str, str], around: str
) -> None:
    """Of credentials, and of what is kept (RFC 9110, 5.5), in one read or byte by byte."""
    request = delivery(path, headers, around)
    reply = ingress.ask(request)
    assert reply.status in {200, 204}
    assert "text/x" == ingress.event(reply)["content_type"]
    wire = ingress.wire()
    wire.send(*(request[at : at + 1] for at in range(len(request))))
    assert reply.status == wire.reply().status


@pytest.mark.parametrize(("path", "headers"), PROVEN)
@pytest.mark.parametrize(
    "around",
    ["{}\r\n x", "{}\r\n\t", "\r\n {}", "{}\0", "\0{}", "{}\ra", "{}\x0b", "{}\xa0", "{}\x85", "{}\x1f", "{} x"],
)
def test_nothing_else_around_a_value_is_taken_away(
    ingress: "Ingress", path: str, headers: dict[str, str], around: str
) -> None:
    """Folded lines, NUL and CR are no HTTP; other characters that programs take for white space make another key."""
    assert ingress.ask(delivery(path, headers, around)).status in {400, 401}


def test_white_space_before_the_colon_is_no_http(ingress: "Ingress") -> None:
    """Servers that take it away have been made to read two requests in one (RFC 9112, 5.1)."""
    assert 400 == ingress.ask(HEAD + b"X-More : 1\r\n\r\n").status


def test_white_space_alone_is_no_key(ingress: "Ingress") -> None:
    """As if there were nothing."""
    assert 401 == ingress.ask(delivery("/webhooks/imin", {"X-Api-Key": " \t "})).status


def test_the_quarantine_keeps_headers_without_white_space(start_ingress: "Start", database_url: str) -> None:
    """What a release proves later is what the header said."""
    ingress = start_ingress(database_url=database_url)
    ingress.ask(delivery("/webhooks/imin", {"X-Api-Key": "wrong", "X-Other": "one"}, " {} \t"))
    ingress.until(lambda: ingress.rows("SELECT FROM quarantine"))
    assert "text/x" == ingress.rows("SELECT content_type FROM events")[0]["content_type"]


@pytest.mark.parametrize(
    ("version", "expect", "first"),
    [
        ("1.1", "100-continue", b"HTTP/1.1 100 "),
        ("1.1", "100-Continue \t", b"HTTP/1.1 100 "),
        ("1.0", "100-continue", b"HTTP/1.1 204 "),
        ("1.1", "something-else", b"HTTP/1.1 204 "),
    ],
)
def test_only_who_waits_for_it_is_told_to_go_on(ingress: "Ingress", version: str, expect: str, first: bytes) -> None:
    """HTTP/1.0 knows no interim answer (RFC 9110, 10.1.1); another expectation is one that nobody has."""
    wire = ingress.wire()
    head = f"POST /webhooks/imin HTTP/{version}\r\nHost: x\r\nX-Api-Key: imin-key\r\nContent-Length: 2\r\n"
    wire.send(f"{head}Expect: {expect}\r\nConnection: close\r\n\r\n".encode(), b"{}")
    assert wire.rest().startswith(first)
