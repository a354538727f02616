"""What is kept beside the body, what is never kept or logged, and what follows the commit."""

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
import pytest
import redis


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Start

TOKEN = "paybook-token-0123456789"


def test_headers_are_kept_in_order_with_repeats(ingress: "Ingress") -> None:
    """Names are lower case, values as they came, in latin-1; the key is left out."""
    reply = ingress.imin(
        b"{}", ("X-Trace", "1"), ("Content-Type", "application/json; charset=x"), ("X-Trace", "zwei ü"), ("x-empty", "")
    )
    row = ingress.event(reply)
    assert [
        ["host", "localhost"],
        ["x-trace", "1"],
        ["content-type", "application/json; charset=x"],
        ["x-trace", "zwei ü"],
        ["x-empty", ""],
        ["content-length", "2"],
    ] == orjson.loads(row["headers"])
    assert "application/json; charset=x" == row["content_type"]


def test_secrets_are_neither_kept_nor_logged(ingress: "Ingress") -> None:
    """No credential of any provider, right or wrong, appears in a row or in the log."""
    imin = ingress.imin(b"{}", ("Authorization", "Bearer secret-bearer"))
    paybook = ingress.post(f"/webhooks/paybook/{TOKEN}", {"X-Hook-Secret": "hook-secret"}, b"{}")
    authenteq = ingress.authenteq(b"body")
    ingress.post("/webhooks/paybook/nearly-the-token", {"X-Hook-Secret": "hook-secret"}, b"{}")
    ingress.post("/webhooks/imin", {"X-Api-Key": "nearly-the-key"}, b"a body that is refused")
    kept = "".join(str(dict(ingress.event(reply))) for reply in (imin, paybook, authenteq))
    for secret in ("imin-key", "secret-bearer", TOKEN, "hook-secret", "client-secret", "x-signature"):
        assert secret not in kept
    for secret in ("imin-key", TOKEN, "hook-secret", "nearly-the", "client-secret", "a body"):
        assert secret not in ingress.log()


def test_the_timeline_begins_with_the_receipt(ingress: "Ingress") -> None:
    """The first step says how large the body was and begins its digest."""
    reply = ingress.imin(b"body")
    (step,) = ingress.rows("SELECT * FROM timeline WHERE event_id = $1", reply.header("x-penstock-event"))
    digest = hashlib.sha256(b"body").hexdigest()
    assert ("received", f"4 bytes, sha256 {digest[:12]}…") == (step["step"], step["detail"])


def test_event_ids_sort_by_time(ingress: "Ingress") -> None:
    """A later delivery has a larger id (UUID version 7)."""
    ids = [UUID(ingress.imin(b"{}").header("x-penstock-event")) for _ in range(3)]
    assert sorted(ids) == ids
    assert {7} == {each.version for each in ids}


def test_a_hundred_at_once_are_all_kept(ingress: "Ingress") -> None:
    """Concurrent deliveries share transactions, and each gets its own event."""
    with ThreadPoolExecutor(100) as senders:
        replies = list(senders.map(lambda number: ingress.imin(b"%d" % number), range(100)))
    assert {204} == {reply.status for reply in replies}
    assert [b"%d" % number for number in range(100)] == [ingress.body_of(ingress.event(reply)) for reply in replies]


def test_workers_are_woken_by_ids_alone(start_ingress: "Start") -> None:
    """A message holds ids of kept events, on its provider's queue; while one lies there, no other is sent."""
    ingress = start_ingress()
    with redis.Redis.from_url(ingress.redis_url) as client:
        client.flushall()
        announced: list[str] = []
        sent: list[str] = []
        for _ in range(3):
            with ThreadPoolExecutor(20) as senders:
                replies = list(senders.map(lambda _: ingress.imin(b"secret body"), range(20)))
            sent += [str(reply.header("x-penstock-event")) for reply in replies]
            ingress.until(lambda: client.llen("penstock.imin") > 0)
            (message,) = client.lrange("penstock.imin", 0, -1)
            assert "imin.plan" == orjson.loads(message)["headers"]["task"]
            assert b"secret body" not in message
            announced += _arguments(message)[0]
            client.delete("penstock.imin")
        assert len(announced) == len(set(announced))
        assert set(announced) <= set(sent)


def test_ingress_talks_to_its_stores_alone(ingress: "Ingress") -> None:
    """While deliveries of all providers flow, every connection of the process is accepted, or goes to a store."""
    stores = {int(url.rpartition(":")[2].partition("/")[0]) for url in (ingress.database_url, ingress.redis_url)}
    outgoing: set[int] = set()
    with ThreadPoolExecutor(4) as senders:
        sending = [
            senders.submit(send)
            for _ in range(25)
            for send in (
                lambda: ingress.imin(b'{"@id": "https://book.imin.co/api/v2/customer-accounts/abc"}'),
                lambda: ingress.authenteq(b"body"),
                lambda: ingress.post("/webhooks/magicline", {"x-api-key": "berlin-key"}, b"{}"),
                lambda: ingress.post(f"/webhooks/paybook/{TOKEN}", {"X-Hook-Secret": "hook-secret"}, b"{}"),
            )
        ]
        while not all(each.done() for each in sending):
            outgoing |= _outgoing_ports(ingress.process.pid, ingress.port)
    assert {True} == {each.result().status < 300 for each in sending}
    assert stores == outgoing


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_is_good(ingress: "Ingress", path: str) -> None:
    """With both stores there, both health routes answer 200."""
    assert 200 == ingress.get(path).status


def _arguments(message: bytes) -> list[list[str]]:
    body = orjson.loads(message)["body"]
    arguments: list[list[str]] = orjson.loads(base64.b64decode(body))[0]
    return arguments


def _outgoing_ports(pid: int, listening: int) -> set[int]:
    """The remote ports of the process's connections that it did not accept; IPv4 and IPv6."""
    ports = set()
    own = _sockets(pid)
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, remote, *rest = line.split()
            local_port, remote_port = (int(address.rpartition(":")[2], 16) for address in (local, remote))
            if rest[6] in own and local_port != listening and remote_port:
                ports.add(remote_port)
    return ports


def _sockets(pid: int) -> set[str]:
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes
