"""Text from anywhere is made such that Postgres can store it."""

from hypothesis import given
from hypothesis import strategies as st

from shared.store.text import MOST, storable


_ANY = st.text(st.characters(codec=None, categories=None), max_size=40)


@given(_ANY)
def test_whatever_is_made_storable_is_utf8_without_nul(text: str) -> None:
    """No NUL, no half of a surrogate pair, and nothing else is changed."""
    made = storable(text)
    assert b"\0" not in made.encode()
    assert len(made) == len(text)
    assert all(new in {old, "\ufffd"} for new, old in zip(made, text, strict=True))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_what_can_be_stored_is_left_alone(text: str) -> None:
    """Letters, signs outside the basic plane and control characters other than NUL stay as they are."""
    assert storable(text) == text


def test_it_is_cut_at_so_many_characters() -> None:
    """A long text does not become a long row."""
    assert len(storable("a" * (MOST + 1))) == MOST
    assert storable("\0bc", 2) == "\ufffdb"
