"""What commands print: tables for people, a JSON object a line for programs; bounded memory either way."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.errors import PenstockError


_STYLES: Final[Mapping[str, str]] = {
    "received": "cyan",
    "processing": "cyan",
    "running": "cyan",
    "waiting": "yellow",
    "done": "green",
    "duplicate": "dim",
    "parked": "magenta",
    "failed": "bold red",
    "quarantined": "bold red",
    "created": "green",
    "updated": "cyan",
    "deleted": "red",
    "closed": "green",
    "open": "bold red",
    "half-open": "yellow",
}
"""Colours of states; rich leaves them out where standard output is no terminal."""

_WIDE = 100_000

_encoder = msgspec.json.Encoder()


class Column(NamedTuple):
    """One column of a table: its title, how a row's value is found, and whether it is a figure."""

    title: str
    of: Callable[[Any], object]
    figure: bool = False


async def print_rows(
    batches: AsyncIterator[Sequence[Any]], columns: Sequence[Column], *, as_json: bool, none: str
) -> None:
    """Print batches of rows as they come; ``none`` is what people are told when there is no row."""
    printed = 0
    async for batch in batches:
        if as_json:
            print_json(batch)
        else:
            print_table(batch, columns)
        printed += len(batch)
    if not printed:
        note(none)


def print_json(rows: Sequence[object]) -> None:
    """One JSON object a line, in UTF-8, written out at once. Raises PenstockError."""
    write(_encoder.encode_lines(rows))


def write(content: bytes) -> None:
    """Bytes to standard output, out at once. Raises PenstockError where they cannot be written (a full disk)."""
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the reader has seen enough: no error
        raise
    except OSError as error:
        # What is left in the buffer would fail once more, loudly, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise PenstockError(f"standard output cannot be written to: {error.strerror}") from None


def print_table(rows: Sequence[Any], columns: Sequence[Column]) -> None:
    """A table as wide as its content; on a terminal long values fold."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column.title, justify="right" if column.figure else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(column.of(row)) for column in columns))
    paper().print(table)


def paper() -> Console:
    """Standard output for people. Piped, lines are never folded or cut."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False, emoji=False)


def cell(value: object) -> Text:
    """A value as people read it; control characters of foreign data never reach the terminal."""
    match value:
        case None:
            return Text("-", style="dim")
        case datetime():
            text = moment(value)
        case float():
            text = f"{value:,.1f}"
        case int():
            text = f"{value:,}"
        case list() | tuple():
            text = ", ".join(str(item) for item in value)
        case _:
            text = str(value)
    return Text(printable(text), style=_STYLES.get(text, ""))


def printable(text: str) -> str:
    """The text with every control character replaced; what providers send must not drive a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def note(sentence: str) -> None:
    """Tell people something beside the output, on standard error."""
    sys.stderr.write(f"{sentence}\n")
