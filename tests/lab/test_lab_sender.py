"""The senders deliver again as each provider does, and the ledger tells what became of each delivery."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ops.lab.accounts import lab_accounts
from ops.lab.sender import Sender, Sent
from ops.lab.server import PORTS
from ops.lab.traffic import Traffic
from ops.lab.world import World


class Ingress(ThreadingHTTPServer):
    """Answers the statuses given, one by one, the last of them for ever; keeps what it was sent."""

    daemon_threads = True

    def __init__(self, statuses: Sequence[int]) -> None:
        self.statuses = list(statuses)
        self.seen: list[tuple[str, bytes]] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    """One request of the ingress above."""

    protocol_version = "HTTP/1.1"
    server: Ingress

    def do_POST(self) -> None:
        """Keep the body, answer the next status with a receipt."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, body))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        self.send_response(status)
        self.send_header("X-Penstock-Event", f"event-{len(self.server.seen)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def ingress(*statuses: int) -> Iterator[Ingress]:
    """An ingress in a thread."""
    with Ingress(statuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def deliver(provider: str, *statuses: int) -> tuple[Sent, list[tuple[str, bytes]]]:
    """One delivery and all its redeliveries, on a clock that runs 360,000 times as fast."""

    async def scenario(url: str) -> Sent:
        world = World(7, lab_accounts(7, dict.fromkeys(PORTS, 9000)), datetime.now(UTC))
        async with Sender(url, clock_speed=360_000) as sender:
            sent = await sender.send(world.account(provider), world.happen(provider, "", "", {}))
            await sender.settled()
            return sent

    with ingress(*statuses) as server:
        return asyncio.run(scenario(f"http://127.0.0.1:{server.server_port}")), server.seen


def test_an_acknowledged_delivery_has_its_receipt_and_is_not_repeated() -> None:
    """Status, receipt and the digest of the body are in the ledger."""
    sent, seen = deliver("imin", 204)
    assert (sent.acknowledged, len(seen)) == (True, 1)
    assert (sent.attempts[0].status, sent.attempts[0].receipt) == (204, "event-1")


def test_magicline_repeats_three_times_and_gives_up() -> None:
    """The same bytes each time."""
    sent, seen = deliver("magicline", 503)
    assert (sent.acknowledged, sent.given_up, len(seen)) == (False, True, 4)
    assert len(set(seen)) == 1


def test_magicline_is_content_with_any_2xx() -> None:
    """After one repeat here."""
    sent, seen = deliver("magicline", 500, 202)
    assert (sent.acknowledged, len(seen)) == (True, 2)


def test_authenteq_repeats_until_exactly_200() -> None:
    """204 and 202 do not count; the verification is the same, the boundary is not."""
    sent, seen = deliver("authenteq", 204, 202, 500, 200)
    assert (sent.acknowledged, len(seen)) == (True, 4)
    assert len({body for _, body in seen}) == 4


def test_authenteq_gives_up_after_a_week() -> None:
    """168 hours."""
    sent, seen = deliver("authenteq", 503)
    assert (sent.given_up, len(seen)) == (True, 169)


@pytest.mark.parametrize("provider", ["imin", "paybook"])
def test_providers_that_state_no_redelivery_do_not_redeliver(provider: str) -> None:
    """One attempt, given up."""
    sent, seen = deliver(provider, 500)
    assert (sent.given_up, len(seen)) == (True, 1)


def test_an_ingress_that_is_away_is_an_error_in_the_ledger() -> None:
    """Nothing is raised, and the sentence is kept."""

    async def scenario() -> Sent:
        world = World(7, lab_accounts(7, dict.fromkeys(PORTS, 9000)), datetime.now(UTC))
        async with Sender("http://127.0.0.1:9") as sender:
            return await sender.send(world.account("imin"), world.happen("imin", "", "", {}))

    sent = asyncio.run(scenario())
    assert (sent.attempts[0].status, sent.acknowledged) == (0, False)
    assert sent.attempts[0].error


def test_traffic_mixes_all_providers_with_duplicates_and_unknown_types() -> None:
    """The same order of events from the same seed."""

    def drawn(seed: int) -> list[tuple[str, str, str, bool]]:
        world = World(7, lab_accounts(7, dict.fromkeys(PORTS, 9000)), datetime.now(UTC))
        traffic = Traffic(world, Sender("http://127.0.0.1:9"), 10.0, seed)
        return [traffic.next_event() for _ in range(1000)]

    async def scenario() -> None:
        events = drawn(7)
        assert events == drawn(7)
        assert {provider for provider, _, _, _ in events} == {"imin", "magicline", "paybook", "authenteq"}
        assert {account for provider, account, _, _ in events if provider == "magicline"} == {
            "studio-berlin",
            "studio-hamburg",
        }
        assert {"CUSTOMER_PAYMENT_REJECTED", "CONTRACT_REVERSED"} & {event for _, _, event, _ in events}
        assert 20 < sum(twice for _, _, _, twice in events) < 90

    asyncio.run(scenario())
