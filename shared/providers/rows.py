"""Rows of an answer, each by itself: one that cannot be read is set aside, its neighbours are records."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from shared.errors import BrokenAnswer
from shared.providers.interface import Record, SetAside


MOST_ASIDE: Final = 100
"""An answer with more rows that cannot be read has another shape: it is broken as a whole, and asked for again."""


def read_each(
    rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Record]
) -> tuple[tuple[Record, ...], tuple[SetAside, ...]]:
    """The records, and what was set aside. Raises BrokenAnswer where that is every row, or too many."""
    records: list[Record] = []
    aside: list[SetAside] = []
    for place, row in enumerate(rows, start=1):
        try:
            records.append(read(row))
        except BrokenAnswer as error:
            if len(aside) == MOST_ASIDE:
                raise
            aside.append(SetAside(f"row {place}", str(error)))
    if aside and not records:
        raise BrokenAnswer(aside[0].why)
    return tuple(records), tuple(aside)
