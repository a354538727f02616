"""The head of a request has bounds as well."""

import time
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress

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


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (HEAD.replace(b"\r\n", b"\n") + b"\n", 400),
        (HEAD.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"\r\nx\r\n", 400),
        (HEAD + b"X-Endless: " + b"a" * 66_000, 431),
        (HEAD + b"".join(b"X-%d: v\r\n" % n for n in range(300)) + b"\r\n", 431),
    ],
)
def test_who_sends_on_behind_a_refusal_is_not_cut_off(ingress: "Ingress", wrong: bytes, status: int) -> None:
    """Our side of the connection ends, what comes in is thrown away: a reset would take the answer from its reader."""
    wire = ingress.wire()
    wire.send(wrong)
    assert status == wire.reply().status
    wire.rest()
    before = ingress.count()
    for _ in range(3):
        wire.send(HEAD + b"\r\n")
    assert b"" == wire.rest()
    assert before == ingress.count()


def test_a_refused_connection_ends_although_its_sender_stays(ingress: "Ingress") -> None:
    """What is thrown away is thrown away for two seconds."""
    wire = ingress.wire()
    wire.send(b"hello\r\n\r\n")
    wire.rest()
    assert wire.cut_off()
