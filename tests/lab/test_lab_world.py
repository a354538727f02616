"""The lab's world: the same from the same seed, changed by what happens, and found again by the read that follows."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.lab.accounts import lab_accounts
from ops.lab.happening import LabError
from ops.lab.magicline_events import EVENTS
from ops.lab.paybook_rows import amount
from ops.lab.paybook_world import SEED_CREDENTIAL, PaybookWorld
from ops.lab.server import PORTS
from ops.lab.world import World


BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_world(seed: int = 7) -> World:
    """A world whose time is fixed."""
    return World(seed, lab_accounts(seed, {name: 9000 + place for place, name in enumerate(PORTS)}), BEGAN)


def everything_that_happens(seed: int) -> list[bytes]:
    """Every event of every account, once."""
    world = make_world(seed)
    told = []
    for account in world.accounts:
        for event in world.part(account.provider, account.name).events():
            happening = world.happen(account.provider, event, account.name, {})
            told.append(orjson.dumps([happening.document, sorted(happening.images)]))
    return told


def test_the_same_seed_tells_the_same_deliveries() -> None:
    """A run repeats: every event of every account, byte for byte."""
    assert everything_that_happens(7) == everything_that_happens(7)
    assert everything_that_happens(7) != everything_that_happens(8)


def test_magicline_sends_all_44_documented_event_types() -> None:
    """The table holds what providers.md lists."""
    assert len(EVENTS) == 44


def test_two_studios_hold_different_customers() -> None:
    """A key that leads to the wrong studio shows in the record."""
    world = make_world()
    berlin, hamburg = (world.part("magicline", name).thing("customer", "1001") for name in world.magicline)
    assert berlin != hamburg


def test_a_deleted_customer_is_gone() -> None:
    """What was deleted answers 404 from then on."""
    world = make_world()
    world.happen("magicline", "CUSTOMER_DELETED", "", {"customer": 1001})
    assert world.part("magicline").thing("customer", "1001") is None


def test_each_contract_event_names_a_contract_that_the_list_holds() -> None:
    """The follow-up picks the contract out of the customer's list."""
    world = make_world()
    studio = world.magicline["studio-berlin"]
    for event in ("CONTRACT_CREATED", "CONTRACT_UPDATED", "CONTRACT_CANCELLED"):
        told = world.happen("magicline", event, "studio-berlin", {}).document
        contracts = {item["id"] for item in studio.contracts(told["entityId"])}
        assert told["payload"][0]["content"]["contractId"] in contracts


def test_an_imin_customer_with_notifications_gets_one_with_each_cause() -> None:
    """Notifications carry an @id of their own each."""
    world = make_world()
    for cause in ("customer-details-updated", "entitlement-removed"):
        world.happen("imin", cause, "", {"customer": "abc"})
    customer = world.imin["main"].customer("abc")
    assert customer is not None
    assert len({item["@id"] for item in customer["notifications"]}) == 2


def test_a_disconnected_seller_shows_in_the_linked_accounts_only() -> None:
    """The customer account stays as it is; the linked accounts lose one."""
    imin = make_world().imin["main"]
    before = imin.customer("abc"), imin.linked_accounts("abc")
    imin.happen("seller-account-disconnected", {"customer": "abc", "notify": False})
    assert before[0] == imin.customer("abc")
    assert before[1] != imin.linked_accounts("abc")


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_an_amount_is_a_json_number_that_keeps_its_digits(bits: int) -> None:
    """Every generated amount is valid JSON and reads back as exactly the text that was written."""
    text = amount(bits)
    assert Decimal(text) == msgspec.json.decode(text, type=Decimal)


def test_amounts_include_some_that_a_float_would_change() -> None:
    """Otherwise a pipeline that rounds would pass."""
    texts = [amount(bits << 40 | bits * 7919) for bits in range(200)]
    assert any(repr(float(text)) != text for text in texts)


def test_a_refresh_lists_exactly_the_pages_that_its_rows_fill() -> None:
    """200,000 transactions are 40 addresses of 5,000."""
    world = PaybookWorld("main", 7)
    world.resize(SEED_CREDENTIAL, 200_000)
    told = world.happen("refresh", {"credential": SEED_CREDENTIAL, "new": 0, "changed": 0}).document
    pages = told["endpoints"]["transactions"]
    assert len(pages) == 40
    assert pages[39] == f"/v1/transactions?id_credential={SEED_CREDENTIAL}&limit=5000&skip=195000&wbhk=1"


def test_pages_hold_every_row_once() -> None:
    """Page by page there are as many different ids as rows, and each can be looked up alone with the same bytes."""
    world = PaybookWorld("main", 7)
    world.resize(SEED_CREDENTIAL, 1234)
    credential = world.credentials[SEED_CREDENTIAL]
    pages = [world.page("transactions", credential, skip, 500) for skip in range(0, 2000, 500)]
    ids = [row["id_transaction"] for page in pages for row in orjson.loads(b"[" + page + b"]")]
    assert [500, 500, 234, 0] == [page.count(b'"id_transaction"') for page in pages]
    assert len(set(ids)) == 1234
    found = world.thing("transaction", ids[600])
    assert found is not None
    assert found in pages[1]


def test_a_changed_transaction_keeps_the_digits_it_was_given() -> None:
    """Also where a float would not."""
    world = PaybookWorld("main", 7)
    row = orjson.loads(b"[" + world.page("transactions", world.credentials[SEED_CREDENTIAL], 5, 1) + b"]")[0]
    world.change("transaction", row["id_transaction"], {"amount": "22339.470000000001", "is_deleted": 1})
    changed = world.thing("transaction", row["id_transaction"]) or b""
    assert b'"amount":22339.470000000001,' in changed
    assert b'"is_deleted":1' in changed


def test_v3_wraps_the_same_payload() -> None:
    """The V3 envelope carries the event id and the first form's body."""
    told = PaybookWorld("main", 7).happen("credentials.refreshed", {}).document
    assert told["events"][0]["header"]["event"]["name"] == "credentials.refreshed"
    assert told["events"][0]["payload"]["event"] == "refresh"
    assert len(told["events"][0]["header"]["event"]["eid"]) == 24


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"document_type": "PP"}, 3),
        ({"document_type": "DL"}, 4),
        ({"document_type": "DL", "documents": 3, "address_proof": True}, 10),
    ],
)
def test_a_verification_has_the_images_of_its_documents(options: dict[str, object], parts: int) -> None:
    """A passport has no back; further documents and the proof of address bring their own parts."""
    assert parts == len(make_world().happen("authenteq", "verification", "", options).images)


def test_an_unknown_event_is_refused_with_those_there_are() -> None:
    """The sentence lists what can be sent."""
    with pytest.raises(LabError, match="it sends refresh, credential_create"):
        make_world().happen("paybook", "refreshed", "", {})


def test_a_lab_may_have_any_number_of_studios() -> None:
    """Each with keys of its own; the first two are the usual ones, whatever their number."""
    ports = dict.fromkeys(PORTS, 9000)
    usual = [each for each in lab_accounts(7, ports) if each.provider == "magicline"]
    many = [each for each in lab_accounts(7, ports, studios=20) if each.provider == "magicline"]

    assert usual == many[:2]
    assert 20 == len({each.name for each in many}) == len({each.api_key for each in many})
