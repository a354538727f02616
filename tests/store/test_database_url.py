"""A database URL with libpq's parameters, as hosted databases hand it out: the same for every way to connect."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from ops.backup.programs import pg_dump, pg_restore
from ops.embedded.postgres import Postgres
from redis_faults.tls import certificate
from shared.database_url import Database, NotADatabaseUrl
from shared.errors import SettingsError, StoreAway
from shared.settings import Settings, without_password
from shared.store.migrating import current, newest, upgrade
from shared.store.postgres import connect_once, open_pool
from shared.store.reading.connecting import reading, reading_engine
from store.tls_proxy import tls_postgres


_ASK = "SELECT current_database()"


@asynccontextmanager
async def _once(url: str) -> AsyncIterator[Callable[[str], Any]]:
    connection = await connect_once(url)
    try:
        yield connection.fetchval
    finally:
        await connection.close()


@asynccontextmanager
async def _pool(url: str) -> AsyncIterator[Callable[[str], Any]]:
    pool = await open_pool(url, name="test", size=2)
    try:
        yield pool.fetchval
    finally:
        await pool.close()


@asynccontextmanager
async def _engine(url: str) -> AsyncIterator[Callable[[str], Any]]:
    engine = reading_engine(url, name="test")
    try:
        async with reading(engine) as connection:

            async def ask(query: str) -> Any:
                return (await connection.execute(text(query))).scalar()

            yield ask
    finally:
        await engine.dispose()


WAYS = pytest.mark.parametrize("way", [_once, _pool, _engine])


def _plain(server: Postgres, port: int, database: str = "penstock") -> str:
    """The URL of the server behind another port."""
    parts = urlsplit(server.url)
    return f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}/{database}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def encrypted(postgres: Postgres, authority: Path) -> Iterator[str]:
    """The URL of a Postgres that lets nobody in without TLS."""
    with tls_postgres(postgres.port, authority) as server:
        yield _plain(postgres, server.server_address[1])


@WAYS
@pytest.mark.anyio
@pytest.mark.parametrize(
    "parameters",
    [
        "sslmode=require",
        "ssl=true",
        "sslmode=prefer&connect_timeout=3",
        "sslmode=allow",
        "sslmode=verify-ca&sslrootcert={authority}",
        "sslmode=verify-full&sslrootcert={authority}&channel_binding=prefer&gssencmode=disable&keepalives_idle=30",
        "sslmode=verify-full&sslrootcert={authority}&sslsni=0&ssl_min_protocol_version=TLSv1.3&tcp_user_timeout=9000",
    ],
)
async def test_a_server_with_tls_is_reached_by_every_way(
    way: Any, parameters: str, encrypted: str, authority: Path
) -> None:
    """Pools, single connections and SQLAlchemy read the same from the same URL."""
    async with way(f"{encrypted}?{parameters.format(authority=authority)}") as ask:
        assert "penstock" == await ask(_ASK)


@WAYS
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("sslmode=disable", "does not answer"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.crt", "sslrootcert /nowhere/ca.crt cannot be used"),
        ("sslmode=verify-ca", "add sslrootcert="),
        ("sslmode=require&sslcert=/nowhere/client.crt", "sslcert /nowhere/client.crt"),
        ("sslmode=verify-full&sslrootcert=system", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
async def test_what_tls_is_asked_to_refuse_is_refused_with_a_sentence(
    way: Any, parameters: str, said: str, encrypted: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Never a connection in the clear instead, and never a traceback."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreAway, match=said):
        async with way(f"{encrypted}?{parameters}"):
            pass


def test_migrate_goes_through_tls(encrypted: str, empty_database_url: str) -> None:
    """A hosted database's first command."""
    url = f"{encrypted.rpartition('/')[0]}/{empty_database_url.rpartition('/')[2]}?sslmode=require&connect_timeout=10"
    upgrade(url)
    assert newest() == current(url)


@pytest.mark.anyio
async def test_a_certificate_of_ours_is_shown(postgres: Postgres, authority: Path) -> None:
    """``sslcert`` and ``sslkey``, and nobody gets in without."""
    with tls_postgres(postgres.port, authority, clients=authority) as server:
        url = f"{_plain(postgres, server.server_address[1])}?sslmode=require"
        async with _once(f"{url}&sslcert={authority}&sslkey={authority}") as ask:
            assert "penstock" == await ask(_ASK)
        with pytest.raises(StoreAway):
            await connect_once(url)
        with pytest.raises(StoreAway):
            await connect_once(f"{url}&sslcert={authority}&sslkey={authority}&sslcertmode=disable")


@pytest.mark.anyio
async def test_prefer_goes_without_tls_where_there_is_none_and_require_does_not(postgres: Postgres) -> None:
    """As with libpq, whose default prefer is."""
    with tls_postgres(postgres.port, None, only=False) as server:
        url = _plain(postgres, server.server_address[1])
        for parameters in ("", "?sslmode=prefer", "?sslmode=allow", "?sslmode=disable"):
            async with _once(url + parameters) as ask:
                assert "penstock" == await ask(_ASK)
        with pytest.raises(StoreAway, match="rejected SSL upgrade"):
            await connect_once(f"{url}?sslmode=require")


@WAYS
@pytest.mark.anyio
async def test_the_next_host_is_tried(way: Any, postgres: Postgres) -> None:
    """One that is down, one that is no primary: the first that fits is taken."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        dead = nobody.getsockname()[1]
    parts = urlsplit(postgres.url)
    who = f"{parts.username}:{parts.password}"
    url = f"postgresql://{who}@127.0.0.1:{dead},localhost:{postgres.port}/penstock"
    for parameters in (
        "?target_session_attrs=read-write",
        "?target_session_attrs=prefer-standby",
        "?load_balance_hosts=random",
    ):
        async with way(url + parameters) as ask:
            assert "penstock" == await ask(_ASK)
    with pytest.raises(StoreAway, match="target attribute"):
        async with way(f"{url}?target_session_attrs=standby"):
            pass


@WAYS
@pytest.mark.anyio
async def test_the_servers_options_and_the_name_are_taken(way: Any, database_url: str) -> None:
    """What is ours stays ours."""
    options = quote("-c work_mem=12345kB -c statement_timeout=1s -c default_transaction_isolation=serializable")
    async with way(f"{database_url}?options={options}&application_name=acme") as ask:
        assert "12345kB" == await ask("SHOW work_mem")
        assert "0" == await ask("SHOW statement_timeout")
        assert "read committed" == await ask("SHOW default_transaction_isolation")
        assert (await ask("SHOW application_name")).startswith("acme")


@pytest.mark.anyio
@pytest.mark.parametrize("secret", ["p@ss:/?#[]%&=+ word", "a+b", "ünïcode-€", "%41", "back\\slash'quote"])
async def test_any_password_can_be_written(postgres: Postgres, secret: str) -> None:
    """Percent-encoded before the host, or as a parameter; a plus is a plus."""
    connection = await asyncpg.connect(postgres.url)
    role = f"odd_{abs(hash(secret))}"
    try:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{secret.replace(chr(39), chr(39) * 2)}'")
        coded = quote(secret, safe="+")
        for url in (
            f"postgresql://{role}:{coded}@127.0.0.1:{postgres.port}/penstock",
            f"postgresql:///penstock?host=127.0.0.1&port={postgres.port}&user={role}&password={coded}",
        ):
            async with _once(url) as ask:
                assert role == await ask("SELECT current_user")
            assert coded not in without_password(url)
            assert secret not in without_password(url)
    finally:
        await connection.execute(f"DROP ROLE IF EXISTS {role}")
        await connection.close()


@pytest.mark.anyio
async def test_a_service_and_a_password_file_are_read(postgres: Postgres, tmp_path: Path) -> None:
    """What the URL names itself comes before what its service says."""
    parts = urlsplit(postgres.url)
    services = tmp_path / "services"
    services.write_text(
        f"[other]\nhost=nowhere\n[acme]\n# ours\nhost=localhost\nport={postgres.port}\ndbname=template1\n"
    )
    passwords = tmp_path / "passwords"
    passwords.write_text(f"# ours\nlocalhost:{postgres.port}:penstock:*:{parts.password}\n")
    passwords.chmod(0o600)
    url = f"postgresql://{parts.username}@/penstock?service=acme&servicefile={services}&passfile={passwords}"
    async with _once(url) as ask:
        assert "penstock" == await ask(_ASK)
    passwords.chmod(0o644)
    with pytest.raises(StoreAway, match="password"):
        await connect_once(url)
    with pytest.raises(StoreAway, match=r"has no section \[nobody\]"):
        await connect_once(url.replace("acme", "nobody"))


@pytest.mark.anyio
async def test_an_address_stands_in_for_a_host_without_changing_whom_we_trust(encrypted: str, authority: Path) -> None:
    """``hostaddr`` saves the look-up; the certificate still has to name the host."""
    port = urlsplit(encrypted).port
    there = (
        encrypted.replace("127.0.0.1", "127.0.0.1") + f"?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={authority}"
    )
    async with _once(there) as ask:
        assert "penstock" == await ask(_ASK)
    elsewhere = there.replace(f"@127.0.0.1:{port}", f"@db.example:{port}")
    with pytest.raises(StoreAway, match=r"db\.example"):
        await connect_once(elsewhere)


@pytest.mark.anyio
async def test_a_backup_takes_the_same_url(postgres: Postgres, database_url: str, tmp_path: Path) -> None:
    """Parameters of libpq and ours, a password as a parameter, and a driver's name in the scheme."""
    parts = urlsplit(database_url)
    dump = tmp_path / "dump"
    url = f"postgresql+asyncpg://{parts.username}@127.0.0.1:{parts.port},localhost:{parts.port}{parts.path}"
    url += f"?password={parts.password}&sslmode=prefer&application_name=it%27s&connect_timeout=5&pgbouncer=false"
    connection = await connect_once(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await pg_dump(url, dump, snapshot=await connection.fetchval("SELECT pg_export_snapshot()"))
    finally:
        await connection.close()
    assert dump.stat().st_size
    fresh = f"restored_{os.getpid()}"
    owner = await connect_once(postgres.url)
    try:
        await owner.execute(f"CREATE DATABASE {fresh} TEMPLATE template0")
    finally:
        await owner.close()
    target = url.replace(parts.path, f"/{fresh}")
    await pg_restore(target, dump)
    async with _once(target) as ask:
        assert 0 == await ask("SELECT count(*) FROM events")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("channel_binding=require", "channel_binding=require: this driver cannot bind"),
        ("gssencmode=require", "gssencmode=require: this driver"),
        ("require_auth=scram-sha-256", "require_auth: this driver"),
        ("client_encoding=LATIN1", "client_encoding=LATIN1: Penstock speaks UTF8"),
        ("sslmode=no-verify", "sslmode=no-verify: write disable, allow"),
        ("schema=public", "schema is no parameter of libpq"),
        ("statement_timeout=0", "statement_timeout is no parameter of libpq; a setting of the server"),
        ("connect_timeout=soon", "connect_timeout=soon: write a whole number"),
        ("replication=database", "replication=database"),
        ("sslmode", "sslmode has no value"),
        ("sslnegotiation=direct", "sslnegotiation=direct: write sslmode=require"),
        (
            "sslrootcert=system&sslmode=require",
            "sslrootcert=system: such authorities vouch for anybody: write sslmode=verify-full",
        ),
        ("port=1,2", "2 ports for 1 hosts"),
        ("oauth_issuer=https://a", "oauth_issuer: this driver"),
        ("pgbouncer=maybe", "pgbouncer=maybe: write pgbouncer=true"),
        ("service=acme&servicefile=/nowhere", "service=acme: /nowhere cannot be read"),
    ],
)
def test_what_cannot_be_done_is_named(parameters: str, said: str) -> None:
    """At start, with the setting, the parameter and what to write instead; the URL's password is not in it."""
    for variable in ("PENSTOCK_DATABASE_URL", "PENSTOCK_READ_DATABASE_URL"):
        with pytest.raises(SettingsError) as refused:
            Settings.read({variable: f"postgresql://u:secret-word@h/d?{parameters}"})
        assert f"{variable}: {said}" in str(refused.value).replace("port: it names ", "")
        assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "secret", "postgresql://u:sec/ret@h/d", "postgresql://u:s?e=ret@h/d"]
)
def test_what_is_no_url_is_said_without_repeating_it(url: str) -> None:
    """It holds a password more often than not."""
    with pytest.raises(SettingsError, match="PENSTOCK_DATABASE_URL: ") as refused:
        Settings.read({"PENSTOCK_DATABASE_URL": url})
    assert "ret" not in str(refused.value)


def test_a_url_without_a_host_means_this_machine() -> None:
    """Its sockets first, as with libpq."""
    found = Database.read("postgresql:///orders")
    assert ["/run/postgresql", "/var/run/postgresql", "/tmp", "localhost"] == [host.address for host in found.hosts]  # noqa: S108
    socket_of = Database.read("postgresql://%2Fvar%2Frun%2Fdb:6432/orders").hosts[0]
    assert (True, "/var/run/db", 6432) == (socket_of.is_socket, socket_of.address, socket_of.port)
    assert [("::1", 5433), ("db", 5432)] == [
        (host.address, host.port) for host in Database.read("postgres://[::1]:5433,db/orders").hosts
    ]
    with pytest.raises(NotADatabaseUrl, match="no number from 1 to 65535"):
        Database.read("postgresql://db:port/orders")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pw@h/d?password=pw&sslpassword=pw", "postgresql://u@h/d?password=***&sslpassword=***"),
        ("postgresql://u@h/d?sslmode=require&PASSWORD=pw", "postgresql://u@h/d?sslmode=require&PASSWORD=***"),
        ("postgresql://u:p/w@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p?w@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p@w@h/d", "postgresql://u@h/d"),
        ("redis://:pw@h:6379/0?password=pw", "redis://@h:6379/0?password=***"),
        ("redis://h:6379/0?username=u&password=p%20w", "redis://h:6379/0?username=u&password=***"),
        (
            "redis+sentinel://:pw@h:1,i:2/s/0?sentinel_password=pw",
            "redis+sentinel://@h:1,i:2/s/0?sentinel_password=***",
        ),
        (
            "postgresql://h/d?oauth_client_secret=pw&scram_client_key=pw",
            "postgresql://h/d?oauth_client_secret=***&scram_client_key=***",
        ),
        ("u:pw@h", "what is no URL"),
    ],
)
def test_a_password_is_shown_in_no_form(url: str, shown: str) -> None:
    """Whatever else is wrong with the URL."""
    assert shown == without_password(url)
