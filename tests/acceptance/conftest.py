"""One installation for all acceptance tests: starting it is what costs."""

from collections.abc import Iterator

import pytest

from installation import Installation, running
from ops.lab.process import Lab, running_lab


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
