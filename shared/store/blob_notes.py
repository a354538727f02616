"""Noting what is about to be put into the blob store, so that it is found whatever becomes of the process."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from uuid import UUID

from shared.blob_keys import Kept


if TYPE_CHECKING:
    from shared.store.postgres import Connection

GRACE_HOURS: Final = 12
"""So long nobody need name an object that was put or found: its row may still be under way (a commit, the spool)."""


async def note_put(connection: "Connection", objects: Iterable[Kept]) -> None:
    """Note objects before they are put, in a transaction of its own: nobody need name them for ``GRACE_HOURS``.

    Whoever removes one of them at this moment is waited for.
    """
    await connection.execute(
        """
        INSERT INTO blobs (key, provider, account, sealed_for, put_at, look_at)
        SELECT k.*, now(), now() + make_interval(hours => $5)
        FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS k (key, provider, account, sealed_for)
        ORDER BY key
        ON CONFLICT (key) DO UPDATE SET
            put_at = EXCLUDED.put_at, look_at = EXCLUDED.look_at, let_go = false, found = false
        """,
        *columns({each.key: each for each in objects}.values()),
        GRACE_HOURS,
    )


def columns(objects: Iterable[Kept]) -> tuple[list[str], list[str], list[str], list[UUID]]:
    """Keys, providers, accounts, and what each is sealed for."""
    rows = list(objects)
    return (
        [row.key for row in rows],
        [row.provider for row in rows],
        [row.account for row in rows],
        [row.sealed_for for row in rows],
    )
