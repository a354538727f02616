"""A worker process without an account's settings: what is the account's waits, until somebody says that it is gone."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
import uuid_utils.compat as uuid7s

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store import known_accounts
from shared.store.inbox import NewEvent, insert
from shared.store.postgres import connect_once
from shared.watching import ConfigurationWatch, Known
from workers.follow_up.flow import follow_up
from workers.process import WorkerProcess


BODY = b'{"@type":"something-new"}'
"""It needs no call: it is parked for its shape, by which one sees that it was planned."""


def section(name: str) -> str:
    """An account whose API nobody serves."""
    return (
        f'[[imin.accounts]]\nname = "{name}"\nwebhook_keys = ["to-{name}"]\napi_key = "{name}"\n'
        'base_url = "http://127.0.0.1:9"\n'
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file that was cut: of two accounts it has one."""
    file = tmp_path / "penstock.toml"
    file.write_text(section("here"))
    return file


@pytest.fixture
def process(config: Path, database_url: str, redis: Redis) -> Iterator[WorkerProcess]:
    """A started worker process, in this one."""
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(config.parent),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(config), "worker-imin")
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("known", [True, False])
def test_events_of_an_account_that_vanished_wait_and_hold_nobody_up(
    process: WorkerProcess, config: Path, database_url: str, *, known: bool
) -> None:
    """Whether it was written down as known or not; back in the file, they go on."""
    if known:
        asyncio.run(_execute(database_url, "INSERT INTO known_accounts (provider, account) VALUES ('imin', 'gone')"))
    lost = [asyncio.run(_receive(database_url, process, "gone")) for _ in range(3)]
    others = [asyncio.run(_receive(database_url, process, "here")) for _ in range(3)]

    for _ in range(3):
        process.run(follow_up(process, "imin"))

    waiting, planned = dict.fromkeys(lost, ("received", None)), dict.fromkeys(others, ("parked", "wrong-shape"))
    assert waiting | planned == asyncio.run(_states(database_url))
    _until(lambda: ("imin", "gone") in asyncio.run(_known(database_url)).accounts)

    config.write_text(section("here") + section("gone"))
    _until(lambda: process.watch.current.account("imin", "gone") is not None)
    _until(lambda: _followed_up(process, database_url) == {("parked", "wrong-shape")})


def test_events_of_an_account_that_was_removed_are_parked(process: WorkerProcess, database_url: str) -> None:
    """By command; what they wait for is its return."""
    event = asyncio.run(_receive(database_url, process, "gone"))
    process.run(follow_up(process, "imin"))
    assert {event: ("received", None)} == asyncio.run(_states(database_url))

    asyncio.run(_remove(database_url, "gone"))

    _until(lambda: process.watch.is_removed("imin", "gone"))
    _until(lambda: _followed_up(process, database_url) == {("parked", "account-removed")})


def test_events_of_an_account_that_a_file_removes_are_parked(
    process: WorkerProcess, config: Path, database_url: str
) -> None:
    """And all processes hear of it."""
    event = asyncio.run(_receive(database_url, process, "gone"))
    process.run(follow_up(process, "imin"))
    assert {event: ("received", None)} == asyncio.run(_states(database_url))
    _until(lambda: ("imin", "gone") in asyncio.run(_known(database_url)).accounts)

    config.write_text(section("other") + section("here") + '[settings]\nremoval = "file"\n')

    _until(lambda: _followed_up(process, database_url) == {("parked", "account-removed")})
    _until(lambda: ("imin", "gone") in asyncio.run(_known(database_url)).removed)


def test_calls_of_an_account_that_vanished_are_not_made(process: WorkerProcess, database_url: str) -> None:
    """They wait, with no attempt used up."""
    fetch = """
        INSERT INTO fetches (provider, account, resource, path, purpose, context, pick, missing, page, completes)
        VALUES ('imin', 'gone', 'r', '/api/v2/customer-accounts/1', 'customer', '{}', '', 'fail', 1, true)
    """
    asyncio.run(_execute(database_url, fetch))
    for _ in range(3):
        process.run(follow_up(process, "imin"))

    (row,) = asyncio.run(_fetch(database_url, "SELECT state, attempts, error_reason FROM fetches"))
    assert ("waiting", 0, "settings-vanished") == tuple(row)


def test_what_a_process_that_was_forked_had_once_does_not_undo_a_removal(
    process: WorkerProcess, config: Path, database_url: str
) -> None:
    """Its settings are those of its parent at that one's start; what it writes down is what the file has now."""
    assert process.watch.in_file == {("imin", "here")}
    config.write_text("")
    asyncio.run(_remove(database_url, "here"))

    process.watch.put_back(frozenset({("imin", "here")}))  # as it is right after the fork

    _until(lambda: process.watch.current.account("imin", "here") is None)
    assert ("imin", "here") in asyncio.run(_known(database_url)).removed


def _followed_up(process: WorkerProcess, database_url: str) -> set[tuple[str, str | None]]:
    asyncio.run(_fetch(database_url, "UPDATE events SET due_at = NULL WHERE due_at <= now()"))  # as the relay does
    process.run(follow_up(process, "imin"))
    return set(asyncio.run(_states(database_url)).values())


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


async def _fetch(database_url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def _execute(database_url: str, statement: str) -> None:
    await _fetch(database_url, statement)


async def _known(database_url: str) -> Known:
    connection = await connect_once(database_url)
    try:
        return await known_accounts.look(connection)
    finally:
        await connection.close()


async def _remove(database_url: str, account: str) -> None:
    connection = await connect_once(database_url)
    try:
        await known_accounts.remove(connection, ("imin", account))
    finally:
        await connection.close()


async def _states(database_url: str) -> dict[UUID, tuple[str, str | None]]:
    rows = await _fetch(database_url, "SELECT id, state, error_reason FROM events")
    return {row["id"]: (row["state"], row["error_reason"]) for row in rows}


async def _receive(database_url: str, process: WorkerProcess, account: str) -> UUID:
    event = UUID(str(uuid7s.uuid7()))
    new = NewEvent(
        id=event,
        provider="imin",
        account=account,
        received_at=datetime.now(UTC),
        durability="postgres",
        content_type="application/json",
        headers=[],
        body=process.keys.seal(BODY, event),
        blob=None,
        body_bytes=len(BODY),
        body_sha256=bytes(32),
    )
    connection = await asyncpg.connect(database_url)
    await insert(connection, [new])
    await connection.close()
    return event
