"""Marked secrets go through a whole installation, and are found nowhere that anything is written."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import orjson
import pytest
import redis as redis_client
from starlette.routing import Route

from installation import Running, post, started
from ops.console.app import routes
from ops.console.passwords import hash_of
from ops.installation import running as note_of
from support.conditions import HANG_SECONDS, until


MARKS: Final = {
    name: f"{name}MARK{hashlib.sha256(name.encode()).hexdigest()[:24]}"
    for name in (
        "iminhook", "iminapi", "magichook", "magicapi", "paytoken", "payheader", "payapi", "client", "clientsecret",
        "wrongkey", "wrongtoken", "wrongbody", "body", "cookie", "iban", "handlersecret", "consolepassword",
    )
}  # fmt: skip
"""What is a secret, or a body: nothing of it may be read anywhere without the encryption key."""

ERASING: Final = tuple(
    ("erase", "--provider", "magicline", "--account", "studio", "--subject", "2", *more)
    for more in (("--dry-run",), ("--yes",))
)

CONFIG: Final = """
[retry]
base_seconds = 0.2
max_seconds = 1.0
max_attempts = 2

[[imin.accounts]]
name = "main"
webhook_keys = ["{iminhook}"]
api_key = "{iminapi}"
base_url = "{api}"

[[magicline.accounts]]
name = "studio"
webhook_keys = ["{magichook}"]
api_key = "{magicapi}"
base_url = "{api}"

[[paybook.accounts]]
name = "main"
webhook_tokens = ["{paytoken}"]
webhook_header = {{ name = "X-Hook-Secret", value = "{payheader}" }}
api_key = "{payapi}"
base_url = "{api}"

[[authenteq.accounts]]
name = "main"
client_id = "{client}"
client_secrets = ["{clientsecret}"]
base_url = "{api}"

[[handlers]]
name = "crm"
url = "{api}/hook"
secret = "whsec_{signing}"
kinds = ["magicline.customer"]

[[console.users]]
name = "otto"
role = "operator"
password_hash = "{hash}"
"""


class Indiscreet(BaseHTTPRequestHandler):
    """An API that refuses everything but one customer, and repeats in its answer what it was sent."""

    def do_GET(self) -> None:
        """An error with the caller's own headers in it; for Paybook in an envelope with status 200."""
        sent = ", ".join(f"{name}: {value}" for name, value in self.headers.items())
        status, body = 400, f"not with {sent}".encode()
        if self.path == "/v1/customers/2":
            status = 200
            body = orjson.dumps({"id": 2, "firstName": "Ada", "bankAccount": {"iban": MARKS["iban"]}})
        if self.path.startswith("/v1/transactions"):
            status = 200
            body = orjson.dumps({"code": 400, "status": False, "message": f"not with {sent}", "response": None})
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """A handler that repeats the message too, as some do that say which field was wrong."""
        message = self.rfile.read(int(self.headers["content-length"] or 0))
        self.send_response(422)
        body = b"wrong iban in " + message[message.find(b"bankAccount") :]
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - a name that the standard library calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[str]:
    """Its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Indiscreet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def installation(tmp_path: Path, api: str) -> Iterator[Running]:
    """Everything, with marked secrets."""
    signing = b64encode(MARKS["handlersecret"].encode()).decode()
    config = CONFIG.format(api=api, signing=signing, hash=hash_of(MARKS["consolepassword"]), **MARKS)
    with started(tmp_path, config) as running:
        yield running


@pytest.mark.timeout(600)
def test_a_secret_is_found_nowhere(installation: Running, api: str) -> None:
    """Authentic, refused, parked and failed deliveries; then everything that was written or is shown is searched."""
    accepted = _deliver(installation, api)
    installation.finished(*accepted)
    until(lambda: len(installation.lines("quarantine", "list")) >= 3)

    until(lambda: any(row["attempts"] for row in installation.lines("handovers", "list")))

    for name, text in _shown(installation, accepted).items():
        # whoever types it has the key, and asks for the whole record
        allowed = {MARKS["iban"]} if name == "records list --json" else set()
        assert set() == set(_found(text)) - allowed, name
    for command in (("keys", "rotate"), *ERASING):
        assert [] == _found(_whatever(installation, *command)), command
    assert [] == [str(file) for file in _files(installation.folder) if _found(file.read_bytes())]


def test_the_search_finds_what_it_should(tmp_path: Path) -> None:
    """In plain text, in hexadecimal as Postgres shows bytes, and in base64."""
    mark = MARKS["body"].encode()
    for hidden in (mark, mark.hex().encode(), b64encode(b"client:" + mark), b64encode(b"xx" + mark), b64encode(mark)):
        assert [MARKS["body"]] == _found(b"before" + hidden + b"after")
    (tmp_path / "file").write_bytes(b"before" + mark)
    assert [tmp_path / "file"] == list(_files(tmp_path))


def _deliver(installation: Running, api: str) -> list[str]:
    """Every path with marked secrets; the events that were kept."""
    noted = orjson.dumps({"@id": f"{api}/api/v2/customer-accounts/1", "identifier": "1", "note": MARKS["body"]})
    magic = orjson.dumps(
        {
            "entityId": 1,
            "uuid": "u-1",
            "note": MARKS["body"],
            "payload": [{"timestamp": 1_700_000_000_000, "type": "CUSTOMER_CREATED"}],
        }
    )
    pay = orjson.dumps(
        {"id_user": "5e79", "event": "refresh", "endpoints": {"t": ["/v1/transactions?x=1"]}, "n": MARKS["body"]}
    )
    customer = orjson.dumps(
        {
            "entityId": 2,
            "uuid": "u-2",
            "payload": [{"timestamp": 1_700_000_000_000, "type": "CUSTOMER_CREATED"}],
        }
    )
    signature = hmac.new(MARKS["clientsecret"].encode(), noted, hashlib.sha256).hexdigest()
    other = {"Cookie": MARKS["cookie"], "Authorization": f"Bearer {MARKS['cookie']}"}
    right = [
        ("/webhooks/imin", noted, {"X-Api-Key": MARKS["iminhook"], **other}),
        ("/webhooks/imin", b"not json " + MARKS["body"].encode(), {"X-Api-Key": MARKS["iminhook"]}),
        ("/webhooks/magicline", magic, {"X-Api-Key": MARKS["magichook"]}),
        ("/webhooks/magicline", customer, {"X-Api-Key": MARKS["magichook"]}),
        (f"/webhooks/paybook/{MARKS['paytoken']}", pay, {"X-Hook-Secret": MARKS["payheader"]}),
        ("/webhooks/authenteq", noted, {"X-CLIENT-ID": MARKS["client"], "X-SIGNATURE": signature}),
    ]
    wrong = [
        ("/webhooks/imin", MARKS["wrongbody"].encode(), {"X-Api-Key": MARKS["wrongkey"], **other}),
        (f"/webhooks/paybook/{MARKS['wrongtoken']}", b"{}", {"X-Hook-Secret": MARKS["payheader"]}),
        (f"/webhooks/paybook/{MARKS['paytoken']}", b"{}", {"X-Hook-Secret": MARKS["wrongkey"]}),
        ("/webhooks/authenteq", noted, {"X-CLIENT-ID": MARKS["client"], "X-SIGNATURE": "0" * 64}),
        (f"/webhooks/{MARKS['wrongtoken']}", b"{}", {}),
    ]
    answers = [post(installation, path, body, headers) for path, body, headers in right]
    assert [True] * len(right) == [answer.is_success for answer in answers]
    assert {401, 404} == {post(installation, path, body, headers).status_code for path, body, headers in wrong}
    return [answer.headers["x-penstock-event"] for answer in answers]


def _shown(installation: Running, events: list[str]) -> dict[str, bytes]:
    """What commands print, servers answer, stores hold and the list of processes shows."""
    commands = [
        ("status", "--json"),
        ("stats", "--json"),
        ("events", "list", "--json"),
        ("quarantine", "list", "--json"),
        ("records", "list", "--json"),
        ("changes", "tail", "--json"),
        ("accounts", "list", "--json"),
        ("handlers", "list", "--json"),
        ("handovers", "list", "--json"),
        ("replays", "list", "--json"),
        ("events", "failed", "--json"),
        *(("events", "show", event, "--json") for event in events),
    ]
    shown = {" ".join(command): installation.penstock(*command).encode() for command in commands}
    shown["check"] = _whatever(installation, "check")
    status = orjson.loads(shown["status --json"])
    for process in status["processes"]:
        shown[f"arguments of {process['name']}"] = _arguments(process["pid"])
        if process["port"]:
            for path in ("/metrics", "/", "/health/ready", "/sign-in", "/api/tasks"):
                with contextlib.suppress(httpx.HTTPError):
                    # A store's port is tried as well, and never answers.
                    answer = httpx.get(f"http://127.0.0.1:{process['port']}{path}", timeout=10, follow_redirects=True)
                    shown[f"{process['name']} {path}"] = answer.content
    ports = {process["name"]: process["port"] for process in status["processes"]}
    stores = note_of(installation.folder / ".penstock")
    assert stores
    shown |= _console(f"http://127.0.0.1:{ports['console']}", events)
    shown |= _flower(f"http://127.0.0.1:{ports['flower']}", stores.flower_password)
    shown |= asyncio.run(_tables(stores.database_url))
    with redis_client.Redis.from_url(stores.redis_url) as client:
        shown |= {f"redis {key!r}": client.dump(key) or b"" for key in client.scan_iter()}
    return shown


def _console(url: str, events: list[str]) -> dict[str, bytes]:
    """Every page that an operator sees after signing in, without asking for a body; each one has to answer."""
    pages = [route.path for route in routes() if isinstance(route, Route) and "GET" in (route.methods or ())]
    one = "/records/one?provider=magicline&account=studio&kind=magicline.customer&external_id=2"
    with httpx.Client(base_url=url, timeout=HANG_SECONDS, follow_redirects=True) as client:
        word = re.findall(r'name="csrf" value="([^"]+)"', client.get("/sign-in").text)[0]
        assert "/sign-in" in str(client.get("/").url)
        form = {"csrf": word, "name": "otto", "password": MARKS["consolepassword"]}
        assert "/sign-in" not in str(client.post("/sign-in", data=form).url)
        found = {}
        for path in pages:
            for event in events if "{event_id" in path else events[:1]:
                address = path.replace("{event_id:uuid}", event).replace("/records/one", one)
                if "{" not in address:
                    answer = client.get(address)
                    assert answer.status_code < 500, address
                    found[f"console {address}"] = answer.content
        assert {"console /", f"console /events/{events[0]}", "console /handovers", f"console {one}"} <= set(found)
        assert b"Ada" in found[f"console {one}"]
        assert b"wrong iban" in found["console /handovers"]
        return found


def _flower(url: str, password: str) -> dict[str, bytes]:
    """Its pages and figures, behind its password, and every task and worker that it knows."""
    assert httpx.codes.UNAUTHORIZED == httpx.get(url).status_code
    with httpx.Client(base_url=url, timeout=HANG_SECONDS, auth=("penstock", password)) as client:
        tasks, workers = (client.get(f"/api/{what}").json() for what in ("tasks", "workers"))
        assert tasks
        paths = [
            *("/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers", "/api/queues/length", "/metrics"),
            *(f"/task/{task}" for task in tasks),
            *(f"/worker/{worker}" for worker in workers),
        ]
        return {f"flower {path}": client.get(path).content for path in paths}


def _whatever(installation: Running, *command: str) -> bytes:
    """What a command prints, whether it ends well or not."""
    try:
        return installation.penstock(*command).encode()
    except AssertionError as error:
        return str(error).encode()


def _arguments(pid: int) -> bytes:
    """The command lines of a process and of its children."""
    tree = [pid]
    for one in tree:
        with contextlib.suppress(OSError):
            tree += map(int, Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii").split())
    texts = []
    for one in tree:
        with contextlib.suppress(OSError):
            texts.append(Path(f"/proc/{one}/cmdline").read_bytes())
    return b"\n".join(texts)


async def _tables(url: str) -> dict[str, bytes]:
    """Every row of every table, as text."""
    connection = await asyncpg.connect(url)
    try:
        names = [
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        found: dict[str, Any] = {}
        for name in names:
            rows = await connection.fetch(f'SELECT t::text FROM "{name}" t')  # noqa: S608 - names from the catalogue
            found[f"table {name}"] = "\n".join(row[0] for row in rows).encode()
        return found
    finally:
        await connection.close()


def _files(folder: Path) -> Iterator[Path]:
    """Every file below, but for the settings: logs, the servers' own files, blobs, notes."""
    for name, _, files in os.walk(folder):
        yield from (Path(name) / file for file in files if file != "penstock.toml" and (Path(name) / file).is_file())


def _found(text: bytes) -> list[str]:
    """The marks that are in a text, in whatever way they are written."""
    return [mark for mark in MARKS.values() if any(form in text for form in _forms(mark.encode()))]


def _forms(mark: bytes) -> list[bytes]:
    """As it is, in hexadecimal, and what base64 makes of its middle wherever it begins."""
    middles = [b64encode(b"x" * shift + mark)[4:-4] for shift in range(3)]
    return [mark, mark.hex().encode(), *middles]
