"""What the answers of Magicline's Open API mean."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import AnswerError, BrokenAnswer, RefusedAnswer
from shared.providers.interface import Answer, Call, Outcome, Record
from shared.providers.magicline import PROVIDER
from shared.providers.magicline.event_types import READS
from shared.providers.magicline.settings import MagiclineAccount


ACCOUNT = MagiclineAccount(
    name="studio-berlin",
    base_url="https://acme.open-api.magicline.com",
    webhook_keys=(SecretStr("in"),),
    api_key=SecretStr("out"),
)
CHECKINS = "/v1/customers/1001/activities/checkins?fromDate=2026-02-02&toDate=2026-02-04&sliceSize=50"
CHECKINS_CALL = Call(CHECKINS, "check-ins")
RUN_CALL = Call("/v1/debt-collection/61/details", "debt-collection-run", {"external_id": "61"})
CASES = "/v1/debt-collection/cases?caseAdjustmentRequestId=51"


def interpreted(call: Call, body: str | bytes) -> Outcome:
    """What a 200 with this body means."""
    raw = body.encode() if isinstance(body, str) else body
    return PROVIDER.follow_up.interpret(call, Answer(200, {"content-type": "application/json"}, raw), ACCOUNT)


def contract_call(missing: Any = "retry") -> Call:
    """The read of contract 5000 among its customer's."""
    return Call("/v1/customers/1001/contracts", "contracts", {"external_id": "5000"}, pick="5000", missing=missing)


def case_call(pick: str = "") -> Call:
    """The read of the cases of an adjustment request."""
    return Call(CASES, "debt-collection-cases", pick=pick)


# ── objects ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("purpose", "known", "body", "external_id"),
    [
        ("customer", "1001", '{"id": 1001, "status": "MEMBER"}', "1001"),
        ("customer", "1001", '{"id": 1002, "status": "MEMBER"}', "1002"),
        ("employee", "41", '{"id": 41}', "41"),
        ("appointment-booking", "2033", '{"bookingId": 2033, "bookingStatus": "CANCELED"}', "2033"),
        ("class-booking", "2033", '{"bookingId": 2033, "bookingStatus": "WAITING_LIST"}', "2033"),
        ("class-slot", "14928", '{"id": 1, "classId": 77}', "14928"),
        ("studio", "123", '{"studioName": "North"}', "123"),
        ("tax-export", "71", '{"downloadUrl": "https://files.example.org/x?sig=1"}', "71"),
        ("idle-period", "7000", '{"startDate": "2026-03-01"}', "7000"),
        ("module-contract", "6000", '{"id": 9, "name": "Sauna"}', "6000"),
        ("communication-preferences", "1001", '{"messageCategory": "CONTRACT"}', "1001"),
        ("additional-fields", "studio-berlin", "{}", "studio-berlin"),
        ("debt-collection-configuration", "studio-berlin", '{"active": true}', "studio-berlin"),
    ],
)
def test_an_object_is_a_record_as_it_was_sent(purpose: str, known: str, body: str, external_id: str) -> None:
    """The external id is the answer's own where it has one, else what the event told."""
    record = Record(f"magicline.{purpose}", external_id, body)
    outcome = interpreted(Call("/v1/x", purpose, {"external_id": known}), body + "\n")
    assert Outcome(records=(record,)) == outcome


def test_digits_and_times_stay_as_they_were_sent() -> None:
    """No number passes through a float, and a zone suffix is kept."""
    body = '{"id": 1001, "balance": 22339.470000000001, "since": "2026-06-15T23:59:59.999+02:00[Europe/Berlin]"}'
    (record,) = interpreted(Call("/v1/customers/1001", "customer", {"external_id": "1001"}), body).records
    assert body == record.data


@pytest.mark.parametrize(
    ("purpose", "member"),
    [
        ("communication-preferences", "preferences"),
        ("additional-fields", "fields"),
        ("debt-collection-configuration", "configuration"),
    ],
)
def test_a_bare_array_becomes_one_object(purpose: str, member: str) -> None:
    """A record's data is an object, also where the API answers with an array."""
    (record,) = interpreted(Call("/v1/x", purpose, {"external_id": "1001"}), ' [{"limit": 1.10}, {"limit": 2}]').records
    expected = f'{{"{member}":[{{"limit": 1.10}},{{"limit": 2}}]}}'
    assert expected == record.data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b'"text"',
        b"[]",
        b'[{"id": 1001}]',
        b'{"id": 1001',
        b"{}",
        b'{"id": null}',
        b'{"id": ""}',
        b'{"id": true}',
        b'{"id": {}}',
        b'{"id": 1.5}',
        b'{"id": 1001, "name": "\xff"}',
        b'{"errorMessage": "database load"}',
        b"[" * 100_000,
    ],
)
def test_an_answer_of_the_wrong_shape_is_asked_for_again(body: bytes) -> None:
    """A customer is an object with an id."""
    with pytest.raises(BrokenAnswer):
        interpreted(Call("/v1/customers/1001", "customer", {"external_id": "1001"}), body)


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_picked_item_of_a_list_becomes_a_record() -> None:
    """The other contracts of the customer were not asked for."""
    body = '[{"id": 4999, "a": 1.0}, {"id": 5000, "price": 19.90}, {"id": 50001}]'
    expected = Outcome(records=(Record("magicline.contract", "5000", '{"id": 5000, "price": 19.90}'),))
    assert expected == interpreted(contract_call(), body)


@pytest.mark.parametrize("body", ["[]", '[{"id": 4999}]'])
def test_an_item_that_is_not_in_its_list_is_a_404(body: str) -> None:
    """After ``*_CREATED`` and ``*_UPDATED`` the list may lag behind."""
    with pytest.raises(RefusedAnswer, match="5000") as refusal:
        interpreted(contract_call(), body)
    expected = 404
    assert expected == refusal.value.status


@pytest.mark.parametrize("body", ["[]", '[{"id": 4999}]'])
def test_an_item_that_was_announced_as_gone_leaves_a_tombstone(body: str) -> None:
    """After ``*_CANCELLED`` and ``*_DELETED`` its absence is the expected outcome."""
    gone = Record("magicline.contract", "5000", None, deleted=True)
    assert Outcome(records=(gone,)) == interpreted(contract_call("tombstone"), body)


def test_a_cancelled_contract_that_is_still_listed_is_kept_as_it_is() -> None:
    """Cancelled is a state of the contract, not its absence."""
    body = '{"id": 5000, "cancelled": true}'
    expected = Outcome(records=(Record("magicline.contract", "5000", body),))
    assert expected == interpreted(contract_call("tombstone"), f"[{body}]")


@pytest.mark.parametrize("body", ["{}", '{"result": []}', "[1]", "[{}]", "[null]", '[{"id": 5000}', ""])
def test_a_list_of_another_shape_is_asked_for_again(body: str) -> None:
    """An unreadable list never means that its items are gone."""
    for missing in ("retry", "tombstone"):
        with pytest.raises(BrokenAnswer):
            interpreted(contract_call(missing), body)


# ── debt collection cases ─────────────────────────────────────────────────────────────────────────────────────────

GROUPED = (
    '[{"debtorId": "9", "block": null, "agencyCollectionCases": ['
    '{"agencyCollectionCaseId": "a-1", "collectionCaseIds": ["c-1", "c-2"], "debts": [{"paidAmount": 100.10}]},'
    '{"agencyCollectionCaseId": "a-2", "collectionCaseIds": ["c-3"], "debts": []}]}]'
)
A1 = (
    '{"agencyCollectionCaseId":"a-1","collectionCaseIds":["c-1", "c-2"],"debts":[{"paidAmount": 100.10}],'
    '"debtor":{"debtorId":"9","block":null}}'
)
A2 = '{"agencyCollectionCaseId":"a-2","collectionCaseIds":["c-3"],"debts":[],"debtor":{"debtorId":"9","block":null}}'


@pytest.mark.parametrize(
    ("pick", "expected"), [("a-1", [("a-1", A1)]), ("c-3", [("a-2", A2)]), ("", [("a-1", A1), ("a-2", A2)])]
)
def test_cases_are_found_within_their_debtors(pick: str, expected: list[tuple[str, str]]) -> None:
    """By the agency's id or by one of Magicline's; the debtor's own fields are kept beside the case."""
    records = [Record("magicline.debt-collection-case", external_id, data) for external_id, data in expected]
    assert records == list(interpreted(case_call(pick), GROUPED).records)


@pytest.mark.parametrize(
    ("body", "external_id"),
    [
        ('{"id": 51, "amount": 1.0}', "51"),
        ('{"agencyDebtCollectionCaseId": "51"}', "51"),
        ('{"collectionCaseId": "51", "agencyCollectionCaseId": null}', "51"),
    ],
)
def test_a_case_that_stands_by_itself_is_kept_as_sent(body: str, external_id: str) -> None:
    """The vendor's pages use several names for its id."""
    expected = Outcome(records=(Record("magicline.debt-collection-case", external_id, body),))
    assert expected == interpreted(case_call("51"), f"[{body}]")


@pytest.mark.parametrize(("pick", "body"), [("a-9", GROUPED), ("", "[]"), ("a-1", "[]")])
def test_a_case_that_is_not_there_is_a_404(pick: str, body: str) -> None:
    """An update announces something that is not there yet."""
    with pytest.raises(RefusedAnswer):
        interpreted(case_call(pick), body)


@pytest.mark.parametrize("body", ["{}", "[{}]", '[{"id": ""}]', '[{"agencyCollectionCases": {}}]', '[{"id": 1.5}]'])
def test_cases_of_another_shape_are_asked_for_again(body: str) -> None:
    """A case has an id."""
    with pytest.raises(BrokenAnswer):
        interpreted(case_call(), body)


# ── slices ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_check_in_of_a_slice_becomes_a_record() -> None:
    """The last slice asks for nothing more, whatever its offset."""
    body = '{"result": [{"checkinId": 9, "studioId": 123}, {"checkinId": 10}], "offset": "10", "hasNext": false}'
    expected = (
        Record("magicline.checkin", "9", '{"checkinId": 9, "studioId": 123}'),
        Record("magicline.checkin", "10", '{"checkinId": 10}'),
    )
    assert Outcome(records=expected) == interpreted(CHECKINS_CALL, body)


@pytest.mark.parametrize(
    ("offset", "sent"), [('"1234567890"', "1234567890"), ('"a b&c=/+ü"', "a%20b%26c%3D%2F%2B%C3%BC"), ("50", "50")]
)
def test_the_next_slice_is_asked_for_with_the_offset_as_it_came(offset: str, sent: str) -> None:
    """An offset is opaque: it is encoded for the URL and nothing else."""
    outcome = interpreted(CHECKINS_CALL, f'{{"result": [], "offset": {offset}, "hasNext": true}}')
    assert (Call(f"{CHECKINS}&offset={sent}", "check-ins", page=2),) == outcome.next


def test_an_offset_takes_the_place_of_the_one_before() -> None:
    """Every slice is asked for with one offset."""
    call = Call(f"{CHECKINS}&offset=50", "check-ins", page=2)
    outcome = interpreted(call, '{"result": [], "offset": "100", "hasNext": true}')
    assert (Call(f"{CHECKINS}&offset=100", "check-ins", page=3),) == outcome.next


def test_the_same_offset_again_ends_the_chain_as_endless() -> None:
    """The slice's records are kept, and its next page is one that no bound allows."""
    call = Call(f"{CHECKINS}&offset=50", "check-ins", page=2)
    outcome = interpreted(call, '{"result": [{"checkinId": 9}], "offset": "50", "hasNext": true}')
    expected = ([Record("magicline.checkin", "9", '{"checkinId": 9}')], [2**31 - 1])
    assert expected == (list(outcome.records), [following.page for following in outcome.next])


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        '{"result": []}',
        '{"hasNext": false}',
        '{"result": null, "hasNext": false}',
        '{"result": [], "hasNext": "no"}',
        '{"result": [], "hasNext": true}',
        '{"result": [], "hasNext": true, "offset": null}',
        '{"result": [], "hasNext": true, "offset": ""}',
        '{"result": [{}], "hasNext": false}',
        '{"result": [5], "hasNext": false}',
        '{"result": [], "hasNext": fal',
    ],
)
def test_a_slice_of_another_shape_is_asked_for_again(body: str) -> None:
    """A slice that does not say how it goes on is never taken for the last."""
    with pytest.raises(BrokenAnswer):
        interpreted(CHECKINS_CALL, body)


# ── debt collection runs ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_runs_details_and_all_its_debtors_become_one_record() -> None:
    """The details wait for the last slice, and every digit comes through."""
    details = interpreted(RUN_CALL, '{"status": "WAITING_FOR_CONFIRMATION", "fee": 1.10}')
    (first,) = details.next
    slice_1 = '{"result": [{"debtorId": "1", "openAmount": 22339.470000000001}], "offset": "x", "hasNext": true}'
    (second,) = interpreted(first, slice_1).next
    last = interpreted(second, '{"result": [{"debtorId": "2"}], "offset": "y", "hasNext": false}')
    data = (
        '{"status":"WAITING_FOR_CONFIRMATION","fee":1.10,'
        '"debtors":[{"debtorId": "1", "openAmount": 22339.470000000001},{"debtorId": "2"}]}'
    )
    expected = (
        "/v1/debt-collection/61/debtors?sliceSize=50",
        "/v1/debt-collection/61/debtors?sliceSize=50&offset=x",
        (2, 3),
        (),
        Outcome(records=(Record("magicline.debt-collection-run", "61", data),)),
    )
    assert expected == (first.path, second.path, (first.page, second.page), details.records, last)


def test_what_is_carried_along_survives_storing() -> None:
    """A call's context is JSON values only."""
    (call,) = interpreted(RUN_CALL, '{"note": "a\\u0000b"}').next
    assert call.context == msgspec.json.decode(msgspec.json.encode(call.context))


def test_chains_that_carry_different_details_do_not_share_a_fetch() -> None:
    """What an answer is added to belongs to its meaning."""
    resources = {interpreted(RUN_CALL, f'{{"status": "{s}"}}').next[0].resource for s in ("A", "B", "A")}
    expected = 2
    assert expected == len(resources)


def test_a_run_without_debtors_has_an_empty_list() -> None:
    """None found is not the same as none asked for."""
    (call,) = interpreted(RUN_CALL, '{"status": "COMPLETED"}').next
    (record,) = interpreted(call, '{"result": [], "offset": "", "hasNext": false}').records
    expected = '{"status":"COMPLETED","debtors":[]}'
    assert expected == record.data


# ── whatever comes ────────────────────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "checkinId", "bookingId", "result", "hasNext", "offset", "agencyCollectionCases", "x"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
PURPOSES = sorted({*READS})


@given(st.sampled_from(PURPOSES), st.binary() | JSON.map(msgspec.json.encode), st.sampled_from(["retry", "tombstone"]))
def test_any_answer_has_an_outcome_or_is_an_answer_error(purpose: str, body: bytes, missing: Any) -> None:
    """No answer raises another error, and every record's data is a JSON object."""
    context = {"external_id": "1", "details": "{}", "debtors": []}
    call = Call("/v1/x?sliceSize=50", purpose, context, pick="1", missing=missing)
    try:
        outcome = interpreted(call, body)
    except AnswerError:
        return
    for record in outcome.records:
        assert record.external_id
        assert record.deleted or isinstance(msgspec.json.decode(record.data or ""), dict)
