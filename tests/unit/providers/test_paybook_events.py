"""Paybook: what is read from a delivery, in the seed's form (V1) and in the V3 envelope."""

import hashlib
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Unreadable
from shared.providers.interface import Delivery
from shared.providers.paybook import PROVIDER
from shared.providers.paybook.events import Notification, PaybookEvent
from unit.providers.contract_suite import recorded_deliveries
from unit.providers.test_paybook import account


FOLLOW_UP = PROVIDER.follow_up
RECORDED = {each.name: each for each in recorded_deliveries("paybook")}


def recorded(name: str) -> bytes:
    """The body of a recorded delivery, byte for byte."""
    return RECORDED[name].body


def delivery(body: bytes) -> Delivery:
    """A delivery to ``main``."""
    return Delivery(UUID(int=1), "main", body, "application/json")


def read(body: bytes) -> PaybookEvent:
    """What the follow-up reads from a body."""
    return FOLLOW_UP.read(delivery(body), account())


def envelope(*events: dict[str, Any]) -> bytes:
    """A V3 body."""
    return msgspec.json.encode({"rid": "r", "events": events})


def enveloped(eid: str | None = "e1", name: str = "credentials.updated", **payload: Any) -> dict[str, Any]:
    """One event of a V3 body."""
    header = {"name": name} if eid is None else {"name": name, "eid": eid}
    return {"header": {"event": header}, "payload": {"endpoints": {}, **payload}}


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("credential_create__seed", "8f8881b8346065a94ebb9ba025afdd0c021b1b91624fb416748c7da33d3982e4"),
        ("credential_update__seed", "8f15ca5fd65b0cc9aeece83e242c95b3eef3bdb7b4558a3103a028f0d93ef2b3"),
        ("refresh__seed", "e9d04ac7b0d8dbc803109c09445ea6e8c4effc928ade7ff6b0eb07824e21cee0"),
    ],
)
def test_the_seeds_own_samples_are_kept_byte_for_byte(name: str, sha256: str) -> None:
    """The samples have their blanks at line ends still, and a delivery of the seed's form is its body's sha256."""
    body = recorded(name)
    assert sha256 == hashlib.sha256(body).hexdigest()
    assert sha256 == FOLLOW_UP.identity(read(body))


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_delivery_comes_to_what_was_expected_of_it(name: str) -> None:
    """Its types, its identity and its calls, or the reason why it is parked; a folder is named after its event."""
    body, expected = RECORDED[name].body, RECORDED[name].expected
    found: dict[str, Any] = {}
    try:
        event = read(body)
        found |= {"types": list(FOLLOW_UP.types(event)), "identity": FOLLOW_UP.identity(event)}
        found["calls"] = [call.path for call in FOLLOW_UP.plan(event, delivery(body), account()).calls]
    except Unreadable as parked:
        found["unreadable"] = parked.reason
    assert expected == found
    assert name.partition("__")[0] in found.get("types", [name.partition("__")[0]])


def test_the_seeds_refresh_is_read_whole() -> None:
    """Type, user and endpoints; the other fields are ignored."""
    event = read(recorded("refresh__seed"))
    [notification] = event.notifications
    assert ("refresh", "5e751d54d0510472295413b3") == (notification.type, notification.id_user)
    assert {"accounts", "attachments", "credential", "transactions"} == set(notification.endpoints)


def test_a_v3_delivery_is_known_by_its_eid_and_named_as_v3_names_it() -> None:
    """The header's name is the type, not the V1 word that the payload repeats."""
    event = read(recorded("credentials.created__v3"))
    assert "00000000-0000-4000-8000-0000000000e1" == FOLLOW_UP.identity(event)
    assert ["credentials.created"] == list(FOLLOW_UP.types(event))
    assert ["5f00000000000000000000a1"] == [notification.id_user for notification in event.notifications]


def test_several_events_of_one_body_have_one_identity_of_all_their_eids() -> None:
    """Another order or another member is another delivery; other bytes with the same eids are the same."""
    both = FOLLOW_UP.identity(read(envelope(enveloped("e1"), enveloped("e2"))))
    assert hashlib.sha256(b"e1\ne2").hexdigest() == both
    assert both == FOLLOW_UP.identity(read(envelope(enveloped("e1", more=1), enveloped("e2"))))
    assert both != FOLLOW_UP.identity(read(envelope(enveloped("e2"), enveloped("e1"))))


def test_a_v3_event_without_eid_is_known_by_the_bodys_digest() -> None:
    """One missing ``eid`` is enough: the rest would not tell two deliveries apart."""
    body = envelope(enveloped("e1"), enveloped(None))
    assert hashlib.sha256(body).hexdigest() == FOLLOW_UP.identity(read(body))


def test_each_type_is_named_once() -> None:
    """The names are for people and filters."""
    body = envelope(enveloped("e1"), enveloped("e2"), enveloped("e3", name="credentials.refreshed"))
    assert ["credentials.updated", "credentials.refreshed"] == list(FOLLOW_UP.types(read(body)))


def test_the_user_of_a_v3_event_is_the_payloads_or_else_the_headers() -> None:
    """``header.user`` stands in where the payload names nobody."""
    inside, outside = enveloped(id_user="inside"), enveloped()
    for event in (inside, outside):
        event["header"]["user"] = {"id_user": "outside", "id_external": None}
    notifications = read(envelope(inside, outside)).notifications
    assert ["inside", "outside"] == [notification.id_user for notification in notifications]


@pytest.mark.parametrize("id_user", ['null, "more": 1', '""'])
def test_an_event_may_name_no_user(id_user: str) -> None:
    """A null or empty ``id_user`` is no user; unknown fields are ignored."""
    body = f'{{"event": "refresh", "endpoints": {{}}, "id_user": {id_user}}}'.encode()
    assert (Notification("refresh", "", {}),) == tuple(read(body).notifications)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"{", "not-json"),
        (b"event=refresh", "not-json"),
        (b'{"event": "refresh"', "not-json"),
        (b'{"event": "\xff"}', "not-json"),
        (b"\x00", "not-json"),
        (b"[" * 100_000, "not-json"),
        (b"null", "wrong-shape"),
        (b"[]", "wrong-shape"),
        (b'"refresh"', "wrong-shape"),
        (b"{}", "wrong-shape"),
        (b'{"event": 1}', "wrong-shape"),
        (b'{"event": ""}', "wrong-shape"),
        (b'{"event": "two\\nlines"}', "wrong-shape"),
        (b'{"event": "refresh", "id_user": 7}', "wrong-shape"),
        (b'{"event": "refresh", "id_user": "u,api_key=x"}', "wrong-shape"),
        (b'{"event": "refresh", "id_user": "u\\r\\nX-Other: 1"}', "wrong-shape"),
        (b'{"event": "refresh", "id_user": "u\\n"}', "wrong-shape"),
        (b'{"rid": "r", "events": []}', "wrong-shape"),
        (b'{"rid": "r", "events": {}}', "wrong-shape"),
        (b'{"rid": "r", "events": [1]}', "wrong-shape"),
        (b'{"rid": "r", "events": [{"header": {"event": {}}, "payload": {}}]}', "wrong-shape"),
        (b'{"rid": "r", "events": [{"header": {"event": {"name": "credentials.created"}}}]}', "wrong-shape"),
        (envelope(enveloped("an id with blanks")), "wrong-shape"),
        (envelope(enveloped("")), "wrong-shape"),
    ],
)
def test_what_cannot_be_read_is_parked_with_a_reason(body: bytes, reason: str) -> None:
    """Never another error than Unreadable."""
    with pytest.raises(Unreadable) as caught:
        read(body)
    assert reason == caught.value.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["event", "events", "header", "payload", "name", "eid", "id_user", "endpoints", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary() | JSON.map(msgspec.json.encode))
def test_any_bytes_are_read_or_parked(body: bytes) -> None:
    """Whatever comes in: a value or Unreadable, and what is read is fit for a text column."""
    try:
        event = read(body)
    except Unreadable:
        return
    texts = [FOLLOW_UP.identity(event) or "", *FOLLOW_UP.types(event)]
    assert [] == [text for text in texts if not (text.isascii() and text.isprintable() and text)]
