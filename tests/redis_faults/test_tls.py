"""Redis over TLS: every client verifies whom it speaks to, Celery's as well as our own."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis as client
from redis.exceptions import RedisError

from ops.embedded.redis import Redis
from redis_faults.tls import certificate, tls_in_front_of
from shared.configuration import Timing
from shared.errors import StoreAway
from shared.publishing import Publisher
from shared.queue import plan_task, queue_of
from shared.redis_clients import connect_redis, open_redis


QUEUE = queue_of("imin")


@pytest.fixture
def encrypted(empty_redis: Redis, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a Redis that speaks TLS, and the certificate of its authority."""
    file = certificate(tmp_path)
    password = urlsplit(empty_redis.url).password
    with tls_in_front_of(empty_redis.port, file) as port:
        yield f"rediss://:{password}@127.0.0.1:{port}/0", file


@pytest.mark.anyio
async def test_our_clients_verify_the_server(encrypted: tuple[str, Path]) -> None:
    """One that an unknown authority vouches for is not spoken to."""
    url, file = encrypted
    async with open_redis(f"{url}?ssl_ca_certs={file}", seconds=5, retries=0) as trusting:
        assert await trusting.ping()
    with connect_redis(f"{url}?ssl_ca_certs={file}", seconds=5) as blocking:
        assert blocking.ping()
    async with open_redis(url, seconds=5, retries=0) as unknowing:
        with pytest.raises(RedisError, match="CERTIFICATE_VERIFY_FAILED"):
            await unknowing.ping()


def test_messages_go_to_a_server_that_the_named_authority_vouches_for(
    encrypted: tuple[str, Path], empty_redis: Redis
) -> None:
    """``ssl_ca_certs`` holds for Celery's connections as for ours."""
    url, file = encrypted
    send(f"{url}?ssl_ca_certs={file}")
    with client.Redis.from_url(empty_redis.url) as look:
        assert 1 == look.llen(QUEUE)


def test_no_message_goes_to_a_server_that_nobody_vouches_for(encrypted: tuple[str, Path], empty_redis: Redis) -> None:
    """Kombu by itself takes any certificate when the URL names no option of TLS."""
    with pytest.raises(StoreAway, match="CERTIFICATE_VERIFY_FAILED"):
        send(encrypted[0])
    with client.Redis.from_url(empty_redis.url) as look:
        assert 0 == look.llen(QUEUE)


def send(url: str) -> None:
    """Publish one message as ingress does."""
    publisher = Publisher(url, Timing(), ["imin"])
    try:
        publisher.publish(plan_task("imin"), QUEUE, [[]])
    finally:
        publisher.close()
