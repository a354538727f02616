"""Blobs are kept side by side, each before the row that refers to it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from shared.providers.interface import Blob
from workers.process import WorkerProcess


SIDE_BY_SIDE: Final = 8
"""What one delivery or answer brought goes up at once, within bounds: a dozen images take as long as two."""


async def keep_blobs(
    process: WorkerProcess, provider: str, account: str, blobs: Sequence[Blob], id_of: Callable[[Blob], UUID]
) -> None:
    """Seal and keep them all, ``id_of`` each what it is sealed for. Raises StoreAway; some may be there then."""
    if not blobs:
        return
    await process.may_seal(provider, account)
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def keep(blob: Blob) -> None:
        async with places:
            await process.blobs.put(blob.key, blob.content, id_of(blob), (provider, account))

    results = await asyncio.gather(*map(keep, blobs), return_exceptions=True)
    for fault in results:
        if fault is not None:
            raise fault
