"""Deliveries prove their sender as each provider does it."""

import hashlib
import hmac
from datetime import UTC, datetime

import orjson
import pytest
from python_multipart.multipart import MultipartParser, parse_options_header

from ops.lab.accounts import Account, lab_accounts
from ops.lab.deliveries import Delivery, body_of, signed
from ops.lab.happening import LabError
from ops.lab.server import PORTS
from ops.lab.world import World


def deliver(provider: str, signature: str = "hmac-sha256") -> tuple[Account, Delivery]:
    """The keys of the provider's account, and a delivery of it."""
    accounts = lab_accounts(7, dict.fromkeys(PORTS, 9000))
    world = World(7, accounts, datetime(2026, 3, 1, tzinfo=UTC))
    account = world.account(provider)
    keys = Account(
        account.provider, account.name, account.webhook_key, "", "", account.client_id, account.header, signature
    )
    return keys, signed(keys, *body_of(world.happen(provider, "", "", {})))


def test_imin_and_magicline_show_their_key() -> None:
    """One header each."""
    imin, to_imin = deliver("imin")
    magicline, to_magicline = deliver("magicline")
    assert to_imin.headers["X-Api-Key"] == imin.webhook_key
    assert to_magicline.headers["x-api-key"] == magicline.webhook_key


def test_paybook_shows_its_token_in_the_path_and_its_custom_header() -> None:
    """Both are configured at registration."""
    account, delivery = deliver("paybook")
    assert delivery.path == f"/webhooks/paybook/{account.webhook_key}"
    assert dict([account.header] if account.header else []).items() <= delivery.headers.items()


@pytest.mark.parametrize("form", ["hmac-sha256", "sha256-body-secret", "sha256-secret-body"])
def test_authenteq_signs_the_raw_body_in_the_chosen_form(form: str) -> None:
    """The three readings of the seed's sentence."""
    account, delivery = deliver("authenteq", form)
    secret = account.webhook_key.encode()
    expected = {
        "hmac-sha256": hmac.new(secret, delivery.body, hashlib.sha256).hexdigest(),
        "sha256-body-secret": hashlib.sha256(delivery.body + secret).hexdigest(),
        "sha256-secret-body": hashlib.sha256(secret + delivery.body).hexdigest(),
    }[form]
    assert expected == delivery.headers["X-SIGNATURE"]
    assert delivery.headers["X-CLIENT-ID"] == account.client_id


def test_an_unknown_form_of_signature_is_refused() -> None:
    """With the form in the sentence."""
    with pytest.raises(LabError, match="md5"):
        deliver("authenteq", "md5")


def test_an_authenteq_body_is_multipart_with_the_result_and_each_image() -> None:
    """An independent parser reads it."""
    _, delivery = deliver("authenteq")
    _, options = parse_options_header(delivery.headers["Content-Type"])
    bodies: list[bytes] = []
    parser = MultipartParser(
        options[b"boundary"],
        {
            "on_part_begin": lambda: bodies.append(b""),
            "on_part_data": lambda data, start, end: bodies.append(bodies.pop() + data[start:end]),
        },
    )
    parser.write(delivery.body)
    parser.finalize()
    assert orjson.loads(bodies[0])["status"] == "PASSED"
    assert all(body.startswith(b"\xff\xd8") and body.endswith(b"\xff\xd9") for body in bodies[1:])
    assert len(bodies) in {4, 5}


def test_a_redelivery_of_authenteq_has_another_boundary_and_the_same_result() -> None:
    """So its body hash differs, as the provider's may."""
    happening = World(7, lab_accounts(7, dict.fromkeys(PORTS, 9000)), datetime.now(UTC)).happen("authenteq", "", "", {})
    assert body_of(happening, 1)[0] != body_of(happening, 2)[0]
    assert body_of(happening, 1) == body_of(happening, 1)
