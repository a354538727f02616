"""What an answer's status means for its fetch: one table, pure."""

from dataclasses import dataclass
from typing import Literal

from shared.configuration import Retry
from shared.providers.interface import Call
from workers.backoff import wait_seconds


TRIES_FOR_NOT_FOUND = 5
ACCOUNT_WAIT_SECONDS = 300.0

_FINAL = frozenset({400, 405, 410})
_ACCOUNT = frozenset({401, 402, 403})
_WHOLE_ACCOUNT = frozenset({401, 402})  # 403 may be about this one thing: a scope, a customer who may not be read
_NOT_FOUND = 404
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Verdict:
    """``again`` after ``wait_seconds``; ``gone``: a tombstone; ``failed``: final.

    ``account``: the credentials are refused, nothing else of this account need be tried. ``slow_down``: the provider
    counts our calls and wants none of this scope for ``wait_seconds``.
    """

    kind: Literal["again", "gone", "failed"]
    reason: str
    detail: str
    wait_seconds: float = 0.0
    account: bool = False
    slow_down: bool = False
    counted: bool = True


def judge(
    *, status: int, said: str, call: Call, attempts: int, policy: Retry, asked: float | None, penalty: float
) -> Verdict:
    """The verdict on an answer that is not success; ``asked`` are the seconds of its Retry-After."""
    detail = f"the API answered {status}" + (f": {said}" if said else "")
    if status in _FINAL:
        return Verdict("failed", "refused", detail)
    if status in _ACCOUNT:
        # Waits until the account is mended and uses up nothing meanwhile.
        return Verdict(
            "again",
            "account-refused",
            f"{detail}; check the account's key",
            ACCOUNT_WAIT_SECONDS,
            account=status in _WHOLE_ACCOUNT,
            counted=False,
        )
    if status == _NOT_FOUND:
        if call.missing == "tombstone":
            return Verdict("gone", "gone", detail)
        if attempts >= TRIES_FOR_NOT_FOUND:
            return Verdict("failed", "attempts-used-up", f"{detail}, {attempts} times")
    if status == _TOO_MANY:
        return again("too-many-calls", detail, attempts, policy, penalty if asked is None else asked, slow_down=True)
    return again("refused", detail, attempts, policy, asked)


def again(
    reason: str, detail: str, attempts: int, policy: Retry, asked: float | None = None, *, slow_down: bool = False
) -> Verdict:
    """Try again with backoff, or give up when the attempts are used up."""
    if attempts >= policy.max_attempts:
        return Verdict("failed", "attempts-used-up", f"{detail} (attempt {attempts} of {policy.max_attempts})")
    return Verdict("again", reason, detail, wait_seconds(policy, attempts, asked), slow_down=slow_down)
