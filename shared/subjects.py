"""Whether a text is about one subject: a customer, a user, a verification, known by its id.

An id is found as the value of a member that is named as one (``id``, ``customerId``, ``id_user``, ``identifier``,
``@id``), as a whole string, or as a whole segment of a path or a query. A number that merely has the same digits (an
amount, a day) is not it.
"""

import re
from functools import lru_cache
from typing import Any, Final

import msgspec


_NAMES_AN_ID: Final = re.compile(r"(?:^|[a-z_@])(?:id|identifier)$|Id$|ID$|Identifier$|^id_", re.IGNORECASE)


def mentions(text: bytes, subject: str) -> bool:
    """Whether a JSON text, or any other, names the subject."""
    if subject.isascii() and "/" not in subject and subject.encode() not in text:
        return False
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # multipart and whatever else: the id, with no letter or digit at either side of it
        return re.search(rb"(?<![0-9A-Za-z])" + re.escape(subject.encode()) + rb"(?![0-9A-Za-z])", text) is not None
    return _holds(value, subject)


def in_text(text: str, subject: str) -> bool:
    """Whether a string is the subject's id, or has it as a whole segment of a path or a query."""
    return subject in text and _segment(subject).search(text) is not None


def told_of(line: str, subject: str) -> bool:
    """Whether a sentence of a timeline is about the subject: a path, a query, or the name of its record."""
    return subject in line and (line == subject or _told(subject).search(line) is not None)


@lru_cache(maxsize=16)
def _told(subject: str) -> re.Pattern[str]:
    return re.compile(r"(?:[/=]|[a-z]\.[a-z-]+ )" + re.escape(subject) + r"(?![0-9A-Za-z])")


@lru_cache(maxsize=16)
def _segment(subject: str) -> re.Pattern[str]:
    return re.compile(r"(?:^|[/=,?&#])" + re.escape(subject) + r"(?:$|[/=,?&#])")


def _holds(value: Any, subject: str, name: str = "") -> bool:
    match value:
        case dict():
            return any(in_text(key, subject) or _holds(member, subject, key) for key, member in value.items())
        case list():
            return any(_holds(item, subject, name) for item in value)
        case str():
            return in_text(value, subject)
        case bool() | None:
            return False
        case _:
            return str(value) == subject and _NAMES_AN_ID.search(name) is not None
