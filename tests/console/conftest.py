"""A whole installation with users of its console, and a real browser to look at it."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from installation import Running, post, running
from ops.console.passwords import hash_of
from ops.lab.faults import Fault
from ops.lab.process import Lab, running_lab
from support.conditions import until


PASSWORD = "correct horse ß battery"
SCREENSHOTS = Path(__file__).parent / "screenshots"

HANDLER = """
[[handlers]]
name = "crm"
url = "http://127.0.0.1:9/hooks"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
kinds = ["magicline.customer"]
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """A running installation whose console is at ``console``."""

    running: Running
    lab: Lab
    console: str

    def delivered(self, number: int, provider: str = "magicline", event: str = "CUSTOMER_UPDATED") -> list[str]:
        """The receipts of so many deliveries, each of something that happened at the lab."""
        receipts = []
        for _ in range(number):
            told = self.lab.happen(provider, event)
            answer = post(self.running, told.path, told.body, told.headers)
            receipts.append(answer.headers["x-penstock-event"])
        return receipts

    def failed(self, number: int) -> list[str]:
        """Let so many deliveries fail for good, since the API refuses their calls; the lab behaves again after it."""
        self.lab.set_faults(Fault(kind="status", provider="magicline", status=410))
        receipts = self.delivered(number)
        until(lambda: self._are(receipts, "failed"), otherwise=lambda: self.running.events()[:3])
        self.lab.set_faults()
        return receipts

    def _are(self, receipts: list[str], state: str) -> bool:
        return set(receipts) <= {row["id"] for row in self.running.events("--state", state)}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Penstock connected to a lab; vera is a viewer and otto an operator."""
    folder = tmp_path_factory.mktemp("console")
    users = "".join(
        f"""
[[console.users]]
name = "{name}"
role = "{role}"
password_hash = '{hash_of(PASSWORD)}'
"""
        for name, role in (("vera", "viewer"), ("otto", "operator"))
    )
    with running_lab(seed=5) as lab:
        config = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0}) + users + HANDLER
        with running(folder, lab, config) as started:
            (status,) = started.lines("status")
            port = next(each["port"] for each in status["processes"] if each["name"] == "console")
            until(lambda: _accepts(port), otherwise=lambda: "the console does not answer")
            yield Watched(started, lab, f"http://127.0.0.1:{port}")


def _accepts(port: int) -> bool:
    with closing(socket.socket()) as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a screen.

    For one module: while Playwright runs, its event loop runs in this thread, and nothing else may run one.
    """
    program = os.environ.get("PENSTOCK_TEST_CHROMIUM") or shutil.which("chromium")
    if program is None:
        sentence = "there is no chromium: `apt-get install chromium`, or set PENSTOCK_TEST_CHROMIUM to another"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    with sync_playwright() as playwright:
        # as root Chromium runs without its own sandbox only; it is shown nothing but the console
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def visiting(browser: Browser, watched: Watched, *, dark: bool = False, width: int = 1440) -> Iterator[Page]:
    """A browser without cookies; whatever is wrong on a page for it fails the test."""
    context = browser.new_context(
        base_url=watched.console,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if _is_fault(said) else None)
    try:
        yield page
    finally:
        context.close()
    assert [] == complaints


def sign_in(page: Page, name: str) -> None:
    """As a person does it."""
    page.goto("/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()


@pytest.fixture
def page(browser: Browser, watched: Watched) -> Iterator[Page]:
    """A fresh browser at the console."""
    with visiting(browser, watched) as opened:
        yield opened


def _is_fault(said: ConsoleMessage) -> bool:
    """What the browser holds against a page; that a page answers 400 or 404 is none."""
    return said.type == "error" and "Failed to load resource" not in said.text
