"""A refused delivery as it is kept for a while: everything that is needed to authenticate it once more."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

from shared.errors import Cause
from shared.providers.interface import Unverified
from shared.sealing import Keys


@dataclass(frozen=True, slots=True)
class Refused:
    """One refused delivery. Its headers and its token are credentials, if wrong ones: ``repr`` shows neither."""

    id: UUID
    provider: str
    received_at: datetime
    source: str
    """Whom it counts for: see ``ingress.addresses``."""
    cause: Cause
    headers: Sequence[tuple[bytes, bytes]] = field(repr=False)
    token: bytes = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """About what it takes to keep it, in bytes."""
        return len(self.body) + len(self.token) + sum(len(name) + len(value) for name, value in self.headers)

    @property
    def request(self) -> Unverified:
        """Its head, to be authenticated."""
        return Unverified(self.headers, self.token)

    @property
    def content_type(self) -> str:
        """Of a repeated content type the first counts."""
        return next((value.decode("latin-1") for name, value in self.headers if name == b"content-type"), "")


def seal_head(keys: Keys, refused: Refused) -> bytes:
    """Headers and token, sealed for its id."""
    pairs = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in refused.headers]
    return keys.seal(msgspec.json.encode([refused.token.decode("latin-1"), pairs]), refused.id)


def unseal_head(keys: Keys, sealed: bytes, event_id: UUID) -> Unverified:
    """The head as it came in. Raises BrokenSeal or UnknownKey."""
    token, pairs = msgspec.json.decode(keys.unseal(sealed, event_id), type=tuple[str, list[tuple[str, str]]])
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    return Unverified(headers, token.encode("latin-1"))
