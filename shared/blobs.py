"""Large bodies and images, sealed, in a local folder or in S3. An object is there completely or not at all."""

import asyncio
import atexit
import functools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from shared.errors import PenstockError, SettingsError, StoreAway
from shared.sealing import PREFIX_BYTES, Keys, Sealed


if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

ValueT = TypeVar("ValueT")

PART_BYTES = 1024 * 1024
"""How much of a local file is in memory at a time."""

S3_PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 takes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

# Ingress answers within 4 s: an S3 that does not answer must fail before that, not be tried for minutes.
_CLIENT: "ClientConfig" = {"connect_timeout": timedelta(seconds=2), "timeout": timedelta(seconds=30)}
_RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}

_REST_SECONDS = 0.1

LISTED_AT_ONCE = 1000
"""As S3 lists."""


class BlobMissing(PenstockError):
    """No object has this key."""


def store_at(url: str) -> tuple[LocalStore | S3Store, Path | None]:
    """The store of a URL, and its folder where it is one. Raises SettingsError, StoreAway."""
    _rest_at_exit()
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        folder = Path(unquote(parts.path))
        try:
            return LocalStore(folder, mkdir=True), folder
        except (BaseError, OSError) as error:
            raise _away(url, error) from None
    if parts.scheme == "s3" and parts.netloc:
        prefix = parts.path.strip("/") or None
        return S3Store(parts.netloc, prefix=prefix, client_options=_CLIENT, retry_config=_RETRY), None
    raise SettingsError("PENSTOCK_BLOB_URL: must be file:///absolute/path or s3://bucket/prefix")


@functools.cache
def _rest_at_exit() -> None:
    """Let the threads of the library finish before the interpreter goes, once a process.

    One that lets go of an object after that aborts the process: https://github.com/PyO3/pyo3-async-runtimes/issues/40
    """
    atexit.register(time.sleep, _REST_SECONDS)


class BlobStore:
    """Sealed objects by key. Every method raises StoreAway when the store does not answer."""

    def __init__(self, store: LocalStore | S3Store, *, url: str, folder: Path | None, keys: Keys) -> None:
        self._store = store
        self._url = url
        self._folder = folder
        self._keys = keys

    @classmethod
    def open(cls, url: str, keys: Keys) -> "BlobStore":
        """``file:///absolute/path`` (made if need be) or ``s3://bucket/prefix``. Raises SettingsError, StoreAway.

        S3's credentials, region and endpoint come from the usual ``AWS_...`` environment variables.
        """
        store, folder = store_at(url)
        return cls(store, url=url, folder=folder, keys=keys)

    async def put(
        self, key: str, content: bytes | memoryview, event_id: UUID, account: tuple[str, str] | None = None
    ) -> None:
        """Seal (with a data key of the account, if one may be used) and keep.

        When this returns, the object is complete and on disk.
        """
        sealed = self._keys.seal(content, event_id, account)
        await self._trying(obstore.put_async(self._store, key, sealed))
        await self._to_disk(key)

    async def put_file(self, key: str, path: Path) -> None:
        """Keep a file that is sealed already; when this returns, the object is complete and on disk.

        In a local store on the same file system the file itself becomes the object, and must not be written any more.
        """
        if self._folder is not None and await asyncio.to_thread(_link, path, self._folder / key):
            await self._to_disk(key)
            return
        part = PART_BYTES if self._folder else S3_PART_BYTES
        await self._trying(
            obstore.put_async(self._store, key, path, use_multipart=True, chunk_size=part, max_concurrency=2)
        )
        await self._to_disk(key)

    async def read(self, key: str, event_id: UUID) -> bytes:
        """The whole object, unsealed. Raises BlobMissing, BrokenSeal."""
        result = await self._trying(obstore.get_async(self._store, key))
        sealed = await self._trying(result.bytes_async())
        return self._keys.unseal(memoryview(sealed), event_id)

    async def stream(self, key: str, event_id: UUID) -> AsyncIterator[bytes]:
        """The object in pieces, unsealed. Raises BlobMissing, BrokenSeal; a piece counts only if all of them came."""
        async for plain in self._keys.unseal_chunks(self._pieces(key), event_id):
            yield plain

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        try:
            await self._trying(obstore.delete_async(self._store, key))
        except BlobMissing:
            return

    async def sealed_with(self, key: str) -> Sealed | None:
        """Which key the object takes. Raises BlobMissing."""
        beginning = await self._trying(obstore.get_range_async(self._store, key, start=0, end=PREFIX_BYTES))
        return Sealed.of(bytes(beginning))

    async def folders(self, prefix: str) -> Sequence[str]:
        """The names of the folders right below a prefix, in the order of the keys in them."""
        found = await self._trying(obstore.list_with_delimiter_async(self._store, prefix))
        names = (path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])
        return sorted(names, key=lambda name: f"{name}/")

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[str]]:
        """The keys under a prefix, which ends at a ``/``, behind ``after`` and in order, in batches."""
        batches = aiter(obstore.list(self._store, prefix, offset=after or None))
        unordered: list[str] = []
        while True:
            try:
                batch = await self._trying(anext(batches))
            except StopAsyncIteration:
                break
            keys = [found["path"] for found in batch]
            if self._folder is None:
                yield keys
            else:
                unordered += keys
        # a folder lists as its file system likes
        unordered.sort()
        for start in range(0, len(unordered), LISTED_AT_ONCE):
            yield unordered[start : start + LISTED_AT_ONCE]

    async def _pieces(self, key: str) -> AsyncIterator[bytes]:
        result = await self._trying(obstore.get_async(self._store, key))
        pieces = result.stream(min_chunk_size=PART_BYTES)
        while True:
            try:
                piece = await self._trying(anext(pieces))
            except StopAsyncIteration:
                return
            yield bytes(piece)

    async def _to_disk(self, key: str) -> None:
        # The local store renames a finished file into place but leaves it in the page cache; the row that will refer
        # to it is on disk once it commits, so the file must be there before.
        if self._folder is not None:
            try:
                await asyncio.to_thread(_sync, self._folder, key)
            except OSError as error:
                raise _away(self._url, error) from None

    async def _trying(self, call: Awaitable[ValueT]) -> ValueT:
        try:
            return await call
        except (NotFoundError, FileNotFoundError):
            raise BlobMissing(f"there is no such object at {self._url}") from None
        except (BaseError, OSError) as error:
            raise _away(self._url, error) from None


def _link(path: Path, place: Path) -> bool:
    """Give a file a second name, which writes none of its bytes again; False where the file system cannot."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(path)
    except OSError:
        # Another file system, or one without hard links: a copy works, or says better why it does not.
        return False
    return True


def _sync(folder: Path, key: str) -> None:
    """Flush a file and every folder on its way, which may all be new."""
    path = folder / key
    for place in (path, *path.relative_to(folder).parents):
        descriptor = os.open(folder / place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _away(url: str, error: Exception) -> StoreAway:
    return StoreAway(f"the blob store at {url} does not answer: {str(error).splitlines()[0]}")
