"""What a handler's answer, silence or exception means for its hand-over and for the handler: pure."""

from shared.configuration import Retry
from shared.errors import StoreAway
from shared.handlers.change import OutgoingChange
from shared.sealing import BrokenSeal
from shared.store.handovers.handing_over import ClaimedHandover, Delivered
from workers.backoff import retry_after, wait_seconds
from workers.calling import NoAnswer
from workers.hand_over.discretion import discreet
from workers.hand_over.posting import Response


SUCCESS = range(200, 300)
REDIRECT = range(300, 400)
SAID_CHARACTERS = 200

_GONE = 410
_TOO_MANY = 429
_UNAVAILABLE = 503
_ABOUT_THE_MESSAGE = frozenset({400, 409, 413, 422})


def judge_answer(claimed: ClaimedHandover, answer: Response, policy: Retry) -> Delivered:
    """The verdict on an answer; what a redirect points to is never asked.

    2xx is done, whatever its body says or however it ends (RFC 9110 allows none with a 204): the status came last.
    """
    status = answer.status
    if status in SUCCESS:
        return Delivered(claimed, "done", status, reached=True)
    if status == _GONE:
        return Delivered(
            claimed,
            "waiting",
            status,
            reason="endpoint-gone",
            detail="the endpoint answered 410, gone: nothing more is sent to this URL",
            counted=False,
            stop=True,
        )
    said = said_of(answer.body.decode(errors="replace"), claimed.change)
    detail = f"the endpoint answered {status}" + (f": {said}" if said else "")
    asked = retry_after(answer.headers.get("retry-after"))
    if status == _TOO_MANY or (status == _UNAVAILABLE and asked is not None):
        wait = wait_seconds(policy, claimed.attempts, asked)
        reason = "slow-down"
        return Delivered(
            claimed, "waiting", status, reason, detail, wait_seconds=wait, counted=False, pause_seconds=wait
        )
    if status in REDIRECT:
        return again(claimed, "redirected", f"{detail}; redirects are not followed", policy, status, reached=False)
    return again(claimed, "refused", detail, policy, status, reached=None if status in _ABOUT_THE_MESSAGE else False)


def judge_silence(claimed: ClaimedHandover, error: NoAnswer, policy: Retry) -> Delivered:
    """The verdict where no answer came."""
    return again(claimed, "no-answer", str(error), policy, reached=False)


def judge_fault(claimed: ClaimedHandover, error: Exception, policy: Retry) -> Delivered:
    """The verdict where it could not be prepared, sent or judged, by no fault of the handler.

    For a store that is away no attempt counts. A key that is missing may come back with the settings.
    """
    if isinstance(error, StoreAway):
        wait = wait_seconds(policy, claimed.attempts)
        return Delivered(claimed, "waiting", None, "store-away", named(error, claimed.change), wait, counted=False)
    reason = "sealed" if isinstance(error, BrokenSeal) else "fault"
    return again(claimed, reason, named(error, claimed.change), policy)


def named(error: BaseException, change: OutgoingChange | None) -> str:
    """An exception's name and what it says of a change, which may be code of the application that fails in turn."""
    try:
        said = said_of(str(error), change)
    except Exception:  # noqa: BLE001 - whatever it is, there is nothing to repeat
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def said_of(text: str, change: OutgoingChange | None) -> str:
    """The beginning of what was said of a change, in one line, without private values; nothing if those are unknown."""
    try:
        text = discreet(text, change)
    except Exception:  # noqa: BLE001 - a record that cannot be read, in whichever way
        return ""
    return " ".join(text.split())[:SAID_CHARACTERS]


def again(
    claimed: ClaimedHandover,
    reason: str,
    detail: str,
    policy: Retry,
    status: int | None = None,
    *,
    reached: bool | None = None,
) -> Delivered:
    """Try again with backoff, or park it when its attempts are used up."""
    if claimed.attempts >= policy.max_attempts:
        detail = f"{detail} (attempt {claimed.attempts} of {policy.max_attempts})"
        return Delivered(claimed, "parked", status, "attempts-used-up", detail, reached=reached)
    wait = wait_seconds(policy, claimed.attempts)
    return Delivered(claimed, "waiting", status, reason, detail, wait_seconds=wait, reached=reached)


def removed(claimed: ClaimedHandover) -> Delivered:
    """The verdict on a change that is not kept any more."""
    return Delivered(claimed, "discarded", reason="change-removed", detail="the change is not kept any more")
