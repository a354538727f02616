"""Flower, run for real beside a real worker and a Redis with a password."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from ops.embedded.redis import Redis
from ops.supervisor.process import launched
from supervisor.installing import family, living
from support.conditions import HANG_SECONDS, until


SCRIPT = str(Path(__file__).with_name("small_celery.py"))
PASSWORD = "of words, with a comma"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of flower and worker, with a Redis behind them."""
    data = tmp_path_factory.mktemp("flower")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with Redis(data) as server:
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")},
            "PENSTOCK_DATA_DIR": str(data),
            "PENSTOCK_REDIS_URL": server.url,
            "PENSTOCK_FLOWER_PORT": port,
            "PENSTOCK_FLOWER_PASSWORD": PASSWORD,
            "FLOWER_UNAUTHENTICATED_API": "true",
        }


@pytest.fixture(scope="module")
def address(environment: dict[str, str]) -> Iterator[str]:
    """Flower, serving."""
    with subprocess.Popen([sys.executable, SCRIPT, "flower"], env=environment) as flower:
        try:
            url = f"http://127.0.0.1:{environment['PENSTOCK_FLOWER_PORT']}"
            until(lambda: flower.poll() is not None or _answers(url), otherwise="flower does not answer")
            yield url
        finally:
            flower.terminate()
            assert 0 == flower.wait(HANG_SECONDS)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthcheck", trust_env=False).is_success
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    "path", ["/", "/broker", "/tasks", "/api/workers", "/api/tasks", "/api/queues/length", "/metrics"]
)
def test_nothing_is_shown_without_the_password(address: str, path: str) -> None:
    """Every page and every figure asks for it, even where the environment says otherwise; with it each answers."""
    assert 401 == httpx.get(address + path, trust_env=False).status_code
    assert 401 == httpx.get(address + path, auth=("penstock", "wrong"), trust_env=False).status_code
    assert 200 == httpx.get(address + path, auth=("penstock", PASSWORD), trust_env=False).status_code


def test_it_can_do_no_harm(address: str) -> None:
    """Stopping a worker or starting a task is refused."""
    with httpx.Client(base_url=address, auth=("penstock", PASSWORD), trust_env=False) as client:
        assert 403 == client.post("/api/worker/shutdown/any").status_code
        assert 403 == client.post("/api/task/async-apply/imin.plan", json={"args": [[]]}).status_code


def test_queues_and_tasks_are_shown(address: str, environment: dict[str, str]) -> None:
    """Every queue with its length, also one that no worker consumes; finished tasks by name; never Redis's password."""
    command = [sys.executable, SCRIPT, "worker"]
    send = (
        "import small_celery as s; s.plan.apply_async(([1, 2],), queue='penstock.imin');"
        " [s.plan.apply_async(([],), queue='penstock.paybook') for _ in range(3)]"
    )
    subprocess.run(
        [sys.executable, "-c", send],
        env={**environment, "PYTHONPATH": str(Path(__file__).parent)},
        check=True,
    )
    with (
        subprocess.Popen(launched(command, signal.SIGTERM, None), env=environment, start_new_session=True) as worker,
        httpx.Client(base_url=address, auth=("penstock", PASSWORD), trust_env=False) as client,
    ):
        try:
            until(
                lambda: "imin.plan" in client.get("/api/tasks?state=SUCCESS").text,
                otherwise="the finished task is not shown",
            )
            children = family(worker.pid)
            assert children
        finally:
            worker.kill()
        worker.wait()
        until(lambda: not living(children), otherwise="children of a killed worker live on")
        queues = client.get("/api/queues/length").json()["active_queues"]
        assert {"penstock.imin": 0, "penstock.paybook": 3} == {each["name"]: each["messages"] for each in queues}
        page = client.get("/broker").text
        assert "penstock.paybook" in page
        assert urlsplit(environment["PENSTOCK_REDIS_URL"]).password not in page
