"""``penstock backup``: the database and the blobs of one moment, in a folder."""

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ops.backup.manifest import Manifest
from ops.backup.objects import Objects
from ops.backup.taking import Source, take
from ops.cli.examples import examples
from ops.cli.output import note
from ops.cli.store import database_url, found, queue_store, writing_store
from shared.settings import Settings


app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples("penstock backup /backups/2026-11-21", "penstock backup /backups/2026-11-21 --without-blobs")
)
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; it must not be there yet.")],
    without_blobs: Annotated[
        bool, typer.Option("--without-blobs", help="Leave the blobs out: their bucket keeps versions of its own.")
    ] = False,
) -> None:
    """Write the database and the blobs of one moment into FOLDER, while everything runs.

    Bodies and blobs are encrypted in it, most records are not: keep the folder as safe as the database.
    PENSTOCK_ENCRYPTION_KEYS is not in it: keep the keys elsewhere, or nothing encrypted can be read again.
    """
    settings = found()
    manifest = asyncio.run(_backup(settings, folder.absolute(), without_blobs=without_blobs))
    typer.echo(
        f"{folder}: {sum(manifest.rows.values()):,} rows of {len(manifest.rows)} tables and {manifest.blobs:,} blobs"
        f" ({manifest.blob_bytes / 2**20:,.1f} MiB), as of {manifest.taken_at:%Y-%m-%d %H:%M:%SZ}"
    )
    typer.echo(f"Try it with `penstock restore {folder} --drill`, and keep PENSTOCK_ENCRYPTION_KEYS elsewhere.")


async def _backup(settings: Settings, folder: Path, *, without_blobs: bool) -> Manifest:
    async with writing_store(settings) as connection, queue_store(settings) as redis:
        source = Source(
            database_url=database_url(settings),
            connection=connection,
            redis=redis,
            objects=None if without_blobs else Objects.at(settings.blobs),
            version=version("penstock"),
        )
        return await take(source, folder, note)
