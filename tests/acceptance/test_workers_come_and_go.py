"""Workers of one provider are added and taken away under load, while the others are left alone.

That throughput follows is measured by `penstock bench --only scale`; here everything is counted.
"""

import asyncio
import time

from installation import ROOT
from ops.lab.process import Lab
from rolling import Rolling, judged, under_load


OTHERS = ("imin", "paybook", "authenteq")


def worker(rolling: Rolling, name: str, *providers: str) -> None:
    """Start one of a single process."""
    rolling.start(name, ROOT, "worker", *providers, "--concurrency", "1")


def test_nothing_is_lost_while_workers_of_one_provider_come_and_go(rolling: Rolling, unlimited_lab: Lab) -> None:
    """Each new one takes the work over from the one that was there, so all of it is done by each of them in turn."""

    def come_and_go() -> None:
        worker(rolling, "second", "magicline")
        worker(rolling, "third", "magicline")
        rolling.drain("first")
        rolling.drain("second")
        worker(rolling, "fourth", "magicline")
        rolling.kill("third")

    rolling.penstock(ROOT, "migrate")
    rolling.start("ingress", ROOT, "ingress", "--fd", str(rolling.listener.fileno()))
    rolling.start("relay", ROOT, "relay")
    worker(rolling, "others", *OTHERS)
    worker(rolling, "first", "magicline")

    ledger = under_load(rolling, unlimited_lab, come_and_go)
    result = asyncio.run(judged(rolling, unlimited_lab, ledger, time.monotonic()))

    assert [] == result.why, "\n".join(result.why)
    assert (0, 0, 0) == (result.lost, result.altered, result.doubled)
    assert result.sent == result.acknowledged == result.stored == result.finished
    assert {"ingress", "relay", "others", "fourth"} == set(rolling.running)
    assert all(process.ended() is None for process in rolling.running.values())
