"""The one way to a provider: a request at an account's own host, with a deadline and a bound on what comes back.

Its name may resolve to a public address only (``workers.addresses``), unless the account's settings say otherwise.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import aiohttp
import httpx
from yarl import URL

from shared.configuration import Configuration
from shared.errors import BrokenAnswer
from shared.providers.account import AccountSettings, is_loopback
from shared.providers.interface import Answer
from shared.tracing import with_traceparent
from workers.addresses import socket_factory
from workers.agent import USER_AGENT
from workers.decompression import ASKED_FOR, PIECE_BYTES, Codings
from workers.redacting import without_credentials


MAX_CONNECTIONS = 100
KEPT_SECONDS = 5.0
"""A connection that was idle for longer is not used again: the host may be about to close it."""

SUCCESS = range(200, 300)
WHOLE = frozenset({200, 203})
"""The statuses of a GET whose body is the thing that was asked for (RFC 9110, 15.3.1 and 15.3.4); others of success say
that it comes later (202), that there is none (204, 205), or that this is a part of it (206)."""

HEADER_BYTES = 64 * 1024
"""Of one line of an answer's head; aiohttp's own 8,190 are less than some gateways' policies and cookies take."""
HEADERS = 256

ERROR_BYTES = 64 * 1024
"""So much of an error's body is read: its beginning says what is wrong, and its status counts in any case."""

URL_CHARACTERS = "%/?#:@!$&'()*+,;=[]"
"""What a path may hold besides letters and digits (RFC 3986), escapes as they are; the rest is escaped."""


class NoAnswer(Exception):
    """The host did not answer, or not in time; the sentence says what happened."""


class Origin(NamedTuple):
    """Scheme, host and port of an account; ``at_home``: its host is this machine."""

    url: str
    at_home: bool


class Caller:
    """One HTTP client a process and kind of address that may be called; to be made on the event loop.

    aiohttp without httpx around it, which would triple what a call costs the worker (190 us for 62).
    """

    def __init__(self) -> None:
        self._tls: Final = httpx.create_ssl_context(trust_env=False)
        self._clients: dict[tuple[bool, bool], aiohttp.ClientSession] = {}

    def _client(self, *, at_home: bool, allow_private: bool) -> aiohttp.ClientSession:
        """A connection is kept by the client that made it: one to a private address serves nobody else."""
        if known := self._clients.get((at_home, allow_private)):
            return known
        made = self._clients[at_home, allow_private] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS,
                keepalive_timeout=KEPT_SECONDS,
                ssl=self._tls,
                socket_factory=socket_factory(at_home=at_home, allow_private=allow_private),
            ),
            headers={"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": ASKED_FOR},
            auto_decompress=False,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS,
            # Two accounts may share a host: a cookie of the one must not be sent with the other's calls.
            cookie_jar=aiohttp.DummyCookieJar(),
            # the deadline is around the whole call
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            # a proxy of the environment would see every account's credentials
            trust_env=False,
        )
        return made

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()

    async def get(
        self, account: AccountSettings, path: str, headers: Mapping[str, str], configuration: Configuration
    ) -> Answer:
        """The complete answer to a GET, whatever its status. Raises NoAnswer, BrokenAnswer.

        What is success, but not the thing itself, is a broken answer: it must never be kept as the whole.
        """
        answer = await self.ask(account, "GET", path, headers, configuration)
        if answer.status in SUCCESS and answer.status not in WHOLE:
            raise BrokenAnswer(f"the API answered {answer.status}, which is not the whole of what was asked for")
        return answer

    async def ask(
        self,
        account: AccountSettings,
        method: Literal["GET", "HEAD", "POST", "DELETE"],
        path: str,
        headers: Mapping[str, str],
        configuration: Configuration,
        *,
        body: bytes | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """The complete answer, whatever its status, within ``seconds``, or those of the settings.

        To the account's own origin only; a redirect is an answer, not followed. Of an error only the beginning of its
        body is read, and a body that breaks off takes nothing from its status. Raises NoAnswer, and BrokenAnswer for
        what is no HTTP, or a success that is cut off, damaged, too large or packed in a way that was not asked for.
        """
        seconds = configuration.timing.call_seconds if seconds is None else seconds
        headers = with_traceparent(headers)
        try:
            origin = _origin(account.base_url)
            url = _url(origin, path)
            client = self._client(at_home=origin.at_home, allow_private=account.allow_private)
            async with (
                asyncio.timeout(seconds),
                client.request(method, url, headers=headers, data=body, allow_redirects=False) as answer,
            ):
                if answer.status in SUCCESS:
                    content = await _read(answer, configuration.following_up.max_answer_bytes)
                else:
                    content = without_credentials(await _beginning(answer), headers)
        except TimeoutError:
            raise NoAnswer(f"no complete answer within {seconds:g} s") from None
        except aiohttp.ClientResponseError as error:
            raise BrokenAnswer(f"the answer is not HTTP: {error.message}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        return Answer(answer.status, _headers(answer), content)


def _url(origin: Origin, path: str) -> URL:
    url = URL(origin.url + quote(path, safe=URL_CHARACTERS), encoded=True)
    if url.raw_user is not None or str(url.origin()) != origin.url:
        raise NoAnswer(f"{url.path} does not stay at {origin.url}")
    return url


@lru_cache(maxsize=1024)
def _origin(base_url: str) -> Origin:
    url = URL(base_url).origin()
    return Origin(str(url), at_home=is_loopback(url.host or ""))


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole body as it was before it was packed. Raises BrokenAnswer."""
    body = bytearray()
    async with aclosing(_pieces(answer)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > most:
                raise BrokenAnswer(f"the answer is over {most} bytes, max_answer_bytes of [following_up]")
    return bytes(body)


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """The first of a body, as far as it came and could be unpacked."""
    body = bytearray()
    with suppress(BrokenAnswer):
        async with aclosing(_pieces(answer)) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) >= ERROR_BYTES:
                    break
    return bytes(body[:ERROR_BYTES])


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """The body as it was before it was packed, piece by piece. Raises BrokenAnswer."""
    codings: Codings | None = None
    try:
        async for packed in answer.content.iter_any():
            # An answer without a body may name the coding of the one that it does not have.
            codings = codings or Codings(",".join(answer.headers.getall("content-encoding", ())))
            for piece in codings.undo(packed):
                yield piece
                if len(piece) == PIECE_BYTES:
                    # There may be many more in these few bytes: the others on this loop get their turn.
                    await asyncio.sleep(0)
    except (aiohttp.ClientError, OSError) as error:
        raise BrokenAnswer(f"the answer is cut off: {str(error) or type(error).__name__}") from None
    if codings:
        codings.finish()


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """By lower-case name, repeated ones in one line, bytes that are no ASCII as Latin-1 (RFC 9110, 5.2 and 5.5)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in answer.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
