"""Which walks count as having gone through everything."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from shared.store.gaps import walks


pytestmark = pytest.mark.anyio

MIDNIGHT = datetime.now(UTC) - timedelta(hours=1)


async def test_a_walk_over_a_part_is_no_walk_over_everything(db: asyncpg.Connection) -> None:
    """Somebody reconciled the last hour by hand: the walk of today still comes."""
    narrow = await walks.open_walk(db, "imin", "main", MIDNIGHT, dry_run=False)
    await walks.finish(db, narrow)
    assert await walks.finished_since(db, "imin", "main", MIDNIGHT) is False

    whole = await walks.open_walk(db, "imin", "main", None, dry_run=False)
    assert await walks.finished_since(db, "imin", "main", MIDNIGHT) is False
    await walks.finish(db, whole)
    assert await walks.finished_since(db, "imin", "main", MIDNIGHT) is True
