"""There is advice for whatever an event ends with."""

from typing import get_args

import pytest

from ops import advice
from shared.errors import Reason


@pytest.mark.parametrize("reason", [*get_args(Reason), "refused"])
def test_every_reason_has_a_sentence_of_its_own(reason: str) -> None:
    """That says what to do, and never the one for what nobody knows."""
    assert advice.about_event(reason) != advice.about_event("nobody knows")
    assert any(word in advice.about_event(reason) for word in ("replay", "discard", "goes on"))


def test_what_was_not_found_is_no_api_that_keeps_failing() -> None:
    """The reason is shared: the sentence holds for both."""
    assert "there" in advice.about_event("attempts-used-up")
    assert "kept failing" not in advice.about_event("attempts-used-up")
