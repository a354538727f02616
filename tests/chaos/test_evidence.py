"""What is read from the stores after a scenario is what they hold, not what they say they hold."""

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from ops.chaos.evidence import Evidence, NotEmpty, Witness, refuse_what_holds_events
from shared.blobs import BlobStore
from shared.sealing import Keys, generate_key
from shared.store.inbox import NewEvent, insert


KEY = generate_key()
KEYS = Keys.parse([SecretStr(KEY)])
BODY = b'{"entityId": 1}'


def event(event_id: UUID, body: bytes) -> NewEvent:
    """A delivery as ingress keeps it; its digest is always that of BODY."""
    return NewEvent(
        id=event_id,
        provider="magicline",
        account="studio-berlin",
        received_at=datetime.now(UTC),
        durability="postgres",
        content_type="application/json",
        headers=[],
        body=body,
        blob=None,
        body_bytes=len(BODY),
        body_sha256=hashlib.sha256(BODY).digest(),
    )


async def change(connection: Any, op: str, which: str, *changed: str, kind: str = "magicline.customer") -> None:
    """An entry of the change feed, numbered."""
    await connection.execute(
        """
        INSERT INTO changes (op, provider, account, kind, external_id, changed, seq)
        VALUES ($1, 'magicline', 'studio-berlin', $2, $3, $4, nextval('change_numbers'))
        """,
        op,
        kind,
        which,
        list(changed),
    )


def witnessed(database_url: str, folder: Path, calls: list[dict[str, Any]], prepare: Any) -> Evidence:
    """What a witness finds that was there before ``prepare`` filled the database."""

    async def run() -> Evidence:
        witness = Witness(database_url, folder.as_uri(), KEY)
        await witness.start()
        connection = await asyncpg.connect(database_url)
        try:
            await prepare(connection)
        finally:
            await connection.close()
        return await witness.read(calls)

    return asyncio.run(run())


def test_the_digest_is_that_of_the_body_that_can_be_opened(database_url: str, tmp_path: Path) -> None:
    """A body that was exchanged is told from the right one although its row still says the old digest."""
    whole, exchanged, broken = uuid7(), uuid7(), uuid7()

    async def prepare(connection: Any) -> None:
        bodies = {
            whole: KEYS.seal(BODY, whole),
            exchanged: KEYS.seal(b'{"entityId": 2}', exchanged),
            broken: b"not sealed by anybody" * 4,
        }
        await insert(connection, [event(which, body) for which, body in bodies.items()])

    found = {row.id: row.sha256 for row in witnessed(database_url, tmp_path, [], prepare).events}

    assert {
        str(whole): hashlib.sha256(BODY).hexdigest(),
        str(exchanged): hashlib.sha256(b'{"entityId": 2}').hexdigest(),
        str(broken): "",
    } == found


def test_only_changes_that_tell_nothing_new_are_doubled(database_url: str, tmp_path: Path) -> None:
    """A life of a record is right; the same entry again is not, nor a notification that comes twice."""

    async def prepare(connection: Any) -> None:
        await change(connection, "created", "1")
        await change(connection, "updated", "1", "email")
        await change(connection, "deleted", "1")
        await change(connection, "created", "1", "email")
        for doubled in ("2", "2"):
            await change(connection, "created", doubled)
        await change(connection, "updated", "1")
        for doubled in ("n-1", "n-1"):
            await change(connection, "created", doubled, kind="imin.update-notification")

    doubled = witnessed(database_url, tmp_path, [], prepare).doubled_changes

    assert ["magicline.customer 2 ", "magicline.customer 1 ", "imin.update-notification n-1 "] == [
        told.partition(": ")[2].partition("is ")[0] for told in doubled
    ]


def test_a_call_for_what_has_finished_is_found(database_url: str, tmp_path: Path) -> None:
    """A call within the life of its fetch is right, one long after it is not."""
    now = time.time()
    calls = [
        {"number": 1, "provider": "imin", "path": "/a", "outcome": "ok", "at": now - 50},
        {"number": 2, "provider": "imin", "path": "/a", "outcome": "ok", "at": now},
        {"number": 3, "provider": "imin", "path": "/a", "outcome": "limited", "at": now},
    ]

    async def prepare(connection: Any) -> None:
        await connection.execute(
            """
            INSERT INTO fetches (provider, account, resource, path, purpose, context, pick, missing, page, completes,
                                 state, created_at, finished_at)
            VALUES ('imin', 'main', '\\x01', '/a', '', '{}', '', '', 1, true, 'done',
                    to_timestamp($1), to_timestamp($2))
            """,
            now - 51,
            now - 49,
        )

    async def both() -> list[str]:
        witness = Witness(database_url, tmp_path.as_uri(), KEY)
        connection = await asyncpg.connect(database_url)
        try:
            await prepare(connection)
        finally:
            await connection.close()
        return [*(await witness.read(calls)).fetched_again]

    assert ["call 2: imin /a was fetched again after it had finished"] == asyncio.run(both())


def test_a_database_that_holds_events_is_refused(database_url: str) -> None:
    """An empty one is taken, migrated or not."""

    async def fill() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await insert(connection, [event(which := uuid7(), KEYS.seal(BODY, which))])
        finally:
            await connection.close()

    asyncio.run(refuse_what_holds_events(database_url))
    asyncio.run(fill())

    with pytest.raises(NotEmpty, match="holds events"):
        asyncio.run(refuse_what_holds_events(database_url))


def test_an_image_that_a_record_refers_to_has_to_be_there_as_it_was_delivered(
    database_url: str, tmp_path: Path
) -> None:
    """One is whole, one was exchanged, one was never written: its error was swallowed."""
    verification = uuid7()
    prefix = f"authenteq/main/{verification}"
    blobs = BlobStore.open(tmp_path.as_uri(), KEYS)
    images = {
        name: {"blob": f"{prefix}/{name}", "sha256": hashlib.sha256(b"an image").hexdigest()}
        for name in ("whole", "exchanged", "missing")
    }

    async def prepare(connection: Any) -> None:
        await blobs.put(f"{prefix}/whole", b"an image", verification)
        await blobs.put(f"{prefix}/exchanged", b"another image", verification)
        await connection.execute(
            """
            INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
            VALUES ('authenteq', 'main', 'authenteq.verification', 'v-1', $1, 1, now(), now())
            """,
            orjson.dumps({"images": images}).decode(),
        )

    exchanged, missing = sorted(witnessed(database_url, tmp_path, [], prepare).broken_images)

    assert f"image {prefix}/exchanged is not what was delivered" == exchanged
    assert missing.startswith(f"image {prefix}/missing cannot be read: there is no such object")
