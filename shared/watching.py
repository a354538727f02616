"""Keeps the configuration current: accounts are added, changed and removed without a restart."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import structlog

from shared.configuration import Configuration, read_configuration
from shared.errors import SettingsError


POLL_SECONDS = 1.0

_Stamp: TypeAlias = tuple[int, int, int] | None


class ConfigurationWatch:
    """Holds the settings in force. A file that does not validate leaves the old ones in force and says why in the log.

    ``version`` grows by one with each change of ``current``. ``problem`` is why the file as it is now is not in force,
    or None.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises SettingsError: there are no old settings to keep yet."""
        self._path = path
        self.current, self._stamps = _read(path)
        self.version = 1
        self.problem: str | None = None
        self._log = structlog.get_logger("penstock.configuration")

    def accounts(self) -> list[tuple[str, str]]:
        """The provider and name of every account that is configured."""
        return [(provider, name) for provider, accounts in self.current.accounts.items() for name in accounts]

    def refresh(self) -> bool:
        """Look at the files; read them again if one changed. Returns whether ``current`` is a new one."""
        # A file that was refused may name one that is only being written: it is tried until it is right.
        if self.problem is None and _stamps(self._stamps) == self._stamps:
            return False
        try:
            self.current, self._stamps = _read(self._path)
        except SettingsError as error:
            if str(error) != self.problem:
                self.problem = str(error)
                self._log.error("the configuration was not taken over; the old one stays in force", reason=self.problem)
            return False
        self.version += 1
        self.problem = None
        self._log.info("the configuration was read again", version=self.version)
        return True

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await asyncio.to_thread(self.refresh)


def _read(path: Path) -> tuple[Configuration, dict[Path, _Stamp]]:
    """The configuration and how its files looked before they were read, so that no later change goes unseen."""
    files = frozenset({path})
    while True:
        stamps = _stamps(files)
        configuration = read_configuration(path)
        if configuration.files <= files:
            return configuration, stamps
        files |= configuration.files


def _stamps(files: Iterable[Path]) -> dict[Path, _Stamp]:
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
