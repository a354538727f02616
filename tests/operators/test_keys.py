"""Keys: a body opens only with its key, rotation leaves nothing under the old one, and check says when that may go."""

import asyncio
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import asyncpg
import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from ops.embedded.redis import Redis
from shared.blob_keys import body_key
from shared.blobs import BlobStore
from shared.providers.interface import Record
from shared.sealing import Keys, Sealed, generate_key
from shared.store import keys as data_keys
from tests.operators.conftest import Penstock, Store
from tests.operators.marked import Marked, everything, files_with, text_of


OLD, NEW = generate_key(), generate_key()
IBAN = "DE89370400440532013000"


@pytest.fixture
def marked(store: Store, empty_redis: Redis, tmp_path: Path) -> Marked:
    """A Magicline account under the old key."""
    return Marked(store.url, empty_redis.url, tmp_path / "data", OLD, "magicline", "berlin")


def customer(subject: str) -> Record:
    """A customer with a bank account."""
    return Record("magicline.customer", subject, text_of({"id": subject, "bankAccount": {"iban": IBAN}}))


def id_of(key: str) -> str:
    """As it is told of a key."""
    return Keys.parse([SecretStr(key)]).newest.hex()


def test_a_body_and_an_iban_can_be_read_back_only_with_the_key(
    marked: Marked, store: Store, penstock: Penstock, tmp_path: Path
) -> None:
    """With the key both come back as they were; with another key neither does, and no table or blob shows them."""
    event = marked.fill("1", {"secret": "word-in-a-body"}, customer("1"))
    large = marked.fill("2", {"secret": "word-in-a-body"}, customer("2"), blob=True)

    assert b'{"secret": "word-in-a-body"}' == penstock("events", "body", event, PENSTOCK_ENCRYPTION_KEYS=OLD).output
    assert b'{"secret": "word-in-a-body"}' == penstock("events", "body", large, PENSTOCK_ENCRYPTION_KEYS=OLD).output
    shown = penstock("records", "list", "--json", PENSTOCK_ENCRYPTION_KEYS=OLD).lines
    assert [{"iban": IBAN}] * 2 == [line["data"]["bankAccount"] for line in shown]
    for arguments in (("events", "body", event), ("events", "body", large), ("records", "list", "--json")):
        refused = penstock(*arguments, PENSTOCK_ENCRYPTION_KEYS=NEW)
        assert (1, b"") == (refused.status, refused.output)
    text = everything(store.url)
    assert "word-in-a-body" not in text
    assert IBAN not in text
    assert [] == files_with(tmp_path / "data", [b"word-in-a-body"])


def test_rotation_leaves_nothing_under_the_old_key(
    marked: Marked, store: Store, penstock: Penstock, tmp_path: Path
) -> None:
    """Data keys, bodies and blobs that came without a data key: afterwards the new key alone opens all of them."""
    event = marked.fill("1", {"a": 1}, customer("1"))
    small, large = marked.fill("2", {"b": 2}, customer("2")), marked.fill("3", {"c": 3}, customer("3"), blob=True)
    under_master = marked.keys.seal(b'{"b": 2}', small)
    asyncio.run(
        BlobStore.open((tmp_path / "data" / "blobs").as_uri(), marked.keys).put(blob_of(store, large), b"c", large)
    )
    store.run(("UPDATE events SET body = $2 WHERE id = $1", small, under_master))
    assert Sealed.of(under_master) == Sealed(by_master=True, key_id=marked.keys.newest)

    done = penstock("keys", "rotate", "--json", PENSTOCK_ENCRYPTION_KEYS=f"{NEW},{OLD}")

    assert (0, [{"done": {"data keys": 1, "bodies": 1, "blobs": 1}, "left": []}]) == (done.status, done.lines)
    for each, body in ((event, b'{"a": 1}'), (small, b'{"b": 2}'), (large, b"c")):
        assert body == penstock("events", "body", each, PENSTOCK_ENCRYPTION_KEYS=NEW).output
    again = penstock("keys", "rotate", "--json", PENSTOCK_ENCRYPTION_KEYS=f"{NEW},{OLD}")
    assert [{"done": {"data keys": 0}, "left": []}] == again.lines


def test_rotation_finds_blobs_that_no_event_names(marked: Marked, penstock: Penstock, tmp_path: Path) -> None:
    """A body that was refused after it was put, and a record's file: both are sealed with the newest key afterwards."""
    refused = uuid7()
    kept = {
        body_key("2026-11-21", "magicline", "berlin", refused): refused,
        "paybook/main/file": uuid5(NAMESPACE_URL, "paybook/main/file"),
    }
    for key, sealed_for in kept.items():
        asyncio.run(marked.blobs.put(key, b"content", sealed_for))

    done = penstock("keys", "rotate", "--json", PENSTOCK_ENCRYPTION_KEYS=f"{NEW},{OLD}")

    assert (0, 2, []) == (done.status, done.lines[0]["done"]["blobs"], done.lines[0]["left"])
    newest = BlobStore.open((tmp_path / "data" / "blobs").as_uri(), Keys.parse([SecretStr(NEW)]))
    for key, sealed_for in kept.items():
        held = asyncio.run(newest.sealed_with(key))
        assert held is not None
        # with the new master key, or with the account's data key, which that wraps
        assert not held.by_master or b"content" == asyncio.run(newest.read(key, sealed_for))


def test_check_says_when_an_older_key_may_be_removed(marked: Marked, penstock: Penstock) -> None:
    """Needed before rotation, free after it; and a key that was removed too early is asked for."""
    marked.fill("1", {"a": 1}, customer("1"))

    def told(keys: str) -> str:
        lines = penstock("check", "--json", PENSTOCK_ENCRYPTION_KEYS=keys).lines
        return "; ".join(line["sentence"] for line in lines if line["item"] == "encryption keys in use")

    assert f"the older key {id_of(OLD)} is still needed (1 data keys)" in told(f"{NEW},{OLD}")
    assert f"wrapped by the key {id_of(OLD)}, which is not in PENSTOCK_ENCRYPTION_KEYS" in told(NEW)
    penstock("keys", "rotate", PENSTOCK_ENCRYPTION_KEYS=f"{NEW},{OLD}")
    assert f"nothing is left under the older key {id_of(OLD)}: it may be removed" == told(f"{NEW},{OLD}")


def test_what_cannot_be_sealed_anew_is_told_with_its_key(marked: Marked, penstock: Penstock) -> None:
    """Where the old key is missing rotation says what is left under it, and fails."""
    marked.fill("1", {"a": 1}, customer("1"))

    done = penstock("keys", "rotate", "--json", PENSTOCK_ENCRYPTION_KEYS=NEW)

    assert 1 == done.status
    assert [{"key": id_of(OLD), "what": "data keys", "left": 1}] == done.lines[0]["left"]


def test_a_data_key_is_renewed_before_its_last_use(store: Store) -> None:
    """Two processes share a key until its uses are given out; then a new one is made, and the old one still opens."""
    account = ("imin", "main")

    async def use() -> tuple[list[int], bytes | None, bytes | None]:
        connection = await asyncpg.connect(store.url)
        mine, theirs = Keys.parse([SecretStr(OLD)]), Keys.parse([SecretStr(OLD)])
        try:
            for keys in (mine, theirs):
                await data_keys.look(connection, keys)
                await data_keys.reserve(connection, keys, [account])
            first = mine.data.take(account)
            assert first is not None
            assert theirs.data.take(account) == first
            await connection.execute("UPDATE data_keys SET uses = $1", data_keys.MOST_USES - data_keys.BLOCK_USES + 1)
            fresh = Keys.parse([SecretStr(OLD)])
            await data_keys.look(connection, fresh)
            await data_keys.reserve(connection, fresh, [account])
            second = fresh.data.take(account)
            assert second is not None
            assert fresh.data.secret(first[0]) == first[1]
            uses = [row["uses"] for row in await connection.fetch("SELECT uses FROM data_keys ORDER BY number")]
            return uses, first[0], second[0]
        finally:
            await connection.close()

    uses, first, second = asyncio.run(use())
    assert first != second
    assert all(each <= data_keys.MOST_USES for each in uses)
    assert data_keys.BLOCK_USES == uses[1]


def blob_of(store: Store, event: object) -> str:
    """The key of an event's blob."""
    [(key,)] = store.rows("SELECT blob FROM events WHERE id = $1", event)
    return str(key)
