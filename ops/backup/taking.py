"""Takes a backup while everything runs: the rows of one moment, then every blob that they can refer to."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from redis.asyncio import Redis

from ops.backup.manifest import BLOBS, DUMP, Manifest, write_manifest
from ops.backup.objects import Objects
from ops.backup.programs import pg_dump, sha256_of
from shared.errors import PenstockError, StoreAway
from shared.spool import Spool
from shared.store.migrating import newest
from shared.store.postgres import Connection


SPOOL_SECONDS: Final = 30.0
COUNT_SECONDS: Final = 3600.0
"""A table of many millions of rows is read as a whole to count it."""
_LOOK_SECONDS: Final = 0.2

Tell = Callable[[str], None]


class Source(NamedTuple):
    """What is backed up."""

    database_url: str
    connection: Connection
    redis: Redis | None
    objects: Objects | None
    """None leaves the blobs out."""
    version: str


async def take(source: Source, target: Path, tell: Tell) -> Manifest:
    """Write a backup into ``target``, which must not be there yet. Raises PenstockError, StoreAway.

    Blobs are written before the rows that refer to them, so those that are copied after the rows' moment are all there,
    less what retention or an erasure removed in between. ``target`` appears whole or not at all.
    """
    unfinished = await asyncio.to_thread(_begun, target)
    await _spool_is_empty(source.redis, tell)
    connection = source.connection
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
        taken_at = await connection.fetchval("SELECT now()")
        tell("the database ...")
        dump = unfinished / DUMP
        await pg_dump(source.database_url, dump, snapshot=snapshot)
        rows = await count_rows(connection)
    copied = (0, 0)
    if source.objects:
        tell("the blobs ...")
        copied = await source.objects.copy_to(Objects.of_folder(unfinished / BLOBS), tell)
    manifest = Manifest(
        penstock=source.version,
        revision=newest(),
        taken_at=taken_at,
        rows=rows,
        dump_sha256=await asyncio.to_thread(sha256_of, dump),
        blobs=copied[0],
        blob_bytes=copied[1],
    )
    await asyncio.to_thread(_finish, unfinished, target, manifest)
    return manifest


def _begun(target: Path) -> Path:
    if target.exists():
        raise PenstockError(f"{target} is there already: give a folder that is not")
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise PenstockError(f"{unfinished} cannot be made: {error.strerror}") from None
    return unfinished


def _finish(unfinished: Path, target: Path, manifest: Manifest) -> None:
    write_manifest(unfinished, manifest)
    unfinished.rename(target)


async def count_rows(connection: Connection) -> dict[str, int]:
    """Table -> rows, of every table, as the transaction sees them."""
    names = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
    )
    return {
        name: await connection.fetchval(f'SELECT count(*) FROM "{name}"', timeout=COUNT_SECONDS)  # noqa: S608 - of the catalogue
        for (name,) in names
    }


async def _spool_is_empty(redis: Redis | None, tell: Tell) -> None:
    """Wait until the relay has moved what was acknowledged from the spool, which is no part of a backup.

    Raises PenstockError when it does not: such a backup would lack acknowledged events.
    """
    if redis is None:
        tell("No Redis is known: what lies in a spool there is not in this backup.")
        return
    deadline = asyncio.get_running_loop().time() + SPOOL_SECONDS
    while length := await _spool_length(redis):
        if asyncio.get_running_loop().time() > deadline:
            raise PenstockError(
                f"{length} acknowledged events are still in the spool: see that a relay runs, then try again"
            )
        await asyncio.sleep(_LOOK_SECONDS)


async def _spool_length(redis: Redis) -> int:
    try:
        return await Spool(redis).length()
    except StoreAway as error:
        raise PenstockError(f"whether acknowledged events are in the spool cannot be seen: {error}") from None
