"""Sending signed messages to handlers: one client a handler, no redirect, no proxy, no cookie, and a deadline."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from shared.handlers.settings import Handler
from shared.providers.account import is_loopback
from workers.addresses import socket_factory
from workers.agent import USER_AGENT
from workers.calling import NoAnswer
from workers.hand_over.protocol import Connector


READ_BYTES = 1024
"""So much of an answer is read: its beginning may explain an error, and nothing else of it is wanted."""

BODY_SECONDS = 2.0
"""How long after the status it may take to come."""

_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class Response:
    """A handler's answer: header names are lower case, ``body`` is its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Poster:
    """The clients of one worker process. A handler whose settings changed gets a new one."""

    def __init__(self) -> None:
        self._clients: dict[str, tuple[Handler, aiohttp.ClientSession]] = {}

    async def post(self, handler: Handler, headers: Mapping[str, str], body: bytes) -> Response:
        """The answer, whatever its status. Raises NoAnswer."""
        client = await self._client(handler)
        try:
            async with asyncio.timeout(handler.timeout_seconds):
                answer = await client.post(handler.url, data=body, headers=dict(headers), allow_redirects=False)
            async with answer:
                beginning = await _beginning(answer)
        except TimeoutError:
            raise NoAnswer(f"no answer within {handler.timeout_seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        return Response(answer.status, {name.lower(): value for name, value in answer.headers.items()}, beginning)

    async def _client(self, handler: Handler) -> aiohttp.ClientSession:
        known = self._clients.get(handler.name)
        if known and known[0] == handler:
            return known[1]
        host = urlsplit(handler.url).hostname or ""
        made = aiohttp.ClientSession(
            connector=Connector(
                limit=handler.concurrency,
                socket_factory=socket_factory(at_home=is_loopback(host), allow_private=handler.allow_private),
                # a name is looked up for each connection: what was checked is what is connected to
                use_dns_cache=False,
            ),
            headers={"user-agent": USER_AGENT, "accept": "*/*"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._clients[handler.name] = (handler, made)
        if known:
            await known[1].close()
        return made

    async def close(self) -> None:
        """Close the connections."""
        for _, client in self._clients.values():
            await client.close()
        self._clients.clear()


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """What the body begins with; nothing where it does not come: the status is the answer, whatever follows it."""
    if answer.status == _NO_CONTENT and answer.content_length:
        # It has no body and announces one, which may still be on its way: not on a connection that is used again.
        answer.close()
        return b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await answer.content.read(READ_BYTES)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return b""
