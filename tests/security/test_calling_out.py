"""Whoever calls a provider does it by the one guarded way: a worker, the look at registrations, and the commands."""

import asyncio
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from operators.conftest import clean_environment
from ops.checks.accounts import check_accounts
from ops.embedded.redis import Redis
from shared.budgets import Budgets
from shared.configuration import Configuration, read_configuration
from shared.errors import PenstockError
from shared.providers.interface import Call
from shared.providers.paybook.settings import PaybookAccount
from workers.calling import Caller
from workers.reconcile.surveying import Stopped, Surveyor
from workers.relay.registering import look


KEY: Final = "key-of-the-api-0123456789"
TOO_MUCH: Final = 4096
"""Bytes; the settings of these tests allow 1,024 of an answer."""

CONFIG: Final = """
[following_up]
max_answer_bytes = 1024

[[paybook.accounts]]
name = "main"
webhook_tokens = ["paybook-token-0123456789"]
api_key = "{key}"
base_url = "{base_url}"
allow_insecure = true
"""


class Host(ThreadingHTTPServer):
    """An API on this machine; each answer is what ``answer`` gives for its own address: status, header, body."""

    def __init__(self, answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.answer = answer
        self.called: list[str] = []
        self.origin = f"127.0.0.1:{self.server_port}"


class _Answering(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        self.server.called.append(self.path)
        status, headers, body = self.server.answer(self.headers.get("authorization", ""))
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815 - names that the standard library calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _envelope(said: str, code: int = 200, response: str = "[]") -> bytes:
    status = "true" if code == 200 else "false"
    return f'{{"code":{code},"status":{status},"message":"{said}","response":{response}}}'.encode()


Say = Callable[[str, Configuration], Awaitable[str]]
"""What somebody who called says about it."""


@pytest.fixture
def hosts() -> Iterator[Callable[..., Host]]:
    """Makes hosts; they end with the test."""
    made: list[tuple[Host, threading.Thread]] = []

    def make(answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> Host:
        host = Host(answer)
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        made.append((host, thread))
        return host

    yield make
    for host, thread in made:
        host.shutdown()
        thread.join()
        host.server_close()


@pytest.fixture(params=["check", "look", "list", "create", "delete"])
def say(request: pytest.FixtureRequest, database_url: str, redis: Redis, tmp_path: Path) -> Say:
    """Each of those who call a provider beside the workers."""

    async def checked(_: str, configuration: Configuration) -> str:
        return " ".join(finding.sentence for finding in await check_accounts(configuration))

    async def looked(_: str, configuration: Configuration) -> str:
        account = configuration.accounts["paybook"]["main"]
        assert isinstance(account, PaybookAccount)
        connection, budgets = await asyncpg.connect(database_url), Budgets(redis.url)
        try:
            return " ".join((await look(connection, account, budgets, configuration)).warnings)
        except PenstockError as error:
            return str(error)
        finally:
            await connection.close()
            await budgets.close()

    arguments = {
        "list": ("list",),
        "create": ("create", "--account", "main", "--url", "https://hooks.example.com/webhooks/paybook/x"),
        "delete": ("delete", "5d9bab5b8c91e73b2e4c75d3", "--account", "main"),
    }

    async def commanded(command: str, _: Configuration) -> str:
        return await _run(tmp_path, "paybook", "webhooks", *arguments[command])

    chosen = {"check": checked, "look": looked}.get(request.param, commanded)

    async def said(_: str, configuration: Configuration) -> str:
        return await chosen(request.param, configuration)

    return said


async def _run(folder: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops", *arguments),
        env=clean_environment({"PENSTOCK_CONFIG": str(folder / "penstock.toml"), "PENSTOCK_DATA_DIR": str(folder)}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    output, _ = await process.communicate()
    return output.decode()


def _configured(folder: Path, base_url: str) -> Configuration:
    (folder / "penstock.toml").write_text(CONFIG.format(key=KEY, base_url=base_url), encoding="utf-8")
    return read_configuration(folder / "penstock.toml")


def _said(say: Say, configuration: Configuration) -> str:
    async def run() -> Any:
        return await say("", configuration)

    return str(asyncio.run(run()))


def test_a_name_that_leads_to_this_machine_is_not_called(say: Say, hosts: Callable[..., Host], tmp_path: Path) -> None:
    """The resolved address is looked at: the account's key never reaches it, and what to set is said."""
    trap = hosts(lambda _: (200, {}, _envelope("")))

    # not localhost, which the settings may name: a name like any other, that resolves to an address of this machine
    assert "allow_private" in _said(say, _configured(tmp_path, f"http://{socket.gethostname()}:{trap.server_port}"))
    assert [] == trap.called


def test_a_redirect_is_not_followed(say: Say, hosts: Callable[..., Host], tmp_path: Path) -> None:
    """The key is sent to nobody else."""
    trap = hosts(lambda _: (200, {}, _envelope("")))
    host = hosts(lambda _: (307, {"location": f"http://{trap.origin}/v1/webhooks"}, b""))

    _said(say, _configured(tmp_path, f"http://{host.origin}"))

    assert (1, []) == (len(host.called), trap.called)


def test_an_answer_is_read_within_its_bound(say: Say, hosts: Callable[..., Host], tmp_path: Path) -> None:
    """More than the settings allow is no answer."""
    host = hosts(lambda _: (200, {}, _envelope("x" * TOO_MUCH)))

    assert "over 1024 bytes" in _said(say, _configured(tmp_path, f"http://{host.origin}"))


def test_a_key_that_an_answer_repeats_is_not_repeated(say: Say, hosts: Callable[..., Host], tmp_path: Path) -> None:
    """Neither on a terminal nor in a log."""
    host = hosts(lambda sent: (200, {}, _envelope(f"not with {sent}", code=400)))

    said = _said(say, _configured(tmp_path, f"http://{host.origin}"))

    assert "not with" in said
    assert KEY not in said


def test_a_circuit_tells_no_key_that_a_refusal_repeats(
    hosts: Callable[..., Host], redis: Redis, tmp_path: Path
) -> None:
    """Reconciliation stops with the reason, and the circuit keeps it in Redis for every process and page to show."""
    host = hosts(lambda sent: (200, {}, _envelope(f"not with {sent}", code=401)))
    configuration = _configured(tmp_path, f"http://{host.origin}")
    account = configuration.accounts["paybook"]["main"]

    async def ask() -> tuple[str, str]:
        budgets, caller = Budgets(redis.url), Caller()
        try:
            with pytest.raises(Stopped) as stopped:
                await Surveyor(caller, budgets).ask(
                    "paybook", account, Call("/v1/credentials", "credentials"), configuration
                )
            opened = await budgets.circuits.get("paybook", account)
            assert opened
            return str(stopped.value), opened.why
        finally:
            await caller.close()
            await budgets.close()

    for said in asyncio.run(ask()):
        assert "not with" in said
        assert KEY not in said
