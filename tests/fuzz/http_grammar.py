"""Requests that a hostile sender might make: well formed ones with hostile content, and ones that are no HTTP."""

import random
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final


CORPUS: Final = Path(__file__).parent / "corpus" / "http"

_PATHS: Final = (
    b"/webhooks/imin",
    b"/webhooks/magicline",
    b"/webhooks/paybook",
    b"/webhooks/paybook/",
    b"/webhooks/paybook/paybook-token-0123456789",
    b"/webhooks/paybook/%70aybook-token-0123456789",
    b"/webhooks/authenteq",
    b"/webhooks/authenteq/",
    b"/webhooks/../webhooks/imin",
    b"//webhooks/imin",
    b"/webhooks/imin?x=1",
    b"/webhooks/imin;x",
    b"/webhooks%2Fimin",
    b"/WEBHOOKS/IMIN",
    b"/health/live",
    b"/health/ready",
    b"/health/live/..",
    b"/%68ealth/live",
    b"/metrics",
    b"/",
    b"*",
    b"http://elsewhere.example/webhooks/imin",
    b"https://u:p@elsewhere.example:99999/webhooks/imin",
    b"/%",
    b"/%zz%00",
    b"/%ff%fe",
    b"/" + b"a" * 5000,
)
_ROUTES: Final = tuple(path for path in _PATHS if path.startswith(b"/webhooks/") and b"?" not in path)
_AUTHENTIC: Final = 0.02
_METHODS: Final = (b"POST",) * 12 + (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PURGE")
_HEADERS: Final = (
    b"X-Api-Key: imin-key",
    b"X-Api-Key: imin-ke",
    b"X-Api-Key: imin-key\t",
    b"X-Api-Key:",
    b"x-API-key: berlin-key",
    b"X-Api-Key: \xff\xfe\x80",
    b"X-Api-Key: " + b"k" * 9000,
    b"X-Hook-Secret: hook-secret",
    b"X-CLIENT-ID: client-1",
    b"X-CLIENT-ID: client-2",
    b"X-SIGNATURE: " + b"0" * 64,
    b"X-SIGNATURE: " + b"G" * 64,
    b"X-SIGNATURE: \xc3\xa9",
    b"Content-Type: application/json",
    b"Content-Type: multipart/form-data; boundary=" + b"b" * 300,
    b"Content-Type: \xff",
    b"Content-Encoding: gzip",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Forwarded: for=1.2.3.4",
    b"X-Real-IP: 1.2.3.4",
    b"Cookie: a=b",
    b"Authorization: Basic AAAA",
    b"Range: bytes=0-",
    b"Host:",
    b"Host: a\r\nHost: b",
    b"X: " + b"y" * 2000,
    b"\r\n".join(b"h%d: v" % number for number in range(100)),
    b"traceparent: 00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-01",
)
_LENGTHS: Final = (
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: 00000000005",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5, 5",
    b"Content-Length: -5",
    b"Content-Length: +5",
    b"Content-Length: 0x5",
    b"Content-Length: 5 5",
    b"Content-Length: \x0b5",
    b"Content-Length : 5",
    b"Content-Length: 1048577",
    b"Content-Length: 99999999999999999999999999",
    b"Content-Length: 18446744073709551617",
    b"Content-Length: 67108865",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding\r\n : chunked",
    b"X: y\nTransfer-Encoding: chunked",
)
_BODIES: Final = (
    b"hello",
    b"",
    b"{}",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"5;ext=1\r\nhello\r\n0\r\n\r\n",
    b'5;ext="\r\n"\r\nhello\r\n0\r\n\r\n',
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\nhello",
    b"7fffffffffffffff\r\nhello",
    b"00000000000000000000005\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX-Api-Key: imin-key\r\nContent-Length: 5\r\n\r\n",
    b"0\r\n" + b"T: t\r\n" * 3000 + b"\r\n",
    b"1\r\nh\r\n" * 500 + b"0\r\n\r\n",
    b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x00" * 100,
    b'{"a":' * 2000,
    b"--b\r\nContent-Disposition: form-data; name=result\r\n\r\n",
    b"x" * 70_000,
)
_VERSIONS: Final = (b"HTTP/1.1",) * 20 + (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ")
_ENDS: Final = (b"\r\n",) * 12 + (b"\n", b"\r", b"\r\r\n", b"\n\r")


def corpus() -> Sequence[bytes]:
    """What is kept because it is worth trying again."""
    return [path.read_bytes() for path in sorted(CORPUS.iterdir())]


class Requests:
    """Makes requests, the same ones for the same seed."""

    def __init__(self, seed: int, kept: Sequence[bytes]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to try things out, not to hide them
        self._kept = kept
        self._wild: Sequence[Callable[[], bytes]] = (self._hostile, self._hostile, self._mutated, self._noise)

    def tame(self) -> bytes:
        """One that has no body and is complete, so that the next one may follow on the same connection."""
        choice = self._random.choice
        if self._random.random() < _AUTHENTIC:
            body = self._random.randbytes(self._random.randint(0, 200))
            return b"POST /webhooks/imin HTTP/1.1\r\nX-Api-Key: imin-key\r\nContent-Length: %d\r\n\r\n%b" % (
                len(body),
                body,
            )
        path = self._random.choices((choice(_ROUTES), choice(_PATHS), self._path()), (6, 3, 1))[0]
        heads = [self._sender(), *self._random.sample(_HEADERS[:16], self._random.randint(0, 3))]
        method = choice((b"POST", b"POST", b"POST", b"GET", b"PUT", b"DELETE"))
        length = [b"Content-Length: 0"] if method == b"POST" else []
        return b"\r\n".join([method + b" " + path.replace(b"*", b"/") + b" HTTP/1.1", *heads, *length, b"", b""])

    def wild(self) -> bytes:
        """One that may be anything; what follows it on the same connection may be taken for a part of it."""
        return self._random.choice(self._wild)()

    def pieces(self, data: bytes) -> Sequence[bytes]:
        """The same bytes as they may arrive: at once, in two, in a few, or byte by byte."""
        how = self._random.random()
        if how < 0.6 or len(data) < 2:
            return [data]
        if how < 0.97 or len(data) > 400:
            cuts = sorted(self._random.randrange(1, len(data)) for _ in range(self._random.randint(1, 4)))
            return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        return [data[at : at + 1] for at in range(len(data))]

    def _sender(self) -> bytes:
        number = self._random.randrange(50_000)
        return b"X-Forwarded-For: 198.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255)

    def _path(self) -> bytes:
        letters = (string.ascii_letters + string.digits + "/%.?&;=+~-_@:[]{}|^',!$()*").encode()
        return b"/" + bytes(self._random.choices(letters, k=self._random.randint(0, 60)))

    def _hostile(self) -> bytes:
        choice = self._random.choice
        end = choice(_ENDS)
        heads = [self._sender(), *self._random.sample(_HEADERS, self._random.randint(0, 5))]
        if self._random.random() < 0.8:
            heads.append(choice(_LENGTHS))
        self._random.shuffle(heads)
        first = b"%b %b %b" % (choice(_METHODS), choice(_PATHS), choice(_VERSIONS))
        return end.join([first, *heads, b"", b""]) + choice(_BODIES)

    def _mutated(self) -> bytes:
        data = bytearray(self._random.choice(self._kept) if self._kept else self._hostile())
        for _ in range(self._random.randint(1, 6)):
            at = self._random.randrange(len(data) + 1)
            match self._random.randrange(5):
                case 0:
                    data[at : at + 1] = bytes([self._random.randrange(256)])
                case 1:
                    del data[at : at + self._random.randint(1, 20)]
                case 2:
                    data[at:at] = self._random.randbytes(self._random.randint(1, 20))
                case 3:
                    data[at:at] = data[at : at + self._random.randint(1, 200)]
                case _:
                    data[at:at] = self._random.choice((b"\r\n", b"\x00", b":", b" ", b"\r\n\r\n", b"\n", b"\x7f", b"%"))
        return bytes(data)

    def _noise(self) -> bytes:
        return self._random.randbytes(self._random.randint(1, 300))
