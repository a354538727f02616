"""Calls at an account's host, against a server that answers as each test says and keeps what it was asked."""

import asyncio
import gzip
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from shared.configuration import Configuration, read_configuration
from shared.errors import BrokenAnswer
from shared.providers.account import AccountSettings
from workers.calling import Caller, NoAnswer


pytestmark = pytest.mark.anyio

MAX_BYTES = 100_000
CALL_SECONDS = 1.0


@dataclass
class Host:
    """One host: its answer to everything, and the heads of the requests it got."""

    account: AccountSettings
    answer: bytes = b""
    hangs: bool = False
    asked: list[str] = field(default_factory=list)

    def answers(self, body: bytes = b"", status: str = "200 OK", headers: str = "") -> None:
        """Answer everything with this."""
        self.answer = f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body

    @property
    def line(self) -> str:
        """The newest request's first line."""
        return self.asked[-1].partition("\r\n")[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.decode("latin-1"))
                writer.write(self.answer)
                await writer.drain()
            except (asyncio.IncompleteReadError, OSError):
                break
            if not self.hangs and b"content-length" not in self.answer:
                break
        writer.close()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host on a free port of the loopback address."""
    made = Host(AccountSettings(name="a", base_url="http://127.0.0.1:1"))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.account = AccountSettings(name="a", base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    made.answers(b"{}")
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
    """The defaults, but for a small bound and a short deadline."""
    defaults = read_configuration(tmp_path / "penstock.toml")
    return replace(
        defaults,
        following_up=defaults.following_up.model_copy(update={"max_answer_bytes": MAX_BYTES}),
        timing=defaults.timing.model_copy(update={"call_seconds": CALL_SECONDS}),
    )


async def test_the_answer_is_complete(caller: Caller, host: Host, configuration: Configuration) -> None:
    """Status, headers by lower-case name with repeated ones in one line, and the body."""
    host.answers(b"here", "404 Not Found", "X-One: 1\r\nx-one: 2\r\nX-Two: caf\xe9\r\n")

    answer = await caller.get(host.account, "/v1/things", {"x-api-key": "k"}, configuration)

    assert (404, b"here") == (answer.status, answer.body)
    assert {"x-one": "1, 2", "x-two": "caf\xe9", "content-length": "4"} == answer.headers
    assert "x-api-key: k\r\n" in host.asked[0]


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a%2Fb/%41?q=a+b%20c&next=%2Fv1", "/a%2Fb/%41?q=a+b%20c&next=%2Fv1"),
        ("/a/../b", "/a/../b"),
        ("/é |", "/%C3%A9%20%7C"),
        ("/a HTTP/1.1\r\nx-injected: 1\r\n\r\n", "/a%20HTTP/1.1%0D%0Ax-injected:%201%0D%0A%0D%0A"),
    ],
)
async def test_a_path_goes_out_as_it_is(
    caller: Caller, host: Host, configuration: Configuration, path: str, sent: str
) -> None:
    """Escapes are kept; what no path may hold is escaped, so that nothing can be added to the request."""
    await caller.get(host.account, path, {}, configuration)

    assert f"GET {sent} HTTP/1.1" == host.line
    assert "x-injected: 1\r\n" not in host.asked[0]


@pytest.mark.parametrize("path", ["@{there}/", "a:b@{there}/", ".example.com/", "0/", ":1/", "\udc80"])
async def test_a_call_stays_at_the_accounts_own_host(
    caller: Caller, host: Host, configuration: Configuration, path: str
) -> None:
    """A path that would make another host of it is not called: the credentials are the account's."""
    there = host.account.base_url.removeprefix("http://")
    mine = AccountSettings(name="a", base_url="http://127.0.0.1")

    with pytest.raises(NoAnswer):
        await caller.get(mine, path.format(there=there), {}, configuration)

    assert [] == host.asked


async def test_a_redirect_is_an_answer(caller: Caller, host: Host, configuration: Configuration) -> None:
    """It is not followed."""
    host.answers(b"", "302 Found", f"location: {host.account.base_url}/other\r\n")

    answer = await caller.get(host.account, "/v1/things", {}, configuration)

    assert 302 == answer.status
    assert 1 == len(host.asked)


async def test_a_cookie_is_not_kept(caller: Caller, host: Host, configuration: Configuration) -> None:
    """Accounts at one host do not share what it set for one of them."""
    host.answers(b"{}", headers="set-cookie: session=1; Path=/\r\n")
    named = AccountSettings(name="a", base_url=host.account.base_url.replace("127.0.0.1", "localhost"))

    for _ in range(2):
        await caller.get(named, "/", {}, configuration)

    assert "cookie:" not in host.asked[1].lower()


async def test_a_proxy_of_the_environment_is_not_used(
    caller: Caller, host: Host, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would see every account's credentials."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert 200 == (await caller.get(host.account, "/", {}, configuration)).status


@pytest.mark.parametrize("compressed", [False, True])
async def test_an_answer_that_is_too_big_is_none(
    caller: Caller, host: Host, configuration: Configuration, *, compressed: bool
) -> None:
    """The bound holds for what it is when decompressed; an answer of just that size is good."""
    for size, fits in ((MAX_BYTES, True), (MAX_BYTES + 1, False), (100 * MAX_BYTES, False)):
        body = b"x" * size
        host.answers(gzip.compress(body), headers="content-encoding: gzip\r\n") if compressed else host.answers(body)
        if fits:
            assert body == (await caller.get(host.account, "/", {}, configuration)).body
        else:
            with pytest.raises(BrokenAnswer, match=f"over {MAX_BYTES} bytes"):
                await caller.get(host.account, "/", {}, configuration)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_takes_no_memory(caller: Caller, host: Host, configuration: Configuration, encoding: str) -> None:
    """A few hundred kilobytes that stand for 300 MB are given up long before they are unpacked."""
    packed = gzip.compress(bytes(300_000_000), 9) if encoding == "gzip" else zlib.compress(bytes(300_000_000), 9)
    host.answers(packed, headers=f"content-encoding: {encoding}\r\n")
    tracemalloc.start()
    try:
        with pytest.raises(BrokenAnswer, match=f"over {MAX_BYTES} bytes"):
            await caller.get(host.account, "/", {}, configuration)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


async def test_an_error_never_holds_what_was_sent(caller: Caller, host: Host, configuration: Configuration) -> None:
    """Some APIs repeat the key in their sentence, which is kept and shown."""
    host.answers(b"no such key: secret-0123, of api_key", "403 Forbidden")
    answer = await caller.get(host.account, "/", {"authorization": "api_key api_key=secret-0123"}, configuration)
    assert b"no such key: [hidden], of api_key" == answer.body


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"],
    ids=["nothing", "half a head", "half a body"],
)
async def test_an_answer_that_does_not_end_is_none(
    caller: Caller, host: Host, configuration: Configuration, answer: bytes
) -> None:
    """The deadline is around the whole call."""
    host.answer, host.hangs = answer, True

    async with asyncio.timeout(10 * CALL_SECONDS):
        with pytest.raises(NoAnswer, match="no complete answer within 1 s"):
            await caller.get(host.account, "/", {}, configuration)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"], ids=["closed", "half a head"])
async def test_a_connection_that_closes_is_no_answer(
    caller: Caller, host: Host, configuration: Configuration, answer: bytes
) -> None:
    """Before there was the whole head of one."""
    host.answer = answer

    with pytest.raises(NoAnswer, match=r"."):
        await caller.get(host.account, "/", {}, configuration)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-nul: \0\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-cr: a\rb\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["no HTTP", "NUL", "CR", "a header over 64 KiB"],
)
async def test_what_is_no_http_is_a_broken_answer(
    caller: Caller, host: Host, configuration: Configuration, answer: bytes
) -> None:
    """Whatever the host does, the error is one that callers know."""
    host.answer = answer

    with pytest.raises(BrokenAnswer, match=r"."):
        await caller.get(host.account, "/", {}, configuration)


async def test_a_host_that_is_not_there_gives_no_answer(caller: Caller, configuration: Configuration) -> None:
    """As for one that does not answer."""
    with pytest.raises(NoAnswer):
        await caller.get(AccountSettings(name="a", base_url="http://127.0.0.1:1"), "/", {}, configuration)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    caller: Caller, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """No request, and so no credentials, reaches a host that only says who it is."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs meanwhile
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    with pytest.raises(NoAnswer, match="certificate verify failed"):
        await caller.get(AccountSettings(name="a", base_url=f"https://localhost:{port}"), "/", {}, configuration)

    server.close()
    assert [] == host.asked


async def test_a_head_and_a_post(caller: Caller, host: Host, configuration: Configuration) -> None:
    """A HEAD has no body to wait for; a POST sends its own."""
    host.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
    assert b"" == (await caller.ask(host.account, "HEAD", "/probe", {}, configuration)).body
    assert "HEAD /probe HTTP/1.1" == host.line

    host.answers(b"made", "201 Created")
    answer = await caller.ask(
        host.account, "POST", "/sessions", {"content-type": "application/json"}, configuration, body=b"{}"
    )

    assert (201, b"made") == (answer.status, answer.body)
    assert "content-length: 2\r\n" in host.asked[-1].lower()
