"""Yardstick ``bare``: Starlette that checks the key, reads the body, and answers 204. It keeps nothing."""

import hmac
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


KEY = os.environ["YARDSTICK_KEY"].encode()


async def receive(request: Request) -> Response:
    """A delivery."""
    if not hmac.compare_digest(request.headers.get("x-api-key", "").encode(), KEY):
        return Response(status_code=401)
    await request.body()
    return Response(status_code=204)


app = Starlette(routes=[Route("/webhooks/imin", receive, methods=["POST"])])
