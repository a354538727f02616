"""The real servers of a test run, and fresh databases on them."""

import asyncio
import signal
import uuid
from collections.abc import Iterator

import asyncpg
import pytest
import redis as client

from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from shared.store.migrating import upgrade


# Where the tests run as a background job of a shell, SIGINT is inherited as ignored, by them and by all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

_redis: list[Redis] = []


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A Postgres of this test process's own."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis of this test process's own; each module of tests finds it empty."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        _redis.append(server)
        yield server
        _redis.clear()


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_other_modules() -> None:
    """What a module finds in Redis does not depend on which ones were played before it in this process."""
    for server in _redis:
        _empty(server)


@pytest.fixture
def empty_redis(redis: Redis) -> Redis:
    """The same Redis with nothing in it, whatever earlier tests left there."""
    _empty(redis)
    return redis


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a migrated database that tests copy: quicker than migrating each."""
    _create(postgres, "penstock_template")
    upgrade(_url(postgres, "penstock_template"))
    return "penstock_template"


@pytest.fixture
def database_url(postgres: Postgres, template: str) -> str:
    """A fresh migrated database."""
    name = f"test_{uuid.uuid4().hex}"
    _create(postgres, name, template)
    return _url(postgres, name)


@pytest.fixture
def empty_database_url(postgres: Postgres) -> str:
    """A fresh database without tables."""
    name = f"empty_{uuid.uuid4().hex}"
    _create(postgres, name)
    return _url(postgres, name)


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio is the event loop that Penstock runs on."""
    return "asyncio"


def _empty(server: Redis) -> None:
    with client.Redis.from_url(server.url) as connection:
        connection.flushall()


def _url(server: Postgres, database: str) -> str:
    return f"{server.url.rpartition('/')[0]}/{database}"


def _create(server: Postgres, name: str, template: str = "template0") -> None:
    async def create() -> None:
        connection = await asyncpg.connect(server.url)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        finally:
            await connection.close()

    asyncio.run(create())
