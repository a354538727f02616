"""The one way out: a GET at an account's own host, with a deadline and a bound on what comes back."""

import asyncio

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
            headers={"User-Agent": USER_AGENT, "Accept": "*/*"},
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(
        self, account: AccountSettings, path: str, headers: dict[str, str], configuration: Configuration
    ) -> Answer:
        """The complete answer, whatever its status. Raises NoAnswer.

        The request goes to the account's own origin only; a redirect is an answer, not followed.
        """
        url = httpx.URL(account.base_url + path)
        if not path.startswith("/") or _origin(url) != _origin(httpx.URL(account.base_url)):
            raise NoAnswer(f"{path} does not stay at {account.base_url}")
        seconds = configuration.timing.call_seconds
        most = configuration.following_up.max_answer_bytes
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream("GET", url, headers=headers, timeout=seconds) as answer,
            ):
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > most:
                        raise NoAnswer(f"the answer is over {most} bytes")
        except TimeoutError:
            raise NoAnswer(f"no complete answer within {seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        return Answer(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, bytes(body))


def _origin(url: httpx.URL) -> tuple[str, str, int | None, bytes]:
    return url.scheme, url.host, url.port, url.userinfo
