"""The HTTP edge under hostile requests: it answers every whole one, never with 500, and goes on in the same memory."""

import asyncio
import json
import os
import re
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.embedded.redis import Redis
from support.conditions import HANG_SECONDS
from tests.fuzz.http_edge import run
from tests.fuzz.http_grammar import CORPUS, corpus
from tests.ingress.conftest import Ingress, read_reply, running_ingress


REQUESTS = int(os.environ.get("PENSTOCK_FUZZ_REQUESTS", "10000"))
SEED = int(os.environ.get("PENSTOCK_FUZZ_SEED", "1"))
WARMING = 10_000
"""Requests after which every path was gone and every cache is full."""

STATUSES = {100, 200, 204, 400, 401, 404, 405, 408, 413, 429, 431}
"""What contract.md allows; 503 is not among them, since no store is away."""

HALVES = {"half-a-body", "half-a-head", "http-0.9"}
"""Of the kept requests those to which there is no answer: more of them should come."""


@pytest.fixture
def ingress(tmp_path: Path, database_url: str, redis: Redis) -> Iterator[Ingress]:
    """A process of the test's own, behind a proxy that it trusts, so that the senders are many."""
    with running_ingress(tmp_path, database_url, redis.url, PENSTOCK_TRUSTED_PROXIES="127.0.0.1") as running:
        yield running


def memory_mib(ingress: Ingress) -> float:
    """What the process holds of the machine's memory."""
    status = Path(f"/proc/{ingress.process.pid}/status").read_text(encoding="ascii")
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kib) / 1024


def test_no_request_gets_500_and_none_stays_without_an_answer(ingress: Ingress) -> None:
    """Random and mutated requests over raw sockets; `make fuzz` sends more, with PENSTOCK_FUZZ_REQUESTS."""
    asyncio.run(run(ingress.port, requests=WARMING, seed=SEED))
    before = memory_mib(ingress)

    count = asyncio.run(run(ingress.port, requests=REQUESTS, seed=SEED + 1))

    after = memory_mib(ingress)
    told = {**count.told(), "corpus": len(corpus()), "mib_before": round(before, 1), "mib_after": round(after, 1)}
    sys.stdout.write(f"{json.dumps(told)}\n")
    assert ([], []) == (count.failed, count.unanswered)
    assert STATUSES >= count.answers.keys()
    assert 0 == count.refused
    assert count.sent >= REQUESTS
    assert after < 1.1 * before
    assert None is ingress.process.poll()
    assert "Traceback" not in ingress.log()
    assert 204 == ingress.imin(b"{}").status


def test_each_kept_request_is_answered_the_same_however_it_is_cut(ingress: Ingress) -> None:
    """At once or byte by byte: a parser that reads them differently is one that can be smuggled past."""
    for path in sorted(CORPUS.iterdir()):
        data, half = path.read_bytes(), path.stem in HALVES
        at_once, by_bytes = (_first_status(ingress, pieces, half=half) for pieces in ([data], _bytes(data)))

        assert (path.stem, at_once) == (path.stem, by_bytes)
        assert at_once in ({None} if half else STATUSES), path.stem
    assert "Traceback" not in ingress.log()


@pytest.mark.parametrize(
    "name", ["smuggle-cl-te", "smuggle-te-cl", "smuggle-te-te", "smuggle-two-lengths", "smuggle-space-before-colon"]
)
def test_what_two_servers_could_read_differently_is_refused(ingress: Ingress, name: str) -> None:
    """Nothing behind it on the same connection is taken for a request (RFC 9112, 6.1 and 6.3)."""
    with socket.create_connection(("127.0.0.1", ingress.port), timeout=HANG_SECONDS) as connection:
        connection.sendall((CORPUS / f"{name}.http").read_bytes())
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece

    assert [b"400"] == re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert 0 == ingress.count()


def _bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def _first_status(ingress: Ingress, pieces: list[bytes], *, half: bool) -> int | None:
    """The first status; None where to half of a request there was none before a delivery behind it was answered."""
    with socket.create_connection(("127.0.0.1", ingress.port), timeout=HANG_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            # what is sent behind a refusal is thrown away for two seconds only
            if select.select([connection], [], [], 0)[0]:
                break
            connection.sendall(piece)
        if half:
            assert 204 == ingress.imin(b"{}").status
            if not select.select([connection], [], [], 0)[0]:
                return None
        return read_reply(connection).status
