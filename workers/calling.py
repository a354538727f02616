"""The one way out: a GET at an account's own host, with a deadline and a bound on what comes back."""

import asyncio
from collections.abc import Mapping

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from shared.configuration import Configuration
from shared.providers.account import AccountSettings
from shared.providers.interface import Answer


USER_AGENT = "Penstock/0.1 (webhook follow-up)"
MAX_CONNECTIONS = 100


class NoAnswer(Exception):
    """The host did not answer completely and in time; the sentence says what happened."""


class Caller:
    """One HTTP client a process: httpx for its interface, aiohttp under it for its cost (a sixth of httpcore's)."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        # trust_env is off: a proxy of the environment would see every account's credentials.
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(limits=limits, trust_env=False),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(
        self, account: AccountSettings, path: str, headers: Mapping[str, str], configuration: Configuration
    ) -> Answer:
        """The complete answer to a GET, whatever its status. Raises NoAnswer."""
        return await self._ask(account, httpx.Request("GET", account.base_url + path, headers=headers), configuration)

    async def post(
        self,
        account: AccountSettings,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        configuration: Configuration,
    ) -> Answer:
        """The complete answer to a POST, whatever its status. Raises NoAnswer."""
        url = account.base_url + path
        return await self._ask(account, httpx.Request("POST", url, headers=headers, content=body), configuration)

    async def _ask(self, account: AccountSettings, request: httpx.Request, configuration: Configuration) -> Answer:
        """To the account's own origin only; a redirect is an answer, not followed."""
        if _origin(request.url) != _origin(httpx.URL(account.base_url)):
            raise NoAnswer(f"{request.url.path} does not stay at {account.base_url}")
        request.headers.update({"user-agent": USER_AGENT, "accept": "*/*"})
        request.extensions["timeout"] = httpx.Timeout(configuration.timing.call_seconds).as_dict()
        try:
            async with asyncio.timeout(configuration.timing.call_seconds):
                answer = await self._client.send(request, stream=True)
                try:
                    body = await _read(answer, configuration.following_up.max_answer_bytes)
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise NoAnswer(f"no complete answer within {configuration.timing.call_seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        return Answer(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, body)


async def _read(answer: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > most:
            raise NoAnswer(f"the answer is over {most} bytes")
    return bytes(body)


def _origin(url: httpx.URL) -> tuple[str, str, int | None, bytes]:
    return url.scheme, url.host, url.port, url.userinfo
