"""Bodies as a page shows them: JSON laid out with the digits that were sent, long texts cut, images apart."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec


MOST_SHOWN: Final = 256 * 1024
_LONG: Final = re.compile(rb'"((?:data:[a-z0-9/+.-]{1,60};base64,)?)([A-Za-z0-9+/=_-]{1000,})"')
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)
"""Formats that hold no script; anything else is only a long text here."""


class Image(NamedTuple):
    """An image inside a body, by its place among the images."""

    number: int
    content_type: str
    bytes: int


class Shown(NamedTuple):
    """A body for a page: its text, whether that is JSON laid out, whether it was cut, and its images."""

    text: str
    is_json: bool
    cut: bool
    images: Sequence[Image]


def shown(content: bytes) -> Shown:
    """The body as text; never longer than ``MOST_SHOWN``."""
    images = [Image(number, kind, len(data)) for number, (kind, data) in enumerate(images_of(content))]
    try:
        laid_out = msgspec.json.format(_LONG.sub(_shortened, content), indent=2)
        is_json = bool(content.strip())
    except msgspec.DecodeError:
        laid_out, is_json = content, False
    text = laid_out[:MOST_SHOWN].decode("utf-8", "replace")
    return Shown(text, is_json, len(laid_out) > MOST_SHOWN, images)


def images_of(content: bytes) -> Sequence[tuple[str, bytes]]:
    """Content type and bytes of each image that stands in a JSON text as base64, in order."""
    found = []
    for match in _LONG.finditer(content):
        try:
            data = base64.b64decode(match[2] + b"=" * (-len(match[2]) % 4), altchars=_alphabet(match[2]), validate=True)
        except (binascii.Error, ValueError):
            continue
        kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
        if kind:
            found.append((kind, data))
    return found


def _alphabet(text: bytes) -> bytes | None:
    return b"-_" if b"-" in text or b"_" in text else None


def _shortened(match: re.Match[bytes]) -> bytes:
    return b'"%s%s... (%d letters)"' % (match[1], match[2][:24], len(match[2]))
