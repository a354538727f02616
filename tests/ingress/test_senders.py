"""Whom a request counts for, how often it may fail, and how many connections it may hold."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.addresses import TrustedProxies
from ingress.connections import Connections
from ingress.failures import FailedAttempts
from ingress.protocol import HEADERS, PIPELINED
from ingress.telling import LINES, BoundedLog
from shared.errors import SettingsError
from support.conditions import HANG_SECONDS
from tests.ingress.conftest import Ingress, Start, request


OPEN = 2_000
"""So many connections ingress holds at the most."""
FILES = OPEN + 1_000

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1, 10.2.2.2, 192.0.2.7"], "198.51.100.1"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", ["198.51.100.1, nonsense"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, nonsense, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.1.1", ["[2a00:1:2:3:4:5:6:7]:4711"], "2a00:1:2:3::/64"),
        ("10.1.1.1", ["2a00:1:2:3:4:5:6:7"], "2a00:1:2:3::/64"),
        ("10.1.1.1", ["fe80::1%eth0"], "fe80::/64"),
        ("10.1.1.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1::5", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:2::5", ["198.51.100.1"], "2001:db8:2::/64"),
        ("10.1.1.1", [", " * 10_000 + "198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], "unknown"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_proxy_of_ours(
    peer: str, forwarded: list[str], source: str
) -> None:
    """Whoever is not trusted is the client itself, and what it says of others is made up."""
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert source == PROXIES.source(peer, [(b"x-real-ip", b"1.2.3.4"), *headers])


@given(st.binary(max_size=200), st.sampled_from(["10.1.1.1", "203.0.113.5"]))
def test_any_header_gives_an_address(value: bytes, peer: str) -> None:
    """A sender can write what it likes; it counts for an address or a /64 network, and nothing is raised."""
    source = PROXIES.source(peer, [(b"x-forwarded-for", value)])
    assert ip_network(source) if "/" in source else ip_address(source)


def test_without_a_setting_nobody_is_trusted() -> None:
    """Else everybody could fail in another's name."""
    assert "127.0.0.1" == TrustedProxies().source("127.0.0.1", [(b"x-forwarded-for", b"198.51.100.1")])


def test_a_wrong_proxy_is_refused_by_name() -> None:
    """At start, with the variable's name."""
    with pytest.raises(SettingsError, match=r"PENSTOCK_TRUSTED_PROXIES: 'proxy\.internal'"):
        TrustedProxies(["10.0.0.0/8", "proxy.internal"])


class Clock:
    """Time that the test decides on."""

    now = 0.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


def test_failures_are_counted_by_sender_and_forgiven_with_time() -> None:
    """So many at once, one more with each second, and the wait that is told is enough."""
    clock = Clock()
    failures = FailedAttempts(allowed=3, per_second=0.5, clock=clock)
    assert [0, 0, 0, 2, 2] == [failures.count("a") for _ in range(5)]
    assert 0 == failures.count("b")
    clock.now = 1.9
    assert 1 == failures.count("a")
    clock.now = 2.0
    assert [0, 2] == [failures.count("a") for _ in range(2)]
    clock.now = 1000.0
    assert [0, 0, 0, 2] == [failures.count("a") for _ in range(4)]


def test_a_million_senders_take_no_more_memory_than_ten_thousand() -> None:
    """The one that was silent longest is forgotten."""
    failures = FailedAttempts(allowed=1, senders=100, clock=Clock())
    assert [0] * 1000 == [failures.count(str(number)) for number in range(1000)]
    assert 100 == len(failures._left)
    assert (1, 0) == (failures.count("999"), failures.count("1"))


def test_a_flood_writes_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """And the next line that is written says how many were left out."""
    clock = Clock()
    log = BoundedLog(lines=3, clock=clock)
    for _ in range(1000):
        log.info("refused")
    clock.now = 1.0
    log.info("refused")
    lines = capsys.readouterr().out.splitlines()
    assert 4 == len(lines)
    assert "left_out" in lines[-1]
    assert "997" in lines[-1]


def test_connections_are_bounded_by_process_and_by_sender() -> None:
    """A proxy that is trusted has no bound of its own; what ended counts no more."""
    connections = Connections(PROXIES, most=6, most_of_a_source=2)
    first = connections.admit("203.0.113.5")
    assert ["203.0.113.5", None] == [connections.admit("203.0.113.5") for _ in range(2)]
    assert first
    connections.leave(first)
    assert "203.0.113.5" == connections.admit("203.0.113.5")
    assert ["2a00:1:2:3::/64", "2a00:1:2:3::/64", None] == [connections.admit(f"2a00:1:2:3::{n}") for n in range(3)]
    assert ["", "", None] == [connections.admit("10.1.1.1") for _ in range(3)]
    assert connections.full


WRONG = request("POST", "/webhooks/imin", {"X-Api-Key": "wrong"}, b"{}")


def test_who_fails_too_often_is_told_to_wait(start_ingress: Start, database_url: str) -> None:
    """429 with Retry-After; what is authentic is taken from the same address, and other addresses are not touched."""
    ingress = start_ingress(database_url=database_url, PENSTOCK_TRUSTED_PROXIES="127.0.0.0/8")

    def fail(forwarded: str) -> int:
        return ingress.post("/webhooks/imin", {"X-Api-Key": "wrong", "X-Forwarded-For": forwarded}, b"").status

    statuses = [fail("2a00:1:2:3::1") for _ in range(110)]
    assert [401] * 100 == statuses[:100]
    assert 429 == statuses[-1]
    limited = ingress.post("/webhooks/imin", {"X-Forwarded-For": "2a00:1:2:3::2"}, b"{}")
    assert (429, b"too-many-requests") == (limited.status, limited.body[10:27])
    assert 1 <= int(limited.header("retry-after") or 0) <= 60
    authentic = ingress.imin(b"{}", ("X-Forwarded-For", "2a00:1:2:3::1"))
    assert 204 == authentic.status
    assert 401 == fail("2a00:1:2:4::1")
    assert 401 == ingress.ask(WRONG).status


def test_a_flood_of_failures_writes_little(start_ingress: Start, database_url: str) -> None:
    """Neither log nor quarantine grows with what strangers send."""
    ingress = start_ingress(database_url=database_url)
    wire = ingress.wire()
    began = time.monotonic()
    for _ in range(40):
        wire.send(request("POST", "/webhooks/imin", {"X-Api-Key": "wrong"}) * 50)
        assert {401, 429} >= {wire.reply().status for _ in range(50)}

    seconds = time.monotonic() - began
    assert ingress.log().count('"refused"') <= LINES * (2 + seconds)
    assert ingress.rows("SELECT count(*) FROM quarantine")[0][0] <= 200


def test_many_headers_are_refused(ingress: Ingress) -> None:
    """Each costs a call in Python, however short it is."""
    head = b"POST /webhooks/imin HTTP/1.1\r\nX-Api-Key: imin-key\r\nContent-Length: 0\r\n"
    assert 204 == ingress.ask(head + b"a:\r\n" * (HEADERS - 2) + b"\r\n").status
    assert 431 == ingress.ask(head + b"a:\r\n" * (HEADERS - 1) + b"\r\n").status


def test_no_more_than_so_many_requests_wait_behind_one(ingress: Ingress) -> None:
    """Pipelined ones are answered one after the other; a read full of them is not held."""
    one = request("POST", "/webhooks/imin", {"X-Api-Key": "imin-key"}, b"{}")
    wire = ingress.wire()
    wire.send(one * PIPELINED)
    assert [204] * PIPELINED == [wire.reply().status for _ in range(PIPELINED)]
    assert ingress.ask(one * (10 * PIPELINED)).status in {204, 400}

    before = ingress.count()
    wire = ingress.wire()
    with contextlib.suppress(OSError):
        wire.send(one * 1000)
        wire.rest()
    ingress.until(lambda: 204 == ingress.imin(b"{}").status)
    assert ingress.count() - before <= 2 + PIPELINED


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough open files for this process; 1,024 are usual otherwise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        pytest.skip(f"this user may open no more than {hard} files (`ulimit -Hn`)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_the_bounds_of_connections_hold_at_the_socket(start_ingress: Start) -> None:
    """The one too many is closed without an answer; when one ends, the next is served."""
    ingress = start_ingress()
    connect = partial(socket.create_connection, ("127.0.0.1", ingress.port), timeout=HANG_SECONDS)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect()) for _ in range(OPEN)]
        with connect() as extra, contextlib.suppress(ConnectionResetError):
            assert b"" == extra.recv(1)
        for one in opened[:10]:
            one.close()
        ingress.until(lambda: _served(ingress))


def _served(ingress: Ingress) -> bool:
    try:
        return 204 == ingress.imin(b"{}").status
    except ConnectionError:
        return False
