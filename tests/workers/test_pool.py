"""What the children of a worker have from it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_client

from ops.embedded.redis import Redis
from support.conditions import HANG_SECONDS


@pytest.fixture
def broker(redis: Redis) -> Iterator[str]:
    """A database of that Redis for a Celery application of the test's own, emptied afterwards."""
    url = redis.url.replace("/0", "/13")
    yield url
    with redis_client.Redis.from_url(url) as client:
        client.flushdb()


def _run(script: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments], check=True, timeout=HANG_SECONDS
    )


def test_a_child_leaves_the_memory_alone_that_it_shares(tmp_path: Path, broker: str) -> None:
    """What was there before the fork is hidden from its collector, which would copy every page of it."""
    file = tmp_path / "frozen"

    _run("frozen_children.py", broker, str(file))

    assert int(file.read_text(encoding="ascii")) > 10_000


def test_a_child_has_no_lock_that_another_thread_of_its_parent_held(tmp_path: Path, broker: str) -> None:
    """Nobody would ever release it there: the child would stand still until Celery gives it up, a minute later."""
    file = tmp_path / "taken"

    _run("forked_children.py", broker, str(file))

    assert ["True"] * 4 == file.read_text(encoding="ascii").splitlines()


def test_a_task_that_a_child_was_just_handed_is_finished_and_acknowledged_before_the_end(
    tmp_path: Path, broker: str
) -> None:
    """A worker that forgets it never hears its result, which the child waits for; and the message comes back."""
    file = tmp_path / "done"

    _run("stopped_child.py", broker, str(file))

    assert ["done"] == file.read_text(encoding="ascii").splitlines()
    with redis_client.Redis.from_url(broker) as client:
        assert (0, 0) == (client.llen("celery"), client.hlen("unacked"))
