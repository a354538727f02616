"""What each of Magicline's deliveries asks for."""

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import Unreadable
from shared.providers.interface import Call, Delivery, Plan, Record
from shared.providers.magicline import PROVIDER
from shared.providers.magicline.event_types import EVENT_TYPES, READS
from shared.providers.magicline.settings import MagiclineAccount


DELIVERIES = Path(__file__).parents[2] / "deliveries" / "magicline"
ACCOUNT = MagiclineAccount(
    name="studio-berlin",
    base_url="https://acme.open-api.magicline.com",
    webhook_keys=(SecretStr("in"),),
    api_key=SecretStr("out"),
)
FOLLOW_UP = PROVIDER.follow_up

CHECKINS = "/v1/customers/{}/activities/checkins?fromDate=2026-02-02&toDate=2026-02-04&sliceSize=50"
CUSTOMER = [("/v1/customers/1001", "", "retry", "magicline.customer")]
CUSTOMER_MAY_BE_GONE = [("/v1/customers/1001", "", "tombstone", "magicline.customer")]
CONTRACT = [("/v1/customers/1001/contracts", "5000", "retry", "magicline.contract")]
IDLE_PERIOD = "/v1/memberships/5000/self-service/idle-periods/7000"
MODULE = "/v1/memberships/5000/self-service/additional-module-contracts/6000"
APPOINTMENT = "/v1/appointments/booking/2033"
CLASS_BOOKING = "/v1/classes/booking/2033"
SLOT = "/v1/classes/77/slots/14928"

# folder of the delivery -> (path, pick, what 404 means, kind of the record) of each call
EXPECTED: dict[str, list[tuple[str, str, str, str]]] = {
    "ADDITIONAL_INFORMATION_FIELDS_UPDATED__plain": [
        ("/v1/customers/additional-information-fields", "", "retry", "magicline.additional-fields")
    ],
    "AGGREGATOR_MEMBER_CREATED__plain": CUSTOMER,
    "APPOINTMENT_BOOKING_CANCELLED__plain": [(APPOINTMENT, "", "tombstone", "magicline.appointment-booking")],
    "APPOINTMENT_BOOKING_CREATED__plain": [(APPOINTMENT, "", "retry", "magicline.appointment-booking")],
    "APPOINTMENT_BOOKING_UPDATED__plain": [(APPOINTMENT, "", "retry", "magicline.appointment-booking")],
    "AUTOMATIC_CUSTOMER_CHECKOUT__plain": [
        (CHECKINS.format(1001), "", "retry", "magicline.checkin"),
        (CHECKINS.format(1002), "", "retry", "magicline.checkin"),
    ],
    "CLASS_BOOKING_CANCELLED__plain": [(CLASS_BOOKING, "", "tombstone", "magicline.class-booking")],
    "CLASS_BOOKING_CREATED__plain": [(CLASS_BOOKING, "", "retry", "magicline.class-booking")],
    "CLASS_BOOKING_UPDATED__plain": [(CLASS_BOOKING, "", "retry", "magicline.class-booking")],
    "CLASS_SLOT_CANCELLED__plain": [(SLOT, "", "tombstone", "magicline.class-slot")],
    "CLASS_SLOT_UPDATED__plain": [(SLOT, "", "retry", "magicline.class-slot")],
    "CONTRACT_ADDITIONAL_MODULE_CANCELLED__plain": [(MODULE, "", "tombstone", "magicline.module-contract")],
    "CONTRACT_ADDITIONAL_MODULE_CREATED__plain": [(MODULE, "", "retry", "magicline.module-contract")],
    "CONTRACT_ADDITIONAL_MODULE_DELETED__plain": [(MODULE, "", "tombstone", "magicline.module-contract")],
    "CONTRACT_ADDITIONAL_MODULE_UPDATED__plain": [(MODULE, "", "retry", "magicline.module-contract")],
    "CONTRACT_CANCELLED__plain": [("/v1/customers/1001/contracts", "5000", "tombstone", "magicline.contract")],
    "CONTRACT_CREATED__plain": CONTRACT,
    "CONTRACT_CREATED__ids-as-digits": CONTRACT,
    "CONTRACT_IDLE_PERIOD_CANCELLED__plain": [(IDLE_PERIOD, "", "tombstone", "magicline.idle-period")],
    "CONTRACT_IDLE_PERIOD_CREATED__plain": [(IDLE_PERIOD, "", "retry", "magicline.idle-period")],
    "CONTRACT_IDLE_PERIOD_UPDATED__plain": [(IDLE_PERIOD, "", "retry", "magicline.idle-period")],
    "CONTRACT_UPDATED__plain": CONTRACT,
    "CUSTOMER_ACCESS_DISABLED__plain": [],
    "CUSTOMER_ACCESS_MEDIUM_CREATED__plain": CUSTOMER,
    "CUSTOMER_ACCESS_MEDIUM_DELETED__plain": CUSTOMER_MAY_BE_GONE,
    "CUSTOMER_ACCESS_MEDIUM_UPDATED__plain": CUSTOMER,
    "CUSTOMER_ACCESS_RESTRICTION_CREATED__plain": CUSTOMER,
    "CUSTOMER_ACCESS_RESTRICTION_DELETED__plain": CUSTOMER_MAY_BE_GONE,
    "CUSTOMER_CHECKIN__plain": [(CHECKINS.format(1001), "", "retry", "magicline.checkin")],
    "CUSTOMER_CHECKIN_STUDIOS_UPDATED__plain": CONTRACT,
    "CUSTOMER_CHECKOUT__plain": [(CHECKINS.format(1001), "", "retry", "magicline.checkin")],
    "CUSTOMER_COMMUNICATION_PREFERENCES_UPDATED__plain": [
        ("/v1/communications/1001/communication-preferences", "", "retry", "magicline.communication-preferences")
    ],
    "CUSTOMER_CREATED__seed": [("/v1/customers/7893459", "", "retry", "magicline.customer")],
    "CUSTOMER_DELETED__plain": [],
    "CUSTOMER_HOME_STUDIO_UPDATED__plain": [
        ("/v1/customers/1001", "cross-studio-customer", "retry", "magicline.customer")
    ],
    "CUSTOMER_UPDATED__plain": CUSTOMER,
    "CUSTOMER_UPDATED__unknown-fields": CUSTOMER,
    "CUSTOMER_UPDATED__several-entries": [*CUSTOMER, *CONTRACT],
    "DEVICE_CREATED__plain": [("/v1/devices", "31", "retry", "magicline.device")],
    "EMPLOYEE_CREATED__plain": [("/v1/employees/41", "", "retry", "magicline.employee")],
    "EMPLOYEE_DELETED__plain": [],
    "EMPLOYEE_UPDATED__plain": [("/v1/employees/41", "", "retry", "magicline.employee")],
    "FINANCE_DEBT_COLLECTION_CASE_UPDATED__plain": [
        (
            "/v1/debt-collection/cases?caseAdjustmentRequestId=51",
            "agency-id-123",
            "retry",
            "magicline.debt-collection-case",
        )
    ],
    "FINANCE_DEBT_COLLECTION_CASE_UPDATED__collection-case": [
        (
            "/v1/debt-collection/cases?caseAdjustmentRequestId=51",
            "123e4567-e89b-42d3-a456-556642440000",
            "retry",
            "magicline.debt-collection-case",
        )
    ],
    "FINANCE_DEBT_COLLECTION_CONFIGURATION_UPDATED__plain": [
        ("/v1/debt-collection/configuration", "", "retry", "magicline.debt-collection-configuration")
    ],
    "FINANCE_DEBT_COLLECTION_RUN_CREATED__plain": [
        ("/v1/debt-collection/61/details", "", "retry", "magicline.debt-collection-run")
    ],
    "STUDIO_OPENING_HOURS_UPDATED__plain": [("/v1/studios/information", "123", "retry", "magicline.studio")],
    "TAX_ADVISOR_EXPORT_CREATED__plain": [("/v1/taxadvisor/exports/71", "", "retry", "magicline.tax-export")],
}

# deliveries that are kept and parked -> reason
PARKED = {
    "CONTRACT_CREATED__without-contract-id": "wrong-shape",
    "CUSTOMER_PAYMENT_REJECTED__unknown-type": "unknown-type",
    "CUSTOMER_UPDATED__cut-off": "not-json",
    "CUSTOMER_UPDATED__with-an-unknown-type": "unknown-type",
    "EMPTY__no-body": "empty",
}


def planned(body: bytes) -> Plan:
    """The whole way from a body to its plan."""
    delivery = Delivery(UUID(int=1), ACCOUNT.name, body)
    return FOLLOW_UP.plan(FOLLOW_UP.read(delivery, ACCOUNT), delivery, ACCOUNT)


def parked(reason: str, raw: bytes) -> None:
    """Assert that a body is refused for this reason."""
    with pytest.raises(Unreadable) as refusal:
        planned(raw)
    assert reason == refusal.value.reason


def recorded(folder: str) -> bytes:
    """The body of a recorded delivery."""
    return (DELIVERIES / folder / "body.raw").read_bytes()


def body(*entries: dict[str, Any], entity: object = 1001, uuid: object = "u-1") -> bytes:
    """A delivery with these entries; those without a timestamp get one."""
    return msgspec.json.encode(
        {"entityId": entity, "uuid": uuid, "payload": [{"timestamp": 1770156000000, **entry} for entry in entries]}
    )


def brief(call: Call) -> tuple[str, str, str, str]:
    """What the table says about a call."""
    return call.path, call.pick, call.missing, READS[call.purpose].kind


@pytest.mark.parametrize("folder", sorted(EXPECTED))
def test_a_delivery_asks_for_these_calls(folder: str) -> None:
    """Every event type leads to its own calls and record kind."""
    assert EXPECTED[folder] == [brief(call) for call in planned(recorded(folder)).calls]


@pytest.mark.parametrize("folder", sorted(PARKED))
def test_a_delivery_that_cannot_be_followed_up_says_why(folder: str) -> None:
    """The reason is one of the contract's."""
    parked(PARKED[folder], recorded(folder))


def test_all_44_types_have_a_recorded_delivery_and_an_expectation() -> None:
    """No type of the vendor's list goes untested, and no recorded delivery lies about unused."""
    assert {path.name for path in DELIVERIES.iterdir()} == {*EXPECTED, *PARKED}
    tested = {folder.partition("__")[0] for folder in EXPECTED}
    assert (44, tested) == (len(EVENT_TYPES), set(EVENT_TYPES))


def test_the_seeds_sample_reads_as_its_document_says() -> None:
    """Identity and type of the sample of the document, byte for byte."""
    event = FOLLOW_UP.read(Delivery(UUID(int=1), ACCOUNT.name, recorded("CUSTOMER_CREATED__seed")), ACCOUNT)
    expected = ("095be615-a8ad-4c33-8e9c-c7612fbf6c9f", ("CUSTOMER_CREATED",))
    assert expected == (FOLLOW_UP.identity(event), FOLLOW_UP.types(event))


@pytest.mark.parametrize(
    ("folder", "record"),
    [
        ("CUSTOMER_DELETED__plain", Record("magicline.customer", "1001", None, deleted=True)),
        ("EMPLOYEE_DELETED__plain", Record("magicline.employee", "41", None, deleted=True)),
    ],
)
def test_a_deletion_leaves_a_tombstone_without_a_call(folder: str, record: Record) -> None:
    """What is gone cannot be read."""
    assert Plan(calls=(), records=(record,)) == planned(recorded(folder))


def test_disabled_access_leaves_nothing_to_do() -> None:
    """No call may be made, and nothing says that the customer is gone: what was known stays."""
    assert Plan(calls=(), records=()) == planned(recorded("CUSTOMER_ACCESS_DISABLED__plain"))


@pytest.mark.parametrize("folder", sorted(EXPECTED))
def test_every_call_whose_404_is_announced_knows_what_is_gone(folder: str) -> None:
    """Tombstones need their kind and id without an answer."""
    for call in planned(recorded(folder)).calls:
        if call.missing == "tombstone":
            (gone,) = FOLLOW_UP.tombstones(call)
            known = call.pick or call.path.rpartition("/")[2]
            assert Record(READS[call.purpose].kind, known, None, deleted=True) == gone


def test_types_are_listed_once_each_in_their_order() -> None:
    """People see what happened, not how often it was said."""
    delivery = Delivery(UUID(int=1), ACCOUNT.name, recorded("CUSTOMER_UPDATED__several-entries"))
    expected = ["CUSTOMER_UPDATED", "CONTRACT_CREATED", "CUSTOMER_ACCESS_MEDIUM_CREATED"]
    assert expected == list(FOLLOW_UP.types(FOLLOW_UP.read(delivery, ACCOUNT)))


def test_one_unknown_type_among_known_ones_parks_the_whole_delivery_and_is_named() -> None:
    """Following up a part only would drop the rest without a word."""
    with pytest.raises(Unreadable, match="CONTRACT_REVERSED"):
        planned(recorded("CUSTOMER_UPDATED__with-an-unknown-type"))


def test_a_missing_content_id_is_named() -> None:
    """The sentence says which type lacks which id."""
    with pytest.raises(Unreadable, match=r"CONTRACT_CREATED: content\.contractId"):
        planned(recorded("CONTRACT_CREATED__without-contract-id"))


def test_one_day_of_a_customers_check_ins_is_one_resource() -> None:
    """A check-in and the check-out of the same day share one fetch, and a replay asks for the same."""
    day = 1770076800000  # 2026-02-03T00:00:00Z
    resources = {
        planned(body({"type": kind, "timestamp": day + offset})).calls[0].resource
        for kind in ("CUSTOMER_CHECKIN", "CUSTOMER_CHECKOUT")
        for offset in (0, 86_399_999)
    }
    assert {CHECKINS.format(1001)} == resources


def test_the_studio_is_part_of_what_its_read_means() -> None:
    """The path names no studio: the record's id must show in the resource."""
    one, other = (planned(body({"type": "STUDIO_OPENING_HOURS_UPDATED"}, entity=n)).calls[0] for n in (1, 2))
    assert one.resource != other.resource


def test_settings_of_a_studio_are_known_by_the_accounts_name() -> None:
    """There is one set of additional fields, and one debt collection configuration, to a studio."""
    folders = ("ADDITIONAL_INFORMATION_FIELDS_UPDATED__plain", "FINANCE_DEBT_COLLECTION_CONFIGURATION_UPDATED__plain")
    expected = [{"external_id": "studio-berlin"}] * 2
    assert expected == [planned(recorded(folder)).calls[0].context for folder in folders]


def test_a_case_without_an_id_in_content_picks_nothing() -> None:
    """The read is already limited to the adjustment request."""
    (call,) = planned(body({"type": "FINANCE_DEBT_COLLECTION_CASE_UPDATED"}, entity=51)).calls
    expected = ("/v1/debt-collection/cases?caseAdjustmentRequestId=51", "")
    assert expected == (call.path, call.pick)


@pytest.mark.parametrize("checkouts", [None, {}, "x", [1], [{}], [{"customerId": "a/b"}], [{"customerId": True}]])
def test_checkouts_of_another_shape_are_parked(checkouts: object) -> None:
    """A fan-out that cannot be read is never an empty one."""
    parked("wrong-shape", body({"type": "AUTOMATIC_CUSTOMER_CHECKOUT", "content": {"checkouts": checkouts}}))


@pytest.mark.parametrize(
    "value", [None, "", " 5", "5 ", "-5", "5.0", "../1", "5?x=1", "\u0665", 5.0, True, [5], {"id": 5}, 2**63, "9" * 20]
)
def test_only_an_int64_or_its_digits_is_an_id(value: object) -> None:
    """Nothing else can come into a path."""
    parked("wrong-shape", body({"type": "CONTRACT_UPDATED", "content": {"contractId": value}}))


@pytest.mark.parametrize("value", ["", "x" * 201, 1.5, True, [], {}])
def test_a_case_id_of_another_shape_is_parked(value: object) -> None:
    """It is part of the coalescing key: a short text, or a number."""
    parked(
        "wrong-shape", body({"type": "FINANCE_DEBT_COLLECTION_CASE_UPDATED", "content": {"collectionCaseId": value}})
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"x", "not-json"),
        (b"\xff\xfe", "not-json"),
        (b'{"entityId": 1, "uuid": "u", "payload": [{"timestamp": 1, "type": "CUSTOMER_UPD', "not-json"),
        (b"[" * 100_000, "not-json"),
        (b"null", "wrong-shape"),
        (b"[]", "wrong-shape"),
        (b"{}", "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, entity=None), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, entity="1001"), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, entity=1.5), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, entity=True), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, entity=2**63), "wrong-shape"),
        (b'{"entityId": %s, "uuid": "u", "payload": [{"timestamp": 1, "type": "X"}]}' % (b"9" * 5000), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, uuid=None), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, uuid=""), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, uuid="u\0"), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED"}, uuid="u" * 201), "wrong-shape"),
        (body(), "wrong-shape"),
        (body({}), "wrong-shape"),
        (body({"type": 7}), "wrong-shape"),
        (body({"type": "\n"}), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED", "timestamp": None}), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED", "timestamp": "now"}), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED", "timestamp": -1}), "wrong-shape"),
        (body({"type": "CUSTOMER_CHECKIN", "timestamp": 10**18}), "wrong-shape"),
        (body({"type": "CUSTOMER_UPDATED", "content": []}), "wrong-shape"),
        (body({"type": "customer_updated"}), "unknown-type"),
        (body({"type": "EREIGNIS_GEÄNDERT"}), "unknown-type"),
    ],
)
def test_a_body_that_is_not_a_delivery_says_why(raw: bytes, reason: str) -> None:
    """Each way of being unreadable has its own reason."""
    parked(reason, raw)


@pytest.mark.parametrize("timestamp", [0, 253_402_214_399_999])
def test_the_first_and_the_last_timestamp_have_days_around_them(timestamp: int) -> None:
    """No timestamp that is accepted falls off the calendar."""
    (call,) = planned(body({"type": "CUSTOMER_CHECKIN", "timestamp": timestamp})).calls
    assert call.path.startswith("/v1/customers/1001/activities/checkins?fromDate=")


def test_an_id_may_be_the_largest_or_the_smallest_int64() -> None:
    """The whole range of the vendor's ids."""
    ids = (2**63 - 1, -(2**63))
    paths = [planned(body({"type": "CUSTOMER_UPDATED"}, entity=id_)).calls[0].path for id_ in ids]
    assert [f"/v1/customers/{id_}" for id_ in ids] == paths


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["contractId", "idlePeriodId", "moduleContractId", "classId", "checkouts", "customerId", "collectionCaseId"]
CHECKOUTS = st.lists(st.fixed_dictionaries({"customerId": st.integers() | JSON}), max_size=4)
ENTRIES = st.fixed_dictionaries(
    {
        "timestamp": st.integers(min_value=-1, max_value=2**60) | JSON,
        "type": st.sampled_from([*EVENT_TYPES, "SOMETHING_NEW"]) | JSON,
    },
    optional={"content": st.dictionaries(st.sampled_from(NAMES), st.integers() | CHECKOUTS | JSON) | JSON},
)
NEARLY = st.fixed_dictionaries(
    {
        "entityId": st.integers() | JSON,
        "uuid": st.uuids().map(str) | JSON,
        "payload": st.lists(ENTRIES, max_size=4) | JSON,
    }
)


def plan_or_unreadable(raw: bytes) -> None:
    """Anything but a plan or Unreadable fails the test; paths hold nothing that a URL could read otherwise."""
    try:
        plan = planned(raw)
    except Unreadable:
        return
    for call in plan.calls:
        assert call.path.startswith("/v1/")
        assert set(call.path) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-?=&")


@given(st.binary() | JSON.map(msgspec.json.encode))
def test_any_bytes_become_a_plan_or_are_unreadable(raw: bytes) -> None:
    """No body raises another error."""
    plan_or_unreadable(raw)


@given(NEARLY.map(msgspec.json.encode))
def test_any_body_of_nearly_the_right_shape_becomes_a_plan_or_is_unreadable(raw: bytes) -> None:
    """Whatever stands where an id, a type or a time belongs."""
    plan_or_unreadable(raw)


@given(st.integers(min_value=0, max_value=400), st.binary(min_size=1, max_size=3))
def test_a_damaged_body_becomes_a_plan_or_is_unreadable(at: int, damage: bytes) -> None:
    """Bytes overwritten anywhere."""
    raw = recorded("AUTOMATIC_CUSTOMER_CHECKOUT__plain")
    plan_or_unreadable(raw[:at] + damage + raw[at + len(damage) :])


@pytest.mark.parametrize("status", [403, 404])
def test_a_moved_customer_is_looked_for_across_studios(status: int) -> None:
    """The former studio's refusal leads to the cross-studio read; other calls have no second place."""
    moved = Call("/v1/customers/1001", "moved-customer", {"external_id": "1001"}, pick="cross-studio-customer")
    plain = Call("/v1/customers/1001", "customer", {"external_id": "1001"})

    (other,) = FOLLOW_UP.instead(moved, status)

    assert "/v1/cross-studio/customers/1001" == other.path
    assert () == FOLLOW_UP.instead(plain, status)
    assert () == FOLLOW_UP.instead(moved, 500)
    assert () == FOLLOW_UP.instead(other, status)
