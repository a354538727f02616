"""The console in a real browser, on a whole installation."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from console.conftest import PASSWORD, SCREENSHOTS, Watched, sign_in, visiting
from installation import post
from support.conditions import until


PAGES = {
    "overview": "/",
    "events": "/events",
    "attention": "/attention",
    "records": "/records",
    "accounts": "/accounts",
    "handovers": "/handovers",
    "quarantine": "/quarantine",
}


@pytest.fixture(scope="module")
def failed(watched: Watched) -> list[str]:
    """Events that failed for good, each for one test to retry."""
    watched.delivered(12)
    watched.delivered(5, "imin", "")
    return watched.failed(12)


def test_who_signs_in_finds_a_failed_event_reads_why_retries_it_and_sees_it_done(page: Page, failed: list[str]) -> None:
    """The timeline says who asked for it and why."""
    sign_in(page, "otto")
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_label("State").select_option("failed")
    page.get_by_label("Provider").select_option("magicline")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=failed[0]).click()
    expect(page.get_by_text("refuses this call for good")).to_be_visible()
    expect(page.locator("section[aria-labelledby=calls]")).to_contain_text("410")

    page.get_by_label("Why").fill("the API is mended")
    page.get_by_role("button", name="Retry").click()

    expect(page.locator("#standing .badge")).to_have_text("done")
    expect(page.get_by_role("listitem").filter(has_text="replayed")).to_contain_text("the API is mended (by otto")
    expect(page.locator("section[aria-labelledby=effects]")).to_be_visible()


def test_all_events_of_a_reason_are_retried_after_a_preview_with_progress(
    page: Page, watched: Watched, failed: list[str]
) -> None:
    """The group is empty afterwards, and each event done."""
    more = watched.failed(40)
    sign_in(page, "otto")
    page.get_by_role("link", name="Failed and parked").click()
    page.get_by_role("link", name="Look and act magicline refused").click()
    expect(page.get_by_role("table").get_by_role("row")).to_have_count(21)
    page.get_by_label("Why").fill("all of them")
    page.get_by_role("button", name="Retry all").click()
    expect(page.get_by_role("status")).to_contain_text("Ended")
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_text("planned again")).to_be_visible()
    assert {"done"} == {event["state"] for event in watched.running.finished(*more, failed[1])}
    page.get_by_role("link", name="All reasons").click()
    expect(page.get_by_text("Nothing waits for a person.")).to_be_visible()
    expect(
        page.get_by_role("region", name="Newest retries").get_by_role("row").filter(has_text="all of them")
    ).to_have_count(1)


def test_the_same_by_keyboard_alone(page: Page, watched: Watched) -> None:
    """From the sign-in to the event done, no pointer is needed; the focus can always be seen."""
    (event_id,) = watched.failed(1)
    page.goto("/")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("otto")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    _tab_to(page, "Failed and parked")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Failed and parked").wait_for()
    _tab_to(page, "Look and act magicline refused")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="The event").wait_for()
    _tab_to(page, event_id)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Timeline").wait_for()
    _tab_to(page, "Why")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#standing .badge")).to_have_text("done")


def _tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has this name."""
    for _ in range(60):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            "() => { const at = document.activeElement; const style = getComputedStyle(at);"
            " return [at.labels?.[0]?.textContent ?? at.textContent.trim().replace(/\\s+/g, ' '),"
            " style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0]; }"
        )
        assert seen[1], f"the focus cannot be seen on {seen[0]}"
        if seen[0].strip() == name:
            return
    pytest.fail(f"Tab does not lead to {name}")


def test_an_event_that_nobody_wants_is_discarded_with_a_reason_and_found_again(page: Page, watched: Watched) -> None:
    """It leaves the lists, its page and its timeline say who discarded it and why."""
    (event_id,) = watched.failed(1)
    sign_in(page, "otto")
    page.goto(f"/events/{event_id}")
    page.locator("summary", has_text="Discard").click()
    page.get_by_label("Reason for the discard").fill("a test of ours")
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("It is discarded")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="discarded")).to_contain_text("a test of ours (by otto")
    page.get_by_role("link", name="Events", exact=True).click()
    expect(page.get_by_role("link", name=event_id)).to_have_count(0)
    page.get_by_label("State").select_option("discarded")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("link", name=event_id)).to_be_visible()


def test_a_refused_delivery_is_found_with_its_cause_and_not_let_in_on_a_word(page: Page, watched: Watched) -> None:
    """The quarantine names the cause; a release authenticates once more, and says that it did not pass."""
    receive_refused(watched)
    sign_in(page, "otto")
    page.get_by_role("link", name="Quarantine").click()
    expect(page.get_by_role("cell", name="unknown-key").first).to_be_visible()
    page.get_by_label("Why").fill("let it in")
    page.get_by_role("button", name="Release what passes").click()
    expect(page.get_by_role("status").filter(has_text="still not authentic")).to_be_visible()


def receive_refused(watched: Watched) -> None:
    """A delivery with a wrong key, until it is in quarantine: it is written behind the answer."""
    told = watched.lab.happen("imin", "")
    answer = post(watched.running, told.path, told.body, {**told.headers, "X-Api-Key": "wrong"})
    assert 401 == answer.status_code
    until(lambda: any(watched.running.events("--state", "quarantined")), otherwise=lambda: "nothing is in quarantine")


def test_a_viewer_sees_why_but_can_change_nothing(page: Page, watched: Watched) -> None:
    """No button is there, and a form of one's own making is refused."""
    (event_id,) = watched.failed(1)
    sign_in(page, "vera")
    page.goto(f"/events/{event_id}")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    expect(page.get_by_role("button", name="Decrypt and show")).to_have_count(0)
    expect(page.get_by_text("You are a viewer")).to_be_visible()
    csrf = page.locator("form[action='/sign-out'] input").get_attribute("value")
    for address in (
        f"/events/{event_id}/retry",
        f"/events/{event_id}/body",
        "/attention/retry",
        "/attention/discard",
        "/handovers/retry",
        "/quarantine/release",
    ):
        answer = page.request.post(address, form={"csrf": csrf or ""})
        assert (403, True) == (answer.status, "role operator" in answer.text())


def test_a_body_is_shown_on_request_and_that_it_was_read_is_written_down(page: Page, watched: Watched) -> None:
    """JSON laid out; the timeline names the reader."""
    (receipt,) = watched.delivered(1)
    sign_in(page, "otto")
    page.goto(f"/events/{receipt}")
    assert "entityId" not in page.content()
    page.get_by_role("button", name="Decrypt and show").click()
    expect(page.locator("pre")).to_contain_text('"entityId":')
    expect(page.get_by_role("listitem").filter(has_text="body-read")).to_contain_text("by otto")


@pytest.fixture(params=["light", "dark"])
def looking(request: pytest.FixtureRequest, browser: Browser, watched: Watched) -> Iterator[tuple[Page, str]]:
    """A signed-in operator in light and in dark."""
    with visiting(browser, watched, dark=request.param == "dark") as opened:
        sign_in(opened, "otto")
        yield opened, request.param


def test_no_page_has_a_serious_fault_for_who_cannot_see_or_point(
    looking: tuple[Page, str], watched: Watched, failed: list[str]
) -> None:
    """axe-core finds nothing serious or critical on any page, and no cell runs into the next; pictures are kept."""
    page, scheme = looking
    retried = _retried(page, watched)
    (waiting,) = watched.failed(1)
    receive_refused(watched)
    refused = watched.running.events("--state", "quarantined")[0]["id"]
    addresses = {
        **PAGES,
        "event": f"/events/{waiting}",
        "event-done": f"/events/{failed[2]}",
        "attention-retry": "/attention/retry?provider=magicline&reason=refused",
        "retry": retried,
        "record": _first_record(page),
        "event-refused": f"/events/{refused}",
        "wrong-filter": "/events?state=nonsense",
        "not-found": "/nowhere",
    }
    faults = {name: _faults(page, name, scheme, address) for name, address in addresses.items()}
    page.get_by_role("button", name="Sign out").click()
    faults["sign-in"] = _faults(page, "sign-in", scheme, "/sign-in")
    assert {name: [] for name in faults} == faults


def _retried(page: Page, watched: Watched) -> str:
    """The address of a retry that has ended."""
    watched.failed(1)
    page.goto("/attention/retry?provider=magicline&reason=refused")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_contain_text("Ended")
    return page.url.removeprefix(watched.console)


def _first_record(page: Page) -> str:
    page.goto("/records?kind=magicline.customer")
    return page.locator("table a.id").first.get_attribute("href") or ""


RUNS_OUT = """
() => [...document.querySelectorAll("td, th, dd")]
  .filter(cell => cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).display !== "inline")
  .map(cell => cell.textContent.trim().slice(0, 80))
"""


def _faults(page: Page, name: str, scheme: str, address: str) -> list[str]:
    page.goto(address)
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png", full_page=True)
    found = Axe().run(page).response["violations"]
    return [
        *(
            f"{fault['id']}: {node['html']}"
            for fault in found
            if fault["impact"] in {"serious", "critical"}
            for node in fault["nodes"]
        ),
        *(f"runs out of its cell: {text}" for text in page.evaluate(RUNS_OUT)),
    ]
