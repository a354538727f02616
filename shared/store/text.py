"""Text that Postgres can store, whatever it was made of."""

import re
from typing import Final


MOST: Final = 2_000
"""Characters of an error's text that are kept: enough to see what happened, however long the answer was."""

_CANNOT_BE_STORED: Final = re.compile("[\0\ud800-\udfff]")
"""NUL has no place in a Postgres text (SQLSTATE 22021), and half of a surrogate pair none in UTF-8."""


def storable(text: str, most: int = MOST) -> str:
    """The text, at most ``most`` characters of it, with U+FFFD in place of what Postgres cannot store."""
    return _CANNOT_BE_STORED.sub("\ufffd", text[:most])
