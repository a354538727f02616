"""The temporary area is bounded over all requests, and what was refused gives its room back."""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from starlette.types import Message

from ingress.body import GATHERED_BYTES, BodyReader, SenderGone
from ingress.incoming import AT_ONCE_BYTES, BYTES_A_SECOND, IncomingArea, IncomingFile
from ingress.refusals import TooLarge
from shared.errors import NotAuthentic, StoreAway
from shared.providers.interface import Admission, Inbound, Unverified
from shared.sealing import Keys, generate_key
from support.conditions import HANG_SECONDS


MIB = 1024 * 1024
KEYS = Keys.parse([SecretStr(generate_key())])


class Large(Inbound):
    """Lets everybody in."""

    max_body_bytes = 3 * MIB

    def authenticate(self, request: Unverified) -> Admission:
        """Not asked here."""
        raise NotImplementedError


class NeverFits:
    """A signature that does not match."""

    def update(self, chunk: bytes) -> None:
        """Take anything."""

    def finish(self) -> None:
        """Refuse."""
        raise NotAuthentic("wrong")


class Held:
    """A check that takes as long as the test wants, as a slow disk does."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.taken = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        """Take it once told to."""
        self.go_on.wait(HANG_SECONDS)
        self.taken.update(chunk)

    def finish(self) -> None:
        """Be content."""


class Sender:
    """Sends pieces; after them it ends, or leaves, or waits to be let go on."""

    def __init__(self, *sizes: int, leaves: bool = False) -> None:
        self._messages = self._make(sizes, leaves=leaves)
        self.sent = asyncio.Event()
        self.go_on = asyncio.Event()

    async def receive(self) -> Message:
        """The next message, as a server hands it on."""
        return await anext(self._messages)

    async def _make(self, sizes: tuple[int, ...], *, leaves: bool) -> AsyncIterator[Message]:
        for size in sizes:
            yield {"type": "http.request", "body": bytes(size), "more_body": True}
        self.sent.set()
        await self.go_on.wait()
        if leaves:
            yield {"type": "http.disconnect"}
        else:
            yield {"type": "http.request", "body": b"", "more_body": False}


Make = Callable[[int], IncomingArea]


@pytest.fixture
def make_area(tmp_path: Path) -> Iterator[Make]:
    """Makes an area of so many bytes, closed with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda limit: stack.enter_context(contextlib.closing(IncomingArea(tmp_path, limit_bytes=limit)))


def files(area: IncomingArea) -> list[Path]:
    """The bodies in the area."""
    return [path for path in area.folder.iterdir() if path.name != "lock"]


def test_a_full_area_refuses_until_room_is_given_back(make_area: Make) -> None:
    """Bodies that are still coming in fill the area together; when one is done, the next is taken."""
    area = make_area(5 * MIB)
    reader = BodyReader(KEYS, area)

    async def run() -> None:
        first, second, third, fourth = Sender(2 * MIB), Sender(2 * MIB), Sender(2 * MIB), Sender(2 * MIB)
        reading = [
            asyncio.create_task(reader.read(each.receive, 0, Large(), None, uuid4())) for each in (first, second)
        ]
        await asyncio.gather(first.sent.wait(), second.sent.wait())
        with pytest.raises(StoreAway, match="full"):
            await reader.read(third.receive, 0, Large(), None, uuid4())
        first.go_on.set()
        second.go_on.set()
        for body in await asyncio.gather(*reading):
            assert 2 * MIB == body.size
            assert body.file
            await body.file.discard_soon()
        fourth.go_on.set()
        body = await reader.read(fourth.receive, 0, Large(), None, uuid4())
        assert body.file
        await body.file.discard_soon()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sender", "check", "error"),
    [
        (Sender(2 * MIB), NeverFits(), NotAuthentic),
        (Sender(2 * MIB, leaves=True), None, SenderGone),
        (Sender(2 * MIB, 2 * MIB), None, TooLarge),
    ],
)
def test_a_refused_body_leaves_nothing(
    make_area: Make, sender: Sender, check: NeverFits | None, error: type[Exception]
) -> None:
    """Whatever a body was refused for, its file is deleted and its room is free again."""
    area = make_area(4 * MIB)

    async def run() -> None:
        # Files are deleted by threads, which asyncio.run waits for before it returns.
        sender.go_on.set()
        with pytest.raises(error):
            await BodyReader(KEYS, area).read(sender.receive, 0, Large(), check, uuid4())

    asyncio.run(run())
    assert [] == files(area)
    area.take(4 * MIB)


def test_what_is_gathered_while_the_disk_is_slow_is_bounded(make_area: Make) -> None:
    """While a piece is being taken the next ones are received, up to a bound; the loop goes on, and none is lost."""
    area = make_area(64 * MIB)
    piece = b"0123456789abcdef" * 8192
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": piece, "more_body": received < 24}

    async def run() -> None:
        held = Held()
        reading = asyncio.create_task(BodyReader(KEYS, area).read(receive, 0, Large(), held, uuid4()))
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert 1 + GATHERED_BYTES // len(piece) == received
        held.go_on.set()
        body = await reading
        assert (24 * len(piece), hashlib.sha256(24 * piece).digest()) == (body.size, body.sha256)
        assert body.sha256 == held.taken.digest()
        assert body.file
        assert 24 * piece == KEYS.unseal(body.file.path.read_bytes(), UUID(hex=body.file.path.name))
        await body.file.discard_soon()

    asyncio.run(run())


def test_very_large_bodies_are_taken_no_faster_than_leaves_room_for_others(make_area: Make) -> None:
    """Beyond its first megabyte a body takes its time, however fast it comes, and nothing of it is missing."""
    area, piece = make_area(64 * MIB), bytes(range(256)) * 256
    count = 3 * MIB // len(piece)
    sent = iter(range(count))

    async def receive() -> Message:
        return {"type": "http.request", "body": piece, "more_body": next(sent) < count - 1}

    async def run() -> float:
        began = asyncio.get_running_loop().time()
        body = await BodyReader(KEYS, area).read(receive, 0, Large(), None, uuid4())
        assert hashlib.sha256(count * piece).digest() == body.sha256
        assert body.file
        await body.file.discard_soon()
        return asyncio.get_running_loop().time() - began

    assert (2 * MIB - GATHERED_BYTES - len(piece)) / BYTES_A_SECOND <= asyncio.run(run())


def test_bodies_share_their_speed_and_smaller_ones_have_no_part_in_it(make_area: Make) -> None:
    """The second's turn is after the first's; what is not large yet is taken at once."""
    area = make_area(64 * MIB)

    async def run() -> None:
        first, second, smaller = (IncomingFile(area, KEYS, uuid4()) for _ in range(3))
        began = asyncio.get_running_loop().time()
        turns = [file.reserve(2 * MIB) - began for file in (first, second, first)]
        assert 0.0 == smaller.reserve(AT_ONCE_BYTES)
        assert turns == pytest.approx([2 * MIB * place / BYTES_A_SECOND for place in (1, 2, 3)], abs=0.02)

    asyncio.run(run())


def test_a_body_that_was_given_up_is_not_written_any_more(make_area: Make) -> None:
    """A thread that comes late finds its file gone and does not make it anew."""
    area = make_area(MIB)

    async def run() -> None:
        file = IncomingFile(area, KEYS, uuid4())
        await file.discard_soon()
        with pytest.raises(StoreAway):
            file.write(bytes(100))

    asyncio.run(run())
    assert [] == files(area)


def test_a_body_that_stays_in_memory_takes_no_room(make_area: Make) -> None:
    """Small bodies never touch the area."""
    area = make_area(0)

    async def run() -> None:
        sender = Sender(64 * 1024)
        sender.go_on.set()
        body = await BodyReader(KEYS, area).read(sender.receive, 0, Large(), None, uuid4())
        assert body.file is None

    asyncio.run(run())
    assert [] == files(area)


def test_an_area_that_ends_removes_its_folder(tmp_path: Path) -> None:
    """An orderly end leaves no leftovers for the next start."""
    area = IncomingArea(tmp_path)
    area.close()
    assert not area.folder.exists()
