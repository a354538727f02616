"""Budgets and circuits from outside: real worker processes, a provider that counts their calls, and one that fails."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from installation import FULL, Installation, clean_environment, running
from ops.installation import running as noted_installation
from ops.lab.faults import Fault
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from support.budget_log import BudgetLog, budget_log, most_within
from support.conditions import HANG_SECONDS, until


# What must be shown is 1,000 calls a minute, 300 customers and 10,000 events in that minute, four worker processes; and
# an API that is down for a minute with 20,000 events waiting. The suite plays a tenth of it in a quarter of the time.
CALLS, SECONDS = (1000, 60.0) if FULL else (100, 15.0)
CUSTOMERS, EVENTS_EACH = (300, 34) if FULL else (30, 34)
STORM_SECONDS = 58.0 if FULL else 10.5
LOWERED = 200 if FULL else 20
PENALTY_SECONDS = 60.0 if FULL else 8.0
MARGIN = 0.1 + SECONDS / 100
"""So much longer than the provider's window is ours: what is on its way for longer may come in the provider's next."""
DOWN_CUSTOMERS, DOWN_EACH, DOWN_SECONDS = (2000, 10, 60.0) if FULL else (200, 2, 5.0)
HAMBURG_CALLS, HAMBURG_SECONDS = (1000, 60.0) if FULL else (100, 5.0)
PROBE_SECONDS = 1.0
WITHIN = 900.0
STUDIO = "studio-berlin"
TEMPLATE = "/v1/customers/"
PAGES_A_DAY = 20
SENDERS = 30
WINDOW = f"{CALLS}/{'min' if FULL else f'{SECONDS:g} s'}"

FEW_CALLS, FEW_SECONDS = 3, 3600.0
"""A budget that stays used up for longer than it takes to look at it, on any machine."""

pytestmark = pytest.mark.timeout(1800)

CONFIG = f"""
[following_up]
coalesce_seconds = 0.1
probe_seconds = {PROBE_SECONDS}
max_pages = 6
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab that no other installation uses: limits and faults are set for all its accounts."""
    with running_lab(seed=29, studios=3) as lab:
        yield lab


@pytest.fixture(scope="module")
def up(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Penstock with small budgets, and two worker processes for Magicline beside its own two."""
    budgets = {
        STUDIO: f"{{ calls = {CALLS}, seconds = {SECONDS}, penalty_seconds = {PENALTY_SECONDS} }}",
        "studio-hamburg": f"{{ calls = {HAMBURG_CALLS}, seconds = {HAMBURG_SECONDS} }}",
        "studio-3": f"{{ calls = {FEW_CALLS}, seconds = {FEW_SECONDS} }}",
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
            more.wait(HANG_SECONDS)


@pytest.fixture(autouse=True)
def _undisturbed(lab: Lab) -> Iterator[None]:
    """Each test begins with a lab that behaves and has seen no calls."""
    lab.reset()
    lab.set_limits({"magicline": Limit(calls=0, seconds=1.0), "paybook": Limit(calls=0, seconds=1.0)})
    yield
    lab.reset()


def updates(lab: Lab, customers: Sequence[int], each: int, account: str = STUDIO, *, within: float = 0.0) -> list[str]:
    """Updates of these customers, round by round, side by side and spread over so many seconds; their receipts."""

    def send(mine: Sequence[int]) -> list[str]:
        receipts, began = [], time.monotonic()
        # A client of its own: one that threads share may look at a connection that another has just closed.
        with httpx.Client(base_url=lab.client.base_url, timeout=lab.client.timeout) as client:
            own = replace(lab, client=client)
            for number in range(each):
                time.sleep(max(0.0, began + within * number / each - time.monotonic()))
                for customer in mine:
                    (sent,) = own.send("magicline", "CUSTOMER_UPDATED", account=account, customer=customer)
                    receipts.append(sent["attempts"][0]["receipt"])
        return receipts

    with ThreadPoolExecutor(SENDERS) as pool:
        sent = pool.map(send, [customers[number::SENDERS] for number in range(SENDERS)])
        return [receipt for receipts in sent for receipt in receipts]


def finished(up: Installation, events: Sequence[str]) -> list[dict[str, Any]]:
    """The events, once nothing of them is left to do."""
    return up.finished(*events, within=WITHIN)


def calls(lab: Lab, path: str = TEMPLATE) -> list[dict[str, Any]]:
    """The calls that the lab has seen, in the order in which they began."""
    seen: list[dict[str, Any]] = lab.calls("magicline", path, limit=100_000)["calls"]
    return sorted(seen, key=lambda call: float(call["at"]))


def budgets_of(up: Installation, account: str) -> AbstractContextManager[BudgetLog]:
    """What its budgets decide during the block."""
    noted = noted_installation(up.folder / ".penstock")
    assert noted
    return budget_log(noted.redis_url, "magicline", account)


def differing(up: Installation, customers: Sequence[int], account: str = STUDIO) -> list[int]:
    """The customers of whom the record is not what the lab holds."""
    rows = up.records("magicline.customer")
    return [
        customer
        for customer in customers
        if rows[str(customer)]["data"]
        != orjson.loads(up.lab.world("magicline", "customer", str(customer), account) or "")
    ]


def account_of(up: Installation, account: str) -> dict[str, Any]:
    """Its row of ``accounts list``."""
    return next(row for row in up.lines("accounts", "list") if row["account"] == account)


def circuit(up: Installation, account: str) -> str:
    """``open`` or ``closed``."""
    return str(account_of(up, account)["circuit"])


def waits_told(up: Installation, rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the timeline says of each wait of the event that took longest."""

    def took(row: dict[str, Any]) -> timedelta:
        finished_at, received_at = (datetime.fromisoformat(row[name]) for name in ("finished_at", "received_at"))
        return finished_at - received_at

    longest = up.event(max(rows, key=took)["id"])
    return [step["detail"] for step in longest["timeline"] if step["step"] == "waiting"]


def show(title: str, **figures: object) -> None:
    """What was measured, for whoever runs it with ``-s``."""
    print(f"{title}: {', '.join(f'{name} {value}' for name, value in figures.items())}")  # noqa: T201 - figures


def test_a_storm_about_few_customers_stays_within_the_budget_and_shares_each_call(up: Installation, lab: Lab) -> None:
    """Four worker processes: never more calls than allowed in any time, no 429, 10 events a call, nothing is old."""
    lab.set_limits({"magicline": Limit(CALLS, SECONDS, PENALTY_SECONDS, per_template=True)})
    customers = range(1001, 1001 + CUSTOMERS)

    with budgets_of(up, STUDIO) as budgets:
        began = time.monotonic()
        events = updates(lab, customers, EVENTS_EACH, within=STORM_SECONDS)
        sent = time.monotonic()
        rows = finished(up, events)

    seen = calls(lab)
    late = budgets.latest([call["at"] for call in seen])
    show(
        "storm",
        events=len(events),
        sent_in=f"{sent - began:.1f} s",
        done_after=f"{time.monotonic() - sent:.1f} s",
        calls=len(seen),
        most_in_window=most_within(budgets.taken, SECONDS),
        latest=f"{late * 1000:.0f} ms",
        events_per_call=f"{len(events) / len(seen):.1f}",
    )
    assert {"done"} == {row["state"] for row in rows}
    assert len(budgets.taken) >= len(seen)
    assert most_within(budgets.taken, SECONDS + MARGIN / 2) <= CALLS
    assert most_within([call["at"] for call in seen], SECONDS + MARGIN / 2 - late) <= CALLS
    assert late > MARGIN / 2 or {"ok"} == {call["outcome"] for call in seen}
    # Who sends for longer, on a slow machine, finds more windows.
    assert len(seen) <= len(events) / 10 * max(1.0, (sent - began) / STORM_SECONDS)
    assert [] == differing(up, customers)
    told = waits_told(up, rows)
    assert any(f" s: budget of {STUDIO}, GET customer, {WINDOW}" in detail for detail in told), told


def test_after_the_first_429_nobody_calls_until_its_time_is_over(up: Installation, lab: Lab) -> None:
    """The limit is lowered in a storm: only what is under way then is refused, and nothing uses up attempts."""
    lab.set_limits({"magicline": Limit(CALLS, SECONDS, PENALTY_SECONDS, per_template=True)})
    lab.set_latency(magicline=0.1)
    customers = range(2001, 2001 + CUSTOMERS)

    with budgets_of(up, STUDIO) as budgets, ThreadPoolExecutor(1) as pool:
        storm = pool.submit(updates, lab, customers, EVENTS_EACH, within=STORM_SECONDS)
        until(lambda: calls(lab))
        lab.set_limits({"magicline": Limit(LOWERED, SECONDS, PENALTY_SECONDS, per_template=True)})
        events = storm.result()
        rows = finished(up, events)

    seen = calls(lab)
    refused = [call for call in seen if call["status"] == 429]
    show("lowered", events=len(events), calls=len(seen), refused=len(refused), pauses=len(budgets.paused))
    assert refused
    assert budgets.paused
    # From the moment that a 429 is told nothing is let through, by Redis's clock; what had been let through before may
    # still be on its way, and more does not come.
    for paused in budgets.paused:
        over = paused + PENALTY_SECONDS
        assert [] == budgets.taken_between(paused, over)
        assert sum(call["at"] < over for call in seen) <= budgets.taken_before(paused)
    assert len(budgets.taken) >= len(seen)
    told = waits_told(up, rows)
    assert any(f" s: budget of {STUDIO}, GET customer, {WINDOW}" in detail for detail in told), told
    assert {("done", 1)} == {(row["state"], row["attempts"]) for row in rows}
    assert [] == differing(up, customers)


def test_an_api_that_is_down_is_probed_and_everything_waits_for_its_turn(up: Installation, lab: Lab) -> None:
    """The circuit opens at once: a handful of probes whatever waits, no attempt used up, and all done afterwards."""
    lab.set_faults(Fault(kind="status", provider="magicline", status=503))
    customers = range(5001, 5001 + DOWN_CUSTOMERS)
    with budgets_of(up, "studio-hamburg") as budgets:
        events = updates(lab, customers, DOWN_EACH, "studio-hamburg")
        until(lambda: circuit(up, "studio-hamburg") == "open")
        until(lambda: {"waiting"} == {row["state"] for row in up.events("--account", "studio-hamburg")[: len(events)]})
        quiet_at = time.time()
        time.sleep(DOWN_SECONDS)  # how often it is asked meanwhile is what is tested
        seen = calls(lab)
        down_for = time.time() - quiet_at
        waiting = up.event(events[-1])
        lab.set_faults()
        back_at = time.time()

        rows = finished(up, events)

    probes = [call for call in seen if call["at"] > quiet_at]
    served = [call for call in calls(lab) if call["status"] == 200]
    after = [call for call in calls(lab) if call["at"] >= served[0]["at"]]
    let_through = [taken for taken in budgets.taken if taken > quiet_at]
    show(
        "down",
        events=len(events),
        failed_calls=len(seen),
        probes=f"{len(probes)} in {down_for:.1f} s",
        done_after=f"{time.time() - back_at:.0f} s",
        calls_after=len(after),
        most_in_window=most_within(let_through, HAMBURG_SECONDS),
    )
    assert len(probes) <= down_for / PROBE_SECONDS + 2
    assert "until the API takes calls again: " in waiting["timeline"][-1]["detail"]
    assert {"done"} == {row["state"] for row in rows}
    assert max(row["attempts"] for row in rows) <= 3
    assert {200} == {call["status"] for call in after}
    assert most_within(let_through, HAMBURG_SECONDS) <= HAMBURG_CALLS
    assert min(datetime.fromisoformat(row["finished_at"]).timestamp() for row in rows) > served[0]["at"]
    assert [] == differing(up, customers, "studio-hamburg")
    assert "closed" == circuit(up, "studio-hamburg")


def test_accounts_list_tells_how_full_a_budget_is_and_when_there_is_room(up: Installation, lab: Lab) -> None:
    """While there is room, and while more waits than may be fetched."""
    assert (0, None) == tuple(account_of(up, "studio-3")[name] for name in ("budget_used", "next_call_at"))
    before = datetime.now(UTC)
    events = updates(lab, range(9001, 9001 + FEW_CALLS + 1), 1, "studio-3")

    full = until(
        lambda: (row := account_of(up, "studio-3"))["budget_used"] == FEW_CALLS and row,
        otherwise=lambda: (account_of(up, "studio-3"), [up.event(event) for event in events]),
    )
    asked = datetime.now(UTC)

    shown = ["provider", "account", "last_event_at", "circuit", "budget_used", "budget_limit", "next_call_at"]
    assert shown == [name for name in full if name in shown]
    assert ("magicline", "closed", FEW_CALLS) == (full["provider"], full["circuit"], full["budget_limit"])
    assert before <= datetime.fromisoformat(full["last_event_at"]) <= asked
    room_at = datetime.fromisoformat(full["next_call_at"])
    assert before < room_at < asked + timedelta(seconds=FEW_SECONDS * 1.01 + 1)


def test_a_retry_after_of_a_year_is_capped_and_said(up: Installation, lab: Lab) -> None:
    """``events show`` says what was asked for and what was made of it: an hour, when the fetch is due again."""
    fault = Fault(kind="status", provider="imin", status=429, retry_after="31536000", times=1)
    lab.set_faults(fault)
    (sent,) = lab.send("imin", "customer-details-updated", customer="c-2")

    row = until(lambda: (shown := up.event(sent["attempts"][0]["receipt"]))["state"] == "waiting" and shown)

    (fetch,) = row["fetches"]
    said = "(Retry-After of 31,536,000 s, taken as 3,600 s)"
    assert (True, True) == (said in fetch["error"]["detail"], said in row["timeline"][-1]["detail"])
    assert datetime.fromisoformat(fetch["next_attempt_at"]) < datetime.now(UTC) + timedelta(hours=1)


def test_refused_credentials_are_named_and_tried_by_the_cheapest_read(up: Installation, lab: Lab) -> None:
    """One GET finds out, a HEAD an interval asks again, and when the key is accepted everything goes on by itself."""
    lab.set_faults(Fault(kind="status", provider="magicline", status=401))
    (event,) = updates(lab, [1501], 1, "studio-hamburg")
    row = until(lambda: (shown := up.event(event))["state"] == "waiting" and shown)
    (late,) = updates(lab, [1502], 1, "studio-hamburg")
    until(lambda: len([call for call in calls(lab, "") if call["method"] == "HEAD"]) >= 2)
    seen = calls(lab, "")
    assert "open" == circuit(up, "studio-hamburg")
    lab.set_faults()

    finished = up.finished(event, late)

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

    shown = until(lambda: (row := up.event(sent))["state"] == "waiting" and row)
    stats = next(row for row in up.lines("stats") if row["provider"] == "paybook")

    # A budget of a day: what waits for it does so for longer than it takes to look.
    (why, *_) = until(lambda: [fetch["error"] for fetch in up.event(sent)["fetches"] if fetch["error"]])
    assert ("budget", True) == (why["reason"], why["detail"].startswith("budget of main, GET ")), why
    assert "more than a day allows" in shown["forecast"]["detail"], shown["forecast"]
    assert shown["forecast"]["calls"] > PAGES_A_DAY
    (forecast,) = stats["forecast"]
    assert ("main", True) == (forecast["account"], forecast["seconds"] > 86_400)
    assert forecast["done_at"] is not None
