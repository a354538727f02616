"""The order of the turns, the schedule of an open loop, and the load against a server that stalls."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec

from ops.bench.deliveries import BODY_BYTES, imin_bodies, request, write
from ops.bench.load import Order, Outcome
from ops.bench.schedule import offsets, turns
from ops.lab.accounts import lab_accounts


STALL_SECONDS = 0.5


def test_subjects_take_turns() -> None:
    """A B A B, so that a slow minute is shared."""
    assert [(0, "a"), (0, "b"), (1, "a"), (1, "b")] == list(turns(["a", "b"], 2))


def test_an_open_loop_is_due_at_even_times() -> None:
    """Whatever the answers do."""
    assert [0.0, 0.25, 0.5, 0.75, 1.0, 1.25] == offsets(rate=4, seconds=1.5)


def test_bodies_have_the_stated_size_and_different_customers() -> None:
    """Deliveries about different customers share no call."""
    account = lab_accounts(1, dict.fromkeys(("imin", "magicline", "paybook", "authenteq"), 40_000))[0]

    bodies = imin_bodies(account, 1000)

    assert {BODY_BYTES} == {len(body) for body in bodies}
    assert 1000 == len({msgspec.json.decode(body)["@id"] for body in bodies})


def test_an_open_loop_counts_the_wait_that_a_stall_causes(tmp_path: Path) -> None:
    """A server that stands still delays whatever was due meanwhile; a closed loop would show one slow answer only."""
    outcome = _loaded(tmp_path, rate=100.0, seconds=2.0, connections=2)

    assert {"204": 200} == outcome.statuses
    assert outcome.latency["p90"] > 1000 * STALL_SECONDS / 5


def test_a_closed_loop_sends_as_many_as_ordered_and_tells_their_receipts(tmp_path: Path) -> None:
    """Each answer brings its event's id."""
    outcome = _loaded(tmp_path, count=50, connections=4, receipts=True)

    assert (50, 0) == (outcome.acknowledged, outcome.lost)
    assert {f"event-{number}" for number in range(50)} == {receipt for receipt, _ in outcome.receipts}


def _loaded(folder: Path, **order: object) -> Outcome:
    """The load's outcome at a server that answers at once but once stands still, for all connections."""

    async def run() -> Outcome:
        numbers = iter(range(1_000_000))
        going = asyncio.Event()
        going.set()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(10_000):
                number = next(numbers)
                if number == 50:
                    going.clear()
                    asyncio.get_running_loop().call_later(STALL_SECONDS, going.set)
                await going.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\nx-penstock-event: event-%d\r\n\r\n" % number)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            requests = write(folder, "some", [request("/webhooks/imin", {}, b"{}")])
            text = msgspec.json.encode(msgspec.convert({"port": port, "requests": requests, **order}, Order)).decode()
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "ops.bench.load", text],
                check=True,
                capture_output=True,
                timeout=60,
            )
        return msgspec.json.decode(done.stdout, type=Outcome)

    return asyncio.run(run())
