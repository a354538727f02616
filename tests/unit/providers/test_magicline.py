"""Magicline's inbound face, its accounts, and how it is called."""

from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr, ValidationError

from shared.errors import NotAuthentic
from shared.providers.interface import Call, Limit, Unverified
from shared.providers.magicline import PROVIDER
from shared.providers.magicline.auth import MagiclineInbound
from shared.providers.magicline.settings import MagiclineAccount
from unit.providers.contract_suite import Headers, InboundContract


DELIVERIES = Path(__file__).parents[2] / "deliveries" / "magicline"


def account(name: str, *keys: str) -> MagiclineAccount:
    """A studio with these webhook keys."""
    return MagiclineAccount(
        name=name,
        base_url="https://acme.open-api.magicline.com",
        webhook_keys=tuple(SecretStr(key) for key in keys),
        api_key=SecretStr(f"{name}-api-key"),
    )


class TestMagiclineInbound(InboundContract):
    """The contract of every provider, with the key in ``x-api-key``."""

    success_status = 200
    secret_headers = (b"x-api-key",)

    def inbound(self) -> MagiclineInbound:
        """Two studios, the first with two keys."""
        return MagiclineInbound(
            [account("main", "studio-main-key-1", "studio-main-key-2"), account("other", "studio-other-key")]
        )

    def genuine_headers(self, key_number: int, body: bytes) -> Headers:
        """As Magicline sends it."""
        del body
        key = (b"studio-main-key-1", b"studio-main-key-2")[key_number]
        return [(b"content-type", b"application/json"), (b"x-api-key", key)]

    def test_a_key_finds_its_own_studio_among_thousands(self) -> None:
        """A delivery names no studio: its key alone says which one it is."""
        inbound = MagiclineInbound([account(f"studio-{number}", f"key-{number}") for number in range(3000)])
        expected = ["studio-0", "studio-1777", "studio-2999"]
        requests = [Unverified([(b"x-api-key", f"key-{number}".encode())]) for number in (0, 1777, 2999)]
        assert expected == [inbound.authenticate(request).account for request in requests]

    def test_the_api_key_does_not_open_the_webhook(self) -> None:
        """The key of our calls is not a key of deliveries."""
        with pytest.raises(NotAuthentic):
            self.inbound().authenticate(Unverified([(b"x-api-key", b"main-api-key")]))

    @pytest.mark.parametrize("folder", sorted(path.name for path in DELIVERIES.iterdir()))
    def test_every_recorded_delivery_is_admitted(self, folder: str) -> None:
        """Whatever a recorded body holds, its headers prove the studio."""
        recorded = msgspec.json.decode((DELIVERIES / folder / "headers.json").read_bytes(), type=list[tuple[str, str]])
        headers = [(name.encode(), value.encode()) for name, value in recorded]
        assert self.account == self.admit(Unverified(headers), (DELIVERIES / folder / "body.raw").read_bytes())


@pytest.mark.parametrize("keys", [(), ("a", "b", "c")])
def test_an_account_has_one_or_two_webhook_keys(keys: tuple[str, ...]) -> None:
    """None would let nobody in; more than two is no rotation."""
    with pytest.raises(ValidationError, match="webhook_keys"):
        account("main", *keys)


def test_both_kinds_of_keys_are_named_for_the_checks_of_the_settings() -> None:
    """Shared and empty keys can only be refused when the account names them."""
    studio = account("main", "one", "two")
    expected = (["one", "two"], ["main-api-key"])
    named = (studio.inbound_secrets(), studio.outbound_secrets())
    assert expected == tuple([key.get_secret_value() for key in keys] for keys in named)


def test_keys_are_never_shown() -> None:
    """A studio in a log or a traceback tells no key."""
    shown = repr(account("main", "s3cret-in"))
    assert not [key for key in ("s3cret-in", "main-api-key") if key in shown]


def test_calls_carry_the_studios_own_key() -> None:
    """The header is ``x-api-key``, as for deliveries, with the other key."""
    call = Call("/v1/customers/1", "customer")
    expected = {"x-api-key": "main-api-key"}
    assert expected == PROVIDER.follow_up.credentials(call, account("main", "one"))


@pytest.mark.parametrize(
    ("path", "purpose", "endpoint"),
    [
        ("/v1/customers/1", "customer", "GET /v1/customers/{customerId}"),
        ("/v1/customers/2", "customer", "GET /v1/customers/{customerId}"),
        (
            "/v1/customers/1/activities/checkins?sliceSize=50&offset=9",
            "check-ins",
            "GET /v1/customers/{customerId}/activities/checkins",
        ),
    ],
)
def test_the_limit_counts_over_an_endpoint_whatever_the_id_and_the_slice(
    path: str, purpose: str, endpoint: str
) -> None:
    """1,000 a minute per endpoint, and a minute away after a 429."""
    limit = PROVIDER.follow_up.limit(Call(path, purpose), account("main", "one"))
    expected = Limit(endpoint, 1000, 60.0, 60.0)
    assert expected == limit
