"""Paybook: which calls an event asks for."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Reason, Unreadable
from shared.providers.interface import Call, Plan
from shared.providers.paybook.events import Notification, PaybookEvent
from unit.providers.test_paybook import account
from unit.providers.test_paybook_events import FOLLOW_UP, delivery, envelope, enveloped, read, recorded


CREDENTIAL = "5e793889ea4c5165d46f9811"
USER = "5e751d54d0510472295413b3"


def plan(body: bytes) -> Plan:
    """What is planned for a body."""
    return FOLLOW_UP.plan(read(body), delivery(body), account())


def refresh(endpoints: Any, id_user: str = "u1") -> bytes:
    """A V1 refresh."""
    return msgspec.json.encode({"event": "refresh", "id_user": id_user, "endpoints": endpoints})


def page(skip: int | str, query: str = "id_credential=c&limit=10", path: str = "/v1/transactions") -> str:
    """A page's URL in the vendor's order of parameters."""
    return f"{path}?{query}&skip={skip}&wbhk=1"


def last_of(body: bytes) -> dict[str, bool | None]:
    """URL -> whether its call is the last listed of its list (None: no page of a list)."""
    return {call.path: call.context.get("last") for call in plan(body).calls}


@pytest.mark.parametrize("event", ["credential_create", "credential_update"])
def test_a_credential_event_reads_its_credential(event: str) -> None:
    """The seed's samples list one URL."""
    path = f"/v1/credentials/{CREDENTIAL}"
    assert (Call(path, "credentials", {"id_user": USER}, pick=USER),) == plan(recorded(f"{event}__seed")).calls


def test_the_seeds_refresh_makes_a_call_for_each_listed_url() -> None:
    """Eight URLs, sent as they stand; only the highest ``skip`` of each list may be followed further."""
    call = f"?id_credential={CREDENTIAL}&limit=5000&skip={{}}&wbhk=1".format
    assert {
        "/v1/accounts" + call(0): True,
        "/v1/attachments/export" + call(0): False,
        "/v1/attachments/export" + call(5000): False,
        "/v1/attachments/export" + call(10000): True,
        f"/v1/credentials/{CREDENTIAL}": None,
        "/v1/transactions" + call(0): False,
        "/v1/transactions" + call(5000): False,
        "/v1/transactions" + call(10000): True,
    } == last_of(recorded("refresh__seed"))
    calls = plan(recorded("refresh__seed")).calls
    assert {USER} == {call.context["id_user"] for call in calls}
    assert ["retry"] * 8 == [call.missing for call in calls]


def test_every_event_of_a_v3_body_is_planned_and_a_url_that_two_share_once() -> None:
    """The credential is in both events of the sample."""
    calls = plan(recorded("credentials.refreshed__v3-several-events")).calls
    assert ["credentials", "accounts", "attachments", "transactions", "transactions"] == [c.purpose for c in calls]


@pytest.mark.parametrize("name", ["created", "updated", "refreshed"])
def test_v3_names_are_planned_like_v1_names(name: str) -> None:
    """The payload is a V1 body."""
    body = envelope(enveloped(name=f"credentials.{name}", endpoints={"credential": ["/v1/credentials/c1"]}))
    assert ["/v1/credentials/c1"] == [call.path for call in plan(body).calls]


def test_endpoints_may_be_missing_null_or_empty() -> None:
    """Only what is listed is called, under whatever key it stands."""
    assert 1 == len(plan(recorded("refresh__missing-and-null-endpoints")).calls)
    assert () == plan(refresh({})).calls
    assert ["accounts"] == [call.purpose for call in plan(refresh({"novelty": ["/v1/accounts"]})).calls]
    assert ["accounts"] == [call.purpose for call in plan(refresh(["/v1/accounts"])).calls]


def test_users_do_not_share_a_call() -> None:
    """The same URL read on behalf of another user may give another answer."""
    body = envelope(
        *(enveloped(id_user=user, endpoints={"credential": ["/v1/credentials/c1"]}) for user in ("u1", "u2", "u1"))
    )
    assert ["/v1/credentials/c1#u1", "/v1/credentials/c1#u2"] == [call.resource for call in plan(body).calls]


def test_a_call_without_a_user_has_none_in_its_context() -> None:
    """It is read with the key alone."""
    assert (Call("/v1/accounts", "accounts"),) == plan(refresh({"accounts": ["/v1/accounts"]}, id_user="")).calls


def test_lists_are_told_apart_by_everything_but_skip() -> None:
    """Another limit, filter or user is another list with a highest page of its own."""
    other = page(0, "id_credential=d&limit=10")
    assert {page(0): False, page(10): True, other: True} == last_of(refresh({"t": [page(10), page(0), other]}))


def test_a_page_to_be_followed_is_not_shared_with_one_that_is_not() -> None:
    """An event that lists fewer pages than another one pending would else lose what lies behind its last page."""
    long, short = plan(refresh({"t": [page(0), page(10)]})).calls, plan(refresh({"t": [page(0)]})).calls
    assert {f"{page(0)}#u1", f"{page(10)}#u1,last"} == {call.resource for call in long}
    assert {f"{page(0)}#u1,last"} == {call.resource for call in short}


def test_the_highest_page_counts_over_the_whole_delivery() -> None:
    """Two events of one V3 body that list the same pages are one list."""
    body = envelope(enveloped("e1", endpoints={"t": [page(0)]}), enveloped("e2", endpoints={"t": [page(0), page(10)]}))
    assert {page(0): False, page(10): True} == last_of(body)


@pytest.mark.parametrize(
    "url",
    [
        "/v1/transactions?limit=10",
        "/v1/transactions?skip=10",
        "/v1/transactions?limit=0&skip=0",
        "/v1/transactions?limit=-1&skip=0",
        "/v1/transactions?limit=ten&skip=0",
        "/v1/transactions?limit=1e1&skip=0",
        "/v1/transactions?limit=10&skip=",
        "/v1/transactions?limit=10&skip=0&skip=10",
        "/v1/transactions?limit=10&limit=20&skip=0",
        "/v1/transactions?limit=10&skip=10000000000",
        "/v1/transactions?xlimit=10&skip=0",
    ],
)
def test_a_url_without_one_whole_limit_and_skip_is_no_page(url: str) -> None:
    """It is called, and never followed."""
    assert {url: None} == last_of(refresh({"t": [url]}))


UNTRUSTED = [
    "",
    "/",
    "/v1",
    "/v1/",
    "/v2/accounts",
    "/V1/accounts",
    "v1/accounts",
    " /v1/accounts",
    "/v1/accounts ",
    "/v1/accounts\n",
    "/v1/acc\tounts",
    "/v1/accounts?a=b c",
    "/v1/accounts?a=b\r\nX-Other: 1",
    "/v1/accounts?a=\x00",
    "/v1/accounts#fragment",
    "/v1/accounts?a=b#fragment",
    "/v1//accounts",
    "//v1/accounts",
    "//attacker.example/v1/accounts",
    "///attacker.example/v1/accounts",
    "https://attacker.example/v1/accounts",
    "https://sync.paybook.com/v1/accounts",
    "http:/v1/accounts",
    "/v1/../admin",
    "/v1/accounts/..",
    "/v1/accounts/../users?x=1",
    "/v1/./accounts",
    "/v1/accounts/.",
    "/v1/accounts/.?x=1",
    "/v1/accounts/",
    "/v1/%2e%2e/admin",
    "/v1/%2E%2E/admin",
    "/v1/accounts%2f..%2fusers",
    "/v1/accounts%2Fx",
    "/v1/accounts%5cx",
    "/v1/%252e%252e/admin",
    "/v1\\accounts",
    "/\\attacker.example/v1/accounts",
    "/v1/accounts\\..\\users",
    "/v1/accounts?a=\\",
    "/v1/accounts;/../users",
    "/v1/accounts@attacker.example",
    "/v1/accounts:80",
    "/v1/kontó",
    "/v1/accounts?name=ü",
    "/v1/accounts?a=%",
    "/v1/accounts?a=%zz",
    "/v1/accounts\u2028",
    "/v1/accounts?a=" + "x" * 2000,
]


@pytest.mark.parametrize("url", UNTRUSTED)
def test_a_url_that_is_not_plainly_below_v1_is_never_called(url: str) -> None:
    """The account's key is sent to whatever is called, so one such URL parks the whole event."""
    assert "untrusted-url" == reason_of({"accounts": ["/v1/accounts", url]})


def test_an_untrusted_url_is_not_shown() -> None:
    """The sentence does not carry what a stranger wrote into logs and consoles."""
    with pytest.raises(Unreadable) as caught:
        plan(recorded("refresh__untrusted-url"))
    assert "untrusted-url" == caught.value.reason
    assert "attacker" not in caught.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "/v1/documents?id_job_webhook=1",
        "/v1/users",
        "/v1/webhooks/events/1/documents",
        "/v1/transactions/count",
        "/v1/attachments/count?id_user=1",
        "/v1/attachments/json",
        "/v1/attachments/5d/extra",
        "/v1/attachments/export/more",
    ],
)
def test_a_path_that_leads_to_no_record_parks_the_event(url: str) -> None:
    """To fetch it would be a call for nothing; a person sees the event and the code can learn the path."""
    assert "unknown-type" == reason_of({"novelty": [url]})


@pytest.mark.parametrize(
    "url",
    [
        "/v1/credentials",
        "/v1/credentials/5e79",
        "/v1/accounts",
        "/v1/accounts/5e79?wbhk=1",
        "/v1/transactions?keywords=a%20b,c&dt=2020-01-01T00:00:00Z&x[]=1&wbhk",
        "/v1/attachments",
        "/v1/attachments/export?limit=1&skip=0",
        "/v1/attachments/5d",
    ],
)
def test_a_trusted_url_is_called_as_it_stands(url: str) -> None:
    """Not a byte is changed, nor is ``wbhk``, whose meaning nobody knows, left out."""
    assert [url] == [call.path for call in plan(refresh({"x": [url]})).calls]


@pytest.mark.parametrize(
    "endpoints", [None, "/v1/accounts", 1, {"accounts": "/v1/accounts"}, {"a": [1]}, {"a": {}}, [[]]]
)
def test_endpoints_of_another_shape_park_the_event(endpoints: Any) -> None:
    """Each key holds a list of URLs; an event without any endpoints has nothing to say."""
    assert "wrong-shape" == reason_of(endpoints)


@pytest.mark.parametrize("folder", ["documents.completed__v3", "documents_completed__v1"])
def test_an_unknown_event_is_parked_by_its_type(folder: str) -> None:
    """Whatever its endpoints look like."""
    with pytest.raises(Unreadable) as caught:
        plan(recorded(folder))
    assert "unknown-type" == caught.value.reason


def test_an_unknown_event_beside_known_ones_parks_them_all() -> None:
    """A body is planned whole or not at all: nothing of it is dropped in silence."""
    body = envelope(enveloped(endpoints={"credential": ["/v1/credentials/c1"]}), enveloped(name="credentials.deleted"))
    with pytest.raises(Unreadable) as caught:
        plan(body)
    assert "unknown-type" == caught.value.reason


def reason_of(endpoints: Any) -> Reason:
    """Why a refresh with these endpoints is parked."""
    with pytest.raises(Unreadable) as caught:
        plan(refresh(endpoints))
    return caught.value.reason


ENDPOINTS = st.none() | st.text() | st.lists(st.text() | st.none()) | st.dictionaries(st.text(), st.lists(st.text()))
URLS = st.from_regex(r"/v1/(accounts|transactions)(/\w+)?\?(\w=[%\w&]*&)?limit=\d{0,3}&skip=\d{0,12}", fullmatch=True)


@given(ENDPOINTS | st.dictionaries(st.text(), st.lists(URLS | st.text())))
def test_any_endpoints_are_planned_or_parked(endpoints: Any) -> None:
    """Whatever an authentic event lists: calls of unlike resources below ``/v1/``, or Unreadable."""
    event = PaybookEvent("identity", (Notification("refresh", "u1", endpoints),))
    try:
        calls = FOLLOW_UP.plan(event, delivery(b""), account()).calls
    except Unreadable:
        return
    assert [] == [call for call in calls if not call.path.startswith("/v1/")]
    assert len(calls) == len({call.resource for call in calls})
