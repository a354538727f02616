"""Bodies are kept byte for byte, counted as they come, and must come in time."""

import hashlib
import os
import time
from typing import TYPE_CHECKING

import orjson
import pytest


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Reply, Start

KIB = 1024
MIB = 1024 * 1024
HEAD = b"POST /webhooks/imin HTTP/1.1\r\nHost: x\r\nX-Api-Key: imin-key\r\n"
PATIENT_HEAD = (
    b"POST /webhooks/authenteq HTTP/1.1\r\nHost: x\r\nX-Client-Id: client-1\r\nX-Signature: " + b"0" * 64 + b"\r\n"
)
"""A body of Authenteq's may take a minute; imin's, ten seconds."""


def slug(reply: "Reply") -> tuple[int, str]:
    """The status and the slug of a refusal."""
    return reply.status, str(orjson.loads(reply.body)["error"])


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB])
def test_a_body_is_kept_byte_for_byte(ingress: "Ingress", size: int) -> None:
    """Small bodies go into the row and larger ones into the blob store; both come back as they were sent."""
    body = os.urandom(size)
    reply = ingress.imin(body)
    row = ingress.event(reply)
    assert (204, size, hashlib.sha256(body).digest()) == (reply.status, row["body_bytes"], row["body_sha256"])
    assert (size > 64 * KIB) == (row["body"] is None)
    assert body == ingress.body_of(row)
    ingress.until(lambda: ingress.incoming() == [])


@pytest.mark.parametrize("sizes", [[1, 2, 3], [40 * KIB, 40 * KIB], [300 * KIB] * 3])
def test_a_chunked_body_is_kept(ingress: "Ingress", sizes: list[int]) -> None:
    """A body without a declared length is put together."""
    pieces = [os.urandom(size) for size in sizes]
    wire = ingress.wire()
    wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *map(chunk, pieces), b"0\r\n\r\n")
    reply = wire.reply()
    assert 204 == reply.status
    assert b"".join(pieces) == ingress.body_of(ingress.event(reply))


def test_a_body_that_trickles_in_is_kept(ingress: "Ingress") -> None:
    """One byte a segment is slow, and whole."""
    wire = ingress.wire()
    wire.send(HEAD + b"Content-Length: 5\r\n\r\n", b"a", b"b", b"c", b"d", b"e")
    assert b"abcde" == ingress.body_of(ingress.event(wire.reply()))


def test_continue_is_sent_only_to_the_authentic(ingress: "Ingress") -> None:
    """A client that asks before it sends is told to go on, or refused without sending."""
    wire = ingress.wire()
    wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert 100 == wire.reply().status
    wire.send(b"{}")
    assert 204 == wire.reply().status
    stranger = ingress.wire()
    stranger.send(HEAD.replace(b"imin-key", b"wrong") + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert 401 == stranger.reply().status


def test_pipelined_deliveries_are_all_kept(ingress: "Ingress") -> None:
    """Three deliveries in one segment get three answers in their order."""
    wire = ingress.wire()
    wire.send(b"".join(HEAD + b"Content-Length: 1\r\n\r\n" + body for body in (b"1", b"2", b"3")))
    bodies = [ingress.body_of(ingress.event(wire.reply())) for _ in range(3)]
    assert [b"1", b"2", b"3"] == bodies


def test_an_offer_to_upgrade_does_not_lose_the_body(ingress: "Ingress") -> None:
    """Clients that offer HTTP/2 in the clear send their body all the same, and the connection goes on."""
    wire = ingress.wire()
    offer = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    wire.send(offer + b"Content-Length: 2\r\n\r\n{}" + offer + b"Content-Length: 5\r\n\r\nab", b"cde")
    first, second = ingress.event(wire.reply()), ingress.event(wire.reply())
    assert [b"{}", b"abcde"] == [ingress.body_of(first), ingress.body_of(second)]
    assert ["connection", "Upgrade, HTTP2-Settings"] in orjson.loads(first["headers"])
    wire.send(offer + b"Transfer-Encoding: chunked\r\n\r\n", chunk(b"1"), chunk(b"2"), b"0\r\n\r\n")
    assert b"12" == ingress.body_of(ingress.event(wire.reply()))


def test_a_declared_length_over_the_limit_is_refused_at_once(ingress: "Ingress") -> None:
    """The answer comes before any byte of the body."""
    wire = ingress.wire()
    wire.send(HEAD + b"Content-Length: %d\r\n\r\n" % (MIB + 1))
    assert (413, "too-large") == slug(wire.reply())


def test_a_streamed_body_over_the_limit_is_refused(ingress: "Ingress") -> None:
    """What arrives is counted: a body without a declared length is refused as soon as it is over, and not cut."""
    before = ingress.count()
    wire = ingress.wire()
    wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk(bytes(256 * KIB))] * 4, chunk(b"1"))
    assert (413, "too-large") == slug(wire.reply())
    assert before == ingress.count()
    ingress.until(lambda: ingress.incoming() == [])


def test_a_client_that_sends_on_sees_its_refusal(ingress: "Ingress") -> None:
    """A refused body is read for a while, so that the answer is not lost in a reset connection."""
    reply = ingress.imin(bytes(20 * MIB))
    assert (413, "too-large") == slug(reply)
    assert "close" == reply.header("connection")


def test_refused_senders_without_a_body_keep_their_connection(ingress: "Ingress") -> None:
    """Nothing is left on the connection, so it serves the next request."""
    wire = ingress.wire()
    for _ in range(2):
        wire.send(b"GET /webhooks/imin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 405 == wire.reply().status


def test_a_body_that_does_not_come_gets_408(ingress: "Ingress") -> None:
    """Ten seconds after the headers the sender is told so; nothing is kept."""
    before = ingress.count()
    wire, large = ingress.wire(), ingress.wire()
    began = time.monotonic()
    wire.send(HEAD + b"Content-Length: 10\r\n\r\n", b"12345")
    large.send(HEAD + b"Content-Length: 200000\r\n\r\n", bytes(100_000))
    assert (408, "timeout") == slug(wire.reply())
    assert (408, "timeout") == slug(large.reply())
    assert 9.5 < time.monotonic() - began < 40
    assert before == ingress.count()
    ingress.until(lambda: ingress.incoming() == [])


def test_wrong_credentials_are_refused_before_the_body(ingress: "Ingress") -> None:
    """Neither a limit nor a time limit is of interest to a stranger."""
    wire = ingress.wire()
    wire.send(HEAD.replace(b"imin-key", b"wrong") + b"Content-Length: 99999999\r\n\r\n")
    assert (401, "unauthorized") == slug(wire.reply())


def test_a_sender_that_leaves_leaves_nothing(ingress: "Ingress") -> None:
    """A connection that ends inside a body is neither kept nor answered, and its file is deleted."""
    before = ingress.count()
    wire = ingress.wire()
    wire.send(HEAD + b"Content-Length: 500000\r\n\r\n", bytes(200_000))
    ingress.until(lambda: ingress.incoming() != [])
    wire.close()
    ingress.until(lambda: ingress.incoming() == [])
    assert before == ingress.count()


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_a_wrong_signature_leaves_nothing(ingress: "Ingress", size: int) -> None:
    """The signature is checked over the whole body, which is then deleted and never becomes a blob."""
    before, blobs = ingress.count(), ingress.blobs()
    assert (401, "unauthorized") == slug(ingress.authenteq(os.urandom(size), secret=b"wrong"))
    ingress.until(lambda: ingress.incoming() == [])
    assert (before, blobs) == (ingress.count(), ingress.blobs())


def test_a_large_signed_body_is_kept(ingress: "Ingress") -> None:
    """Authenteq's images may be far larger than others' bodies."""
    body = os.urandom(20 * MIB)
    reply = ingress.authenteq(body)
    assert 200 == reply.status
    assert body == ingress.body_of(ingress.event(reply))
    ingress.until(lambda: ingress.incoming() == [])


def test_nothing_lies_in_the_clear_on_its_way(ingress: "Ingress") -> None:
    """What is in the temporary area is sealed already."""
    wire = ingress.wire()
    wire.send(HEAD + b"Content-Length: 300000\r\n\r\n", b"passport" * 30_000)
    ingress.until(lambda: any(path.stat().st_size > 60_000 for path in ingress.incoming()))
    assert not any(b"passport" in path.read_bytes() for path in ingress.incoming())


def test_leftovers_of_a_killed_process_are_removed(start_ingress: "Start") -> None:
    """A process that was killed in a body leaves a file, which the next one deletes; a living one's is left alone."""
    living, killed = start_ingress(), start_ingress()
    for each in (living, killed):
        each.wire().send(PATIENT_HEAD + b"Content-Length: 300000\r\n\r\n" + bytes(150_000))
    living.until(lambda: len(living.incoming()) == 2)
    killed.process.kill()
    killed.process.wait()
    start_ingress()
    assert 1 == len(living.incoming())
