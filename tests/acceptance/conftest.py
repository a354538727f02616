"""One installation for all acceptance tests: starting it is what costs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Installation, running
from ops.embedded.redis import Redis
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from rolling import Rolling
from shared.sealing import generate_key


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The provider lab, without traffic of its own."""
    with running_lab(seed=11) as lab:
        yield lab


@pytest.fixture(scope="session")
def installation(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Penstock with embedded servers, connected to the lab, with quick retries."""
    config = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
    with running(tmp_path_factory.mktemp("installation"), lab, config) as started:
        yield started


@pytest.fixture(autouse=True)
def _undisturbed(lab: Lab) -> Iterator[None]:
    """Each test begins with a lab that behaves."""
    yield
    lab.reset()


@pytest.fixture
def unlimited_lab() -> Iterator[Lab]:
    """A lab whose accounts have no budgets: everything is to be finished in seconds."""
    with running_lab(seed=53, clock_speed=1.0) as lab:
        lab.set_limits({name: Limit(calls=0, seconds=1.0) for name in ("magicline", "paybook")})
        yield lab


@pytest.fixture
def rolling(unlimited_lab: Lab, empty_database_url: str, empty_redis: Redis, tmp_path: Path) -> Iterator[Rolling]:
    """An installation of single processes, none of which runs yet."""
    config = unlimited_lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
    (tmp_path / "penstock.toml").write_text(config.replace("base_url = ", "budget = { calls = 0 }\nbase_url = "))
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.set_inheritable(True)
        variables = {
            "PENSTOCK_CONFIG": str(tmp_path / "penstock.toml"),
            "PENSTOCK_DATABASE_URL": empty_database_url,
            "PENSTOCK_REDIS_URL": empty_redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path / "data"),
            "PENSTOCK_BLOB_URL": (tmp_path / "blobs").as_uri(),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
        installation = Rolling(tmp_path, variables, listener)
        try:
            yield installation
        finally:
            installation.stop()
