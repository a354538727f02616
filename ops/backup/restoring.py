"""Puts a backup into an empty installation; the same into throw-away stores is the drill."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import asyncpg

from ops.backup.manifest import BLOBS, DUMP, Manifest, read_manifest
from ops.backup.objects import Objects
from ops.backup.programs import pg_restore, sha256_of
from ops.backup.taking import count_rows
from ops.embedded.postgres import Postgres
from shared.errors import PenstockError
from shared.store.migrating import known, newest, upgrade
from shared.store.postgres import connect_once


Tell = Callable[[str], None]


async def restore(source: Path, database_url: str, objects: Objects, tell: Tell) -> Manifest:
    """Blobs first, then all rows in one transaction. Raises PenstockError, and changes nothing, where stores hold data.

    Killed on the way it is done again: rows come all at once at the end, and the blobs are those of the backup.
    """
    manifest = await asyncio.to_thread(_checked, source)
    await _refuse_data(database_url)
    backed_up = Objects.of_folder(source / BLOBS)
    foreign = (await objects.sizes()).keys() - (await backed_up.sizes()).keys()
    if foreign:
        raise PenstockError(
            f"the blob store holds {len(foreign):,} objects that are not of this backup: restore into an empty one"
        )
    tell("the blobs ...")
    await backed_up.copy_to(objects, tell)
    tell("the database ...")
    await pg_restore(database_url, source / DUMP)
    await _compare(database_url, manifest)
    if manifest.revision != newest():
        tell("the schema of this version ...")
        await asyncio.to_thread(upgrade, database_url)
    return manifest


async def drill(source: Path, tell: Tell) -> Manifest:
    """Restore into an embedded Postgres and a folder that are gone afterwards. Raises PenstockError where it fails."""
    with tempfile.TemporaryDirectory(prefix="penstock-drill-") as folder, Postgres(Path(folder) / "data") as server:
        return await restore(source, server.url, Objects.of_folder(Path(folder) / BLOBS), tell)


def _checked(source: Path) -> Manifest:
    manifest = read_manifest(source)
    if manifest.revision not in known():
        raise PenstockError(
            f"{source} has the schema {manifest.revision}, which is newer than this version of Penstock: install"
            f" {manifest.penstock} or later"
        )
    if sha256_of(source / DUMP) != manifest.dump_sha256:
        raise PenstockError(f"{source / DUMP} is not what was written at the backup: take another backup")
    return manifest


async def _refuse_data(database_url: str) -> None:
    connection = await connect_once(database_url)
    try:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")
    finally:
        await connection.close()
    if tables:
        raise PenstockError(
            "the database has tables already: restore into an empty one (`createdb`), and before `penstock migrate`"
        )


async def _compare(database_url: str, manifest: Manifest) -> None:
    connection = await connect_once(database_url)
    try:
        restored = await count_rows(connection)
    except asyncpg.PostgresError as error:
        raise PenstockError(f"what was restored cannot be counted: {error}") from None
    finally:
        await connection.close()
    if restored != dict(manifest.rows):
        differing = sorted(name for name in manifest.rows if restored.get(name) != manifest.rows[name])
        raise PenstockError(f"what was restored differs from the backup's manifest in {', '.join(differing)}")
