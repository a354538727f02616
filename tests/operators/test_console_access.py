"""Who may see the console and who may change something: a real process, asked by an HTTP client."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from operators.conftest import Penstock
from operators.rows import event, new_id
from operators.test_console import running_console
from ops.console.app import routes
from ops.console.attempts import MOST_FAILURES, PAUSE_SECONDS, Attempts
from ops.console.passwords import hash_of, matches
from ops.console.sessions import SESSION_SECONDS, Session, Sessions, begun
from shared.sealing import generate_key
from support.conditions import until


ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse ß ä"
HASH = hash_of(PASSWORD)
USERS = f"""
[[console.users]]
name = "vera"
password_hash = '{HASH}'

[[console.users]]
name = "otto"
role = "operator"
password_hash = '{HASH}'

[[console.users]]
name = "proxied"
role = "operator"
"""


@pytest.fixture
def console(store: Any, redis: Any, tmp_path: Path) -> Iterator[httpx.Client]:
    """A console with users."""
    (tmp_path / "penstock.toml").write_text(USERS)
    with running_console(tmp_path, store.url, redis.url, PENSTOCK_ENCRYPTION_KEYS=generate_key()) as client:
        yield client


def csrf_of(page: httpx.Response) -> str:
    """The word of the page's forms."""
    return re.findall(r'name="csrf" value="([^"]+)"', page.text)[0]


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    """Load the page of the form in a fresh browser and send it."""
    client.cookies.clear()
    form = {"csrf": csrf_of(client.get("/sign-in")), "name": name, "password": password, **more}
    return client.post("/sign-in", data=form)


def test_nobody_sees_anything_before_signing_in(console: httpx.Client) -> None:
    """Pages lead to the sign-in and back; programs and forms are told 401; nothing of the installation is shown."""
    for address in ("/", "/events", "/records", "/accounts", "/handovers", "/quarantine", "/attention", "/nowhere"):
        answer = console.get(address)
        assert (303, True) == (answer.status_code, answer.headers["location"].startswith("/sign-in"))
    assert 401 == console.get("/api/stats").status_code
    assert 401 == console.post("/attention/retry", data={}).status_code
    assert 200 == console.get("/static/console.css").status_code
    assert "/sign-in?next=%2Fevents%3Fstate%3Dfailed" == console.get("/events?state=failed").headers["location"]


def test_who_knows_the_password_is_in_until_signing_out(console: httpx.Client) -> None:
    """The cookie is out of reach of scripts and other sites; it is another one after signing in."""
    before = console.get("/sign-in").cookies["penstock-console"]
    answer = sign_in(console, "otto", next="/events?state=failed")
    assert (303, "/events?state=failed") == (answer.status_code, answer.headers["location"])
    cookie = answer.headers["set-cookie"]
    assert ["HttpOnly", "Path=/", "SameSite=Strict", f"Max-Age={SESSION_SECONDS}"] == [
        part for part in ("HttpOnly", "Path=/", "SameSite=Strict", f"Max-Age={SESSION_SECONDS}") if part in cookie
    ]
    assert before != console.cookies["penstock-console"]
    page = console.get("/")
    assert (200, True) == (page.status_code, "otto" in page.text)
    assert 303 == console.post("/sign-out", data={"csrf": csrf_of(page)}).status_code
    assert 303 == console.get("/").status_code


def test_a_wrong_name_or_password_says_the_same(console: httpx.Client) -> None:
    """401, and no word on which of the two was wrong."""
    for name, password in (
        ("otto", "wrong"),
        ("otto", ""),
        ("otto", "x" * 5000),
        ("nobody", PASSWORD),
        ("proxied", ""),
        ("proxied", PASSWORD),
        ("", ""),
    ):
        answer = sign_in(console, name, password)
        assert (401, True) == (answer.status_code, "Name and password do not match." in answer.text)
        assert 303 == console.get("/").status_code
        assert 303 == sign_in(console, "otto").status_code


def test_signing_in_leads_to_no_other_site(console: httpx.Client) -> None:
    """Whatever a link to the sign-in names."""
    for onward in ("//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", ""):
        assert "/" == sign_in(console, "otto", next=onward).headers["location"]


def test_after_a_few_failures_even_the_right_password_waits(console: httpx.Client) -> None:
    """429 with Retry-After, by name and by address."""
    for _ in range(MOST_FAILURES):
        assert 401 == sign_in(console, "otto", "wrong").status_code
    for name in ("otto", "vera"):
        answer = sign_in(console, name)
        assert (429, True) == (answer.status_code, 0 < int(answer.headers["retry-after"]) <= PAUSE_SECONDS)


def test_attempts_are_let_in_again_after_the_pause_and_forgotten_after_success() -> None:
    """Whoever else tries is not held up; memory is bounded."""
    now = 0.0
    attempts = Attempts(lambda: now)
    for _ in range(MOST_FAILURES):
        assert 0.0 == attempts.wait_seconds("a")
        attempts.failed("a")
    assert (PAUSE_SECONDS, 0.0) == (attempts.wait_seconds("a", "b"), attempts.wait_seconds("b"))
    now = PAUSE_SECONDS
    assert 0.0 == attempts.wait_seconds("a")
    attempts.failed("a")
    attempts.succeeded("a")
    for number in range(20_000):
        attempts.failed(f"address {number}")
    assert 10_000 == len(attempts._failures)


def test_every_form_needs_the_word_of_its_page_its_own_site_and_an_operator(store: Any, console: httpx.Client) -> None:
    """No route that changes something is left out; the right form of an operator goes through."""
    event_id = new_id()
    store.run(event(event_id, state="failed", error_reason="refused", error_detail=""))
    numbers = {"{event_id:uuid}": str(event_id), "{number:int}": "0"}
    posts = []
    for route in routes():
        if "POST" in (getattr(route, "methods", None) or ()):
            address = route.path  # type: ignore[attr-defined]
            for place, value in numbers.items():
                address = address.replace(place, value)
            posts.append(address)
    assert 8 <= len(posts)
    sign_in(console, "otto")
    word = csrf_of(console.get("/"))
    for address in posts:
        for wrong in ({}, {"csrf": ""}, {"csrf": "guessed"}, {"csrf": begun().csrf}):
            assert (
                403
                == console.post(
                    address, data=wrong, headers={"Content-Type": "application/x-www-form-urlencoded"}
                ).status_code
            )
        for elsewhere in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert 403 == console.post(address, data={"csrf": word}, headers=elsewhere).status_code
    assert "failed" == store.rows("SELECT state FROM events")[0]["state"]
    sign_in(console, "vera")
    viewers = csrf_of(console.get("/"))
    for address in posts:
        if "sign-" not in address:
            answer = console.post(address, data={"csrf": viewers})
            assert (403, True) == (answer.status_code, "role operator" in answer.text)
    assert "failed" == store.rows("SELECT state FROM events")[0]["state"]
    sign_in(console, "otto")
    form = {"csrf": csrf_of(console.get("/")), "reason": "mended"}
    assert 303 == console.post(f"/events/{event_id}/retry", data=form).status_code
    assert "received" == store.rows("SELECT state FROM events")[0]["state"]
    assert "mended (by otto, console)" == store.rows("SELECT detail FROM timeline WHERE step = 'replayed'")[0]["detail"]


def test_a_form_larger_than_any_is_refused(console: httpx.Client) -> None:
    """Before it is read."""
    console.get("/sign-in")
    assert 413 == console.post("/sign-in", data={"csrf": "x", "name": "y" * 100_000}).status_code


def test_another_password_or_a_removed_user_ends_the_sessions(console: httpx.Client, tmp_path: Path) -> None:
    """Within seconds, without a restart; so does another role."""
    file = tmp_path / "penstock.toml"
    sign_in(console, "otto")
    for text in (USERS.replace('name = "otto"', 'name = "anna"'), USERS.replace(HASH, hash_of("another"))):
        file.write_text(USERS)
        until(lambda: 200 == console.get("/").status_code)
        file.write_text(text)
        until(lambda: 303 == console.get("/").status_code)


def test_a_trusted_proxy_names_who_signed_in_and_nobody_else_can(store: Any, redis: Any, tmp_path: Path) -> None:
    """The header counts from PENSTOCK_TRUSTED_PROXIES alone, once, and for a user of the settings."""
    (tmp_path / "penstock.toml").write_text('[console]\nproxy_user_header = "X-Forwarded-User"\n' + USERS)
    with running_console(tmp_path, store.url, redis.url, PENSTOCK_TRUSTED_PROXIES="127.0.0.0/8") as client:
        page = client.get("/", headers={"X-Forwarded-User": "proxied"})
        assert (200, True) == (page.status_code, "proxied" in page.text)
        assert 303 == client.get("/", headers={"X-Forwarded-User": "nobody"}).status_code
        assert (
            303 == client.get("/", headers=[("X-Forwarded-User", "proxied"), ("X-Forwarded-User", "otto")]).status_code
        )
    with running_console(tmp_path, store.url, redis.url, PENSTOCK_TRUSTED_PROXIES="203.0.113.7") as client:
        assert 303 == client.get("/", headers={"X-Forwarded-User": "proxied"}).status_code


def test_the_one_password_of_the_environment_lets_in_an_operator(store: Any, redis: Any, tmp_path: Path) -> None:
    """User penstock; without it nothing is shown, from this machine either."""
    with running_console(tmp_path, store.url, redis.url, PENSTOCK_CONSOLE_PASSWORD=PASSWORD) as client:
        assert 303 == client.get("/").status_code
        assert 401 == sign_in(client, "penstock", "wrong").status_code
        assert 303 == sign_in(client, "penstock").status_code
        assert "operator" in client.get("/", headers={"Host": "console.example.com"}).text


def test_at_this_machine_without_users_one_may_look_and_act_only_if_the_settings_say_so(
    store: Any, redis: Any, tmp_path: Path
) -> None:
    """A viewer, unless ``local_role`` is operator, as the demo has it."""
    event_id = new_id()
    store.run(event(event_id, state="failed", error_reason="refused", error_detail=""))
    for text, status in (("", 403), ('[console]\nlocal_role = "operator"\n', 303)):
        (tmp_path / "penstock.toml").write_text(text)
        with running_console(tmp_path, store.url, redis.url) as client:
            page = client.get(f"/events/{event_id}")
            word = csrf_of(page) if "csrf" in page.text else ""
            assert status == client.post(f"/events/{event_id}/retry", data={"csrf": word}).status_code
    assert "received" == store.rows("SELECT state FROM events")[0]["state"]


def test_a_password_is_kept_as_an_argon2id_hash_which_the_command_prints() -> None:
    """Each time another one; and none of them is a password itself."""
    made, again = hash_of("secret"), hash_of("secret")
    assert (True, True, False) == (
        made.startswith("$argon2id$v=19$m=65536,t=3,p=4$"),
        made != again,
        matches("other", made),
    )
    assert (True, False, False) == (matches("secret", made), matches("secret", "secret"), matches(made, made))
    command = [sys.executable, "-m", "ops", "console", "hash-password"]
    printed = subprocess.run(command, input="typed\n", text=True, capture_output=True, check=True, cwd=ROOT).stdout
    assert matches("typed", printed.strip())
    assert 2 == subprocess.run(command, input="\n", text=True, capture_output=True, check=False, cwd=ROOT).returncode


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[[console.users]]\nname = "a"\npassword_hash = "secret"\n', "not the password itself"),
        ('[[console.users]]\nname = "a"\n[[console.users]]\nname = "a"\n', "two of them are named a"),
        ('[[console.users]]\nname = "a"\nrole = "admin"\n', "role"),
        ("[console]\nanything = 1\n", "there is no such field"),
    ],
)
def test_wrong_users_are_refused_at_start(penstock: Penstock, tmp_path: Path, text: str, sentence: str) -> None:
    """With a sentence that names the setting."""
    (tmp_path / "penstock.toml").write_text(text)
    done = penstock("console")
    assert (1, True, True) == (done.status, "[console]" in done.errors, sentence in done.errors)


def test_a_cookie_that_is_altered_old_or_of_another_key_is_none() -> None:
    """Only what was sealed here, in the last twelve hours."""
    sessions, session = Sessions(()), begun("otto", "stamp")
    cookie = sessions.seal(session)
    assert session == sessions.open(cookie)
    assert [None] * 5 == [
        sessions.open(other) for other in (cookie[:-8] + "AAAAAAA=", "", None, Sessions(()).seal(session), "é" * 10)
    ]
    assert "otto" not in cookie
    old = sessions._seal.encrypt_at_time(b'{"csrf":"x","user":"otto"}', int(time.time()) - SESSION_SECONDS - 5)
    assert None is sessions.open(old.decode())
    assert Session("x", None, "") == sessions.open(sessions._seal.encrypt(b'{"csrf":"x"}').decode())
