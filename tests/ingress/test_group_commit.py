"""Concurrent deliveries share transactions; one bad row takes no other down."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from ingress.group_commit import GroupCommit, RowRefused
from shared.errors import StoreAway
from shared.store.inbox import NewEvent, insert
from support.conditions import HANG_SECONDS
from support.lag import measured_lag


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.ingress.conftest import Server


def event(content_type: str = "text/plain", event_id: UUID | None = None) -> NewEvent:
    """An event as ingress makes it."""
    return NewEvent(
        id=event_id or uuid7(),
        provider="imin",
        account="main",
        received_at=datetime.now(UTC),
        durability="postgres",
        content_type=content_type,
        headers=[("a", "1")],
        body=b"sealed",
        blob=None,
        body_bytes=1,
        body_sha256=bytes(32),
    )


def committing(url: str, work: "Callable[[GroupCommit], Awaitable[None]]", seconds: float = 2.0) -> list[list[UUID]]:
    """Run ``work`` with a group commit; returns the ids of each batch that was kept."""
    batches: list[list[UUID]] = []

    async def run() -> None:
        commit = GroupCommit(url, on_kept=lambda events: batches.append([each.id for each in events]), seconds=seconds)
        commit.start()
        try:
            await work(commit)
        finally:
            await commit.stop()

    asyncio.run(run())
    return batches


def kept(url: str, ids: list[UUID]) -> int:
    """How many of these are in the table with their timeline."""

    async def ask() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(
                await connection.fetchval(
                    "SELECT count(*) FROM events JOIN timeline ON event_id = events.id WHERE events.id = ANY($1)", ids
                )
            )
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_what_waits_together_is_kept_together(freezable_postgres: "Server") -> None:
    """Two hundred at once take a few transactions, and each is reported once, after its commit."""
    events = [event() for _ in range(200)]

    async def work(commit: GroupCommit) -> None:
        await asyncio.gather(*map(commit.keep, events))

    batches = committing(freezable_postgres.url, work)
    ids = [each.id for each in events]
    assert sorted(ids) == sorted(each for batch in batches for each in batch)
    assert len(batches) < 10
    assert 200 == kept(freezable_postgres.url, ids)


def test_a_bad_row_fails_alone(freezable_postgres: "Server") -> None:
    """A row that Postgres cannot take (a NUL in a text) is a fault of its own; its neighbours are kept."""
    good = [event() for _ in range(5)]
    bad = event(content_type="a\0b")

    async def work(commit: GroupCommit) -> None:
        results = await asyncio.gather(*map(commit.keep, [*good, bad]), return_exceptions=True)
        assert [None] * 5 == results[:5]
        assert isinstance(results[5], RowRefused)
        await commit.keep(event())

    committing(freezable_postgres.url, work)
    assert 5 == kept(freezable_postgres.url, [each.id for each in [*good, bad]])


REFUSED = ("54000", "54001", "22001", "23514", "P0001", "44000", "21000", "27000")


def refusing(url: str, code: str) -> None:
    """Have Postgres raise this for each row whose account is ``refused``."""

    async def refuse() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(
            f"""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$;
            CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW
            WHEN (NEW.account = 'refused') EXECUTE FUNCTION refuse()
            """
        )
        await connection.close()

    asyncio.run(refuse())


@pytest.mark.parametrize("code", REFUSED)
def test_whatever_is_said_of_a_row_is_no_word_about_postgres(freezable_postgres: "Server", code: str) -> None:
    """An entry too large for its index, a trigger's own error: the row's neighbours are kept, and so is the circuit."""
    refusing(freezable_postgres.url, code)
    good = [event() for _ in range(3)]
    bad = event()._replace(account="refused")

    async def work(commit: GroupCommit) -> None:
        results = await asyncio.gather(*map(commit.keep, [*good, bad]), return_exceptions=True)
        assert [None] * 3 == results[:3]
        assert isinstance(results[3], RowRefused)

    committing(freezable_postgres.url, work)
    assert 3 == kept(freezable_postgres.url, [each.id for each in [*good, bad]])


@pytest.mark.parametrize("code", ["53100", "57P03", "25006", "42P01", "XX000"])
def test_what_postgres_says_of_itself_sends_all_away(freezable_postgres: "Server", code: str) -> None:
    """Nobody is told that it is the event's fault: each goes to the spool."""
    refusing(freezable_postgres.url, code)

    async def work(commit: GroupCommit) -> None:
        results = await asyncio.gather(
            *map(commit.keep, [event(), event()._replace(account="refused")]), return_exceptions=True
        )
        assert isinstance(results[1], StoreAway)

    committing(freezable_postgres.url, work)


def test_an_event_that_cannot_be_encoded_fails_alone(freezable_postgres: "Server") -> None:
    """A fault of ours in one of them, before Postgres sees it: numbers where texts are to be, half of a pair."""
    good = [event() for _ in range(3)]
    bad = [
        event()._replace(headers=[("a", object())]),
        event()._replace(body_bytes="many"),
        event()._replace(account="\ud800"),
        event()._replace(body_sha256=7),
    ]

    async def work(commit: GroupCommit) -> None:
        results = await asyncio.gather(*map(commit.keep, [*good, *bad]), return_exceptions=True)
        assert [None] * 3 == results[:3]
        assert [RowRefused] * len(bad) == [type(result) for result in results[3:]]

    committing(freezable_postgres.url, work)
    assert 3 == kept(freezable_postgres.url, [each.id for each in good])


def test_a_fault_after_a_commit_stops_nothing(freezable_postgres: "Server") -> None:
    """Whoever is told of kept events may fail; the next ones are kept all the same."""

    def fails(_events: "Sequence[NewEvent]") -> None:
        raise RuntimeError("fault")

    async def run() -> None:
        commit = GroupCommit(freezable_postgres.url, on_kept=fails)
        commit.start()
        for _ in range(4):
            await commit.keep(event())
        await commit.stop()

    asyncio.run(run())


def test_the_same_id_is_kept_once(freezable_postgres: "Server") -> None:
    """An event that comes again, from a spool after a commit that succeeded late, makes no second row or step."""
    once = event()

    async def work() -> None:
        connection = await asyncpg.connect(freezable_postgres.url)
        await insert(connection, [once, event()])
        await insert(connection, [once._replace(body=b"other", durability="spool")])
        row = await connection.fetchrow("SELECT body, durability FROM events WHERE id = $1", once.id)
        await connection.close()
        assert {"body": b"sealed", "durability": "postgres"} == dict(row or {})

    asyncio.run(work())
    assert 1 == kept(freezable_postgres.url, [once.id])


def test_a_frozen_server_is_given_up_at_the_deadline(freezable_postgres: "Server") -> None:
    """Whoever waits is told in time, also those who came while the committers were held up."""

    async def work(commit: GroupCommit) -> None:
        await commit.keep(event())
        freezable_postgres.freeze()
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def late(delay: float) -> float:
            await asyncio.sleep(delay)
            asked = loop.time()
            with pytest.raises(StoreAway):
                await commit.keep(event())
            return loop.time() - asked

        async with measured_lag() as lag:
            waited = await asyncio.gather(*(late(number / 50) for number in range(20)))
            assert max(waited) < 0.7 + lag.seconds
            assert loop.time() - began < 1.5 + lag.seconds
        freezable_postgres.wake()
        # The committers find out by themselves that it is back.
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                try:
                    await commit.keep(event())
                except StoreAway:
                    continue
                return

    try:
        committing(freezable_postgres.url, work, seconds=0.5)
    finally:
        freezable_postgres.wake()


def test_whoever_waits_at_the_end_is_told(closed_port: int) -> None:
    """Stopping leaves nobody waiting for an answer that never comes."""

    async def work(commit: GroupCommit) -> None:
        waiting = asyncio.create_task(commit.keep(event()))
        await asyncio.sleep(0)
        await commit.stop()
        with pytest.raises(StoreAway):
            await waiting

    committing(f"postgresql://postgres@127.0.0.1:{closed_port}/postgres", work)
