"""What was never delivered is found and repaired, and nothing else (issue 5, "must show", 6)."""

from collections.abc import Iterator
from typing import Any

import pytest

from installation import FULL, Installation, running
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from support.conditions import until


DELIVERIES, WITHHELD = (5000, 200) if FULL else (400, 16)
STUDIO = "studio-berlin"

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of this module's own, without limits: nobody else changes its world."""
    with running_lab(seed=23) as lab:
        lab.set_limits({"magicline": Limit(calls=0, seconds=1), "paybook": Limit(calls=0, seconds=1)})
        yield lab


@pytest.fixture(scope="module")
def installation(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Penstock whose accounts have no budget: what is measured is what is found."""
    config = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
    config = config.replace("base_url =", "budget = { calls = 0 }\nbase_url =")
    with running(tmp_path_factory.mktemp("reconciling"), lab, config) as started:
        yield started


@pytest.fixture(autouse=True)
def _undisturbed() -> None:
    """The lab of this module keeps its limits from test to test."""


def reconcile(installation: Installation, *arguments: str) -> dict[str, Any]:
    """The counts of one run."""
    (row,) = installation.lines("reconcile", *arguments)
    return {name: row[name] for name in ("looked_at", "missing", "differing", "repaired", "finished")}


def settled(installation: Installation) -> None:
    """Every event of Magicline and Paybook is finished."""

    def nothing_left() -> bool:
        open_states = ("received", "processing", "waiting")
        return not any(row["events"][state] for row in installation.lines("stats") for state in open_states)

    until(nothing_left)


def found(row: dict[str, Any]) -> tuple[int, int, int]:
    """Missing, differing, repaired."""
    return row["missing"], row["differing"], row["repaired"]


def test_withheld_deliveries_are_repaired_and_nothing_else(installation: Installation, lab: Lab) -> None:
    """All records are the provider's state in the end; a second run finds nothing."""
    magicline = ("magicline", "--account", STUDIO)
    first = reconcile(installation, *magicline)
    settled(installation)
    assert first["missing"] == first["repaired"] > 0

    sent = lab.send("magicline", "CUSTOMER_CREATED", count=DELIVERIES, account=STUDIO, withhold=WITHHELD)
    assert WITHHELD == sum(entry["withheld"] for entry in sent)
    assert DELIVERIES - WITHHELD == sum(entry["acknowledged"] for entry in sent)
    settled(installation)

    assert (WITHHELD, 0, 0) == found(reconcile(installation, *magicline, "--dry-run"))
    assert (WITHHELD, 0, WITHHELD) == found(reconcile(installation, *magicline))
    settled(installation)
    again = reconcile(installation, *magicline)
    assert (0, 0, 0) == found(again)
    assert again["finished"]

    records = installation.records("magicline.customer")
    shown = {row["external_id"] for row in records.values() if row["account"] == STUDIO}
    assert again["looked_at"] == len(shown)
    marked = [row for row in installation.events("--account", STUDIO) if row["event_types"] == ["reconciled"]]
    assert first["repaired"] + WITHHELD == len(marked)
    assert {"done"} == {row["state"] for row in marked}


def levelled(installation: Installation, *arguments: str) -> None:
    """What the provider holds is known: from here on only what a test does is missing."""
    reconcile(installation, *arguments)
    settled(installation)
    assert (0, 0, 0) == found(reconcile(installation, *arguments))


def repaired(installation: Installation, *arguments: str) -> tuple[int, int, int]:
    """What a run finds; a second one has to find nothing."""
    counts = found(reconcile(installation, *arguments))
    settled(installation)
    assert (0, 0, 0) == found(reconcile(installation, *arguments))
    return counts


def test_a_deleted_customer_becomes_a_tombstone_and_a_booking_is_found(installation: Installation, lab: Lab) -> None:
    """What the list no longer shows is asked for by its id; bookings are found by customer."""
    magicline = ("magicline", "--account", "studio-hamburg")
    levelled(installation, *magicline)
    lab.change("magicline", "customer", "1007", account="studio-hamburg", gone=True)
    lab.happen("magicline", "APPOINTMENT_BOOKING_CREATED", account="studio-hamburg", id=777)

    assert (1, 1, 2) == repaired(installation, *magicline)

    records = installation.lines("records", "list", "--account", "studio-hamburg", "--limit", "0")
    known = {(row["kind"], row["external_id"]): row for row in records}
    assert known["magicline.customer", "1007"]["deleted_at"] is not None
    assert known["magicline.customer", "1007"]["data"]["id"] == 1007
    assert known["magicline.appointment-booking", "777"]["data"]["bookingStatus"] == "BOOKED"


def test_paybook_rows_are_found_page_by_page(installation: Installation, lab: Lab) -> None:
    """A refresh that nobody told of: three new transactions, one changed, and the credential itself."""
    levelled(installation, "paybook")
    lab.happen("paybook", "refresh", new=3, changed=1)

    assert (3, 2, 5) == repaired(installation, "paybook")


def test_since_narrows_paybook_down(installation: Installation, lab: Lab) -> None:
    """Only what was refreshed since is looked at."""
    levelled(installation, "paybook")
    lab.happen("paybook", "refresh", new=2, changed=0)
    newest = "2020-03-19T22:35:43Z"

    counts = reconcile(installation, "paybook", "--since", newest)

    assert (2, 1) == (counts["missing"], counts["differing"])
    assert counts["looked_at"] < 100
    settled(installation)


def test_known_customer_accounts_of_imin_are_read_again(installation: Installation, lab: Lab) -> None:
    """One changed, one gone; the run says that it cannot see others."""
    lab.send("imin", "customer-details-updated", customer="c-2")
    lab.send("imin", "customer-details-updated", customer="c-3")
    settled(installation)
    levelled(installation, "imin")
    lab.happen("imin", "access-pass-updated", customer="c-2", notify=False)
    lab.change("imin", "customer-account", "c-3", gone=True)

    (row,) = installation.lines("reconcile", "imin", "--dry-run")
    assert "imin has no list" in row["notes"][0]
    assert (0, 2, 2) == repaired(installation, "imin")

    assert installation.records("imin.customer-account")["c-3"]["deleted_at"] is not None


def test_known_verifications_of_authenteq_are_exported_again(installation: Installation, lab: Lab) -> None:
    """A changed result is taken over, and the images stay."""
    for which in ("verification-1", "verification-2"):
        lab.send("authenteq", id=which)
    settled(installation)
    levelled(installation, "authenteq")
    before = installation.records("authenteq.verification")["verification-1"]["data"]
    lab.change("authenteq", "verification", "verification-1", status="REVOKED")
    lab.change("authenteq", "verification", "verification-2", gone=True)

    assert (0, 2, 2) == repaired(installation, "authenteq")

    records = installation.records("authenteq.verification")
    assert {**before, "status": "REVOKED"} == records["verification-1"]["data"]
    assert records["verification-2"]["deleted_at"] is not None
