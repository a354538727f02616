"""The deliveries that follow from what happened: bytes, and headers that prove the sender, as each provider does it."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ops.lab.accounts import Account
from ops.lab.happening import Happening, LabError
from ops.lab.seeded import hexadecimal


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to ingress: the path below its origin, the headers and the body byte for byte."""

    provider: str
    account: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def sha256(self) -> str:
        """The body's digest in hex, as ``events list`` shows it."""
        return hashlib.sha256(self.body).hexdigest()


def body_of(happening: Happening, attempt: int = 1) -> tuple[bytes, str]:
    """The body and its content type. A multipart boundary differs from attempt to attempt (providers.md 4.4)."""
    document = orjson.dumps(happening.document)
    if happening.provider != "authenteq":
        return document, "application/json"
    boundary = hexadecimal("boundary", happening.identity, attempt, digits=32)
    pieces = [_part(boundary, "result", "", "application/json", document)]
    pieces += [
        _part(boundary, name, f'; filename="{name}.jpg"', "image/jpeg", content)
        for name, content in happening.images.items()
    ]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def signed(account: Account, body: bytes, content_type: str) -> Delivery:
    """The delivery with what proves its sender: key, token (and header) or signature. Raises LabError."""
    path = f"/webhooks/{account.provider}"
    headers = {"Content-Type": content_type}
    match account.provider:
        case "imin":
            headers["X-Api-Key"] = account.webhook_key
        case "magicline":
            headers["x-api-key"] = account.webhook_key
        case "paybook":
            path = f"{path}/{account.webhook_key}"
            headers |= dict([account.header] if account.header else [])
        case "authenteq":
            headers |= {"X-CLIENT-ID": account.client_id, "X-SIGNATURE": signature(account, body)}
        case other:
            raise LabError(f"the lab does not know how {other} signs its deliveries")
    return Delivery(account.provider, account.name, path, headers, body)


def signature(account: Account, body: bytes) -> str:
    """Authenteq's hex digest of "the request body and your Client Secret", in the form that the account names."""
    secret = account.webhook_key.encode()
    match account.signature:
        case "hmac-sha256":
            return hmac.new(secret, body, hashlib.sha256).hexdigest()
        case "sha256-body-secret":
            return hashlib.sha256(body + secret).hexdigest()
        case "sha256-secret-body":
            return hashlib.sha256(secret + body).hexdigest()
        case other:
            raise LabError(f"there is no form of signature {other!r}")


def _part(boundary: str, name: str, filename: str, content_type: str, content: bytes) -> bytes:
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{name}"{filename}\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n"
