"""What the children of a worker share with it."""

import subprocess
import sys
from pathlib import Path

import redis as redis_client

from ops.embedded.redis import Redis


def test_a_child_leaves_the_memory_alone_that_it_shares(tmp_path: Path, redis: Redis) -> None:
    """What was there before the fork is hidden from its collector, which would copy every page of it."""
    file = tmp_path / "frozen"
    script = Path(__file__).with_name("frozen_children.py")

    url = redis.url.replace("/0", "/13")
    try:
        subprocess.run([sys.executable, str(script), url, str(file)], check=True, timeout=120)
    finally:
        with redis_client.Redis.from_url(url) as client:
            client.flushdb()

    assert int(file.read_text(encoding="ascii")) > 10_000
