"""The finished events of the growth benchmark are what the flow would have left."""

import asyncpg
import pytest

from ops.bench import stage
from ops.bench.catalogue import BENCHMARKS, QUICK_GIVES_UP
from ops.bench.filling import fill


pytestmark = pytest.mark.anyio

COUNT = 250


async def test_each_event_has_its_fetch_its_link_and_its_timeline(database_url: str) -> None:
    """And the indexes that were dropped for speed are there again, the sequences beyond what was put in."""
    connection = await asyncpg.connect(database_url)
    try:
        before = await _indexes(connection)
        said: list[str] = []

        await fill(database_url, COUNT, said.append)

        assert before == await _indexes(connection)
        assert COUNT == await connection.fetchval(
            """
            SELECT count(*) FROM events e JOIN event_fetches l ON l.event_id = e.id JOIN fetches f ON f.id = l.fetch_id
            WHERE e.state = 'done' AND f.state = 'done' AND e.finished_at = f.finished_at
              AND uuid_extract_timestamp(e.id) BETWEEN e.received_at - interval '1 millisecond' AND e.received_at
            """
        )
        assert ["done", "fetched", "planned", "received"] == await connection.fetchval(
            "SELECT array_agg(DISTINCT step ORDER BY step) FROM timeline"
        )
        assert 4 * COUNT == await connection.fetchval("SELECT count(*) FROM timeline")
        assert COUNT < await connection.fetchval("SELECT nextval(pg_get_serial_sequence('fetches', 'id'))")
        assert not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_trigger WHERE tgenabled = 'D')")
        assert any(f"of {COUNT} finished events stored" in sentence for sentence in said)
    finally:
        await connection.close()


def test_every_benchmark_says_what_quick_gives_up() -> None:
    """A figure of ``--quick`` is never taken for more than it is."""
    assert set(BENCHMARKS) == set(QUICK_GIVES_UP)


def test_growth_says_how_much_disk_it_needs() -> None:
    """Ten million events fit where some thirty gigabytes are free; a full disk would stop more than the bench."""
    assert 20e9 < 10_000_000 * stage.BYTES_AN_EVENT < 40e9


async def _indexes(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'")
    return {row["indexdef"] for row in rows}
