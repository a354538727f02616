"""What to do about what is parked, failed, refused or waits: one sentence each, alike in commands and console."""

from typing import Final


_EVENTS: Final = {
    "empty": "the provider sent a delivery without a body: ask it why, or discard it",
    "not-json": "the body is not JSON, or cut off: look at it with `penstock events body ID`, ask the provider to"
    " send it again, and discard it",
    "wrong-shape": "the body is not what the provider documents: compare it with its documentation, then mend the"
    " mapping and replay it, or discard it",
    "unknown-type": "the provider sends a type of event that is not known here: replay it after an update that knows"
    " the type, or discard it",
    "untrusted-url": "it names a URL that is not the provider's own, which is never called: find out who sent it, then"
    " discard it",
    "too-many-calls": "it asks for more calls than max_calls of [following_up] allows: find out who sent it; raise the"
    " setting and replay it, or discard it",
    "missing-part": "a part that belongs to such a delivery is missing: ask the provider to send it again, or discard"
    " it",
    "repeated-part": "a part is there more than once, so nobody knows which one counts: ask the provider to send it"
    " again, or discard it",
    "attempts-used-up": "what it asks for was not there in minutes, or the API failed for hours: `penstock events show"
    " ID` says which; replay it once it is there and the API answers again, or discard it",
    "refused": "the provider's API refuses this call for good: `penstock events show ID` says what it answered; replay"
    " it once that is mended, or discard it",
    "endless-pages": "the answer's pages do not end, or go round in a circle: what they brought is kept; ask the"
    " provider, then replay it",
    "missing-scope": "the API key is good, but may not make this call: ask the provider for the scope that `penstock"
    " events show ID` names, then replay it, or discard it",
    "user-gone": "the provider does not know this user any more, and the API key is good: replay it if the user comes"
    " back, or discard it",
    "body-missing": "its body is not where it was kept: bring the file or object back (from a backup) and replay it, or"
    " ask the provider to send it again and discard it",
    "account-removed": "its account is not in the settings any more: it goes on by itself when the account returns, or"
    " discard it",
    "poison": "it took its worker process down each time: report it with the worker's log, replay it after an update,"
    " or discard it",
}
_EVENT_OTHERWISE: Final = "see with `penstock events show ID` what happened, then replay or discard it"

_REFUSALS: Final = {
    "missing-credentials": "a header is missing, repeated or empty: have the provider send it, or see that no proxy"
    " takes it away",
    "unknown-key": "the key or token is not one of an account: compare the settings with what the provider sends, then"
    " release it",
    "wrong-header": "the token is right, the header beside it is not: mend `webhook_header`, then release it",
    "wrong-client-id": "the client id is not one of an account: mend `client_id`, then release it",
    "malformed-signature": "the signature is not 64 hexadecimal digits: ask the provider what it sends",
    "other-signature-form": "it is signed in a form that the settings do not allow: set `signature`, then release it",
    "altered-body": "no secret of the account gives this signature: enter the right secret, then release it; otherwise"
    " the body was altered",
}
_REFUSAL_OTHERWISE: Final = "see with `penstock quarantine show ID` what came in"

_HANDOVERS: Final = {
    "attempts-used-up": "the handler kept failing: mend it, then replay the hand-over, or discard it",
    "wrong-shape": "the record does not fit the model of its kind: replay it after an update that knows it, or discard"
    " it",
    "poison": "the handler took its process down each time: mend the handler, then replay the hand-over, or discard it",
    "change-removed": "the change is not kept any more: there is nothing to send, and nothing to do",
}
_HANDOVER_STATES: Final = {
    "pending": "it is handed over as soon as its handler has room and the earlier changes of its record are through:"
    " nothing to do",
    "running": "it is being handed over at this moment: nothing to do",
    "done": "the handler has it: nothing to do; a replay sends it again under the same id",
    "parked": "the handler did not take it: mend the handler, then replay the hand-over, or discard it",
    "discarded": "the handler does not get it: a replay sends it all the same",
}
_WAITING: Final = {
    "endpoint-gone": "the endpoint answered 410 and the handler is stopped: set another url, or"
    " `penstock handlers resume {handler}`",
    "slow-down": "the endpoint asked for a pause and gets the change after it: nothing to do",
}
_WAITING_OTHERWISE: Final = "it failed and is tried again by itself: if it keeps failing, mend the handler"


def about_event(reason: str | None) -> str:
    """What to do about events that are parked or failed for a reason."""
    return _EVENTS.get(reason or "", _EVENT_OTHERWISE)


def about_refusal(cause: str) -> str:
    """What to do about deliveries that were refused for a cause."""
    return _REFUSALS.get(cause, _REFUSAL_OTHERWISE)


def about_handover(state: str, reason: str | None, handler: str) -> str:
    """What to do about a hand-over in a state, with the reason of its last failure."""
    if state == "waiting":
        return _WAITING.get(reason or "", _WAITING_OTHERWISE).format(handler=handler)
    if state in {"parked", "discarded"} and reason in _HANDOVERS:
        return _HANDOVERS[reason] if state == "parked" or reason == "change-removed" else _HANDOVER_STATES[state]
    return _HANDOVER_STATES[state]
