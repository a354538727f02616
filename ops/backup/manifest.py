"""What a backup says of itself: `manifest.json`, written last, so that a backup without one is none."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from shared.errors import PenstockError


DUMP: Final = "postgres.dump"
BLOBS: Final = "blobs"
_MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a backup, as of the moment ``taken_at`` (the database's clock)."""

    format: int = _FORMAT
    penstock: str
    """The version that made it."""
    revision: str
    """The schema's."""
    taken_at: datetime
    rows: Mapping[str, int]
    """Table -> rows at that moment."""
    dump_sha256: str
    blobs: int
    blob_bytes: int


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the folder a backup."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / _MANIFEST).write_bytes(encoded + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """What the backup in this folder says of itself. Raises PenstockError where it is none, or a later version's."""
    try:
        manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise PenstockError(f"{folder} holds no finished backup: there is no {_MANIFEST} in it") from None
    except (OSError, msgspec.DecodeError) as error:
        raise PenstockError(f"{folder / _MANIFEST} cannot be read: {error}") from None
    if manifest.format != _FORMAT:
        raise PenstockError(
            f"{folder} was made by Penstock {manifest.penstock} in a form that this version does not know: restore it"
            " with that version"
        )
    return manifest
