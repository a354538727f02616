"""Pointers go out at once when it is quiet, in batches when it is not, and never hold anybody up."""

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog.testing

from ingress.pointers import MESSAGE_EVENTS, PENDING_EVENTS, SPACING_SECONDS, Pointers
from shared.errors import StoreAway
from support.conditions import HANG_SECONDS, until


class Recorder:
    """A publisher that remembers what was sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str, str, list[str]]] = []
        self.away = False
        self.waiting: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def publish(self, task_name: str, queue: str, args: Sequence[Any]) -> None:
        """Send, or wait, or fail."""
        self.gate.wait(HANG_SECONDS)
        if self.away:
            raise StoreAway("Redis does not answer")
        self.sent.append((time.monotonic(), task_name, queue, *args))

    def waits(self, queue: str) -> bool:
        """Whether a message is said to lie there."""
        if self.away:
            raise StoreAway("Redis does not answer")
        return queue in self.waiting


def ids(count: int, provider: str = "imin") -> list[tuple[str, UUID]]:
    """Events of a provider."""
    return [(provider, UUID(int=number)) for number in range(count)]


def test_everything_is_announced_in_batches() -> None:
    """All ids arrive once and in order, at most 500 a message, each on its provider's queue."""
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


def test_messages_keep_their_distance_and_providers_take_turns() -> None:
    """However many events of however many providers come: one message every 30 ms, of who has waited longest."""
    recorder = Recorder()
    pointers = Pointers(recorder)
    began = time.monotonic()
    pointers.start()

    def many() -> bool:
        pointers.announce([*ids(1), *ids(1, "paybook")])
        return len(recorder.sent) > 10

    until(many, every=0.001)
    steady = list(recorder.sent)
    pointers.stop()
    assert all(message[0] >= began + number * SPACING_SECONDS for number, message in enumerate(steady))
    assert all(later[2] != earlier[2] for earlier, later in itertools.pairwise(steady))


def test_the_first_event_of_a_quiet_time_is_announced_at_once() -> None:
    """Nothing is gathered when nothing comes."""
    recorder = Recorder()
    pointers = Pointers(recorder)
    pointers.start()
    for number in range(3):
        pointers.announce(ids(1))
        until(lambda number=number: len(recorder.sent) > number, every=0.0001)
        time.sleep(2 * SPACING_SECONDS)
    pointers.stop()
    assert 3 == len(recorder.sent)


def test_a_queue_where_a_message_waits_gets_no_other() -> None:
    """Whoever takes that one takes up everything that is due; another provider's queue gets its own."""
    recorder = Recorder()
    recorder.waiting = {"penstock.imin"}
    pointers = Pointers(recorder)
    pointers.start()
    pointers.announce([*ids(3), *ids(1, "paybook")])
    pointers.stop()
    assert ["penstock.paybook"] == [queue for _, _, queue, _ in recorder.sent]


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
    for _ in range(50):
        pointers.announce(ids(1000))
    recorder.gate.set()
    pointers.stop()
    assert PENDING_EVENTS <= sum(len(message[3]) for message in recorder.sent) <= PENDING_EVENTS + 2 * MESSAGE_EVENTS
