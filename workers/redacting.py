"""Takes our own credentials out of what an API says: some repeat in an error what they were sent."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from shared.providers.account import AccountSettings


HIDDEN: Final = "[hidden]"

SHORTEST: Final = 8
"""Shorter words of a header's value ("Bearer", "api_key") are no secret, and stand in many sentences."""

_OPEN_HEADERS: Final = frozenset({"content-type", "accept", "traceparent"})


def without_credentials(body: bytes, sent: Mapping[str, str]) -> bytes:
    """An error's body without any word of the headers that were sent with the call."""
    words = {
        word
        for name, value in sent.items()
        if name.lower() not in _OPEN_HEADERS
        for word in re.split(r"[ ,=:]+", value)
        if len(word) >= SHORTEST
    }
    return _without(body, (word.encode() for word in words))


def without_secrets(text: str, account: AccountSettings) -> str:
    """A sentence without any secret of the account."""
    secrets = (*account.outbound_secrets(), *account.shared_secrets(), *account.inbound_secrets())
    return _without(text.encode(), (secret.get_secret_value().encode() for secret in secrets)).decode()


def _without(text: bytes, words: Iterable[bytes]) -> bytes:
    """The longest first, so that one which begins with another is taken out whole."""
    for word in sorted(words, key=len, reverse=True):
        if word and word in text:
            text = text.replace(word, HIDDEN.encode())
    return text
