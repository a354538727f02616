"""Nothing looks into a key that a stranger presents but what takes the same time whatever is in it.

Digests and ``hmac.compare_digest`` take a key as a buffer. Whatever else would compare, look up or cut it asks the key
itself, which is how these tests see it. That time tells nothing is measured by ``penstock bench --only key-timing``.
"""

from typing import Any, Final

import pytest
from pydantic import SecretStr

from ops.bench.telltale import KEY, NEARLY, NOTHING, authentication, leaking, welch
from shared.errors import NotAuthentic
from shared.providers.interface import Inbound, Unverified
from shared.providers.keys import KeyRing
from shared.providers.registry import PROVIDERS


TELLING: Final = (
    "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__contains__", "__getitem__", "__iter__",
    "startswith", "endswith", "find", "index", "count", "removeprefix", "split", "partition",
)  # fmt: skip
"""What stops at the first difference, or lets somebody else do so."""


class Watched(bytes):
    """A key that notes what it is asked."""

    asked: list[str]


def _noting(name: str) -> Any:
    def method(self: Watched, *arguments: Any) -> Any:
        self.asked.append(name)
        return getattr(bytes, name)(self, *arguments)

    return method


for _name in TELLING:
    setattr(Watched, _name, _noting(_name))


def watched(key: bytes) -> Watched:
    """A key that was asked nothing yet."""
    made = Watched(key)
    made.asked = []
    return made


@pytest.mark.parametrize(
    "key", [KEY, NEARLY, NOTHING, KEY[:-1], b"x"], ids=["right", "nearly", "wrong", "cut", "short"]
)
@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_key_is_looked_into_by_nothing_that_stops_early(provider: str, key: bytes) -> None:
    """Neither a right one nor a wrong one, of whatever length."""
    presented = watched(key)
    authentication(provider)(presented)
    assert [] == presented.asked


def test_the_header_beside_paybooks_token_is_looked_into_by_nothing_that_stops_early() -> None:
    """It is a second secret."""
    settings = {
        "name": "main",
        "webhook_tokens": [KEY.decode()],
        "webhook_header": {"name": "X-Hook-Secret", "value": KEY.decode()},
        "api_key": "to-them",
        "base_url": "https://sync.paybook.com",
    }
    provider = PROVIDERS["paybook"]
    inbound: Inbound = provider.inbound([provider.account.model_validate(settings)])
    presented = watched(NEARLY)
    with pytest.raises(NotAuthentic):
        inbound.authenticate(Unverified([(b"x-hook-secret", presented)], KEY))
    assert [] == presented.asked


def test_every_comparison_that_would_stop_early_is_seen() -> None:
    """Otherwise the tests above would show nothing."""
    for comparing in (
        leaking,
        lambda key: key == KEY,
        lambda key: KEY == key,
        lambda key: key in {KEY, NOTHING},
        {KEY: "account"}.get,
        lambda key: key.startswith(KEY[:8]),
        lambda key: key[:8] == KEY[:8],
    ):
        presented = watched(NEARLY)
        comparing(presented)
        assert presented.asked


def test_what_keys_are_looked_up_by_says_nothing_of_them() -> None:
    """A digest under a secret of each process: two rings of the same key have nothing in common."""
    one, other = (KeyRing([("main", SecretStr(KEY.decode()))]) for _ in range(2))
    assert set(one._accounts).isdisjoint(other._accounts)
    assert {32} == {len(digest) for digest in one._accounts}


def test_the_bench_measures_what_ingress_does() -> None:
    """The right key alone is let in."""
    for provider in ("imin", "magicline", "paybook"):
        assert [True, False, False] == [authentication(provider)(key) for key in (KEY, NEARLY, NOTHING)]


def test_the_statistic_tells_samples_apart_that_differ() -> None:
    """Welch's t, worked out by hand."""
    assert welch([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]) == pytest.approx(-1.0)
    assert welch([10, 11, 12, 10, 11], [20, 21, 23, 20, 22]) == pytest.approx(-15.0111, abs=1e-4)
    assert 0.0 == welch([1, 1], [1, 1])
    assert float("inf") == abs(welch([1, 1], [2, 2]))
