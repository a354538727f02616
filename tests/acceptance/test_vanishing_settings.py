"""Settings that vanish take nothing with them: on real processes, from outside."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from installation import Installation, clean_environment, post, running, until
from ops.lab.process import Lab


MORE = """
[[imin.accounts]]
name = "added-{number}"
webhook_keys = ["added-key-{number}"]
api_key = "added-api-key-{number}"
base_url = "http://127.0.0.1:9"
"""


@pytest.fixture
def installation(unlimited_lab: Lab, tmp_path: Path) -> Iterator[Installation]:
    """One of its own: others need their settings."""
    config = unlimited_lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
    with running(tmp_path, unlimited_lab, config) as started:
        yield started


def remove(file: Path) -> None:
    """No file at all."""
    file.unlink()


def empty(file: Path) -> None:
    """As at the beginning of ``cp`` over it."""
    file.write_text("")


def cut_in_half(file: Path) -> None:
    """At the end of a table: valid, with fewer accounts."""
    parts = file.read_text().split("\n[[")
    file.write_text("\n[[".join(parts[: len(parts) // 2]))


def write_over_slowly(file: Path) -> None:
    """In place, a line at a time; it ends as it was, but for the last accounts."""
    lines = file.read_text().splitlines(keepends=True)
    with file.open("w") as over:
        for line in lines[: 2 * len(lines) // 3]:
            over.write(line)
            over.flush()
            time.sleep(0.05)


def test_no_delivery_is_refused_and_no_event_parked_while_the_settings_are_away(installation: Installation) -> None:
    """Removed, emptied, cut, written over slowly: ``check`` says so; what is put back is in force within seconds."""
    file, text = installation.folder / "penstock.toml", (installation.folder / "penstock.toml").read_text()
    took: list[float] = []
    with _delivering(installation) as statuses:
        for number, vanish in enumerate((remove, empty, cut_in_half, write_over_slowly)):
            vanish(file)
            until(lambda: "relay says" in _fixes(installation), 60, lambda: _fixes(installation))
            text += MORE.format(number=number)
            file.write_text(text)
            headers = {"x-api-key": f"added-key-{number}"}
            began = time.monotonic()
            while post(installation, "/webhooks/imin", b"{}", headers).status_code != 204:
                assert time.monotonic() < began + 30
                time.sleep(0.1)
            took.append(time.monotonic() - began)
    print("new accounts were in force after", *(f"{seconds:.1f} s" for seconds in took))  # noqa: T201 - a figure
    until(lambda: "relay says" not in _fixes(installation), 60, lambda: _fixes(installation))

    assert {200} == set(statuses)
    until(lambda: not [row for row in installation.events("--account", "studio-berlin") if _open(row)], 60)
    assert {"done"} == {row["state"] for row in installation.events("--account", "studio-berlin")}
    assert [] == installation.events("--state", "parked", "--account", "studio-berlin")


def test_processes_that_begin_without_their_settings_lose_nothing(installation: Installation) -> None:
    """503 and never 404 or 401 of an account that was in force; its events wait, and go on when it is back."""
    file = installation.folder / "penstock.toml"
    text = file.read_text()
    key = _key(installation, "studio-berlin")
    statuses: list[int] = []

    def deliver(number: int) -> int:
        body = orjson.dumps(
            {"entityId": 1001, "uuid": f"u-{number}", "payload": [{"timestamp": 1, "type": "CUSTOMER_UPDATED"}]}
        )
        try:
            statuses.append(post(installation, "/webhooks/magicline", body, {"x-api-key": key}).status_code)
        except httpx.HTTPError:  # cut off by the kill below
            return 0
        return statuses[-1]

    assert 200 == deliver(0)
    parts = text.split("\n[[")
    file.write_text("\n[[".join(part for part in parts if '"studio-berlin"' not in part))
    for name in ("worker-magicline", "ingress-1"):
        _kill(installation, name)
    until(lambda: 503 == deliver(1), 60, lambda: statuses)
    assert 401 != post(installation, "/webhooks/magicline", b"{}", {"x-api-key": "nobody's"}).status_code
    assert "magicline/studio-berlin" in _fixes(installation)
    file.unlink()
    _kill(installation, "ingress-1")
    until(lambda: 503 == deliver(2), 60, lambda: statuses)

    file.write_text(text)
    until(lambda: 200 == deliver(3), 60, lambda: statuses)

    assert {200, 503} == set(statuses)
    until(lambda: not [row for row in installation.events() if _open(row)], 60)
    assert {"done"} == {row["state"] for row in installation.events()}


def test_an_account_goes_by_command_or_with_a_file_that_says_so(installation: Installation) -> None:
    """Not before it is out of the file; afterwards it is unknown within seconds."""
    file = installation.folder / "penstock.toml"
    text = file.read_text()
    berlin, hamburg = _key(installation, "studio-berlin"), _key(installation, "studio-hamburg")
    parts = text.split("\n[[")
    without = "\n[[".join(part for part in parts if '"studio-hamburg"' not in part)

    refused = _penstock(installation, "accounts", "remove", "magicline/studio-hamburg")
    assert (1, True) == (refused.returncode, b"still has magicline/studio-hamburg" in refused.stderr)
    file.write_text(without)
    until(lambda: "magicline/studio-hamburg" in _fixes(installation), 60)
    assert 200 == post(installation, "/webhooks/magicline", b"{}", {"x-api-key": hamburg}).status_code
    installation.finished(installation.events("--account", "studio-hamburg")[0]["id"])

    installation.penstock("accounts", "remove", "magicline/studio-hamburg")
    until(lambda: _status(installation, hamburg) == 401, 30)
    assert 200 == _status(installation, berlin)
    until(lambda: "studio-hamburg" not in _fixes(installation), 60, lambda: _fixes(installation))

    file.write_text(text)
    until(lambda: _status(installation, hamburg) == 200, 30)
    file.write_text(without + '\n[settings]\nremoval = "file"\n')
    until(lambda: _status(installation, hamburg) == 401, 30)
    until(lambda: "relay says" not in _fixes(installation), 60)
    assert "studio-hamburg" not in _fixes(installation)


def _status(installation: Installation, key: str) -> int:
    return post(installation, "/webhooks/magicline", b"{}", {"x-api-key": key}).status_code


def _key(installation: Installation, name: str) -> str:
    return next(each.webhook_key for each in installation.lab.accounts() if each.name == name)


def _open(row: dict[str, object]) -> bool:
    return row["state"] in {"received", "processing", "waiting"}


def _penstock(installation: Installation, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """A command, whatever it ends with."""
    return subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        cwd=installation.folder,
        env=clean_environment(installation.code),
        capture_output=True,
        timeout=120,
        check=False,
    )


def _fixes(installation: Installation) -> str:
    """What ``penstock check`` wants to be mended."""
    lines = map(orjson.loads, _penstock(installation, "check", "--json").stdout.splitlines())
    return "\n".join(line["sentence"] for line in lines if line["level"] == "fix")


def _kill(installation: Installation, name: str) -> None:
    """End a process as a full memory does; the supervisor begins another."""

    def pid() -> int:
        processes = orjson.loads(_penstock(installation, "status", "--json").stdout)["processes"]
        return next((each["pid"] for each in processes if each["name"] == name and each["alive"]), 0)

    old = until(pid, 60)
    os.kill(old, signal.SIGKILL)
    until(lambda: pid() not in {0, old}, 120, (installation.folder / "up.log").read_text)


@contextmanager
def _delivering(installation: Installation) -> Iterator[list[int]]:
    """Deliveries of an account, one after the other, for the time of the block; their statuses."""
    key, statuses, ends = _key(installation, "studio-berlin"), [], threading.Event()

    def deliver() -> None:
        while not ends.wait(0.1):
            document = {
                "entityId": 1001,
                "uuid": f"u-{len(statuses)}",
                "payload": [{"timestamp": 1, "type": "CUSTOMER_UPDATED"}],
            }
            answer = post(installation, "/webhooks/magicline", orjson.dumps(document), {"x-api-key": key})
            statuses.append(answer.status_code)

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        yield statuses
    finally:
        ends.set()
        thread.join()
