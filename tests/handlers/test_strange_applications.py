"""Applications that answer, raise and return what nobody expects: tried again, kept as text, and nobody else's harm."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from handlers.conftest import PATIENT, Store, handler
from handlers.receiving import Reply, receiving
from penstock import Change, on
from workers.hand_over.delivering import HandingOver


Handing = Callable[[str], HandingOver]

HEAD = b"HTTP/1.1 500 Internal Server Error\r\n"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Tracebacks with local variables would take most of the time."""
    with capture_logs():
        yield


@contextmanager
def answering(answers: Callable[[int], bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers the n-th change of the feed with these bytes and closes; its URL, and what it got."""
    got: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(connection: socket.socket) -> None:
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            while len(body) < length:
                body += connection.recv(65536)
            got.append(body)
            connection.sendall(answers(int(body.partition(b'"seq":')[2].partition(b",")[0])))

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook", got
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def whole(body: bytes, *headers: bytes, status: bytes = b"500 no") -> bytes:
    """An answer with this body."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), b"connection: close", *headers]
    return b"\r\n".join([*lines, b"", body])


STRANGE = {
    "a NUL": (whole(b"out of \0 order"), "refused", "out of \ufffd order"),
    "half of a surrogate pair": (whole(b"a \xed\xa0\x80 b"), "refused", "a \ufffd\ufffd\ufffd b"),
    "no UTF-8": (whole(b"\xff\xfe\x00o\x00"), "refused", "\ufffd\ufffd\ufffdo\ufffd"),
    "nothing but NUL": (whole(bytes(1000)), "refused", "\ufffd"),
    "a huge body": (whole(b"x" * 3_000_000), "refused", "xxx"),
    "a body cut off": (HEAD + b"content-length: 1000\r\n\r\nhalf", "refused", "the endpoint answered 500"),
    "gzip that is none": (whole(b"\x1f\x8b\0\0", b"content-encoding: gzip"), "refused", "the endpoint answered 500"),
    "Latin-1 in the reason": (whole(b"no", status=b"500 Gr\xfc\xdfe"), "refused", "no"),
    "a NUL in the reason": (whole(b"no", status=b"500 a\0b"), "", ""),
    "a NUL in a header": (whole(b"no", b"x-why: a\0b"), "", ""),
    "bytes in a header": (whole(b"no", b"x-why: \xff\xfe"), "refused", "no"),
    "a Retry-After that overflows": (
        whole(b"", b"retry-after: Mon, 01 Jan 2024 00:00:00 +99999999999999", status=b"503 busy"),
        "",
        "",
    ),
    "a Retry-After of 400 digits": (whole(b"", b"retry-after: " + b"9" * 400, status=b"503 busy"), "slow-down", ""),
    "a status of five digits": (whole(b"", status=b"50000 no"), "no-answer", ""),
    "no HTTP": (b"\0\0\0 what is this\r\n\r\n", "no-answer", ""),
    "nothing": (b"", "no-answer", ""),
    "half of a head": (b"HTTP/1.1 500 no\r\ncontent-le", "no-answer", ""),
}


def test_whatever_an_application_answers_is_kept_and_tried_again(store: Store, handing: Handing) -> None:
    """A strange answer each, between good ones: a reason, a sentence, and parked after the last attempt."""
    names = list(STRANGE)
    store.change(2 * len(names))

    def answers(seq: int) -> bytes:
        return whole(b"", status=b"204 fine") if seq % 2 else STRANGE[names[seq // 2 - 1]][0]

    with answering(answers) as (url, got):
        step = handing(f"{PATIENT}max_attempts = 2\n" + handler(url))
        while store.states().get("done", 0) < len(names) or store.states().get("pending"):
            step.run("crm")
            store.run("UPDATE handlers SET open_until = NULL")
        rows = store.run("SELECT seq, state, attempts, error_reason, error_detail FROM handovers ORDER BY seq")
        good = [body for body in got if int(body.partition(b'"seq":')[2].partition(b",")[0]) % 2]
    assert len(names) == len(good)
    assert {("done", 1, None)} == {tuple(row)[1:4] for row in rows if row["seq"] % 2}
    for name, row in zip(names, rows[1::2], strict=True):
        _, reason, said = STRANGE[name]
        assert "waiting" == row["state"], name
        assert not reason or reason == row["error_reason"], (name, tuple(row))
        assert said in (row["error_detail"] or ""), (name, tuple(row))
        assert len(row["error_detail"] or "") <= 500


def test_a_body_with_a_nul_is_parked_in_the_end(store: Store, handing: Handing) -> None:
    """With its error; what was taken beside it is not sent again."""
    store.change(4)
    replies = {2: Reply(500, body=b"no \0"), 1: Reply(), 3: Reply(), 4: Reply()}
    with receiving(lambda message: replies[message.data["seq"]]) as app:
        step = handing(f"{PATIENT}max_attempts = 2\n" + handler(app.url))
        while store.states() != {"done": 3, "parked": 1}:
            step.run("crm")
            store.due()
    assert [1, 2, 2, 3, 4] == sorted(message.data["seq"] for message in app.got)
    (row,) = store.run("SELECT * FROM handovers WHERE state = 'parked'")
    assert "the endpoint answered 500: no \ufffd (attempt 2 of 2)" == row["error_detail"]


TAKEN = {
    "204 with a body": whole(b"thanks", status=b"204 No Content"),
    "204 with chunks": b"HTTP/1.1 204 x\r\ntransfer-encoding: chunked\r\n\r\n6\r\nthanks\r\n0\r\n\r\n",
    "200 cut off": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf",
    "200 with gzip that is none": whole(b"\x1f\x8b\0", b"content-encoding: gzip", status=b"200 OK"),
    "200 with chunks that are none": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nno",
    "202 with a NUL": whole(b"\0", status=b"202 Accepted"),
    "299": whole(b"", status=b"299 odd"),
    "200 without a reason": whole(b"ok", status=b"200 "),
    "201 that moves on": whole(b"", b"location: http://127.0.0.1:1/", status=b"201 Created"),
}


def test_what_was_answered_with_2xx_is_done_whatever_its_body_is(store: Store, handing: Handing) -> None:
    """It was taken, and is not sent again."""
    store.change(len(TAKEN))
    answers = list(TAKEN.values())
    with answering(lambda seq: answers[seq - 1]) as (url, got):
        step = handing(PATIENT + handler(url))
        step.run("crm")
        while store.states().get("pending"):
            step.run("crm")
    rows = store.run("SELECT seq, state, error_detail FROM handovers ORDER BY seq")
    assert dict.fromkeys(TAKEN, "done") == {
        name: row["state"] if row["state"] == "done" else tuple(row) for name, row in zip(TAKEN, rows, strict=True)
    }
    assert len(TAKEN) == len(got)


@pytest.mark.parametrize("headers", [{}, {"content-length": "0"}], ids=["announced", "not announced"])
def test_a_body_after_204_harms_no_other_message(store: Store, handing: Handing, headers: dict[str, str]) -> None:
    """Its bytes are not taken for the next answer on the connection."""
    store.change(60)
    with receiving(lambda _: Reply(204, headers, b"thank you very much")) as app:
        step = handing(PATIENT + handler(app.url, "concurrency = 2"))
        while store.states().get("done", 0) + store.states().get("waiting", 0) < 60:
            step.run("crm")
            store.run("UPDATE handlers SET open_until = NULL")
    if not headers:
        assert {"done": 60} == store.states()
        assert 60 == len(app.got)


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nor this")


class _Ending(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


class _Endless(Exception):
    def __str__(self) -> str:
        while not self.args:
            pass
        return ""


class _OfOurs(OSError):
    def __str__(self) -> str:
        raise KeyError("nor this")


def _recursion(depth: int = 0) -> int:
    return _recursion(depth + 1) + 1


def _raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def _closing_stdin() -> None:
    kept = os.dup(0)
    try:
        os.close(0)
        raise ValueError("without input")
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def _cyclic() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


async def _cancelled() -> None:
    raise asyncio.CancelledError


async def _in_a_task() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        raise KeyError("among tasks")


def _forked() -> None:
    if os.fork() == 0:
        raise ValueError("in a child")
    raise ValueError("in the parent")


ACTS: dict[str, tuple[Callable[[], object], str]] = {
    "a NUL": (_raising(ValueError("no \0 customer")), "ValueError: no \ufffd customer"),
    "half of a pair": (_raising(ValueError("no \ud800")), "ValueError: no \ufffd"),
    "unprintable": (_raising(_Unprintable()), "_Unprintable"),
    "ends the process when asked": (_raising(_Ending()), "_Ending"),
    "one of ours, unprintable": (_raising(_OfOurs()), "_OfOurs"),
    "a megabyte": (_raising(ValueError("x" * 1_000_000)), "ValueError: xxx"),
    "bytes": (_raising(ValueError(b"\0\xff")), "ValueError: b'"),
    "SystemExit": (_raising(SystemExit(3)), "SystemExit: 3"),
    "KeyboardInterrupt": (_raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (_raising(GeneratorExit()), "GeneratorExit"),
    "BaseException": (_raising(BaseException("root")), "BaseException: root"),
    "StopIteration": (_raising(StopIteration()), "StopIteration"),
    "CancelledError": (_cancelled, "CancelledError"),
    "a group": (_raising(ExceptionGroup("all", [ValueError("a"), KeyError("b")])), "ExceptionGroup: all"),
    "a group of tasks": (_in_a_task, "ExceptionGroup"),
    "recursion": (_recursion, "RecursionError"),
    "memory": (lambda: bytearray(2**62), "MemoryError"),
    "a cycle of causes": (_cyclic, "ValueError: first"),
    "stdin closed": (_closing_stdin, "ValueError: without input"),
    "a fork": (_forked, "ValueError: in the parent"),
    "a name without end": (_raising(type("N" * 1000, (Exception,), {})("why")), "NNN"),
}


def test_whatever_a_function_raises_is_kept_and_tried_again(store: Store, handing: Handing) -> None:
    """Each between good ones, which are handed over once."""
    names = list(ACTS)
    store.change(2 * len(names))
    good: list[str] = []

    def keep(change: Change) -> object:
        number = int(change.external_id)
        if number % 2:
            good.append(change.external_id)
            return None
        return ACTS[names[number // 2 - 1]][0]()

    on(name="keep", start="beginning", timeout_seconds=20)(keep)
    step = handing(PATIENT)
    while store.states().get("done", 0) + store.states().get("waiting", 0) < 2 * len(names):
        step.run("keep")
        store.run("UPDATE handlers SET open_until = NULL")
    rows = store.run("SELECT seq, state, attempts, error_reason, error_detail FROM handovers ORDER BY seq")
    assert {("done", 1, None, None)} == {tuple(row)[1:] for row in rows[::2]}
    assert len(names) == len(good)
    for name, row in zip(names, rows[1::2], strict=True):
        assert ("waiting", 1, "handler-raised") == tuple(row)[1:4], name
        assert row["error_detail"].startswith(ACTS[name][1]), (name, row["error_detail"])
        assert len(row["error_detail"]) <= 500


def test_an_exception_that_never_ends_saying_what_it_is_is_interrupted(store: Store, handing: Handing) -> None:
    """Its own code counts towards the function's time."""

    def keep(_: Change) -> None:
        raise _Endless

    store.change()
    on(name="keep", start="beginning", timeout_seconds=0.3)(keep)
    handing(PATIENT).run("keep")
    row = store.handover()
    assert ("waiting", "handler-too-slow") == (row["state"], row["error_reason"])


@pytest.mark.parametrize("end", ["return", "sys.exit(1)", "raise ValueError", "1 / 0"])
def test_a_child_that_a_function_forks_does_not_go_on_as_a_worker(store: Store, handing: Handing, end: str) -> None:
    """Whichever way it comes back: it ends, and the parent hands over."""
    children: list[int] = []

    def keep(_: Change) -> None:
        child = os.fork()
        if child:
            children.append(child)
            return
        if end != "return":
            exec(end, {"sys": sys})  # noqa: S102 - one of the four above

    store.change(2)
    on(name="keep", start="beginning")(keep)
    step = handing(PATIENT)
    while store.states() != {"done": 2}:
        step.run("keep")
    assert [0, 0] == [os.waitpid(child, 0)[1] for child in children]


def test_programs_that_a_function_starts_are_its_own(store: Store, handing: Handing) -> None:
    """They run, and end, as anywhere."""
    said: list[bytes] = []
    store.change()
    on(name="keep", start="beginning")(
        lambda _: said.append(
            subprocess.run([sys.executable, "-c", "print(7)"], capture_output=True, check=True).stdout
        )
    )
    handing(PATIENT).run("keep")
    assert [b"7\n"] == said
    assert {"done": 1} == store.states()


class _Property:
    @property
    def __class__(self) -> type:
        raise RuntimeError("no class")


@pytest.mark.parametrize("make", [lambda: b"\0", lambda: float("nan"), lambda: print, lambda: iter(()), lambda: Change])
def test_a_strange_value_is_as_good_as_any(store: Store, handing: Handing, make: Callable[[], object]) -> None:
    """It is not looked at, but for whether it is to be awaited."""
    store.change(2)
    on(name="keep", start="beginning")(lambda _: make())
    handing(PATIENT).run("keep")
    assert {"done": 2} == store.states()


def test_a_value_that_raises_when_it_is_looked_at_is_as_an_exception(store: Store, handing: Handing) -> None:
    """Of the function that returned it."""
    store.change()
    on(name="keep", start="beginning")(lambda _: _Property())
    handing(PATIENT).run("keep")
    assert ("waiting", "RuntimeError: no class") == (store.handover()["state"], store.handover()["error_detail"])
