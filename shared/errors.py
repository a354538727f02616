"""Every error that Penstock raises on purpose, split by what is done next.

PenstockError
├── SettingsError        a setting is wrong: refuse to start (or keep the old settings) and name it
├── StoreAway            Postgres, Redis or the blob store does not answer: try again later
│   └── StoreUnfit       it answers, and is not fit for what it is to keep: somebody has to mend it
├── NotAuthentic         the sender is not who it should be: 401, nothing is kept
├── Unreadable           authentic, but not to be understood: kept, acknowledged, parked with a reason
└── AnswerError          a provider's API did not give what was asked for
    ├── BrokenAnswer     truncated, not JSON, of the wrong shape: ask again
    └── RefusedAnswer    an envelope that says another status than its HTTP status line: treated as that status

Programs read ``reason`` (a slug of contract: one of ``REASONS``); people read the sentence.
"""

from typing import Literal


Reason = Literal[
    "empty",
    "not-json",
    "wrong-shape",
    "unknown-type",
    "untrusted-url",
    "too-many-calls",
    "missing-part",
    "repeated-part",
    "attempts-used-up",
    "endless-pages",
    "account-removed",
    "poison",
    "body-missing",
    "missing-scope",
    "user-gone",
    "row-set-aside",
]


class PenstockError(Exception):
    """The root: catch it where one sentence is to be shown instead of a traceback."""


class SettingsError(PenstockError):
    """A setting is missing or wrong; the sentence names it and says what to do."""


class StoreAway(PenstockError):
    """A store did not answer; the sentence says which URL (without its password) was tried."""


class StoreUnfit(StoreAway):
    """A store answers and is not fit for what it is to keep; the sentence says what to do."""


Cause = Literal[
    "missing-credentials",
    "unknown-key",
    "wrong-header",
    "wrong-client-id",
    "malformed-signature",
    "other-signature-form",
    "altered-body",
]
"""Why a delivery was not authentic, for the people who look into the quarantine; its sender is never told."""


class NotAuthentic(PenstockError):
    """The request does not prove its sender. Never an HTTP exception: ingress maps it to 401."""

    def __init__(self, detail: str, cause: Cause = "unknown-key") -> None:
        super().__init__(detail)
        self.cause: Cause = cause


class Unreadable(PenstockError):
    """An authentic delivery that cannot be followed up as it is; the event is parked with ``reason``."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


class AnswerError(PenstockError):
    """A provider's API did not give what was asked for."""


class BrokenAnswer(AnswerError):
    """The answer cannot be used (truncated, not JSON, wrong shape): the same call is made again later."""


class RefusedAnswer(AnswerError):
    """The body says another status than the status line (Paybook's envelope); it is treated as ``status``."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
