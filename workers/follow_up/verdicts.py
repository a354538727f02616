"""What an answer's status means for its fetch: one table, pure."""

import random
from dataclasses import dataclass
from typing import Final, Literal

from shared.circuits import Trouble
from shared.configuration import Retry
from shared.providers.interface import Call, Refusal
from workers.backoff import wait_seconds


REFUSAL_WAITS: Final = (1, 5, 30, 120)
"""Waits between the tries of one thing that is refused or not found, in ``base_seconds``: a replica lags by seconds, a
list or a cache by a minute or two, and a firewall that took us for an attacker forgives within minutes. Two and a half
minutes; what is not there then has to be asked for again by somebody who knows that it is."""

TRIES_WHEN_REFUSED: Final = len(REFUSAL_WAITS) + 1

ACCOUNT_WAIT_SECONDS = 300.0

SERVER_ERRORS = 500

_FINAL = frozenset({400, 405, 410})
_NOT_FOUND = 404
_ABSENT = Refusal("one", "attempts-used-up")
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
    refused: bool = False
    """It refuses this one thing, and counts to the few tries that such a thing has."""


def judge(
    *,
    status: int,
    said: str,
    call: Call,
    account: str,
    attempts: int,
    refusals: int,
    refusal: Refusal | None,
    policy: Retry,
    asked: float | None,
    longest: float,
    penalty: float,
) -> Verdict:
    """The verdict on an answer that is not success.

    ``asked`` are the seconds of its Retry-After, of which ``longest`` count, and but for a 429 the policy's most;
    ``penalty`` is the provider's documented time after a 429; ``refusal`` is what the provider means by a refusal;
    ``refusals`` are the answers before this one that refused this one thing.
    """
    longest = longest if status == _TOO_MANY else min(longest, policy.max_seconds)
    detail = f"the API answered {status}" + (f": {said}" if said else "")
    if asked is not None and asked > longest:
        detail = f"{detail} (Retry-After of {asked:,.0f} s, taken as {longest:,.0f} s)"
        asked = longest
    if status in _FINAL:
        return Verdict("failed", "refused", detail)
    if refusal and refusal.about == "account":
        # Waits until the account is mended and uses up nothing meanwhile.
        said = f"{refusal.detail or f'check the API key of {account}'}: {detail}"
        wait = ACCOUNT_WAIT_SECONDS
        return Verdict("again", refusal.reason, said, wait, trouble="refused", for_certain=True, counted=False)
    if status == _NOT_FOUND and call.missing == "tombstone":
        return Verdict("gone", "gone", detail)
    if refusal or status == _NOT_FOUND:
        return _refused(refusal or _ABSENT, detail, refusals, policy, asked)
    if status == _TOO_MANY:
        # The call was one too many, not wrong: it waits for its turn and uses up nothing.
        seconds = max(policy.base_seconds, penalty if asked is None else asked)
        return Verdict("again", "too-many-calls", detail, seconds, empty_seconds=seconds, counted=False)
    return again("refused", detail, attempts, policy, asked, trouble="down" if status >= SERVER_ERRORS else None)


def _refused(refusal: Refusal, detail: str, refusals: int, policy: Retry, asked: float | None) -> Verdict:
    """Try one thing again after a while, a few times; nothing is wrong with the account."""
    detail = f"{refusal.detail}: {detail}" if refusal.detail else detail
    if refusals + 1 >= TRIES_WHEN_REFUSED:
        return Verdict("failed", refusal.reason, f"{detail} ({refusals + 1} times)", refused=True)
    # No jitter downwards: the time between the tries is what they are for.
    spread = random.uniform(1, 1.25)  # noqa: S311 - spreads load, guards nothing
    seconds = min(policy.max_seconds, policy.base_seconds * REFUSAL_WAITS[refusals] * spread)
    wait = max(seconds, min(asked or 0.0, policy.max_seconds))
    reason = "refused" if refusal is _ABSENT else refusal.reason
    return Verdict("again", reason, detail, wait, refused=True)


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
