"""Worker processes that die of what they work on, or that stop and come back: real processes, driven from outside.

Acme, the fifth provider, is added to a copy of the project. There, reading a delivery about gadget 666 kills the
process that reads it, and so does the answer about gadget 667.
"""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import asyncpg
import orjson
import pytest

from installation import Running, post, started
from support.conditions import HANG_SECONDS, until
from test_fifth_provider import API_KEY, WEBHOOK_KEY, with_acme


KILLS_ITS_READER = 666
KILLS_WHO_CALLS = 667
SLOW = 8

_CALL = "    found = str(parse(answer.body, _Gadget).id)\n"
_READ = "    return read_delivery(delivery.body, AcmeEvent)\n"
_DIE = "        __import__('os').kill(__import__('os').getpid(), 9)\n"
DEADLY = {
    "plan.py": (_CALL, f"{_CALL}    if found == '{KILLS_WHO_CALLS}':\n{_DIE}"),
    "events.py": (_READ, f"    if b'{KILLS_ITS_READER}' in delivery.body:\n{_DIE}{_READ}"),
}


class AcmeApi(ThreadingHTTPServer):
    """Acme's side: any gadget; the answer about the slow one waits until it is let go."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: Counter[int] = Counter()
        self.let_go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: AcmeApi

    def do_GET(self) -> None:
        """The gadget; how often it was asked for before is part of it."""
        gadget = int(self.path.rpartition("/")[2])
        self.server.calls[gadget] += 1
        body = orjson.dumps({"id": gadget, "asked": self.server.calls[gadget]})
        if gadget == SLOW:
            self.server.let_go.wait(HANG_SECONDS)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        """A caller that was killed is not worth a word."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def acme_api() -> Iterator[AcmeApi]:
    """Acme's API on a free port."""
    with AcmeApi() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.let_go.set()
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def api() -> Iterator[AcmeApi]:
    """Acme's API."""
    with acme_api() as server:
        yield server


@pytest.fixture(scope="module")
def up(api: AcmeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Penstock with the deadly Acme and short leases."""
    copy = tmp_path_factory.mktemp("copy")
    with_acme(copy)
    for name, (text, instead) in DEADLY.items():
        module = copy / "shared" / "providers" / "acme" / name
        assert text in module.read_text()
        module.write_text(module.read_text().replace(text, instead))
    config = (
        f'[[acme.accounts]]\nname = "main"\nwebhook_keys = ["{WEBHOOK_KEY}"]\n'
        f'api_key = "{API_KEY}"\nbase_url = "http://127.0.0.1:{api.server_port}"\n'
        "[timing]\nbeat_seconds = 1.0\nlease_seconds = 6.0\n"
    )
    with started(tmp_path_factory.mktemp("installation"), config, code=copy) as running:
        yield running


def deliver(up: Running, delivery: str, gadget: int) -> str:
    """Acme's delivery about a gadget; the receipt."""
    body = orjson.dumps({"delivery": delivery, "type": "gadget.changed", "gadget": gadget})
    answer = post(up, "/webhooks/acme", body, {"x-acme-key": WEBHOOK_KEY})
    assert 202 == answer.status_code
    return answer.headers["x-penstock-event"]


def test_what_kills_its_worker_is_parked_and_its_neighbours_finish(up: Running, api: AcmeApi) -> None:
    """Each is tried again alone; only what kills whoever tries it alone is parked, and the queue goes on."""
    poison = []
    neighbours = []
    for number in range(30):
        if number in {7, 19}:
            poison.append(deliver(up, f"p-{number}", KILLS_ITS_READER if number == 7 else KILLS_WHO_CALLS))
        neighbours.append(deliver(up, f"n-{number}", 1000 + number))

    finished = up.finished(*poison, *neighbours)
    later = up.finished(deliver(up, "later", 2000))

    assert ["parked", "parked"] == [row["state"] for row in finished[:2]]
    assert ["poison", "poison"] == [row["error"]["reason"] for row in finished[:2]]
    assert {"done"} == {row["state"] for row in (*finished[2:], *later)}
    assert 3 == api.calls[KILLS_WHO_CALLS], "once with others, twice alone"


def test_a_worker_that_stops_for_longer_than_its_lease_and_comes_back_doubles_nothing(
    up: Running, api: AcmeApi
) -> None:
    """Another process takes its call up; its own answer comes late and is refused by the token."""
    event = deliver(up, "slow", SLOW)
    until(lambda: api.calls[SLOW] == 1)
    stopped = asyncio.run(_pid_of_who_calls(up))
    os.kill(stopped, signal.SIGSTOP)
    try:
        until(lambda: api.calls[SLOW] == 2)
        api.let_go.set()
        (finished,) = up.finished(event)
    finally:
        os.kill(stopped, signal.SIGCONT)
    up.finished(deliver(up, "after", 9))
    until(lambda: asyncio.run(_beats(up, stopped)))

    assert "done" == finished["state"]
    assert 2 == up.records("acme.gadget")[str(SLOW)]["data"]["asked"]
    assert 1 == [step["step"] for step in up.event(event)["timeline"]].count("fetched")
    changes = [row for row in up.lines("changes", "tail") if row["external_id"] == str(SLOW)]
    assert ["created"] == [row["op"] for row in changes]


async def _pid_of_who_calls(up: Running) -> int:
    """The process that makes the slow call: its name ends with its number."""
    name = await _ask(
        up,
        "SELECT name FROM worker_processes w JOIN fetches f ON f.claimed_by = w.id WHERE path = $1",
        f"/v1/gadgets/{SLOW}",
    )
    return int(str(name).rpartition("-")[2])


async def _beats(up: Running, pid: int) -> object:
    """Whether a process has a lease (again)."""
    return await _ask(up, "SELECT name FROM worker_processes WHERE name LIKE '%-' || $1", str(pid))


async def _ask(up: Running, query: str, argument: str) -> object:
    (status,) = up.lines("status")
    password = (up.folder / ".penstock" / "postgres-password").read_text().strip()
    connection = await asyncpg.connect(status["database_url"], password=password)
    try:
        return await connection.fetchval(query, argument)
    finally:
        await connection.close()
