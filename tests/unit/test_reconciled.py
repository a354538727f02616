"""The events that reconciliation makes, and the calls of each provider that it makes them for."""

from hypothesis import given
from hypothesis import strategies as st

from shared import reconciled
from shared.providers.imin.api import identifier_in
from shared.providers.imin.surveys import SURVEYS
from shared.providers.interface import Call, Record
from shared.providers.paybook import surveys as paybook


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
CALLS = st.builds(
    Call,
    path=TEXT,
    purpose=TEXT,
    context=st.dictionaries(TEXT, st.one_of(TEXT, st.booleans(), st.integers(-(2**53), 2**53))),
    pick=TEXT,
    missing=st.sampled_from(["retry", "tombstone"]),
    completes=st.booleans(),
    page=st.integers(1, 2**31 - 1),
)


@given(st.lists(CALLS, max_size=3), TEXT)
def test_what_is_written_is_read(calls: list[Call], identity: str) -> None:
    """Every field of every call."""
    read = reconciled.decode(reconciled.encode(identity, "why", calls))
    assert (identity, calls) == (read.identity, list(read.calls))


def test_the_same_difference_has_the_same_identity_and_another_one_another() -> None:
    """In whatever order differences were found."""
    call = Call("/v1/customers/1", "customer")
    assert reconciled.identity_of(call, ["a", "b"]) == reconciled.identity_of(call, ["b", "a"])
    others = {reconciled.identity_of(call, found) for found in (["a"], ["b"], ["a", "b"])}
    others.add(reconciled.identity_of(Call("/v1/customers/2", "customer"), ["a"]))
    assert 4 == len(others)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_a_known_account_of_imin_is_asked_for_under_its_own_identifier(identifier: str) -> None:
    """Whatever characters it has: they stay in one path segment, without query or fragment."""
    (call,) = SURVEYS[0].calls(identifier, {})
    assert identifier == identifier_in(call.path)
    assert not set("?# \\") & set(call.path)
    assert "/api/v2/customer-accounts" == call.path.rpartition("/")[0]


def test_a_page_of_paybook_repairs_itself_and_no_page_behind_it() -> None:
    """The walk goes on to the next page by itself; the repair of one page must not read them all again."""
    (survey,) = (each for each in paybook.surveys(None) if each.name == "transactions")
    (page,) = survey.calls("5e79", {"id_user": "5e75"})
    repair = paybook.repair(page, Record("paybook.transaction", "1", "{}"))
    assert (page.path, {"id_user": "5e75", "last": False}, "5e75") == (repair.path, repair.context, repair.pick)
    assert page.context["last"]
