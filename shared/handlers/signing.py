"""Signatures as the Standard Webhooks specification has them, by its own library.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook


PREFIX = "whsec_"
ADVISED_BYTES = range(24, 65)
"""How long a secret is, as the specification has it."""


def sign(message_id: str, at: datetime, body: bytes, secrets: Sequence[SecretStr]) -> dict[str, str]:
    """The three headers of a message; one signature a secret, newest first. ``body`` is UTF-8, ``at`` aware."""
    text = body.decode()
    # the library takes the fields of the time as they stand for UTC
    at = at.astimezone(UTC)
    signatures = [Webhook(secret.get_secret_value()).sign(message_id, at, text) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def unusable(secret: str) -> str | None:
    """Why nothing can be signed with this secret; None when it is right."""
    if not secret:
        return "a secret is empty"
    if not key_of(secret):
        return f"must be {PREFIX} and 24 to 64 random bytes in base64"
    return None


def key_of(secret: str) -> bytes:
    """The key that a secret is the text of; empty when it is none."""
    text = secret.removeprefix(PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
