"""``penstock keys``: the keys that bodies, blobs and private members are encrypted with."""

import asyncio

import typer

from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import note, print_json
from ops.cli.store import found, queue_store, writing_store
from ops.rotating import Rotation
from shared.blobs import BlobStore
from shared.errors import PenstockError
from shared.sealing import Keys, generate_key
from shared.settings import Settings
from shared.spool import Spool
from shared.store.locking import REWRITING, alone


app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Encryption keys, for PENSTOCK_ENCRYPTION_KEYS."""


@app.command(epilog=examples("export PENSTOCK_ENCRYPTION_KEYS=$(penstock keys generate)"))
def generate() -> None:
    """Print a new key. Keep it safe: without it nothing that it encrypted can be read again."""
    typer.echo(generate_key())


@app.command(
    epilog=examples(
        "export PENSTOCK_ENCRYPTION_KEYS=$(penstock keys generate),$PENSTOCK_ENCRYPTION_KEYS", "penstock keys rotate"
    )
)
def rotate(as_json: choices.Json = False) -> None:
    """Seal everything with the newest key that an older one seals, while all goes on.

    Put the new key first in PENSTOCK_ENCRYPTION_KEYS, start every process anew with it, then rotate; the older key may
    be removed when nothing is left under it. Broken off, it is simply run again. Exit status 1 when something is left.
    """
    settings = found()
    rotation = asyncio.run(_rotate(settings))
    left = [
        {"key": key.hex(), "what": what, "left": count} for (key, what), count in sorted(rotation.left.items()) if count
    ]
    if as_json:
        print_json([{"done": rotation.done, "left": left}])
    else:
        done = ", ".join(f"{count:,} {what}" for what, count in rotation.done.items() if count)
        typer.echo(f"Sealed anew: {done or 'nothing, all of it is under the newest key already'}.")
        for each in left:
            typer.echo(f"Left under key {each['key']}: {each['left']:,} {each['what']}.")
        if not left:
            note("Nothing is left under an older key: it may be removed from PENSTOCK_ENCRYPTION_KEYS.")
    if left:
        raise typer.Exit(1)


async def _rotate(settings: Settings) -> Rotation:
    keys = Keys.parse(settings.encryption_keys)
    blobs = BlobStore.open(settings.blobs, keys)
    async with writing_store(settings) as connection, queue_store(settings) as redis:
        rotation = Rotation(connection, keys, blobs, None if redis is None else Spool(redis))
        async with alone(connection, *REWRITING) as mine:
            if not mine:
                raise PenstockError("another process rotates keys or erases now: run it again when that is done")
            await rotation.run()
        return rotation
