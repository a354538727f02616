"""Erasure: of one customer or of an account nothing is left, and of the others everything."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

import asyncpg
import pytest
import redis
from uuid_utils.compat import uuid7

from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from shared.blob_keys import body_key
from shared.providers.interface import Record
from shared.sealing import generate_key
from tests.operators.conftest import Penstock, Store
from tests.operators.marked import Marked, everything, files_with, text_of
from tests.operators.rows import change


GOES, STAYS = "goes-31415926", "stays-27182818"
KEY = generate_key()


@pytest.fixture
def marked(store: Store, empty_redis: Redis, tmp_path: Path) -> Marked:
    """A Magicline account."""
    return Marked(store.url, empty_redis.url, tmp_path / "data", KEY, "magicline", "berlin")


def customer(subject: str) -> Record:
    """A customer's record with something private."""
    data = {"id": subject, "firstName": f"name-of-{subject}", "bankAccount": {"iban": f"iban-of-{subject}"}}
    return Record("magicline.customer", subject, text_of(data))


def two(marked: Marked, **more: bool) -> None:
    """Both customers."""
    for subject in (GOES, STAYS):
        marked.fill(subject, {"entityId": subject, "said": f"word-of-{subject}"}, customer(subject), **more)


def settle(url: str) -> None:
    """Let Postgres's files hold what its tables hold, and nothing that they held before."""

    async def vacuum() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("VACUUM FULL")
        await connection.execute("CHECKPOINT")
        await connection.close()

    asyncio.run(vacuum())


def test_nothing_of_an_erased_customer_is_left_in_any_table_file_or_blob(
    marked: Marked, store: Store, penstock: Penstock, postgres: Postgres, tmp_path: Path
) -> None:
    """After an erasure neither Postgres's rows nor its files nor the blobs hold the subject; the other is whole."""
    two(marked)
    marked.fill(GOES, {"entityId": GOES}, customer(GOES), blob=True)
    assert GOES in everything(store.url)
    settle(store.url)
    assert files_with(postgres.folder, [GOES.encode()]), "the search finds nothing anyhow"

    done = penstock(
        *("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--yes", "--json"),
        PENSTOCK_ENCRYPTION_KEYS=KEY,
    )

    assert "" == done.errors
    assert 0 == done.status
    [told] = done.lines
    assert (2, 1, []) == (told["events"], told["records"], told["left"])
    left = everything(store.url)
    assert GOES not in left
    assert left.count(STAYS) > 3
    assert [] == [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()]
    settle(store.url)
    assert [] == files_with(postgres.folder, [GOES.encode()])


def test_previous_values_that_name_the_subject_go_from_changes_of_other_records(
    marked: Marked, store: Store, penstock: Penstock
) -> None:
    """The change itself stays; values that name somebody else stay with it."""
    two(marked)
    store.run(
        *(
            change(
                "another", provider="magicline", account="berlin", kind="magicline.customer", changed=["guardian"],
                before=f'{{"guardian": ["{name}"]}}',
            )
            for name in (GOES, STAYS)
        )
    )  # fmt: skip
    done = penstock(
        *("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--yes", "--json"),
        PENSTOCK_ENCRYPTION_KEYS=KEY,
    )
    assert (0, []) == (done.status, done.lines[0]["left"])
    rows = store.rows("SELECT before::text FROM changes WHERE external_id = 'another' ORDER BY id")
    assert [None, f'{{"guardian": ["{STAYS}"]}}'] == [row["before"] for row in rows]


def test_the_calls_of_a_replayed_event_go_though_no_event_leads_to_them_any_more(
    marked: Marked, store: Store, penstock: Penstock
) -> None:
    """A replay parts an event from the calls that it made before; their paths name the subject all the same."""
    two(marked)
    store.run("DELETE FROM event_fetches")

    done = penstock(
        *("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--yes", "--json"),
        PENSTOCK_ENCRYPTION_KEYS=KEY,
    )

    assert (0, 1, []) == (done.status, done.lines[0]["fetches"], done.lines[0]["left"])
    assert [f"/v1/customers/{STAYS}"] == [row["path"] for row in store.rows("SELECT path FROM fetches")]


def test_an_erasure_that_was_broken_off_is_finished_by_the_next(
    marked: Marked, store: Store, penstock: Penstock
) -> None:
    """With the events gone already, the changes and records that they led to are found all the same."""
    two(marked)
    store.run("DELETE FROM events", "DELETE FROM timeline", "DELETE FROM event_fetches")

    arguments = ("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--yes", "--json")
    penstock(*arguments, PENSTOCK_ENCRYPTION_KEYS=KEY)

    assert [(STAYS,)] == [tuple(row) for row in store.rows("SELECT external_id FROM records")]
    assert [(STAYS,)] == [tuple(row) for row in store.rows("SELECT external_id FROM changes")]


def test_a_dry_run_counts_and_removes_nothing(marked: Marked, store: Store, penstock: Penstock) -> None:
    """What would go is told; every row stays."""
    two(marked)
    before = everything(store.url)

    done = penstock(
        *("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--dry-run", "--json"),
        PENSTOCK_ENCRYPTION_KEYS=KEY,
    )

    [told] = done.lines
    assert (0, 1, 1, 1) == (done.status, told["events"], told["records"], told["changes"])
    assert sorted(before.splitlines()) == sorted(everything(store.url).splitlines())


def shards(entry: bytes) -> list[bytes]:
    """Pieces of an entry's sealed end; Redis's files may hold it compressed, in runs of at most 32 bytes."""
    return [entry[start : start + 12] for start in range(len(entry) - 100, len(entry) - 12, 4)]


def test_entries_of_the_spool_go_too(marked: Marked, penstock: Penstock, empty_redis: Redis) -> None:
    """Of two spooled deliveries the subject's is removed, from Redis's files too; the other stays and is counted."""
    two(marked, spooled=True)
    with redis.Redis.from_url(empty_redis.url) as connection:
        before = [fields[b"event-1"] for _, fields in connection.xrange("penstock:spool")]
    assert all(files_with(empty_redis.folder, shards(entry)) for entry in before)

    done = penstock(
        *("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--yes"),
        PENSTOCK_ENCRYPTION_KEYS=KEY,
    )

    with redis.Redis.from_url(empty_redis.url) as connection:
        [stays] = [fields[b"event-1"] for _, fields in connection.xrange("penstock:spool")]
        assert 0 < int(connection.get("penstock:spool:bytes") or 0)
    assert (0, "") == (done.status, done.errors)
    [goes] = [entry for entry in before if entry != stays]
    assert files_with(empty_redis.folder, shards(stays))
    assert [] == files_with(empty_redis.folder, shards(goes))


def test_what_redis_does_not_forget_is_said(marked: Marked, penstock: Penstock, empty_redis: Redis) -> None:
    """A user who may not have the file written anew, as managed ones do not let: exit status 1, and what to do."""
    two(marked, spooled=True)
    with redis.Redis.from_url(empty_redis.url) as connection:
        connection.acl_setuser(
            "managed", enabled=True, passwords=["+pw"], keys="*", commands=["+@all", "-bgrewriteaof"]
        )
        address = empty_redis.url.rpartition("@")[2]
        done = penstock(
            *("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--yes", "--json"),
            PENSTOCK_ENCRYPTION_KEYS=KEY,
            PENSTOCK_REDIS_URL=f"redis://managed:pw@{address}",
        )
        connection.acl_deluser("managed")

    [told] = done.lines
    assert 1 == done.status
    assert "BGREWRITEAOF" in told["left"][0]


def test_an_erased_account_leaves_no_row_and_no_key(
    store: Store, empty_redis: Redis, penstock: Penstock, tmp_path: Path
) -> None:
    """Everything of the account goes, images and data key too; the other account's verification can still be read."""
    for account in ("goes", "stays"):
        marked = Marked(store.url, empty_redis.url, tmp_path / "data", KEY, "authenteq", account)
        record = Record("authenteq.verification", f"v-{account}", text_of({"id": f"v-{account}", "surname": "Marked"}))
        marked.fill(f"v-{account}", {"id": f"v-{account}"}, record)

    done = penstock("erase", "--provider", "authenteq", "--account", "goes", "--yes", PENSTOCK_ENCRYPTION_KEYS=KEY)

    assert "" == done.errors
    assert 0 == done.status
    assert "v-goes" not in everything(store.url)
    assert [("stays",)] == [tuple(row) for row in store.rows("SELECT DISTINCT account FROM data_keys")]
    assert 1 == len([path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()])
    shown = penstock("records", "list", "--json", PENSTOCK_ENCRYPTION_KEYS=KEY)
    assert [{"id": "v-stays", "surname": "Marked"}] == [line["data"] for line in shown.lines]


def test_without_yes_nobody_is_erased_by_a_script(penstock: Penstock) -> None:
    """Without a terminal and without --yes it is bad usage."""
    assert 2 == penstock("erase", "--provider", "imin", "--account", "main").status


def bodies(tmp_path: Path) -> list[Path]:
    """What lies in the blob store."""
    return [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()]


def test_a_file_that_another_still_names_stays_when_a_subject_goes(
    store: Store, empty_redis: Redis, penstock: Penstock, tmp_path: Path
) -> None:
    """Two records with the same content share one object; it goes with the last of them."""
    marked = Marked(store.url, empty_redis.url, tmp_path / "data", KEY, "paybook", "main")
    key = "paybook/main/" + "a" * 64
    asyncio.run(marked.blobs.put(key, b"the same", uuid5(NAMESPACE_URL, key)))
    for subject in (GOES, STAYS):
        marked.fill(subject, {"id": subject}, Record("paybook.attachment", subject, text_of({"blob": key})))

    for subject, left in ((GOES, 1), (STAYS, 0)):
        done = penstock(
            *("erase", "--provider", "paybook", "--account", "main", "--subject", subject, "--yes", "--json"),
            PENSTOCK_ENCRYPTION_KEYS=KEY,
        )
        assert (0, []) == (done.status, done.lines[0]["left"])
        assert left == len(bodies(tmp_path))
        assert 1 - left == done.lines[0]["blobs"]


def test_a_refused_body_is_found_by_an_erasure(marked: Marked, penstock: Penstock, tmp_path: Path) -> None:
    """Sealed with the master key and named by no row: not even the destruction of the account's key would reach it."""
    refused = uuid7()
    asyncio.run(marked.blobs.put(body_key("2026-11-21", "magicline", "berlin", refused), GOES.encode(), refused))
    asyncio.run(marked.blobs.put(f"bodies/2026-11-21/{refused}", GOES.encode(), refused))

    done = penstock(
        *("erase", "--provider", "magicline", "--account", "berlin", "--subject", GOES, "--yes", "--json"),
        PENSTOCK_ENCRYPTION_KEYS=KEY,
    )

    assert (0, 2, []) == (done.status, done.lines[0]["blobs"], done.lines[0]["left"])
    assert [] == bodies(tmp_path)


def test_what_comes_in_after_an_accounts_erasure_began_is_kept(
    marked: Marked, store: Store, empty_redis: Redis, penstock: Penstock, tmp_path: Path
) -> None:
    """Acknowledged under the new key while the erasure waits: it is there afterwards, and opens."""
    marked.fill("before", {"id": "before"}, customer("before"))

    def retired() -> bool:
        return bool(store.rows("SELECT 1 AS one FROM data_keys WHERE retired_at IS NOT NULL"))

    later: list[UUID] = []

    def deliver() -> None:
        while not retired():
            time.sleep(0.05)
        new = Marked(store.url, empty_redis.url, tmp_path / "data", KEY, "magicline", "berlin")
        later.append(new.fill("after", {"id": "after"}, customer("after"), blob=True))

    with ThreadPoolExecutor() as threads:
        delivering = threads.submit(deliver)
        done = penstock(
            "erase", "--provider", "magicline", "--account", "berlin", "--yes", PENSTOCK_ENCRYPTION_KEYS=KEY
        )
        delivering.result()

    assert later == [row["id"] for row in store.rows("SELECT id FROM events")]
    assert b'{"id": "after"}' == penstock("events", "body", later[0], PENSTOCK_ENCRYPTION_KEYS=KEY).output
    assert (0, "") == (done.status, done.errors)
