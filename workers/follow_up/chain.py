"""Chains of pages that lead back to themselves.

Brent's algorithm (An Improved Monte Carlo Factorization Algorithm, BIT 20, 1980): to see that a chain goes round, one
page of it is remembered, and another each time that it has become twice as long. So each call carries a few bytes,
however long the chain, and of a round of ``n`` pages no more than some ``3 * n`` are asked for.
"""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from shared.providers.interface import Call, Outcome


if TYPE_CHECKING:
    from collections.abc import Mapping


REMEMBERED: Final = "remembered_page"
"""The member of a call's context that names a page before it: its digest and its number."""


def onward(call: Call, outcome: Outcome) -> Outcome:
    """What an answer to ``call`` means, with a page remembered by each call that goes on from there."""
    if not any(following.page > call.page for following in outcome.next):
        return outcome
    remembered: Mapping[str, Any] | None = call.context.get(REMEMBERED)
    if remembered is None or call.page >= 2 * remembered["page"]:
        remembered = {"digest": _digest(call), "page": call.page}
    return replace(
        outcome,
        next=[
            replace(following, context={**following.context, REMEMBERED: remembered})
            if following.page > call.page
            else following
            for following in outcome.next
        ],
    )


def goes_round(call: Call) -> bool:
    """Whether the chain has made this call before."""
    remembered = call.context.get(REMEMBERED)
    return remembered is not None and remembered["digest"] == _digest(call)


def _digest(call: Call) -> str:
    """By the path alone: what else belongs to a call may grow with every page."""
    return hashlib.blake2b(call.path.encode(), digest_size=12).hexdigest()
