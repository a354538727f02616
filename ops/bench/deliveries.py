"""The requests that the load sends, complete to the last byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import orjson

from ops.lab.accounts import Account


BODY_BYTES: Final = 200
CUSTOMERS: Final = 100_000
"""The lab's customers are c-1 to c-100000; deliveries about different ones share no call."""


def request(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST over a connection that stays open."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: bench\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def imin_bodies(account: Account, count: int, first: int = 1) -> list[bytes]:
    """Deliveries of imin about ``count`` different customers, each of exactly 200 bytes (an ignored field fills up)."""
    bodies = []
    for number in range(first, first + count):
        name = f"c-{1 + (number - 1) % CUSTOMERS}"
        told = {
            "@type": "CustomerAccount",
            "@id": f"{account.base_url}/api/v2/customer-accounts/{name}",
            "identifier": name,
            "note": "",
        }
        told["note"] = "." * (BODY_BYTES - len(orjson.dumps(told)))
        bodies.append(orjson.dumps(told))
    return bodies


def imin_requests(account: Account, count: int, first: int = 1) -> list[bytes]:
    """``imin_bodies`` as requests with the account's webhook key."""
    headers = {"Content-Type": "application/json", "X-Api-Key": account.webhook_key}
    return [request("/webhooks/imin", headers, body) for body in imin_bodies(account, count, first)]


def magicline_request(account: Account, customer: int) -> bytes:
    """CUSTOMER_UPDATED of one customer, as an event that never was before."""
    told = {
        "entityId": customer,
        "uuid": str(uuid4()),
        "payload": [{"timestamp": 1_700_000_000_000, "type": "CUSTOMER_UPDATED"}],
    }
    headers = {"Content-Type": "application/json", "x-api-key": account.webhook_key}
    return request("/webhooks/magicline", headers, orjson.dumps(told))


def write(folder: Path, name: str, requests: Sequence[bytes]) -> str:
    """Put requests where the load reads them; the file's path."""
    file = folder / f"{name}.requests"
    file.write_bytes(msgspec.msgpack.encode(requests))
    return str(file)
