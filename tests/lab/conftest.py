from collections.abc import Iterator

import pytest

from ops.lab.process import Lab, running_lab


@pytest.fixture(scope="module")
def running() -> Iterator[Lab]:
    """One lab process for a module's tests."""
    with running_lab(seed=7) as lab:
        yield lab


@pytest.fixture
def lab(running: Lab) -> Lab:
    """The lab with nothing recorded, no faults and the published limits."""
    running.reset()
    return running
