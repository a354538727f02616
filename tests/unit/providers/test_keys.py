"""The key ring: which account a presented key belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import NotAuthentic
from shared.providers.keys import KeyRing


KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(keys=st.lists(KEYS, unique=True, min_size=1, max_size=20))
def test_every_key_finds_its_own_account(keys: list[str]) -> None:
    """Any number of keys, of any characters, each lead to the account that holds them."""
    ring = KeyRing((f"account-{number}", SecretStr(key)) for number, key in enumerate(keys))
    assert [f"account-{number}" for number in range(len(keys))] == [ring.account(key.encode()) for key in keys]


@given(keys=st.lists(KEYS, max_size=5), presented=st.binary(max_size=40))
def test_what_is_no_key_is_refused_whatever_its_bytes(keys: list[str], presented: bytes) -> None:
    """Empty, binary and nearly right keys are not authentic, and never an error of another kind."""
    ring = KeyRing(("main", SecretStr(key)) for key in keys)
    if presented not in {key.encode() for key in keys}:
        with pytest.raises(NotAuthentic):
            ring.account(presented)


def test_a_ring_without_keys_admits_nobody() -> None:
    """No account, no key: not even the empty one."""
    with pytest.raises(NotAuthentic):
        KeyRing([]).account(b"")


def test_an_account_may_hold_two_keys() -> None:
    """During a rotation both lead to it."""
    ring = KeyRing([("main", SecretStr("old")), ("main", SecretStr("new"))])
    assert ["main", "main"] == [ring.account(b"old"), ring.account(b"new")]


def test_the_sentence_does_not_repeat_the_key() -> None:
    """What was presented may be nearly right, and sentences are logged."""
    with pytest.raises(NotAuthentic) as caught:
        KeyRing([("main", SecretStr("secret-key"))]).account(b"secret-kex")
    assert "secret" not in str(caught.value)
