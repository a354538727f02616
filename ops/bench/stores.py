"""The stores of a bench: servers of its own in a throw-away folder, or set ones that hold nothing."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg
import redis

from ops.installation import running
from ops.supervisor.lock import only_one
from ops.supervisor.stores import Stores, opened_stores
from shared.errors import SettingsError, StoreAway
from shared.settings import Settings
from shared.store.migrating import upgrade
from shared.store.postgres import connect_once


_DATABASES: Final = "penstock_bench"
_REDIS_NUMBERS: Final = range(1, 16)
_MIGRATED: Final = ("alembic_version", "installation")
"""The tables in which a migration itself writes a row."""


class BenchStores:
    """Fresh databases on one Postgres and empty ones of one Redis, for as many subjects as a benchmark has."""

    def __init__(self, stores: Stores) -> None:
        self.opened = stores
        self.servers = stores.servers
        self._postgres = stores.database_url
        self._redis = stores.redis_url
        self._names: list[str] = []
        self._template = ""
        self._made = 0
        self._numbers = 0

    def database(self, *, migrated: bool = True) -> str:
        """The URL of a fresh database."""
        if migrated and not self._template:
            self._template = self._create("template0")
            upgrade(self._url(self._template))
        self._names.append(self._create(self._template if migrated else "template0"))
        return self._url(self._names[-1])

    def redis(self) -> str:
        """The URL of an empty Redis database; they are given out in turn."""
        number = _REDIS_NUMBERS[self._numbers % len(_REDIS_NUMBERS)]
        self._numbers += 1
        url = f"{self._redis.rpartition('/')[0]}/{number}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url

    def drop(self) -> None:
        """Remove every database that was made, but not the one that they are copied from."""
        for name in self._names:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._names.clear()

    def drop_one(self, url: str) -> None:
        """Remove a database that is not needed any more; a large one would slow the others' checkpoints."""
        name = url.rpartition("/")[2]
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._names.remove(name)

    def close(self) -> None:
        """Remove everything."""
        self.drop()
        if self._template:
            self._execute(f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)")

    def _create(self, template: str) -> str:
        self._made += 1
        name = f"{_DATABASES}_{self._made}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _url(self, name: str) -> str:
        return f"{self._postgres.rpartition('/')[0]}/{name}"

    def _execute(self, statement: str) -> None:
        async def execute() -> None:
            connection = await connect_once(self._postgres)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        try:
            asyncio.run(execute())
        except asyncpg.PostgresError as error:
            raise SettingsError(f"the bench makes databases of its own beside the one that is set: {error}") from None


@contextmanager
def bench_stores(settings: Settings) -> Iterator[tuple[BenchStores, Path]]:
    """The stores, and the folder that is removed at the end. Raises SettingsError where there is anything to lose."""
    refuse_running(settings)
    folder = settings.data / "bench"
    with only_one(settings.data, "bench", "penstock bench"):
        for left_behind in folder.iterdir():
            shutil.rmtree(left_behind, ignore_errors=True)
        folder.chmod(0o755)
        try:
            with _opened(settings, folder) as stores:
                yield stores, folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(settings: Settings, folder: Path) -> Iterator[BenchStores]:
    with opened_stores(settings.model_copy(update={"data_dir": folder})) as opened:
        refuse_data(opened)
        stores = BenchStores(opened)
        try:
            yield stores
        finally:
            stores.close()


def refuse_running(settings: Settings) -> None:
    """Refuse beside a running installation: its work would be measured too, or be disturbed. Raises SettingsError."""
    if running(settings.data):
        raise SettingsError(
            f"an installation runs in {settings.data}: the bench would measure its work too and disturb it; stop it, or"
            " set PENSTOCK_DATA_DIR to another folder"
        )


def refuse_data(stores: Stores) -> None:
    """Refuse stores that hold anything. Raises SettingsError."""
    if tables := asyncio.run(_tables(stores.database_url)):
        raise SettingsError(
            f"PENSTOCK_DATABASE_URL: that database holds data ({', '.join(tables[:3])} ...); the bench fills and"
            " empties what it runs against: unset it, or name an empty database"
        )
    try:
        with redis.Redis.from_url(stores.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
            held = client.info("keyspace")
    except redis.RedisError as error:
        raise StoreAway(f"Redis does not answer: {error}") from None
    if held:
        raise SettingsError(
            f"PENSTOCK_REDIS_URL: that Redis holds data ({', '.join(held)}); the bench empties what it runs against:"
            " unset it, or name an empty one"
        )


async def _tables(url: str) -> list[str]:
    """The tables with at least one row; a database that was only migrated holds nothing."""
    connection = await connect_once(url)
    try:
        names = await connection.fetch(
            """
            SELECT format('%I.%I', schemaname, relname) AS name FROM pg_stat_user_tables
            WHERE relname <> ALL($1::text[]) ORDER BY 1
            """,
            list(_MIGRATED),
        )
        return [
            row["name"]
            for row in names
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {row['name']})")  # noqa: S608 - quoted by format()
        ]
    finally:
        await connection.close()
