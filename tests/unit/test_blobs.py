"""Large things in a local folder: sealed, complete or not there, and bound to their event."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from shared.blobs import BlobMissing, BlobStore
from shared.errors import SettingsError, StoreAway
from shared.sealing import BrokenSeal, Keys, generate_key


KEYS = Keys.parse([SecretStr(generate_key())])
EVENT = UUID(int=1)
OTHER_FILE_SYSTEM = Path("/dev/shm")  # noqa: S108 - what is made in it has a random name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the objects are."""
    return tmp_path / "a folder" / "blobs"


@pytest.fixture
def blobs(folder: Path) -> BlobStore:
    """A store in a folder that does not exist yet."""
    return BlobStore.open(folder.as_uri(), KEYS)


async def _streamed(blobs: BlobStore, key: str) -> list[bytes]:
    return [piece async for piece in blobs.stream(key, EVENT)]


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_content_comes_back(blobs: BlobStore, size: int) -> None:
    """What was put is read back, whole and streamed."""
    content = os.urandom(size)
    asyncio.run(blobs.put("images/face", memoryview(content), EVENT))
    assert content == asyncio.run(blobs.read("images/face", EVENT))
    assert content == b"".join(asyncio.run(_streamed(blobs, "images/face")))


def test_a_sealed_file_comes_back(blobs: BlobStore, tmp_path: Path) -> None:
    """A file that was sealed while it came in is kept as it is."""
    content = os.urandom(7_000_000)
    file = tmp_path / "sealed"
    file.write_bytes(KEYS.seal(content, EVENT))
    asyncio.run(blobs.put_file("bodies/1", file))
    assert content == asyncio.run(blobs.read("bodies/1", EVENT))
    assert len(asyncio.run(_streamed(blobs, "bodies/1"))) > 1


def test_a_sealed_file_becomes_the_object_itself(blobs: BlobStore, folder: Path, tmp_path: Path) -> None:
    """On the same file system none of its bytes is written again, and the object outlives the file."""
    file = tmp_path / "sealed"
    file.write_bytes(KEYS.seal(b"content", EVENT))
    number = file.stat().st_ino
    asyncio.run(blobs.put_file("bodies/2026-11-20/1", file))
    file.unlink()
    assert number == (folder / "bodies/2026-11-20/1").stat().st_ino
    assert b"content" == asyncio.run(blobs.read("bodies/2026-11-20/1", EVENT))


def test_a_sealed_file_takes_the_place_of_an_older_object(blobs: BlobStore, tmp_path: Path) -> None:
    """A key that is there already is no hindrance: the object is replaced."""
    asyncio.run(blobs.put("bodies/1", b"old", EVENT))
    file = tmp_path / "sealed"
    file.write_bytes(KEYS.seal(b"new", EVENT))
    asyncio.run(blobs.put_file("bodies/1", file))
    assert b"new" == asyncio.run(blobs.read("bodies/1", EVENT))


@pytest.mark.skipif(not OTHER_FILE_SYSTEM.is_dir(), reason="no second file system is known here")
def test_a_sealed_file_of_another_file_system_is_copied(blobs: BlobStore, folder: Path) -> None:
    """Where the file cannot have a second name, its content is kept all the same."""
    with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM) as other:
        file = Path(other) / "sealed"
        file.write_bytes(KEYS.seal(b"content", EVENT))
        asyncio.run(blobs.put_file("bodies/1", file))
        assert file.stat().st_dev != (folder / "bodies/1").stat().st_dev
    assert b"content" == asyncio.run(blobs.read("bodies/1", EVENT))


def test_nothing_lies_in_the_clear(blobs: BlobStore, folder: Path) -> None:
    """The file on disk does not contain what was put."""
    asyncio.run(blobs.put("one", b"a passport" * 100, EVENT))
    assert b"passport" not in (folder / "one").read_bytes()


def test_another_events_object_is_refused(blobs: BlobStore, folder: Path) -> None:
    """An object that was put in another's place, or altered, is not taken for it."""
    asyncio.run(blobs.put("mine", b"mine", EVENT))
    asyncio.run(blobs.put("theirs", b"theirs", UUID(int=2)))
    (folder / "theirs").replace(folder / "mine")
    with pytest.raises(BrokenSeal):
        asyncio.run(blobs.read("mine", EVENT))


def test_only_complete_objects_appear(blobs: BlobStore, folder: Path) -> None:
    """While an object is being replaced, its old content stays until the new one is complete."""
    old, new = b"a" * 2_000_000, b"b" * 2_000_000

    async def replace_and_read() -> set[bytes]:
        await blobs.put("one", old, EVENT)
        seen = set()
        writing = asyncio.create_task(blobs.put("one", new, EVENT))
        while not writing.done():
            seen.add(await blobs.read("one", EVENT))
        seen.add(await blobs.read("one", EVENT))
        return seen

    assert asyncio.run(replace_and_read()) <= {old, new}
    assert ["one"] == [path.name for path in folder.iterdir()]


def test_a_missing_object_has_its_own_error(blobs: BlobStore) -> None:
    """Reading what is not there says so; deleting it is no error."""
    with pytest.raises(BlobMissing):
        asyncio.run(blobs.read("nothing", EVENT))
    with pytest.raises(BlobMissing):
        asyncio.run(_streamed(blobs, "nothing"))
    asyncio.run(blobs.delete("nothing"))


def test_a_deleted_object_is_gone(blobs: BlobStore, folder: Path) -> None:
    """After delete nothing of the object is left in the folder."""
    asyncio.run(blobs.put("one", b"1", EVENT))
    asyncio.run(blobs.delete("one"))
    assert not (folder / "one").exists()


def test_a_folder_that_cannot_be_made_is_a_store_that_is_away(tmp_path: Path) -> None:
    """A file in the place of the folder is reported with the URL that was tried."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreAway, match="file/blobs"):
        BlobStore.open((tmp_path / "file" / "blobs").as_uri(), KEYS)


def test_a_failed_write_is_a_store_that_is_away(blobs: BlobStore, folder: Path) -> None:
    """A write that fails names the store and leaves nothing to refer to."""
    (folder / "taken").touch()
    with pytest.raises(StoreAway, match="blob store"):
        asyncio.run(blobs.put("taken/one", b"1", EVENT))


@pytest.mark.parametrize("url", ["", "blobs", "file://relative/path", "file:blobs", "s3://", "ftp://host/x"])
def test_other_urls_are_refused(url: str) -> None:
    """Only absolute file URLs and buckets are taken; the sentence names the setting."""
    with pytest.raises(SettingsError, match="PENSTOCK_BLOB_URL"):
        BlobStore.open(url, KEYS)


ENDS_IN_MID_STREAM = """
import asyncio, sys
import obstore
from shared.blobs import store_at

async def read(url):
    store, _ = store_at(url)
    await obstore.put_async(store, "face", bytes(100_000))
    async for _ in (await obstore.get_async(store, "face")).stream(min_chunk_size=20_000):
        sys.exit(7)

asyncio.run(read(sys.argv[1]))
"""


def test_a_process_that_ends_in_the_midst_of_reading_ends_as_it_says(folder: Path) -> None:
    """The library's threads do not abort it; without the rest at exit every third process was."""
    command = [sys.executable, "-c", ENDS_IN_MID_STREAM, folder.as_uri()]

    ends = {subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode for _ in range(12)}

    assert {7} == ends
