"""Budgets and circuits from outside: real worker processes, a provider that counts their calls, and one that fails."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import orjson
import pytest

from installation import Installation, clean_environment, running, until
from ops.lab.faults import Fault
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab


# The figures are 1,000 calls a minute, 300 customers and 10,000 events in that minute; here it is a tenth of
# all three, in a quarter of the time.
CALLS, SECONDS = 100, 15.0
CUSTOMERS, EVENTS_EACH = 30, 34
STUDIO = "studio-berlin"
TEMPLATE = "/v1/customers/"
PENALTY_SECONDS = 8.0
PAGES_A_DAY = 20

CONFIG = """
[following_up]
coalesce_seconds = 0.1
probe_seconds = 1.0
max_pages = 6
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab that no other installation uses: limits and faults are set for all its accounts."""
    with running_lab(seed=29) as lab:
        yield lab


@pytest.fixture(scope="module")
def up(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Penstock with small budgets, and two worker processes for Magicline beside its own two."""
    budgets = {
        STUDIO: f"{{ calls = {CALLS}, seconds = {SECONDS}, penalty_seconds = {PENALTY_SECONDS} }}",
        "studio-hamburg": "{ calls = 0 }",
    }
    config = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
    for name, budget in budgets.items():
        config = config.replace(f'name = "{name}"\n', f'name = "{name}"\nbudget = {budget}\n')
    config = config.replace(
        '[[paybook.accounts]]\nname = "main"\n',
        f'[[paybook.accounts]]\nname = "main"\nbudget = {{ calls = {PAGES_A_DAY}, seconds = 86400 }}\n',
    )
    with running(tmp_path_factory.mktemp("installation"), lab, config + CONFIG) as installation:
        more = subprocess.Popen(
            [sys.executable, "-m", "ops", "worker", "magicline", "--concurrency", "2"],
            cwd=installation.folder,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield installation
        finally:
            more.terminate()
            more.wait(30)


@pytest.fixture(autouse=True)
def _undisturbed(lab: Lab) -> Iterator[None]:
    """Each test begins with a lab that behaves and has seen no calls."""
    lab.reset()
    lab.set_limits({"magicline": Limit(calls=0, seconds=1.0), "paybook": Limit(calls=0, seconds=1.0)})
    yield
    lab.reset()


def updates(lab: Lab, customers: Sequence[int], each: int, account: str = STUDIO, *, within: float = 0.0) -> list[str]:
    """Updates of these customers, side by side and spread over so many seconds; their receipts."""

    def send(customer: int) -> list[str]:
        rate = each / within if within else 0.0
        sent = lab.send("magicline", "CUSTOMER_UPDATED", count=each, rate=rate, account=account, customer=customer)
        return [entry["attempts"][0]["receipt"] for entry in sent]

    with ThreadPoolExecutor(CUSTOMERS) as pool:
        return [receipt for receipts in pool.map(send, customers) for receipt in receipts]


def calls(lab: Lab, path: str = TEMPLATE) -> list[dict[str, Any]]:
    """The calls that the lab has seen, in the order in which they began."""
    seen: list[dict[str, Any]] = lab.calls("magicline", path, limit=100_000)["calls"]
    return sorted(seen, key=lambda call: float(call["at"]))


def most_within(seen: Sequence[dict[str, Any]], seconds: float) -> int:
    """The most calls that began within any such time."""
    begun = [call["at"] for call in seen]
    return max((sum(at <= other < at + seconds for other in begun) for at in begun), default=0)


def differing(up: Installation, customers: Sequence[int], account: str = STUDIO) -> list[int]:
    """The customers of whom the record is not what the lab holds."""
    rows = up.records("magicline.customer")
    return [
        customer
        for customer in customers
        if rows[str(customer)]["data"]
        != orjson.loads(up.lab.world("magicline", "customer", str(customer), account) or "")
    ]


def circuit(up: Installation, account: str) -> str:
    """``open`` or ``closed``."""
    return next(str(row["circuit"]) for row in up.lines("accounts", "list") if row["account"] == account)


def test_a_storm_about_few_customers_stays_within_the_budget_and_shares_each_call(up: Installation, lab: Lab) -> None:
    """Four worker processes: never more calls than allowed in any time, no 429, 10 events a call, nothing is old."""
    lab.set_limits({"magicline": Limit(CALLS, SECONDS, PENALTY_SECONDS, per_template=True)})
    customers = range(1001, 1001 + CUSTOMERS)

    events = updates(lab, customers, EVENTS_EACH, within=SECONDS * 0.7)
    shown = up.event(up.events("--account", STUDIO, "--state", "waiting")[0]["id"])
    finished = up.finished(*events, within=90)

    seen = calls(lab)
    assert {"done"} == {row["state"] for row in finished}
    assert {"ok"} == {call["outcome"] for call in seen}
    assert most_within(seen, SECONDS) <= CALLS
    assert len(events) / len(seen) >= 10
    assert [] == differing(up, customers)
    assert shown["fetches"][0]["error"]["reason"] == "budget"
    assert f"budget of {STUDIO}, GET customer, {CALLS}/{SECONDS:g} s" == shown["fetches"][0]["error"]["detail"]


def test_after_the_first_429_nobody_calls_until_its_time_is_over(up: Installation, lab: Lab) -> None:
    """The limit is lowered without notice: only what was under way then is refused, and nothing uses up attempts."""
    lab.set_limits({"magicline": Limit(20, SECONDS, PENALTY_SECONDS, per_template=True)})
    lab.set_latency(magicline=0.1)
    customers = range(1101, 1161)

    finished = up.finished(*updates(lab, customers, 1), within=90)

    seen = calls(lab)
    refused = [call for call in seen if call["status"] == 429]
    under_way = lab.calls("magicline", limit=0)["most_in_flight"]["magicline"]
    known_at = refused[0]["at"] + refused[0]["ms"] / 1000
    too_early = [call for call in seen if known_at + 0.5 < call["at"] < refused[0]["at"] + PENALTY_SECONDS]
    assert [] == too_early
    waves = 1 + sum(later["at"] - earlier["at"] > 1 for earlier, later in pairwise(refused))
    assert len(refused) <= waves * under_way
    last = up.event(max(finished, key=lambda row: str(row["finished_at"]))["id"])
    told = [step["detail"] for step in last["timeline"] if step["step"] == "waiting"]
    assert any(f" s: budget of {STUDIO}, GET customer, {CALLS}/{SECONDS:g} s" in detail for detail in told), told
    assert {("done", 1)} == {(row["state"], row["attempts"]) for row in finished}
    assert [] == differing(up, customers)


def test_an_api_that_is_down_is_probed_and_everything_waits_for_its_turn(up: Installation, lab: Lab) -> None:
    """The circuit opens at once: a handful of probes whatever waits, no attempt used up, and all done afterwards."""
    lab.set_faults(Fault(kind="status", provider="magicline", status=503))
    customers = range(1201, 1401)
    events = updates(lab, customers, 2, "studio-hamburg")
    until(lambda: circuit(up, "studio-hamburg") == "open", 30)
    until(lambda: all(row["state"] == "waiting" for row in up.events("--account", "studio-hamburg")[:400]), 60)
    time.sleep(5)  # how often it is asked meanwhile is what is tested
    seen = calls(lab)
    opened = next(call for number, call in enumerate(seen) if number == 9)
    later = [call for call in seen if call["at"] > opened["at"] + 2]
    waiting = up.event(events[-1])
    lab.set_faults()

    finished = up.finished(*events, within=120)

    assert len(later) < 12
    assert most_within(later, 0.9) <= 1
    assert "until the API takes calls again: " in waiting["timeline"][-1]["detail"]
    assert {"done"} == {row["state"] for row in finished}
    assert max(row["attempts"] for row in finished) <= 3
    assert [] == differing(up, customers, "studio-hamburg")
    assert "closed" == circuit(up, "studio-hamburg")


def test_refused_credentials_are_named_and_tried_by_the_cheapest_read(up: Installation, lab: Lab) -> None:
    """One GET finds out, a HEAD an interval asks again, and when the key is accepted everything goes on by itself."""
    lab.set_faults(Fault(kind="status", provider="magicline", status=401))
    (event,) = updates(lab, [1501], 1, "studio-hamburg")
    row = until(lambda: (shown := up.event(event))["state"] == "waiting" and shown, 30)
    (late,) = updates(lab, [1502], 1, "studio-hamburg")
    until(lambda: len([call for call in calls(lab, "") if call["method"] == "HEAD"]) >= 2, 30)
    seen = calls(lab, "")
    assert "open" == circuit(up, "studio-hamburg")
    lab.set_faults()

    finished = up.finished(event, late, within=60)

    assert "check the API key of studio-hamburg" in row["timeline"][-1]["detail"]
    assert 1 == len([call for call in seen if call["method"] == "GET"])
    assert [("done", 1)] * 2 == [(row["state"], row["attempts"]) for row in finished]


def test_a_chain_of_pages_without_an_end_is_ended_and_keeps_what_it_brought(up: Installation, lab: Lab) -> None:
    """``max_pages`` pages are fetched; then the event is failed with that reason."""
    lab.set_faults(Fault(kind="endless-pages", provider="magicline", path="checkins"))
    sent = lab.send("magicline", "CUSTOMER_CHECKIN", account="studio-hamburg", customer=1601)

    (row,) = up.finished(sent[0]["attempts"][0]["receipt"])

    pages = [call for call in calls(lab, "checkins") if call["outcome"] == "endless-pages"]
    assert ("failed", "endless-pages") == (row["state"], row["error"]["reason"])
    assert 1 < len(pages) <= 6
    assert up.records("magicline.checkin")


def test_a_refresh_with_more_pages_than_the_day_allows_is_said_at_once(up: Installation, lab: Lab) -> None:
    """``events show`` says so as soon as it is planned, and ``stats`` when the account's backlog will be done."""
    lab.set_refresh_size(transactions=50 * 10, attachments=1, limit=10)
    sent = lab.send("paybook", "refresh")[0]["attempts"][0]["receipt"]

    shown = until(lambda: (row := up.event(sent))["state"] == "waiting" and row, 30)
    stats = next(row for row in up.lines("stats") if row["provider"] == "paybook")

    assert "more than a day allows" in shown["forecast"]["detail"], shown["forecast"]
    assert shown["forecast"]["calls"] > PAGES_A_DAY
    (forecast,) = stats["forecast"]
    assert ("main", True) == (forecast["account"], forecast["seconds"] > 86_400)
    assert forecast["done_at"] is not None
