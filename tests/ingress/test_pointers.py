"""Pointers go out at once when it is quiet, in batches when it is not, and never hold anybody up."""

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog.testing

from ingress.pointers import MESSAGE_EVENTS, PENDING_EVENTS, Pointers
from shared.errors import StoreAway


class Recorder:
    """A publisher that remembers what was sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str, str, list[str]]] = []
        self.away = False
        self.gate = threading.Event()
        self.gate.set()

    def publish(self, task_name: str, queue: str, args: Sequence[Any]) -> None:
        """Send, or wait, or fail."""
        self.gate.wait(10)
        if self.away:
            raise StoreAway("Redis does not answer")
        self.sent.append((time.monotonic(), task_name, queue, *args))


def ids(count: int, provider: str = "imin") -> list[tuple[str, UUID]]:
    """Events of a provider."""
    return [(provider, UUID(int=number)) for number in range(count)]


def test_everything_is_announced_in_batches() -> None:
    """All ids arrive once and in order, at most 500 a message, 20 ms apart, each on its provider's queue."""
    recorder = Recorder()
    pointers = Pointers(recorder)
    pointers.start()
    pointers.announce(ids(1200))
    pointers.announce(ids(1, "paybook"))
    pointers.stop()
    of_imin = [message for message in recorder.sent if message[2] == "penstock.imin"]
    assert [str(each) for _, each in ids(1200)] == [each for message in of_imin for each in message[3]]
    assert {"imin.plan"} == {message[1] for message in of_imin}
    assert max(len(message[3]) for message in of_imin) <= MESSAGE_EVENTS
    assert ["paybook.plan"] == [message[1] for message in recorder.sent if message[2] == "penstock.paybook"]


def test_messages_of_a_provider_keep_their_distance() -> None:
    """A steady stream makes at most one message every 20 ms; another provider's first goes out at once."""
    recorder = Recorder()
    pointers = Pointers(recorder)
    pointers.start()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pointers.announce(ids(1))
        time.sleep(0.001)
    pointers.announce(ids(1, "paybook"))
    sent_paybook = time.monotonic()
    pointers.stop()
    times = [message[0] for message in recorder.sent if message[2] == "penstock.imin"]
    # The last one is sent by stop, without waiting.
    assert min(later - earlier for earlier, later in itertools.pairwise(times[:-1])) > 0.015
    assert len(times) > 5
    (paybook,) = [message for message in recorder.sent if message[2] == "penstock.paybook"]
    assert paybook[0] - sent_paybook < 0.02


def test_a_store_that_is_away_costs_one_line_a_second() -> None:
    """What cannot be sent is dropped and counted; afterwards sending goes on."""
    recorder = Recorder()
    recorder.away = True
    with structlog.testing.capture_logs() as log:
        pointers = Pointers(recorder)
        pointers.start()
        for _ in range(10):
            pointers.announce(ids(1))
            time.sleep(0.03)
        assert 1 == len(log)
        recorder.away = False
        time.sleep(0.05)
        pointers.announce(ids(1))
        pointers.stop()
    assert [str(UUID(int=0))] == recorder.sent[-1][3]


def test_a_slow_store_holds_nobody_up_and_fills_no_memory() -> None:
    """While a publish hangs, announcing returns at once and keeps a bounded number of ids."""
    recorder = Recorder()
    recorder.gate.clear()
    pointers = Pointers(recorder)
    pointers.start()
    began = time.monotonic()
    for _ in range(50):
        pointers.announce(ids(1000))
    assert time.monotonic() - began < 1
    recorder.gate.set()
    pointers.stop()
    assert PENDING_EVENTS <= sum(len(message[3]) for message in recorder.sent) <= PENDING_EVENTS + 2 * MESSAGE_EVENTS
