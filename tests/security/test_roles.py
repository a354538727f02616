"""Each process in the database as itself: it does its whole work, and can do nothing else."""

import asyncio
import base64
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import grimp
import httpx
import orjson
import pytest

from installation import ROOT, clean_environment
from ops.lab.process import Lab, running_lab
from shared.sealing import generate_key
from shared.store.migrating import upgrade
from shared.store.reading.connecting import NOT_PERMITTED
from shared.store.roles import ROLES, grant, sql
from shared.store.schema import metadata
from support.conditions import HANG_SECONDS, until
from tests.ingress.conftest import Server, free_port, running_ingress, running_postgres, running_redis


DENIED = re.compile(r"permission denied|InsufficientPrivilege")
PROVIDERS = ("imin", "magicline", "paybook", "authenteq")


def as_role(url: str, process: str) -> str:
    """The same database, for this process's role."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"penstock_{process}@{parts.hostname}:{parts.port}"))


def ask(url: str, statement: str) -> list[asyncpg.Record]:
    """What a statement gives."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def refused(url: str, statement: str) -> bool:
    """Whether the server says that this role may not."""
    try:
        ask(url, statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


@pytest.fixture
def stores() -> Iterator[tuple[Server, Server]]:
    """A Postgres with the roles and a Redis that spools, of this test's own: roles are a server's, not a database's."""
    with (
        # not below pytest's own folder, which only its user may enter: Postgres refuses to run as root
        tempfile.TemporaryDirectory() as name,
        running_postgres(_open_to_all(name), free_port()) as postgres,
        running_redis(Path(name), free_port(), "--appendonly", "yes", "--appendfsync", "always", "--save", "") as redis,
    ):
        upgrade(postgres.url)
        asyncio.run(grant(postgres.url))
        yield postgres, redis
        postgres.wake()


def _open_to_all(name: str) -> Path:
    Path(name).chmod(0o755)
    return Path(name)


def test_ingress_receives_spools_and_recovers_as_its_role(stores: tuple[Server, Server], tmp_path: Path) -> None:
    """Rows, quarantine and data keys, an outage of Postgres and what comes after it, by inserting alone."""
    postgres, redis = stores
    folder = tmp_path / "ingress"
    folder.mkdir()
    with running_ingress(folder, as_role(postgres.url, "ingress"), redis.url) as ingress:
        ingress.until(lambda: ask(postgres.url, "SELECT 1 FROM data_keys"))
        first = ingress.imin(b'{"first": 1}')
        assert (204, "postgres") == (first.status, first.header("x-penstock-durability"))
        assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "wrong"}, b"{}").status
        ingress.until(lambda: ask(postgres.url, "SELECT 1 FROM quarantine"))

        postgres.freeze()
        spooled = ingress.imin(b'{"second": 2}')
        assert (204, "spool") == (spooled.status, spooled.header("x-penstock-durability"))
        postgres.wake()
        ingress.until(lambda: ingress.imin(b"{}").header("x-penstock-durability") == "postgres")

        assert hashlib.sha256(b'{"first": 1}').digest() in _digests(postgres.url)
        assert not DENIED.search(ingress.log())
    _cannot_read_or_change(as_role(postgres.url, "ingress"))


def _digests(url: str) -> set[bytes]:
    return {row["body_sha256"] for row in ask(url, "SELECT body_sha256 FROM events")}


def _cannot_read_or_change(url: str) -> None:
    """Whoever has taken ingress over adds events, and that is all."""
    for statement in (
        "SELECT body FROM events",
        "SELECT headers FROM events",
        "SELECT * FROM events",
        "SELECT data FROM records",
        "SELECT head FROM quarantine",
        "SELECT key FROM installation",
        "SELECT detail FROM timeline",
        "UPDATE events SET state = 'done'",
        "UPDATE data_keys SET wrapped = ''",
        "DELETE FROM events",
        "DELETE FROM data_keys",
        "DELETE FROM quarantine",
        "INSERT INTO records (provider, account, kind, external_id) VALUES ('a', 'b', 'c', 'd')",
        "TRUNCATE events",
        "DROP TABLE events",
        "CREATE TABLE mine (id int)",
        "ALTER TABLE events DISABLE TRIGGER ALL",
    ):
        assert refused(url, statement), statement


@pytest.fixture(scope="module")
def granted() -> Iterator[str]:
    """The owner's URL of a migrated database with the roles."""
    with tempfile.TemporaryDirectory() as name, running_postgres(_open_to_all(name), free_port()) as postgres:
        upgrade(postgres.url)
        asyncio.run(grant(postgres.url))
        yield postgres.url


@pytest.mark.parametrize("process", sorted(ROLES))
def test_no_process_may_do_what_only_the_owner_does(granted: str, process: str) -> None:
    """Tables are not theirs, data keys are not destroyed by them, and the ids of changes keep their key."""
    url = as_role(granted, process)
    for statement in (
        "DROP TABLE events",
        "TRUNCATE records",
        "DELETE FROM data_keys",
        "UPDATE data_keys SET wrapped = ''",
        "UPDATE installation SET key = ''",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "CREATE TABLE mine (id int)",
        "CREATE ROLE mine",
        "UPDATE alembic_version SET version_num = ''",
    ):
        assert refused(url, statement), statement


def test_granting_again_takes_away_what_was_given_beside_it(granted: str) -> None:
    """After a version that needed more, or a hand that gave more, the roles are again as the table says."""
    ask(granted, "GRANT ALL ON events TO penstock_ingress")
    assert not refused(as_role(granted, "ingress"), "SELECT body FROM events")

    asyncio.run(grant(granted))

    assert refused(as_role(granted, "ingress"), "SELECT body FROM events")
    assert not refused(as_role(granted, "ingress"), "SELECT id FROM events")


@pytest.mark.parametrize("command", [("quarantine", "list"), ("handlers", "forget", "crm", "--yes")])
def test_a_command_in_a_process_role_says_whose_url_it_wants(
    granted: str, command: Sequence[str], tmp_path: Path
) -> None:
    """One sentence and exit status 1, whether it only reads or also writes."""
    done = subprocess.run(
        [sys.executable, "-m", "ops", *command],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=clean_environment(
            ROOT, {"PENSTOCK_DATABASE_URL": as_role(granted, "ingress"), "PENSTOCK_DATA_DIR": str(tmp_path)}
        ),
        timeout=HANG_SECONDS,
    )
    assert (1, NOT_PERMITTED) == (done.returncode, done.stderr.decode().strip().removeprefix("penstock: "))


def test_the_tables_are_those_of_the_schema() -> None:
    """A grant on a table that is gone would fail a migration."""
    known = {*metadata.tables, "alembic_version"}
    assert set() == {table for grants in ROLES.values() for table in grants} - known
    assert "penstock_staging_ingress" in sql("penstock_staging_")


# ── every process as its role, from delivery to record ───────────────────────────────────────────────────────────


class Processes:
    """An installation whose processes were started one by one, each with its own role's URL."""

    def __init__(self, folder: Path, lab: Lab, database_url: str, redis_url: str) -> None:
        self.folder, self.lab, self.database_url = folder, lab, database_url
        self.port, self.console, self.flower = free_port(), free_port(), free_port()
        self._environment = {
            "PENSTOCK_REDIS_URL": redis_url,
            "PENSTOCK_DATA_DIR": str(folder / "data"),
            "PENSTOCK_CONFIG": str(folder / "penstock.toml"),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
            "PENSTOCK_INGRESS_PORT": str(self.port),
            "PENSTOCK_CONSOLE_PORT": str(self.console),
            "PENSTOCK_FLOWER_PORT": str(self.flower),
            "PENSTOCK_METRICS_PORT": "0",
            "PENSTOCK_LOG_FORMAT": "json",
        }
        config = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
        handler = (
            '[[handlers]]\nname = "crm"\nstart = "beginning"\nsecret = "{secret}"\nurl = "http://127.0.0.1:{port}/"\n'
        )
        secret = "whsec_" + base64.b64encode(bytes(32)).decode()
        config += handler.format(secret=secret, port=free_port())  # nobody is there: hand-overs are tried and wait
        (folder / "penstock.toml").write_text(config, encoding="utf-8")

    def environment(self, url: str) -> dict[str, str]:
        """For a process that uses this database URL, or none."""
        return clean_environment(ROOT, {**self._environment, **({"PENSTOCK_DATABASE_URL": url} if url else {})})

    def start(self, process: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """`penstock ...` as the role of its process; flower has no database at all."""
        url = as_role(self.database_url, process) if process in ROLES else ""
        with (self.folder / f"{process}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ops", *arguments],
                cwd=self.folder,
                env=self.environment(url),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def command(self, *arguments: str) -> str:
        """What an operator's command prints; it runs as the owner."""
        done = subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=self.folder,
            env=self.environment(self.database_url),
            capture_output=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert 0 == done.returncode, done.stderr.decode()
        return done.stdout.decode()

    def logs(self) -> str:
        """Everything that the processes said."""
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
def processes(stores: tuple[Server, Server], tmp_path: Path) -> Iterator[Processes]:
    """All of them, and the lab as the providers."""
    postgres, redis = stores
    folder = tmp_path / "installation"
    folder.mkdir()
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(seed=5))
        made = Processes(folder, lab, postgres.url, redis.url)
        made.command("migrate", "--roles")
        for process, *arguments in (
            ("ingress", "ingress"),
            ("worker", "worker", *PROVIDERS),
            ("worker", "worker", "handlers"),
            ("relay", "relay"),
            ("console", "console"),
            ("flower", "flower"),
        ):
            started = made.start(process, *arguments)
            stack.callback(_end, started)
        until(lambda: _answers(f"http://127.0.0.1:{made.port}/health/ready"), otherwise=made.logs)
        until(lambda: _answers(f"http://127.0.0.1:{made.console}/"), otherwise=made.logs)
        until(lambda: _answers(f"http://127.0.0.1:{made.flower}/healthcheck"), otherwise=made.logs)
        lab.set_sender(ingress=f"http://127.0.0.1:{made.port}")
        yield made


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(HANG_SECONDS)
    finally:
        process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


@pytest.mark.timeout(600)
def test_every_process_does_its_work_as_its_role(processes: Processes) -> None:
    """Deliveries of all providers become records, by way of the relay too; the console shows and retries."""
    for provider in PROVIDERS:
        processes.lab.send(provider, count=2)

    def rows() -> list[dict[str, Any]]:
        return [
            orjson.loads(line) for line in processes.command("events", "list", "--limit", "0", "--json").splitlines()
        ]

    def timeline(event: str) -> list[dict[str, Any]]:
        shown: dict[str, Any] = orjson.loads(processes.command("events", "show", event, "--json"))
        return list(shown["timeline"])

    def settled() -> list[dict[str, Any]] | None:
        found = rows()
        open_ = [row for row in found if row["state"] not in {"done", "duplicate"}]
        return found if found and not open_ and {row["provider"] for row in found} == set(PROVIDERS) else None

    done = until(settled, otherwise=lambda: (rows()[:3], processes.logs()[-4000:]))

    seen = {orjson.loads(line)["provider"] for line in processes.command("records", "list", "--json").splitlines()}
    assert set(PROVIDERS) == seen
    _look_at_every_page_and_retry(processes, done[0]["id"])
    until(lambda: "replayed" in {step["step"] for step in timeline(done[0]["id"])}, otherwise=processes.logs)
    until(settled, otherwise=processes.logs)
    until(lambda: _hand_overs_tried(processes), otherwise=processes.logs)
    assert [] == [line for line in processes.logs().splitlines() if DENIED.search(line)]


def _hand_overs_tried(processes: Processes) -> bool:
    rows = [orjson.loads(line) for line in processes.command("handlers", "list", "--json").splitlines()]
    return any(row["failures"] for row in rows)


def _look_at_every_page_and_retry(processes: Processes, event: str) -> None:
    with httpx.Client(
        base_url=f"http://127.0.0.1:{processes.console}", follow_redirects=True, timeout=HANG_SECONDS
    ) as client:
        for path in ("/", "/events", "/attention", "/records", "/accounts", "/handovers", f"/events/{event}"):
            page = client.get(path)
            assert 200 == page.status_code, path
        form = {"csrf": re.findall(r'name="csrf" value="([^"]+)"', page.text)[0]}
        assert 200 == client.post(f"/events/{event}/retry", data=form).status_code


# ── every statement of a process's modules ───────────────────────────────────────────────────────────────────────

_VERBS = {"INSERT": r"INSERT INTO {}\b", "UPDATE": r"(?<!FOR )UPDATE {}\b", "DELETE": r"DELETE FROM {}\b"}

NOT_THEIRS = {
    # shared/store/quarantine.py: looking, releasing and lapsing are others' work
    "ingress": {("events", "UPDATE"), ("events", "DELETE"), ("quarantine", "DELETE"), ("timeline", "DELETE")},
    # shared/store/handovers/handlers.py: workers make handlers known; shared/store/quarantine.py: the console releases
    "console": {
        ("handlers", "INSERT"),
        *(("events", "INSERT"), ("events", "DELETE"), ("quarantine", "INSERT"), ("timeline", "DELETE")),
    },
}
"""Statements of modules that a process imports and that others run."""


@pytest.mark.parametrize("process", sorted(ROLES))
def test_what_a_process_would_say_is_granted(process: str) -> None:
    """Every table that a statement of a module it imports changes; destroying data keys is `penstock erase`'s."""
    graph = grimp.build_graph("ingress", "workers", "shared", "ops", "penstock")
    command = f"ops.cli.{process}"
    modules = {command, *graph.find_upstream_modules(command)}
    needed = {
        (table, verb)
        for module in modules
        for table, verb in _statements((ROOT / module.replace(".", "/")).with_suffix(".py"))
    } - {("data_keys", "DELETE")}
    if {("events", "INSERT"), ("events", "UPDATE")} & needed:
        needed.add(("tallies", "INSERT"))  # by the trigger

    granted = {(table, verb) for table, privileges in ROLES[process].items() for verb in _VERBS if verb in privileges}

    assert ("data_keys", "INSERT") in needed
    assert set() == needed - granted - NOT_THEIRS.get(process, set())


def _statements(path: Path) -> Iterator[tuple[str, str]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for table in metadata.tables:
        for verb, pattern in _VERBS.items():
            if re.search(pattern.format(table), text):
                yield table, verb
