"""What an answer's status means for its fetch: one table, pure."""

from dataclasses import dataclass
from typing import Literal

from shared.circuits import Trouble
from shared.configuration import Retry
from shared.providers.interface import Call
from workers.backoff import wait_seconds


TRIES_FOR_NOT_FOUND = 5
ACCOUNT_WAIT_SECONDS = 300.0

SERVER_ERRORS = 500

_FINAL = frozenset({400, 405, 410})
_ACCOUNT = frozenset({401, 402, 403})
_WHOLE_ACCOUNT = frozenset({401, 402})  # 403 may be about this one thing: a scope, a customer who may not be read
_NOT_FOUND = 404
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Verdict:
    """``again`` after ``wait_seconds``; ``gone``: a tombstone; ``failed``: final.

    ``trouble`` is what the failure may say about the account as a whole; ``for_certain``: nothing else of it need be
    tried. ``empty_seconds``: the provider counts our calls and wants none of this scope for so long.
    """

    kind: Literal["again", "gone", "failed"]
    reason: str
    detail: str
    wait_seconds: float = 0.0
    trouble: Trouble | None = None
    for_certain: bool = False
    empty_seconds: float = 0.0
    counted: bool = True


def judge(
    *,
    status: int,
    said: str,
    call: Call,
    account: str,
    attempts: int,
    policy: Retry,
    asked: float | None,
    longest: float,
    penalty: float,
) -> Verdict:
    """The verdict on an answer that is not success.

    ``asked`` are the seconds of its Retry-After, of which ``longest`` count, and but for a 429 the policy's most;
    ``penalty`` is the provider's documented time after a 429.
    """
    longest = longest if status == _TOO_MANY else min(longest, policy.max_seconds)
    detail = f"the API answered {status}" + (f": {said}" if said else "")
    if asked is not None and asked > longest:
        detail = f"{detail} (Retry-After of {asked:,.0f} s, taken as {longest:,.0f} s)"
        asked = longest
    if status in _FINAL:
        return Verdict("failed", "refused", detail)
    if status in _ACCOUNT:
        # Waits until the account is mended and uses up nothing meanwhile.
        return Verdict(
            "again",
            "account-refused",
            f"check the API key of {account}: {detail}",
            ACCOUNT_WAIT_SECONDS,
            trouble="refused",
            for_certain=status in _WHOLE_ACCOUNT,
            counted=False,
        )
    if status == _NOT_FOUND:
        if call.missing == "tombstone":
            return Verdict("gone", "gone", detail)
        if attempts >= TRIES_FOR_NOT_FOUND:
            return Verdict("failed", "attempts-used-up", f"{detail}, {attempts} times")
    if status == _TOO_MANY:
        # The call was one too many, not wrong: it waits for its turn and uses up nothing.
        seconds = max(policy.base_seconds, penalty if asked is None else asked)
        return Verdict("again", "too-many-calls", detail, seconds, empty_seconds=seconds, counted=False)
    return again("refused", detail, attempts, policy, asked, trouble="down" if status >= SERVER_ERRORS else None)


def again(
    reason: str,
    detail: str,
    attempts: int,
    policy: Retry,
    asked: float | None = None,
    *,
    trouble: Trouble | None = None,
) -> Verdict:
    """Try again with backoff, or give up when the attempts are used up."""
    if attempts >= policy.max_attempts:
        used_up = f"{detail} (attempt {attempts} of {policy.max_attempts})"
        return Verdict("failed", "attempts-used-up", used_up, trouble=trouble)
    return Verdict("again", reason, detail, wait_seconds(policy, attempts, asked), trouble=trouble)
