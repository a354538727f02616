"""The embedded servers: the real programs, started and stopped."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
import redis

from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from ops.supervisor.alive import alive, started_at
from ops.supervisor.process import launched
from shared.errors import SettingsError, StoreAway
from support.conditions import HANG_SECONDS, until


async def _ask(url: str, *statements: str) -> list[object]:
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()


def test_postgres_keeps_its_data_and_its_port(tmp_path: Path) -> None:
    """Data, port and password are those of the run before, in a folder that only its owner may enter."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with Postgres(home / "data") as server:
        url = server.url
        shown = ("server_encoding", "fsync", "synchronous_commit", "password_encryption", "unix_socket_directories")
        answers = asyncio.run(_ask(url, "CREATE TABLE kept ()", *(f"SHOW {name}" for name in shown)))
        assert ["UTF8", "on", "on", "scram-sha-256", ""] == answers[1:]
    with Postgres(home / "data") as server:
        assert url == server.url
        assert ["kept"] == asyncio.run(_ask(url, "SELECT 'kept'::regclass::text"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(_ask(url.replace("penstock:", "penstock:not-"), "SELECT 1"))


def test_postgres_survives_its_own_kill(tmp_path: Path) -> None:
    """Killed in the middle of a run, it starts again on the same data: what was committed is there."""
    with Postgres(tmp_path) as server:
        asyncio.run(_ask(server.url, "CREATE TABLE kept ()"))
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: server.process is not None and server.process.ended() is not None, otherwise="it did not end")
    with Postgres(tmp_path) as server:
        assert ["kept"] == asyncio.run(_ask(server.url, "SELECT 'kept'::regclass::text"))


def test_postgres_starts_beside_a_process_that_has_its_old_number(tmp_path: Path) -> None:
    """A lock file that names a living process of another program, as after a container's restart, is cleared."""
    with Postgres(tmp_path) as server:
        lock = server.folder / "postmaster.pid"
        content = lock.read_text()
        owner = server.program().owner
    with subprocess.Popen(launched(["/bin/sleep", "1000"], signal.SIGKILL, owner)) as other:
        until(lambda: Path(f"/proc/{other.pid}/comm").read_text().strip() == "sleep", otherwise="it did not start")
        lock.write_text("\n".join([str(other.pid), *content.split("\n")[1:]]))
        try:
            with Postgres(tmp_path) as server:
                assert [1] == asyncio.run(_ask(server.url, "SELECT 1"))
        finally:
            other.kill()


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """The message is the server's own, with the place of its log."""
    with Postgres(tmp_path) as server:
        settings = server.folder / "postgresql.auto.conf"
    settings.write_text("nonsense = 1\n")
    with pytest.raises(StoreAway, match=r'(?s)logs/postgres\.log ends with:.*unrecognized configuration .*"nonsense"'):
        Postgres(tmp_path).start()


def test_a_folder_of_another_version_is_named(tmp_path: Path) -> None:
    """The sentence names both versions; nothing is started."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(SettingsError, match=r"was made by Postgres 16, the embedded one is 18"):
        Postgres(tmp_path).start()


def test_redis_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """Every write is on the disk when it is acknowledged, keys are never dropped, and a password is asked for."""
    with Redis(tmp_path / 'with "quotes" and spaces') as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            found = client.config_get("*")
            client.set("kept", "yes")
        expected = {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
            "save": "",
        }
        assert expected == {name: found[name] for name in expected}
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert server.process is not None
        server.process.kill()
        server.process.wait(HANG_SECONDS)
    with Redis(tmp_path / 'with "quotes" and spaces') as server, redis.Redis.from_url(server.url) as client:
        assert b"yes" == client.get("kept")


@pytest.mark.parametrize("server", [Postgres, Redis])
def test_a_server_ends_with_the_one_who_started_it(tmp_path: Path, server: type[Postgres | Redis]) -> None:
    """Even when that one is killed, the server shuts down by itself in its own way."""
    code = (
        f"import time; from pathlib import Path; from {server.__module__} import {server.__name__} as S;"
        f"s = S(Path({str(tmp_path)!r})); s.start(); print(s.process.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        began = started_at(pid)
        assert began is not None
        starter.kill()
        starter.wait()
        until(lambda: not alive(pid, began), otherwise="it lives on")
    log = (tmp_path / "logs" / f"{server.name}.log").read_text()
    assert ("database system is shut down" in log) or ("Redis is now ready to exit" in log)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_other_user_may_search_and_nothing_more(tmp_path: Path) -> None:
    """What root hands on is the right to reach files below its own folders, not to change them."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "file").write_text("read")
    script = f"id -u; cat {home}/file; echo changed >{home}/file"
    with Postgres(home / "data") as server:
        owner = server.program().owner
    done = subprocess.run(
        launched(["/bin/sh", "-c", script], signal.SIGKILL, owner), capture_output=True, text=True, check=False
    )
    assert owner is not None
    assert f"{owner.uid}\nread" == done.stdout
    assert "denied" in done.stderr
    assert "read" == (home / "file").read_text()
