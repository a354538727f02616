"""Chains of pages that lead back to themselves end early; those that do not are never taken for such."""

from typing import TYPE_CHECKING

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from shared.providers.interface import Call, Outcome
from workers.follow_up import chain


if TYPE_CHECKING:
    from collections.abc import Sequence


def walked(tail: int, round_: int, most: int) -> int:
    """How many calls a chain makes that goes round after ``tail`` pages in ``round_`` of them (0: it never does)."""
    place, made = 0, 0
    call = Call("/pages/0", "page")
    while made < most and not chain.goes_round(call):
        made += 1
        place = place + 1 if not round_ or place + 1 < tail + round_ else tail
        following = Call(f"/pages/{place}", "page", {"n": 1}, page=call.page + 1)
        (call,) = chain.onward(call, Outcome(next=[following])).next
        call = msgspec.convert(msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(call))), Call)
    return made


@given(st.integers(0, 40), st.integers(1, 40))
@example(0, 1)
@example(0, 2)
@example(1, 1)
def test_a_chain_that_goes_round_ends_early(tail: int, round_: int) -> None:
    """Wherever the round begins and however long it is; each of its pages has been read by then."""
    made = walked(tail, round_, 10_000)
    assert tail + round_ <= made <= 3 * (tail + round_) + 1


@given(st.integers(1, 300))
def test_a_chain_that_goes_on_is_left_alone(most: int) -> None:
    """As long as no page comes again."""
    assert most == walked(0, 0, most)


def test_calls_that_are_no_next_page_remember_nothing() -> None:
    """What is asked for instead, or besides, begins a chain of its own."""
    others: Sequence[Call] = [Call("/other", "other"), Call("/pages/0", "page")]
    assert others == chain.onward(Call("/pages/0", "page"), Outcome(next=others)).next
