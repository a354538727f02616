"""``penstock keys``: the keys that bodies and blobs are encrypted with."""

import typer

from ops.cli.examples import examples
from shared.sealing import generate_key


app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Encryption keys, for PENSTOCK_ENCRYPTION_KEYS."""


@app.command(epilog=examples("export PENSTOCK_ENCRYPTION_KEYS=$(penstock keys generate)"))
def generate() -> None:
    """Print a new key. Keep it safe: without it nothing that it encrypted can be read again."""
    typer.echo(generate_key())
