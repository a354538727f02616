"""``penstock restore``: a backup into an empty installation, or into a throw-away one to see that it works."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ops.backup.objects import Objects
from ops.backup.restoring import drill as drilled
from ops.backup.restoring import restore as restored
from ops.cli.examples import examples
from ops.cli.output import note
from ops.embedded.postgres import Postgres
from ops.installation import running
from shared.errors import SettingsError
from shared.settings import Settings


app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        "penstock restore /backups/2026-11-21 --drill",
        "PENSTOCK_DATABASE_URL=... PENSTOCK_BLOB_URL=... penstock restore /backups/2026-11-21",
    )
)
def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A backup.")],
    drill: Annotated[
        bool, typer.Option("--drill", help="Into a database and a folder that are gone afterwards: nothing is touched.")
    ] = False,
) -> None:
    """Put a backup into an empty database and an empty blob store. Start the processes afterwards.

    Without PENSTOCK_DATABASE_URL that is the embedded database of an empty data directory; put the key file beside it.

    What was pending goes on by itself; what was handed over after the backup is handed over again, under the same ids.
    """
    if drill:
        manifest = asyncio.run(drilled(folder.absolute(), note))
        typer.echo(
            f"The backup of {manifest.taken_at:%Y-%m-%d %H:%M:%SZ} can be restored: every row and blob is there."
        )
        return
    settings = Settings.read()
    with _emptied(settings) as url:
        manifest = asyncio.run(restored(folder.absolute(), url, Objects.at(settings.blobs), note))
    typer.echo(
        f"Restored: {sum(manifest.rows.values()):,} rows and {manifest.blobs:,} blobs, as of"
        f" {manifest.taken_at:%Y-%m-%d %H:%M:%SZ}. Start the processes: what was pending goes on."
    )


@contextmanager
def _emptied(settings: Settings) -> Iterator[str]:
    """The database that is set, else the embedded one, which runs meanwhile. Raises SettingsError, StoreAway."""
    if settings.database_url:
        yield settings.database_url.get_secret_value()
        return
    if running(settings.data):
        raise SettingsError(f"`penstock up` runs in {settings.data}: stop it, and restore into another data directory")
    with Postgres(settings.data) as server:
        yield server.url
