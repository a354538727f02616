"""The four APIs as their documents describe them, over real sockets."""

import select
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from ops.lab.accounts import Account
from ops.lab.faults import Fault
from ops.lab.limits import Limit
from ops.lab.paybook_world import SEED_CREDENTIAL, SEED_USER
from ops.lab.process import Lab
from support.conditions import HANG_SECONDS


def account(lab: Lab, provider: str) -> Account:
    """The provider's first account."""
    return next(each for each in lab.accounts() if each.provider == provider)


def get(lab: Lab, provider: str, path: str, **headers: str) -> httpx.Response:
    """A call with the first account's key, or with the headers given."""
    keys = account(lab, provider)
    own = {
        "imin": {"X-API-KEY": keys.api_key},
        "magicline": {"x-api-key": keys.api_key},
        "paybook": {"Authorization": f"api_key api_key={keys.api_key}"},
        "authenteq": {},
    }[provider]
    return httpx.get(lab.url(provider) + path, headers=headers or own)


def read(lab: Lab, path: str) -> Any:
    """The JSON of a Magicline call that succeeds."""
    answer = get(lab, "magicline", path)
    assert (path, 200) == (path, answer.status_code)
    return answer.json()


# ── every provider ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("provider", "path", "header"),
    [
        ("imin", "/api/v2/customer-accounts/abc", "X-API-KEY"),
        ("magicline", "/v1/customers/7893459", "x-api-key"),
        ("paybook", f"/v1/credentials/{SEED_CREDENTIAL}", "Authorization"),
        ("authenteq", "/export/verification-result-as-json?verificationId=x", "Authorization"),
    ],
)
def test_a_wrong_key_gets_401_in_the_providers_shape(lab: Lab, provider: str, path: str, header: str) -> None:
    """And the call is in the ledger under nobody's name."""
    answer = get(lab, provider, path, **{header: "wrong"})
    assert answer.status_code == 401
    field = {"imin": "statusCode", "magicline": "errorMessage", "paybook": "code", "authenteq": "errorCode"}[provider]
    assert answer.json()[field]
    seen = lab.calls(provider)["calls"]
    assert [("", 401, "refused")] == [(call["account"], call["status"], call["outcome"]) for call in seen]


# ── imin ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_imin_tells_the_customer_that_the_delivery_names(lab: Lab) -> None:
    """The delivery's @id is the address of the call, and its answer is the world's state."""
    told = orjson.loads(lab.happen("imin", "access-pass-updated", customer="abc").body)
    answer = httpx.get(told["@id"], headers={"X-API-KEY": account(lab, "imin").api_key})
    assert answer.content == lab.world("imin", "customer-account", "abc")
    assert answer.json()["accessPass"]["text"].startswith("PASS-")
    assert answer.json()["notifications"][-1]["description"] == "access-pass-updated"


def test_imin_has_no_customer_beyond_its_range(lab: Lab) -> None:
    """404."""
    assert get(lab, "imin", "/api/v2/customer-accounts/c-999999").status_code == 404
    assert get(lab, "imin", "/api/v2/customer-accounts/c-1/linked-accounts").status_code == 200


# ── magicline ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_magicline_head_only_checks_the_key(lab: Lab) -> None:
    """Any path, 200 or 401."""
    url, key = lab.url("magicline") + "/v1/anything", account(lab, "magicline").api_key
    assert httpx.head(url, headers={"x-api-key": key}).status_code == 200
    assert httpx.head(url, headers={"x-api-key": "wrong"}).status_code == 401


CONTENT_READS = {
    "CONTRACT_IDLE_PERIOD_CREATED": "/v1/memberships/{contractId}/self-service/idle-periods/{idlePeriodId}",
    "CONTRACT_ADDITIONAL_MODULE_UPDATED": (
        "/v1/memberships/{contractId}/self-service/additional-module-contracts/{moduleContractId}"
    ),
    "CLASS_SLOT_UPDATED": "/v1/classes/{classId}/slots/{entityId}",
    "CUSTOMER_CREATED": "/v1/customers/{entityId}",
    "CUSTOMER_UPDATED": "/v1/customers/{entityId}",
    "CUSTOMER_ACCESS_MEDIUM_CREATED": "/v1/customers/{entityId}",
    "CUSTOMER_CHECKIN": "/v1/customers/{entityId}/activities/checkins",
    "CUSTOMER_COMMUNICATION_PREFERENCES_UPDATED": "/v1/communications/{entityId}/communication-preferences",
    "CUSTOMER_HOME_STUDIO_UPDATED": "/v1/cross-studio/customers/{entityId}",
    "CONTRACT_CREATED": "/v1/customers/{entityId}/contracts",
    "APPOINTMENT_BOOKING_CANCELLED": "/v1/appointments/booking/{entityId}",
    "CLASS_BOOKING_CREATED": "/v1/classes/booking/{entityId}",
    "DEVICE_CREATED": "/v1/devices",
    "EMPLOYEE_UPDATED": "/v1/employees/{entityId}",
    "STUDIO_OPENING_HOURS_UPDATED": "/v1/studios/information",
    "ADDITIONAL_INFORMATION_FIELDS_UPDATED": "/v1/customers/additional-information-fields",
    "FINANCE_DEBT_COLLECTION_RUN_CREATED": "/v1/debt-collection/{entityId}/details",
    "FINANCE_DEBT_COLLECTION_CONFIGURATION_UPDATED": "/v1/debt-collection/configuration",
    "FINANCE_DEBT_COLLECTION_CASE_UPDATED": "/v1/debt-collection/cases?caseAdjustmentRequestId={entityId}",
    "TAX_ADVISOR_EXPORT_CREATED": "/v1/taxadvisor/exports/{entityId}",
}


@pytest.mark.parametrize("event", CONTENT_READS)
def test_magicline_holds_what_an_event_leads_to(lab: Lab, event: str) -> None:
    """The read that providers.md pairs with the type answers 200 with something in it."""
    told = orjson.loads(lab.happen("magicline", event).body)
    ids = {"entityId": told["entityId"], **told["payload"][0].get("content", {})}
    assert read(lab, CONTENT_READS[event].format(**ids))


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ("CUSTOMER_DELETED", "/v1/customers/{entityId}"),
        ("EMPLOYEE_DELETED", "/v1/employees/{entityId}"),
        ("CLASS_SLOT_CANCELLED", "/v1/classes/{classId}/slots/{entityId}"),
        ("CONTRACT_IDLE_PERIOD_CANCELLED", CONTENT_READS["CONTRACT_IDLE_PERIOD_CREATED"]),
        ("CONTRACT_ADDITIONAL_MODULE_DELETED", CONTENT_READS["CONTRACT_ADDITIONAL_MODULE_UPDATED"]),
    ],
)
def test_magicline_answers_404_for_what_is_gone(lab: Lab, event: str, path: str) -> None:
    """Deleted and cancelled things."""
    told = orjson.loads(lab.happen("magicline", event).body)
    ids = {"entityId": told["entityId"], **told["payload"][0].get("content", {})}
    answer = get(lab, "magicline", path.format(**ids))
    assert answer.status_code == 404
    assert {"errorMessage", "errorCode", "traceId", "reference", "args", "typedArgs"} == set(answer.json())


def test_magicline_forbids_a_customer_whose_access_is_disabled(lab: Lab) -> None:
    """403: the data may no longer be asked for."""
    told = orjson.loads(lab.happen("magicline", "CUSTOMER_ACCESS_DISABLED").body)
    assert get(lab, "magicline", f"/v1/customers/{told['entityId']}").status_code == 403


def test_magicline_slices_end_and_hold_each_item_once(lab: Lab) -> None:
    """Offsets are passed back as they came: an id for customers, a count for debtors."""
    for path, field in (
        ("/v1/customers?sliceSize=90", "id"),
        ("/v1/debt-collection/5/debtors?sliceSize=10", "debtorId"),
    ):
        found: list[object] = []
        page = read(lab, path)
        found += [item[field] for item in page["result"]]
        while page["hasNext"]:
            page = read(lab, f"{path}&offset={page['offset']}")
            found += [item[field] for item in page["result"]]
        assert len(found) == len(set(found))
        assert len(found) > 20


def test_a_check_in_is_the_newest_of_its_customer_and_in_todays_span(lab: Lab) -> None:
    """The default span and one that names today find it."""
    which = orjson.loads(lab.happen("magicline", "CUSTOMER_CHECKIN", customer=1010).body)["entityId"]
    items = read(lab, f"/v1/customers/{which}/activities/checkins?sliceSize=50")["result"]
    today = items[-1]["checkInDateTime"][:10]
    again = read(lab, f"/v1/customers/{which}/activities/checkins?sliceSize=50&fromDate={today}&toDate={today}")
    assert items[-1]["checkOutDateTime"] is None
    assert items[-1] in again["result"]


def test_endless_pages_never_end(lab: Lab) -> None:
    """Past the last item, too, there is more."""
    lab.set_faults(Fault("endless-pages", path="debtors"))
    offset = ""
    for _ in range(6):
        page = read(lab, f"/v1/debt-collection/5/debtors?sliceSize=10&offset={offset}")
        offset = page["offset"]
        assert page["hasNext"]
        assert page["result"]


# ── paybook ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_paybook_wraps_everything_in_its_envelope(lab: Lab) -> None:
    """The code repeats the status, the request id is in the head too, and a credential by id is a list."""
    answer = get(lab, "paybook", f"/v1/credentials/{SEED_CREDENTIAL}")
    body = answer.json()
    assert (200, None, True, None) == (body["code"], body["errors"], body["status"], body["message"])
    assert answer.headers["Request-ID"] == body["rid"]
    assert body["response"][0]["id_credential"] == SEED_CREDENTIAL


@pytest.mark.parametrize("scheme", ["api_key", "API_KEY"])
def test_paybook_shows_a_user_only_their_own(lab: Lab, scheme: str) -> None:
    """id_user narrows what the key sees."""
    key = account(lab, "paybook").api_key
    path = f"/v1/credentials/{SEED_CREDENTIAL}"
    own = get(lab, "paybook", path, Authorization=f"{scheme} api_key={key},id_user={SEED_USER}")
    other = get(lab, "paybook", path, Authorization=f"{scheme} api_key={key},id_user={'0' * 24}")
    assert (200, 404) == (own.status_code, other.status_code)


def test_a_paybook_session_reads_but_does_not_manage_webhooks(lab: Lab) -> None:
    """A token stands for its user; webhooks take the API key only."""
    lab.set_limits({"paybook": Limit(calls=0, seconds=1)})
    key = {"Authorization": f"api_key api_key={account(lab, 'paybook').api_key}"}
    opened = httpx.post(lab.url("paybook") + "/v1/sessions", headers=key, json={"id_user": SEED_USER})
    token = opened.json()["response"]["token"]
    for form in (f"Bearer {token}", f"TOKEN token={token}"):
        assert get(lab, "paybook", f"/v1/credentials/{SEED_CREDENTIAL}", Authorization=form).status_code == 200
        assert get(lab, "paybook", "/v1/webhooks", Authorization=form).status_code == 401


def test_paybook_webhooks_are_created_listed_counted_and_deleted(lab: Lab) -> None:
    """A delivery that nobody takes counts as failed."""
    lab.set_limits({"paybook": Limit(calls=0, seconds=1)})
    with httpx.Client(
        base_url=lab.url("paybook"), headers={"Authorization": f"api_key api_key={account(lab, 'paybook').api_key}"}
    ) as client:
        assert client.post("/v1/webhooks", json={"url": "https://example.org"}).status_code == 400
        made = client.post("/v1/webhooks", json={"url": "https://example.org/h", "events": ["refresh"]}).json()
        lab.send("paybook", "refresh")
        listed = client.get("/v1/webhooks").json()["response"]
        which = made["response"]["id_webhook"]
        assert [(which, 1, 0)] == [(hook["id_webhook"], hook["ct_failed"], hook["is_disabled"]) for hook in listed]
        assert client.delete(f"/v1/webhooks/{which}").json()["response"] is True
        assert client.delete(f"/v1/webhooks/{which}").status_code == 404


def test_attachments_are_an_envelope_or_when_told_a_file(lab: Lab) -> None:
    """The form of the export is unknown, so both can be had."""
    path = f"/v1/attachments/export?id_credential={SEED_CREDENTIAL}&limit=5000&skip=0&wbhk=1"
    assert len(get(lab, "paybook", path).json()["response"]) == 8
    lab.set_raw_attachments(True)
    raw = get(lab, "paybook", path)
    lab.set_raw_attachments(False)
    assert raw.headers["content-type"].startswith("text/xml")


def test_each_page_is_counted_with_its_outcome(lab: Lab) -> None:
    """What a test needs to prove that no page was fetched twice."""
    lab.set_limits({"paybook": Limit(calls=0, seconds=1)})
    lab.set_refresh_size(credential=SEED_CREDENTIAL, transactions=30, limit=10)
    told = orjson.loads(lab.happen("paybook", "refresh", credential=SEED_CREDENTIAL, new=0, changed=0).body)
    lab.set_refresh_size(limit=5000)
    pages = told["endpoints"]["transactions"]
    lab.set_faults(Fault("status", path="skip=10&", times=1, status=503))
    answers = [get(lab, "paybook", page).status_code for page in (*pages, pages[1])]
    assert [200, 503, 200, 200] == answers
    assert {pages[0]: {"ok": 1}, pages[1]: {"status": 1, "ok": 1}, pages[2]: {"ok": 1}} == lab.calls()["counts"]


def test_a_page_shift_shows_a_row_twice(lab: Lab) -> None:
    """As if a row had come in at the front between two pages."""
    path = f"/v1/accounts?id_credential={SEED_CREDENTIAL}&limit=1&skip="
    first = get(lab, "paybook", f"{path}0").json()["response"]
    lab.set_faults(Fault("page-shift", path="skip=[1-9]"))
    assert first == get(lab, "paybook", f"{path}1").json()["response"]


def test_paybook_refuses_the_sixth_call_of_a_second(lab: Lab) -> None:
    """429 in the envelope, without Retry-After."""
    lab.set_limits({"paybook": Limit(calls=5, seconds=60)})
    answers = [get(lab, "paybook", "/v1/credentials") for _ in range(6)]
    assert [200] * 5 + [429] == [answer.status_code for answer in answers]
    assert "retry-after" not in answers[5].headers
    assert lab.calls("paybook")["outcomes"]["paybook"] == {"ok": 5, "limited": 1}


# ── authenteq ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_authenteq_exports_a_verification_with_its_images(lab: Lab) -> None:
    """By the id that the delivery carries."""
    which = lab.send("authenteq", document_type="PP")[0]["identity"]
    keys = account(lab, "authenteq")
    answer = httpx.get(
        lab.url("authenteq") + "/export/verification-result-as-json",
        params={"verificationId": which},
        auth=(keys.client_id, keys.api_key),
    )
    assert answer.json()["id"] == which
    assert answer.json()["livenessFaceImage"]["contentType"] == "image/jpeg"
    assert "croppedBackImage" not in answer.json()
    missing = httpx.get(
        lab.url("authenteq") + "/export/verification-result-as-json", auth=(keys.client_id, keys.api_key)
    )
    assert (400, "MISSING_REQUEST_PARAMETER") == (missing.status_code, missing.json()["errorCode"])


# ── faults on the wire ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["drop", "truncate"])
def test_a_cut_connection_is_no_answer(lab: Lab, kind: Any) -> None:
    """The client sees a protocol error, once; the next call is answered."""
    lab.set_faults(Fault(kind, path="abc", times=1))
    with pytest.raises(httpx.RemoteProtocolError):
        get(lab, "imin", "/api/v2/customer-accounts/abc")
    assert get(lab, "imin", "/api/v2/customer-accounts/abc").status_code == 200
    assert lab.calls("imin")["outcomes"]["imin"] == {kind: 1, "ok": 1}


@pytest.mark.parametrize(("kind", "first"), [("not-json", b"<"), ("wrong-type", b'"'), ("wrong-shape", b"{")])
def test_a_bad_body_comes_with_200(lab: Lab, kind: Any, first: bytes) -> None:
    """And calls itself JSON."""
    lab.set_faults(Fault(kind))
    answer = get(lab, "imin", "/api/v2/customer-accounts/abc")
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert first == answer.content[:1]
    assert b"identifier" not in answer.content


def test_a_status_fault_may_carry_retry_after(lab: Lab) -> None:
    """In the provider's own error shape."""
    lab.set_faults(Fault("status", status=429, retry_after="7"))
    answer = get(lab, "magicline", "/v1/devices")
    assert (429, "7") == (answer.status_code, answer.headers["retry-after"])
    assert "errorMessage" in answer.json()


def test_a_connection_that_was_idle_for_a_while_serves_on(lab: Lab) -> None:
    """A caller on a busy machine uses it again just when others would have closed it, and would have no answer."""
    control = urlsplit(lab.url("control"))
    connection = HTTPConnection(str(control.hostname), control.port, timeout=HANG_SECONDS)
    connection.request("GET", "/calls")
    connection.getresponse().read()
    assert ([], [], []) == select.select([connection.sock], [], [], 7)  # uvicorn would close it after 5 s

    connection.request("GET", "/calls")
    assert 200 == connection.getresponse().status
    connection.close()
