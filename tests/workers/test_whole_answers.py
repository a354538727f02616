"""An answer is whole, or it is none: whatever it is packed in, and wherever the connection broke off."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.configuration import Configuration, read_configuration
from shared.errors import BrokenAnswer
from shared.providers.account import AccountSettings
from workers.calling import ERROR_BYTES, Caller
from workers.decompression import LAYERS, PIECE_BYTES, Codings


pytestmark = pytest.mark.anyio

JSON = b'{"rows": [1, 2, 3]}'


def _raw(body: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(body) + made.flush()


def _members(body: bytes) -> bytes:
    """Two members, which count as one body (RFC 1952, 2.2)."""
    half = len(body) // 2
    return gzip.compress(body[:half]) + gzip.compress(body[half:])


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "GZIP": (" GZIP ", gzip.compress),
    "members": ("gzip", _members),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", _raw),
    "twice": ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    "with identity": ("identity, gzip", gzip.compress),
}


def unpacked(coding: str, pieces: list[bytes]) -> bytes:
    """What pieces that came one after the other stand for."""
    codings = Codings(coding)
    body = b"".join(plain for piece in pieces for plain in codings.undo(piece))
    codings.finish()
    return body


def _cut(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(body) + 1) for place in places} | {0, len(body)})
    return [body[start:end] for start, end in pairwise(ends)]


@pytest.mark.parametrize("how", PACKED)
@given(body=st.binary(max_size=2000), places=st.lists(st.integers(0, 5000), max_size=6), end=st.integers(0, 10**6))
@example(body=b"", places=[], end=1)
@example(body=JSON, places=[1], end=1)
@example(body=b"x" * 5 * PIECE_BYTES, places=[1, 2, 3], end=2)
def test_a_body_is_whole_or_broken(how: str, body: bytes, places: list[int], end: int) -> None:
    """However it is cut into pieces it is read; cut short anywhere, it is never taken for whole."""
    coding, pack = PACKED[how]
    packed = pack(body)
    assert body == unpacked(coding, _cut(packed, places))
    # The end of the first of two members is the end of a whole stream: only its length can tell that one is missing.
    end = end % len(packed)
    if end and not (how == "members" and end == len(gzip.compress(body[: len(body) // 2]))):
        with pytest.raises(BrokenAnswer):
            unpacked(coding, _cut(packed[:end], places))


@given(st.binary(min_size=1, max_size=300), st.sampled_from([*PACKED.values()]))
def test_nonsense_is_broken_or_read(nonsense: bytes, how: tuple[str, Callable[[bytes], bytes]]) -> None:
    """No other error than the one that callers know."""
    try:
        unpacked(how[0], [nonsense])
    except BrokenAnswer:
        return


@pytest.mark.parametrize(
    ("behind", "whole"), [(b"\0" * 20, True), (b"\0" + gzip.compress(b"!"), True), (b"junk", False), (b"\x1f", False)]
)
def test_behind_gzip_stands_padding_or_another_member(behind: bytes, whole: bool) -> None:  # noqa: FBT001 - a case
    """As gzip(1) takes it; anything else is a member that was damaged."""
    if whole:
        assert unpacked("gzip", [gzip.compress(JSON), behind]).startswith(JSON)
    else:
        with pytest.raises(BrokenAnswer):
            unpacked("gzip", [gzip.compress(JSON), behind])


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br", "\0\r", ", ".join(["gzip"] * (LAYERS + 1))])
def test_what_was_not_asked_for_is_broken(coding: str) -> None:
    """Bytes that nobody here can read must not be kept as the file that they are packed from."""
    with pytest.raises(BrokenAnswer):
        Codings(coding)


@pytest.mark.parametrize("coding", ["", "identity", "none", "UTF-8", "identity, identity", " , "])
def test_no_coding_is_none(coding: str) -> None:
    """The body is as it came."""
    assert unpacked(coding, [JSON]) == JSON


# ── over a connection ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Host:
    """A host that sends these bytes to whatever it is asked, and then closes or goes on."""

    account: AccountSettings
    answers: Iterator[bytes] = field(default_factory=lambda: iter(()))
    asked: int = 0
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                answer = next(self.answers, b"")
                writer.write(answer.removesuffix(CLOSE))
                await writer.drain()
                if not answer or answer.endswith(CLOSE):
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        writer.close()


CLOSE = b"-- and the connection closes --"


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host on a free port of the loopback address."""
    made = Host(AccountSettings(name="a", base_url="http://127.0.0.1:1"))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.account = AccountSettings(name="a", base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield made
    server.close()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    """The caller of one worker process."""
    made = Caller()
    yield made
    await made.close()


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """The defaults, but for a short deadline: nothing here waits for one."""
    defaults = read_configuration(tmp_path / "penstock.toml")
    return replace(defaults, timing=defaults.timing.model_copy(update={"call_seconds": 20.0}))


def response(body: bytes, head: str = "", status: str = "200 OK", *, length: int | None = None) -> bytes:
    """An answer with a length, the body's own unless told otherwise."""
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\n{head}content-length: {length}\r\n\r\n".encode() + body


def chunked(chunks: list[bytes], head: str = "", *, end: bytes = b"0\r\n\r\n") -> bytes:
    """An answer in chunks."""
    made = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return f"HTTP/1.1 200 OK\r\n{head}transfer-encoding: chunked\r\n\r\n".encode() + made + end


def until_closed(body: bytes, head: str = "") -> bytes:
    """An answer whose end is the connection's."""
    return f"HTTP/1.1 200 OK\r\n{head}connection: close\r\n\r\n".encode() + body + CLOSE


FRAMES: dict[str, Callable[[bytes, str], bytes]] = {
    "length": response,
    "chunks": lambda body, head: chunked([body[:5], body[5:]] if len(body) > 5 else [body] * bool(body), head),
    "until closed": until_closed,
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("how", PACKED)
async def test_a_packed_answer_is_read(
    caller: Caller, host: Host, configuration: Configuration, how: str, frame: str
) -> None:
    """JSON or not, in whatever frame."""
    coding, pack = PACKED[how]
    bodies = [JSON, b"\x89PNG, a file", b"x" * 100_000]
    host.answers = iter([FRAMES[frame](pack(body), f"content-encoding:{coding}\r\n") for body in bodies])
    for body in bodies:
        assert body == (await caller.get(host.account, "/", {}, configuration)).body


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("how", [how for how in PACKED if how != "members"])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each opens a connection
@given(end=st.integers(1, 10**6), body=st.sampled_from([JSON, b"\x89PNG, a file", b"%PDF" * 500]))
async def test_a_packed_answer_that_is_cut_off_is_broken(
    caller: Caller, host: Host, configuration: Configuration, how: str, frame: str, end: int, body: bytes
) -> None:
    """The frame may be whole all the same: a proxy that lost its origin often makes one."""
    coding, pack = PACKED[how]
    packed = pack(body)
    half = packed[: 1 + end % (len(packed) - 1)]
    host.answers = iter([FRAMES[frame](half, f"content-encoding: {coding}\r\n")])
    with pytest.raises(BrokenAnswer, match=r"cut off|damaged"):
        await caller.get(host.account, "/", {}, configuration)


@pytest.mark.parametrize(
    "answer",
    [
        response(b"half", length=8) + CLOSE,
        response(b"", length=8) + CLOSE,
        chunked([b"half"], end=b"") + CLOSE,
        chunked([b"half"], end=b"0\r\n") + CLOSE,
        chunked([b"half"], end=b"8\r\nhal") + CLOSE,
        chunked([b"half"], end=b"zz\r\n") + CLOSE,
        chunked([], end=b"") + CLOSE,
        response(gzip.compress(JSON), "content-encoding: gzip\r\n", length=1000) + CLOSE,
        chunked([gzip.compress(JSON)], "content-encoding: gzip\r\n", end=b"") + CLOSE,
        response(b"bad", "content-encoding: gzip\r\n"),
        response(JSON, "content-encoding: br\r\n"),
        response(gzip.compress(JSON), "content-encoding: gzip\r\ncontent-encoding: br\r\n"),
    ],
    ids=[
        *(
            "length",
            "no body",
            "between chunks",
            "before the last line",
            "within a chunk",
            "no chunk",
            "no chunk at all",
        ),
        *("gzip and length", "gzip and chunks", "not gzip", "brotli", "two headers"),
    ],
)
async def test_an_answer_that_breaks_off_is_broken(
    caller: Caller, host: Host, configuration: Configuration, answer: bytes
) -> None:
    """Wherever it does: it is asked for again."""
    host.answers = iter([answer])
    with pytest.raises(BrokenAnswer, match=r"."):
        await caller.get(host.account, "/", {}, configuration)


@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "204 No Content", "205 Reset", "206 Partial"])
async def test_a_success_that_is_not_the_thing_itself_is_broken(
    caller: Caller, host: Host, configuration: Configuration, status: str
) -> None:
    """A part that nobody asked for must not be kept as the whole, nor nothing as an empty file."""
    body = b"" if status.startswith("204") else JSON
    host.answers = iter([response(body, "content-range: bytes 0-18/99\r\n", status)])
    with pytest.raises(BrokenAnswer, match=f"answered {status[:3]}"):
        await caller.get(host.account, "/", {}, configuration)


@pytest.mark.parametrize(
    "left_over",
    [
        response(response(b'"forged"'), status="204 No Content"),
        response(response(b'"forged"'), status="304 Not Modified"),
        response(b"") + response(b'"forged"'),
        response(response(b'"forged"'), status="503 Away", length=3),
        response(b"x" * 3 * ERROR_BYTES, status="500 Long"),
    ],
    ids=["204", "304", "more than its length", "error", "a long error"],
)
async def test_what_is_left_over_of_an_answer_is_never_anothers(
    caller: Caller, host: Host, configuration: Configuration, left_over: bytes
) -> None:
    """A body where none may be, or more of it than was said, ends with its connection."""
    host.answers = iter([left_over, *[response(JSON)] * 3])
    with suppress(BrokenAnswer):
        await caller.get(host.account, "/", {}, configuration)
    for _ in range(2):
        assert JSON == (await caller.get(host.account, "/", {}, configuration)).body


@pytest.mark.parametrize("status", ["401 No", "403 No", "404 No", "429 Slow down", "500 Oh", "503 Away"])
@pytest.mark.parametrize(
    "broken",
    [
        lambda status, head: response(b"half", head, status, length=90) + CLOSE,
        lambda status, head: response(b"half", f"content-encoding: gzip\r\n{head}", status),
        lambda status, head: response(gzip.compress(b"half")[:-3], f"content-encoding: gzip\r\n{head}", status),
        lambda status, head: response(b"half", f"content-encoding: br\r\n{head}", status),
        lambda status, head: response(b"half" * ERROR_BYTES, head, status),
    ],
    ids=["cut off", "not gzip", "half of gzip", "brotli", "long"],
)
async def test_an_errors_status_counts_whatever_its_body_is(
    caller: Caller, host: Host, configuration: Configuration, status: str, broken: Callable[[str, str], bytes]
) -> None:
    """Its Retry-After too; of its body there is what could be read."""
    host.answers = iter([broken(status, "retry-after: 7\r\n")])
    answer = await caller.get(host.account, "/", {}, configuration)
    assert (int(status[:3]), "7") == (answer.status, answer.headers["retry-after"])
    assert (b"half" * ERROR_BYTES).startswith(answer.body)
    assert len(answer.body) <= ERROR_BYTES


async def test_a_head_has_no_body_to_unpack(caller: Caller, host: Host, configuration: Configuration) -> None:
    """It may name the coding, even one that was not asked for, and the length of what a GET would give."""
    host.answers = iter([response(b"", "content-encoding: br\r\n", length=99)])
    assert b"" == (await caller.ask(host.account, "HEAD", "/", {}, configuration)).body


async def test_long_header_lines_are_read(caller: Caller, host: Host, configuration: Configuration) -> None:
    """Policies and cookies of gateways are longer than 8,190 bytes."""
    lines = f"x-policy: {'a' * 60_000}\r\n" + "".join(f"x-{number}: 1\r\n" for number in range(200))
    host.answers = iter([response(JSON, lines)])
    answer = await caller.get(host.account, "/", {}, configuration)
    assert (60_000, JSON) == (len(answer.headers["x-policy"]), answer.body)


async def test_what_is_asked_for_is_what_can_be_read(caller: Caller, configuration: Configuration) -> None:
    """Whatever else is installed beside it."""
    heads = asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response(JSON))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    account = AccountSettings(name="a", base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await caller.get(account, "/", {}, configuration)
    assert b"accept-encoding: gzip, deflate\r\n" in heads.get_nowait().lower()
    server.close()
