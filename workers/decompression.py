"""Content codings of answers (RFC 9110, 8.4), undone piece by piece; what is cut off is told from what is whole.

Not left to aiohttp, which takes the beginning of a gzip stream for all of it when the connection ends in good order.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from shared.errors import BrokenAnswer


ASKED_FOR: Final = "gzip, deflate"
"""The Accept-Encoding of every call: what is understood here, whatever else is installed."""

PIECE_BYTES: Final = 256 * 1024
"""So much is unpacked at once, so that a small answer cannot become a huge one before it is counted."""

LAYERS: Final = 5
"""So many codings may lie on each other, as with curl: each costs a pass over the answer."""

_GZIP = frozenset({"gzip", "x-gzip"})  # "x-gzip" is to be taken as "gzip" (RFC 9110, 8.4.1.3)
_DEFLATE = "deflate"
_NONE = frozenset({"", "identity", "none", "utf-8"})
"""No coding: "none" is taken so by curl and browsers, "utf-8" is a charset that servers put there by mistake."""

_WITH_GZIP_HEADER = 16 + zlib.MAX_WBITS
_ZLIB_METHOD = 8


class Codings:
    """The codings of one answer, to be undone in the order opposite to that in which they were applied."""

    def __init__(self, content_encoding: str) -> None:
        """Raises BrokenAnswer for a coding that was not asked for."""
        names = [name for word in content_encoding.lower().split(",") if (name := word.strip()) not in _NONE]
        if len(names) > LAYERS:
            raise BrokenAnswer(f"the answer is packed {len(names)} times over")
        self._layers = [_layer(name) for name in reversed(names)]

    def undo(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes stand for, in pieces of ``PIECE_BYTES`` at most. Raises BrokenAnswer."""
        pieces: Iterable[bytes] = (data,)
        for layer in self._layers:
            pieces = _through(layer, pieces)
        yield from pieces

    def finish(self) -> None:
        """Raise BrokenAnswer unless every stream that began has come to its own end."""
        for layer in self._layers:
            layer.finish()


class _Deflated:
    """One stream of DEFLATE data in whatever wrapping, or gzip's members, one behind the other (RFC 1952, 2.2)."""

    def __init__(self, name: str, *, members: bool) -> None:
        self._name = name
        self._members = members
        self._stream: zlib._Decompress | None = None
        self._held = b""
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data or self._stream:
            if self._stream is None and not (data := self._begin(data)):
                return
            stream = self._stream
            if stream is None:
                return
            try:
                plain = stream.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise BrokenAnswer(f"the answer's {self._name} is damaged: {error}") from None
            if plain:
                yield plain
            if stream.eof:
                self._stream, self._ended, data = None, True, stream.unused_data
            elif not (data := stream.unconsumed_tail) and len(plain) < PIECE_BYTES:
                return

    def finish(self) -> None:
        if self._stream is not None or self._held:
            raise BrokenAnswer(f"the answer is cut off: its {self._name} does not end")

    def _begin(self, data: bytes) -> bytes:
        """Begin a stream with these bytes, and return them; none while there are too few to tell what it is."""
        if self._ended:
            # Zeros behind the end are padding, as for gzip(1).
            data = data.lstrip(b"\0")
            if data and not self._members:
                raise BrokenAnswer(f"something stands behind the end of the answer's {self._name}")
        data = self._held + data
        self._held = b""
        if self._members:
            self._stream = zlib.decompressobj(_WITH_GZIP_HEADER) if data else None
        elif len(data) > 1:
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_header(data) else -zlib.MAX_WBITS)
        else:
            self._held, data = data, b""
        return data


def _has_zlib_header(data: bytes) -> bool:
    """Whether it begins as RFC 1950 says; some servers send "deflate" without (RFC 9110, 8.4.1.2)."""
    return data[0] & 0x0F == _ZLIB_METHOD and int.from_bytes(data[:2]) % 31 == 0


def _layer(name: str) -> _Deflated:
    if name in _GZIP:
        return _Deflated(name, members=True)
    if name == _DEFLATE:
        return _Deflated(name, members=False)
    shown = "".join(letter if letter.isprintable() else "?" for letter in name[:40])
    raise BrokenAnswer(f"the answer is packed as {shown}, which was not asked for")


def _through(layer: _Deflated, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from layer.feed(piece)
