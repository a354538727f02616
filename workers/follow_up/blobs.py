"""Putting the blobs that records refer to: each is noted before it is put, so nothing is left that nobody removes."""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared.blob_keys import Kept
from shared.providers.interface import Blob
from shared.store.blob_notes import note_put
from workers.process import WorkerProcess


SIDE_BY_SIDE: Final = 8
"""What one delivery or answer brought goes up at once, within bounds: a dozen images take as long as two."""


async def put_blobs(
    process: WorkerProcess, account: tuple[str, str], blobs: Sequence[Blob], event: UUID | None = None
) -> None:
    """Seal and keep them for an account (provider, name): for their event, or for the records that name them.

    Raises StoreAway; some may be there then.
    """
    if not blobs:
        return
    objects = [(Kept.named(blob.key, *account, event), blob) for blob in blobs]
    async with process.pool.acquire() as connection:
        await note_put(connection, [kept for kept, _ in objects])
    await process.may_seal(*account)
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def put(kept: Kept, blob: Blob) -> None:
        async with places:
            await process.blobs.put(kept.key, blob.content, kept.sealed_for, account)

    for fault in await asyncio.gather(*(put(*one) for one in objects), return_exceptions=True):
        if fault is not None:
            raise fault
