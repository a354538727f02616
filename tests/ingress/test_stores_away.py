"""What ingress does while a store does not answer: an answer in time, and never a lie."""

import asyncio
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import asyncpg
import orjson
import pytest


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Server, Start


@pytest.fixture
def frozen_postgres(freezable_postgres: "Server") -> Iterator["Server"]:
    """Postgres accepts connections and answers nothing until the test wakes it or ends."""
    yield freezable_postgres
    freezable_postgres.wake()


def refused(ingress: "Ingress", body: bytes = b"{}") -> float:
    """Post, expect 503, and return the seconds that it took."""
    began = time.monotonic()
    reply = ingress.imin(body)
    took = time.monotonic() - began
    assert (503, "unavailable") == (reply.status, orjson.loads(reply.body)["error"])
    assert reply.header("retry-after")
    return took


def test_without_postgres_the_answer_is_503(start_ingress: "Start", closed_port: int) -> None:
    """Ingress starts without its database and says that it cannot keep anything."""
    ingress = start_ingress(database_url=f"postgresql://postgres@127.0.0.1:{closed_port}/postgres")
    assert refused(ingress) < 4.5
    reply = ingress.get("/health/ready")
    assert (503, {"postgres": "away", "redis": "ok"}) == (reply.status, orjson.loads(reply.body)["stores"])
    assert 200 == ingress.get("/health/live").status


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "LATIN9", "EUC_JP"])
def test_a_database_of_another_encoding_is_not_ready(
    start_ingress: "Start", freezable_postgres: "Server", encoding: str
) -> None:
    """Ready says so, though Redis could spool: nobody would ever move that; its log says what to do."""
    name = f"foreign_{encoding.lower()}"

    async def create() -> None:
        connection = await asyncpg.connect(freezable_postgres.url)
        try:
            await connection.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        finally:
            await connection.close()

    asyncio.run(create())
    ingress = start_ingress(database_url=f"{freezable_postgres.url.rpartition('/')[0]}/{name}")
    reply = ingress.get("/health/ready")
    assert 503 == reply.status
    assert "cannot hold what is sent" in orjson.loads(reply.body)["detail"]
    assert "createdb --encoding=UTF8" in ingress.log()
    assert 200 == ingress.get("/health/live").status


def test_a_frozen_postgres_is_given_up_in_time(start_ingress: "Start", frozen_postgres: "Server") -> None:
    """Every one of many waiting deliveries is answered within 4 s of its last byte; after waking all is well."""
    ingress = start_ingress()
    assert 204 == ingress.imin(b"{}").status
    frozen_postgres.freeze()
    with ThreadPoolExecutor(30) as senders:
        took = list(senders.map(lambda number: refused(ingress, bytes(number * 10_000)), range(30)))
    assert max(took) < 4.5
    assert "postgres" in str(orjson.loads(ingress.get("/health/ready").body))
    frozen_postgres.wake()
    ingress.until(lambda: ingress.imin(b"{}").status == 204)


def test_connections_that_were_cut_are_made_anew(start_ingress: "Start") -> None:
    """After Postgres ended every connection, the next delivery is kept all the same."""
    ingress = start_ingress()
    assert 204 == ingress.imin(b"{}").status
    ingress.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    assert 204 == ingress.imin(b"{}").status


def test_a_connection_cut_in_the_middle_of_a_commit_costs_no_refusal(start_ingress: "Start") -> None:
    """The batch is tried once more on a new connection; its ids make that harmless."""
    ingress = start_ingress()
    assert 204 == _cut_the_commit(ingress)


def _cut_the_commit(ingress: "Ingress") -> int:
    """Post; end the connection that keeps the event while it waits for a lock; return the status of the answer."""

    async def cut() -> int:
        assert 204 == (await asyncio.to_thread(ingress.imin, b"{}")).status
        lock = await asyncpg.connect(ingress.database_url)
        watcher = await asyncpg.connect(ingress.database_url)
        try:
            async with lock.transaction():
                await lock.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
                posting = asyncio.create_task(asyncio.to_thread(ingress.imin, b"{}"))
                ended: list[asyncpg.Record] = []
                while not ended and not posting.done():
                    ended = await watcher.fetch(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO events%'"
                    )
            return (await posting).status
        finally:
            await lock.close()
            await watcher.close()

    return asyncio.run(cut())


def test_a_broken_table_is_our_fault_not_the_senders(start_ingress: "Start", freezable_postgres: "Server") -> None:
    """A database without our tables is a 503, and the log says what Postgres said."""
    ingress = start_ingress(database_url=freezable_postgres.url.removesuffix("/postgres") + "/template1")
    refused(ingress)
    assert "events" in ingress.log()


def test_without_redis_events_are_kept(start_ingress: "Start", closed_port: int) -> None:
    """The relay will announce them; the sender notices nothing."""
    ingress = start_ingress(redis_url=f"redis://127.0.0.1:{closed_port}/0")
    assert [204] * 5 == [ingress.imin(b"{}").status for _ in range(5)]
    ingress.until(lambda: "could not be announced" in ingress.log())
    assert 1 == ingress.log().count("could not be announced")
    reply = ingress.get("/health/ready")
    assert (200, {"postgres": "ok", "redis": "away"}) == (reply.status, orjson.loads(reply.body)["stores"])


def test_a_frozen_redis_slows_no_answer(start_ingress: "Start", redis_server: "Server") -> None:
    """Publishing waits in a thread of its own."""
    ingress = start_ingress()
    assert 204 == ingress.imin(b"{}").status
    redis_server.freeze()
    try:
        began = time.monotonic()
        assert [204] * 20 == [ingress.imin(b"{}").status for _ in range(20)]
        # One that waited for Redis would take two seconds.
        assert time.monotonic() - began < 20
    finally:
        redis_server.wake()


def test_a_blob_store_that_is_away_refuses_large_bodies_alone(start_ingress: "Start") -> None:
    """A body that cannot be stored is 503 and leaves no row; small ones go on."""
    ingress = start_ingress()
    (ingress.data / "blobs" / "bodies").write_text("in the way", encoding="utf-8")
    before = ingress.count()
    refused(ingress, bytes(100_000))
    assert before == ingress.count()
    assert 204 == ingress.imin(b"{}").status
    ingress.until(lambda: ingress.incoming() == [])


def test_a_stopping_ingress_finishes_what_it_holds(start_ingress: "Start") -> None:
    """SIGTERM ends the process only after a body on its way was kept and acknowledged."""
    ingress = start_ingress()
    wire = ingress.wire()
    wire.send(b"POST /webhooks/imin HTTP/1.1\r\nHost: x\r\nX-Api-Key: imin-key\r\nContent-Length: 4\r\n\r\nbo")
    assert 200 == ingress.get("/health/live").status
    ingress.process.send_signal(signal.SIGTERM)
    with pytest.raises(OSError, match="refused"):
        ingress.until(lambda: ingress.get("/health/live") is None)
    wire.send(b"dy")
    reply = wire.reply()
    assert b"body" == ingress.body_of(ingress.event(reply))
    ingress.process.wait(5)
