"""URLs that a delivery names are called at the account's own origin or not at all."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import asyncpg
import orjson
import pytest
from uuid_utils.compat import uuid7

from ops.embedded.redis import Redis
from shared.configuration import Configuration, read_configuration
from shared.providers.account import AccountSettings
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.inbox import NewEvent, insert
from shared.watching import ConfigurationWatch
from workers.calling import Caller, NoAnswer
from workers.follow_up.flow import follow_up
from workers.process import WorkerProcess


PATH: Final = "/api/v2/customer-accounts/1"

IMIN: Final = (
    # Another host that looks like the account's own.
    "https://book.imin.co.evil.example" + PATH,
    "https://evil.example/book.imin.co" + PATH,
    "https://book.imin.co@evil.example" + PATH,
    "https://book.imin.co:443@evil.example" + PATH,
    "https://user:password@book.imin.co" + PATH,
    "https://@book.imin.co" + PATH,
    "https://book.imin.co%40evil.example" + PATH,
    "https://book.imin.co%2eevil.example" + PATH,
    "https://book.imin.co%00.evil.example" + PATH,
    "https://book.imin.co\\@evil.example" + PATH,
    "https://book.imin.co\\.evil.example" + PATH,
    "https://book.imin.co#@evil.example" + PATH,
    "https://book.imin.co?@evil.example" + PATH,
    "https://book.imin.co;@evil.example" + PATH,
    "https://book.imin.co\t.evil.example" + PATH,
    "https://book.imin.co\r\nHost: evil.example" + PATH,
    "https://book.imin.co:444" + PATH,
    "https://book.imin.co:99999" + PATH,
    "https://book.imin.co." + PATH,
    "https://xn--bok-yna.imin.co" + PATH,
    "https://b\u043e\u043ek.imin.co" + PATH,
    "https://book\u3002imin\u3002co" + PATH,
    "https://\uff42ook.imin.co" + PATH,
    # This machine and private networks, in every way to write them.
    "http://{here}" + PATH,
    "https://{here}" + PATH,
    "http://localhost:{port}" + PATH,
    "http://localhost.:{port}" + PATH,
    "http://127.1:{port}" + PATH,
    "http://2130706433:{port}" + PATH,
    "http://0x7f000001:{port}" + PATH,
    "http://0177.0.0.1:{port}" + PATH,
    "http://0:{port}" + PATH,
    "http://[::1]:{port}" + PATH,
    "http://[::ffff:127.0.0.1]:{port}" + PATH,
    "http://[::ffff:7f00:1]:{port}" + PATH,
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}" + PATH,
    "http://[64:ff9b::7f00:1]:{port}" + PATH,
    "http://[fe80::1%25lo]:{port}" + PATH,
    "http://127.0.0.1.nip.io:{port}" + PATH,
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    # Another scheme, or none.
    "http://book.imin.co" + PATH,
    "file:///etc/passwd",
    "gopher://book.imin.co:70/_GET",
    "ftp://book.imin.co" + PATH,
    "javascript://book.imin.co" + PATH,
    "//book.imin.co" + PATH,
    "https:book.imin.co" + PATH,
    "https:///book.imin.co" + PATH,
    PATH,
    # The account's own host, but not the path of one customer account.
    "https://book.imin.co/api/v2/customer-accounts/1/../../admin",
    "https://book.imin.co/api/v2/customer-accounts/..",
    "https://book.imin.co/api/v2/customer-accounts/%2e%2e",
    "https://book.imin.co/api/v2/customer-accounts/1%2f..%2fadmin",
    "https://book.imin.co/api/v2/customer-accounts/1%252f..%252fadmin",
    "https://book.imin.co/api/v2/customer-accounts/1%5cadmin",
    "https://book.imin.co/api/v2/customer-accounts/1?next=https://evil.example",
    "https://book.imin.co/api/v2/customer-accounts/1#x",
    "https://book.imin.co/api/v2/customer-accounts/1;..;/admin",
    "https://book.imin.co/api/v2/customer-accounts/1/%0d%0aHost:%20evil.example",
    "https://book.imin.co//api/v2/customer-accounts/1",
    "https://book.imin.co/redirect?to=http://{here}",
)
"""``@id`` in deliveries of imin; ``{here}`` listens on this machine."""

PAYBOOK: Final = (
    "https://sync.paybook.com/v1/transactions?id_account=1",
    "http://{here}/v1/transactions",
    "//{here}/v1/transactions",
    "///{here}/v1/transactions",
    "/\\{here}/v1/transactions",
    "@{here}/v1/transactions",
    ".evil.example/v1/transactions",
    ":{port}/v1/transactions",
    "/v1/../admin",
    "/v1/transactions/../../admin",
    "/v1/transactions/%2e%2e/admin",
    "/v1%2ftransactions",
    "/v2/transactions",
    "/v1/transactions#x",
    "/v1/transactions\r\nHost: evil.example",
    "/v1/transactions?x=\u00e9",
    "file:///v1/transactions",
)
"""URLs in ``endpoints`` of Paybook's deliveries."""


class Trap(ThreadingHTTPServer):
    """A host on this machine that nobody may call."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.called: list[str] = []


class Answering(BaseHTTPRequestHandler):
    """Keeps the path of each call."""

    server: Trap

    def do_GET(self) -> None:
        """Note the call; answer with a redirect to the trap itself."""
        self.server.called.append(self.path)
        self.send_response(302)
        self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/redirected")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def trap() -> Iterator[Trap]:
    """It listens on a free port."""
    with Trap() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def process(database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, in this one; its accounts are at the providers' real hosts."""
    config = tmp_path / "penstock.toml"
    config.write_text(
        """
        [[imin.accounts]]
        name = "main"
        webhook_keys = ["to-us"]
        api_key = "to-them"
        base_url = "https://book.imin.co"

        [[paybook.accounts]]
        name = "main"
        webhook_tokens = ["paybook-token-0123456789"]
        api_key = "to-them"
        base_url = "https://sync.paybook.com"
        """,
        encoding="utf-8",
    )
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(config), "worker-imin")
    made.start()
    yield made
    made.stop()


def test_there_are_enough() -> None:
    """The table has at least the sixty that were asked for."""
    assert len(set(IMIN + PAYBOOK)) == len(IMIN + PAYBOOK) >= 60


@pytest.mark.parametrize("provider", ["imin", "paybook"])
def test_none_is_called_and_each_event_is_parked(
    process: WorkerProcess, trap: Trap, database_url: str, provider: str
) -> None:
    """With its reason; no call is even planned."""
    here = f"127.0.0.1:{trap.server_port}"
    table = {"imin": IMIN, "paybook": PAYBOOK}[provider]
    urls = [url.replace("{here}", here).replace("{port}", str(trap.server_port)) for url in table]
    bodies = [orjson.dumps(_delivery(provider, url, number)) for number, url in enumerate(urls)]
    asyncio.run(_receive(database_url, process, provider, bodies))

    process.run(follow_up(process, provider))

    states, fetches = asyncio.run(_outcome(database_url))
    assert {("parked", "untrusted-url"): len(urls)} == states
    assert 0 == fetches
    assert [] == trap.called


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host",
    ["localhost.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0"],
)
async def test_an_accounts_own_name_that_leads_to_this_machine_is_not_called(
    trap: Trap, tmp_path: Path, host: str
) -> None:
    """What a name resolves to is looked at when the connection is made, so a record that changes is no way in."""
    account = AccountSettings(
        name="a", base_url=f"http://{host}:{trap.server_port}", allow_insecure=True, allow_private=False
    )

    with pytest.raises(NoAnswer, match=r"allow_private|Cannot connect|resolve|not do|Invalid|address"):
        await _call(account, read_configuration(tmp_path / "penstock.toml"))

    assert [] == trap.called


@pytest.mark.anyio
async def test_a_redirect_leads_nowhere(trap: Trap, tmp_path: Path) -> None:
    """It is an answer like any other: the key is sent to nobody else."""
    account = AccountSettings(name="a", base_url=f"http://127.0.0.1:{trap.server_port}")

    assert 302 == await _call(account, read_configuration(tmp_path / "penstock.toml"))
    assert ["/v1/x"] == trap.called


async def _call(account: AccountSettings, configuration: Configuration) -> int:
    caller = Caller()
    try:
        return (await caller.get(account, "/v1/x", {}, configuration)).status
    finally:
        await caller.close()


def _delivery(provider: str, url: str, number: int) -> dict[str, object]:
    if provider == "imin":
        return {"@type": "CustomerAccount", "@id": url, "identifier": "1"}
    return {
        "id_user": f"{number:024x}",
        "event": "refresh",
        "endpoints": {"transactions": [url]},
    }


async def _receive(database_url: str, process: WorkerProcess, provider: str, bodies: list[bytes]) -> None:
    connection = await asyncpg.connect(database_url)
    events = []
    for body in bodies:
        event_id = uuid7()
        events.append(
            NewEvent(
                id=event_id,
                provider=provider,
                account="main",
                received_at=datetime.now(UTC),
                durability="postgres",
                content_type="application/json",
                headers=[],
                body=process.keys.seal(body, event_id),
                blob=None,
                body_bytes=len(body),
                body_sha256=sha256(body).digest(),
            )
        )
    await insert(connection, events)
    await connection.close()


async def _outcome(database_url: str) -> tuple[dict[tuple[str, str], int], int]:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT state, error_reason, count(*) AS n FROM events GROUP BY 1, 2")
    fetches = await connection.fetchval("SELECT count(*) FROM fetches")
    await connection.close()
    return {(row["state"], row["error_reason"]): row["n"] for row in rows}, fetches
