"""The blob store's objects as they lie there, sealed: listed and copied from one store into another."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from shared.blobs import S3_PART_BYTES, store_at
from shared.errors import StoreAway


if TYPE_CHECKING:
    from obstore import BytesStream

_TOLD_EVERY: Final = 1000


class Objects:
    """A place for objects. Every method raises StoreAway when it does not answer."""

    def __init__(self, store: LocalStore | S3Store, name: str) -> None:
        self._store = store
        self._name = name

    @classmethod
    def at(cls, url: str) -> Self:
        """The store of a PENSTOCK_BLOB_URL. Raises SettingsError."""
        return cls(store_at(url)[0], url)

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """A folder, made if need be."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(LocalStore(folder), str(folder))

    async def sizes(self) -> dict[str, int]:
        """Key -> bytes."""
        try:
            return {meta["path"]: meta["size"] async for batch in obstore.list(self._store) for meta in batch}
        except (BaseError, OSError) as error:
            raise self._away(error) from None

    async def copy_to(self, target: "Objects", tell: Callable[[str], None]) -> tuple[int, int]:
        """Copy every object, piece by piece; how many, and their bytes. One that vanishes meanwhile is left out."""
        count = size = 0
        try:
            async for batch in obstore.list(self._store):
                for meta in batch:
                    if await self._copy(meta["path"], target):
                        count, size = count + 1, size + meta["size"]
                        if count % _TOLD_EVERY == 0:
                            tell(f"{count:,} blobs, {size / 2**20:,.0f} MiB")
        except (BaseError, OSError) as error:
            raise self._away(error) from None
        return count, size

    async def keep(self, key: str, pieces: "BytesStream") -> None:
        """Put an object here, piece by piece."""
        try:
            await obstore.put_async(self._store, key, pieces, chunk_size=S3_PART_BYTES)
        except (BaseError, OSError) as error:
            raise self._away(error) from None

    async def _copy(self, key: str, target: "Objects") -> bool:
        try:
            found = await obstore.get_async(self._store, key)
        except FileNotFoundError:
            return False
        await target.keep(key, found.stream(min_chunk_size=S3_PART_BYTES))
        return True

    def _away(self, error: Exception) -> StoreAway:
        return StoreAway(f"the objects at {self._name} cannot be copied: {str(error).splitlines()[0]}")
