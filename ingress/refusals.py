"""Every answer that is not success: which error it comes from, its status, its slug and its sentence.

The sentences are fixed: an answer never says which part of a credential was wrong or what failed inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from shared.errors import NotAuthentic, PenstockError, StoreAway


class UnknownRoute(PenstockError):
    """Nothing is served under this path."""


class WrongMethod(PenstockError):
    """The route takes another method."""


class NoAccount(PenstockError):
    """The provider is known and has no account configured."""


class AccountsAbsent(PenstockError):
    """The provider has accounts whose settings have vanished, or nobody could be asked yet whether it has."""


class TooManyFailures(PenstockError):
    """The sender failed to authenticate too often of late; it may try again in ``seconds``."""

    def __init__(self, seconds: int) -> None:
        super().__init__("too many failed authentications from there")
        self.seconds = seconds


class WrongSignature(NotAuthentic):
    """The signature does not fit ``body``, which is complete and small enough to be kept for a while."""

    def __init__(self, error: NotAuthentic, body: bytes) -> None:
        super().__init__(str(error), error.cause)
        self.body = body


class TooLarge(PenstockError):
    """The body is over the provider's limit, declared or counted."""


class BodyLate(PenstockError):
    """The body did not arrive in time."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer, ready to be sent."""

    status: int
    slug: str
    sentence: str
    extra: tuple[tuple[bytes, bytes], ...] = ()
    headers: tuple[tuple[bytes, bytes], ...] = field(init=False)
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        body = orjson.dumps({"error": self.slug, "detail": self.sentence})
        object.__setattr__(self, "body", body)
        headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *self.extra)
        object.__setattr__(self, "headers", headers)


UNAVAILABLE: Final = Refusal(
    503, "unavailable", "The event could not be kept; send it again later.", ((b"retry-after", b"5"),)
)

UNAUTHORIZED: Final = Refusal(401, "unauthorized", "The credentials are missing or not those of a configured account.")

REFUSALS: Final[Mapping[type[Exception], Refusal]] = {
    UnknownRoute: Refusal(404, "not-found", "Nothing is served under this path."),
    WrongMethod: Refusal(405, "method-not-allowed", "This route does not take this method.", ((b"allow", b"POST"),)),
    NoAccount: Refusal(404, "not-found", "No account is configured for this provider."),
    NotAuthentic: UNAUTHORIZED,
    WrongSignature: UNAUTHORIZED,
    TooLarge: Refusal(413, "too-large", "The body is over the limit for this provider."),
    BodyLate: Refusal(408, "timeout", "The body did not arrive in time."),
    StoreAway: UNAVAILABLE,
    AccountsAbsent: UNAVAILABLE,
}


def refusal_of(error: Exception) -> Refusal:
    """The answer to an error; whatever is not in the table is a fault of ours, and a fault of ours is never a 4xx."""
    if isinstance(error, TooManyFailures):
        return Refusal(
            429,
            "too-many-requests",
            "Too many requests with wrong credentials came from there; try again later.",
            ((b"retry-after", b"%d" % error.seconds),),
        )
    return REFUSALS.get(type(error), UNAVAILABLE)
