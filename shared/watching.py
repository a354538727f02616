"""Keeps the configuration current: accounts are added and changed without a restart, and go when somebody says so."""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import structlog

from shared.configuration import Configuration, Resolved, configure, read_document, resolve
from shared.errors import SettingsError
from shared.vanished import Place, accounts_of, keep, title, without


POLL_SECONDS = 1.0
UNSETTLED_LOOKS = 3
"""A file that changes with each look is taken as it is after so many."""

Account: TypeAlias = tuple[str, str]
"""Provider and name."""

_Stamp: TypeAlias = tuple[int, int, int] | None


class Known(NamedTuple):
    """What is written down about accounts for all processes: those that were in force once, and those removed since."""

    accounts: frozenset[Account]
    removed: frozenset[Account]


class ConfigurationWatch:
    """Holds the settings in force. A file that does not validate leaves the old ones in force and says why in the log.

    What a file names is taken over; what it no longer names stays in force (``shared.vanished``), unless it says
    ``[settings] removal = "file"``, or an account was removed by command. ``version`` grows by one with each change of
    ``current``. ``in_file`` are the accounts that the file names. ``problem`` is why the file as it is now is not in
    force, or None; ``vanished`` is what is in force and not in the file.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises SettingsError: there are no old settings to keep yet."""
        self._path = path
        read = _read(path, {}, ())
        self.current, self._resolved, self._stamps = read.configuration, read.resolved, read.stamps
        self._document = read.document
        self.in_file = read.in_file
        self._looked = self._stamps
        self._unsettled = 0
        self.version = 1
        self.problem: str | None = None
        self.vanished: Sequence[str] = ()
        self._known: Known | None = None
        self._removed: frozenset[Account] = frozenset()
        # Looks are made in a thread: what both sides change is replaced whole, or appended to.
        self._doubted: frozenset[Account] = frozenset()
        self._unnoted = deque([read.in_file])
        self._log = structlog.get_logger("penstock.configuration")

    # ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────

    def refresh(self) -> bool:
        """Look at the files; read them again if one changed. Returns whether ``current`` is a new one."""
        # A file that was refused may name one that is only being written: it is tried until it is right. And what has
        # vanished may be removed by then.
        if self.problem is None and not self.vanished and _stamps(self._stamps) == self._stamps:
            return False
        try:
            read = _read(self._path, self._document, self._removed)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, the old settings stay in force
            self._refuse(str(error) if isinstance(error, SettingsError) else f"{self._path}: {error!r}")
            return False
        self._stamps, self._document, self.problem = read.stamps, read.document, None
        if read.in_file != self.in_file or read.in_file & self._removed:
            self._unnoted.append(read.in_file)
        self.in_file = read.in_file
        self._removed -= read.in_file
        self._tell_vanished(read.vanished)
        if read.resolved.document == self._resolved.document:
            return False
        self.current, self._resolved = read.configuration, read.resolved
        self._doubted = frozenset()
        self.version += 1
        self._log.info("the configuration was read again", version=self.version)
        return True

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """``refresh``, once two looks in a row saw the same: a file that is being written is left alone."""
        stamps = _stamps(self._stamps)
        if stamps != self._looked and self._unsettled < UNSETTLED_LOOKS:
            self._looked = stamps
            self._unsettled += 1
            return False
        self._unsettled = 0
        self._looked = stamps
        return self.refresh()

    @property
    def trouble(self) -> str | None:
        """Why the file as it is now is not in force as a whole, for people; None: it is."""
        if self.problem:
            return f"{self.problem}; the settings before it stay in force"
        if self.vanished:
            return vanished_sentence(self._path, self.vanished)
        return None

    def _refuse(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._log.error("the configuration was not taken over; the old one stays in force", reason=problem)

    def _tell_vanished(self, places: Sequence[Place]) -> None:
        vanished = [title(place) for place in places]
        if vanished and vanished != self.vanished:
            self._log.error(
                "settings have vanished; they stay in force", reason=vanished_sentence(self._path, vanished)
            )
        self.vanished = vanished

    # ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────

    def accounts(self) -> list[Account]:
        """The provider and name of every account that is in force."""
        return [(provider, name) for provider, accounts in self.current.accounts.items() for name in accounts]

    def learn(self, known: Known) -> None:
        """Take over what is written down; what was removed goes with the next look."""
        self._known = known
        self._removed = known.removed
        self._doubted -= known.removed

    def is_removed(self, provider: str, account: str) -> bool:
        """Whether somebody said that this account, which is not in force, is to be gone."""
        return self.removes_by_file or (provider, account) in self._removed

    def absent(self, provider: str) -> Collection[str]:
        """Its accounts that were in force once and were not removed, but whose settings this process does not have."""
        if self.removes_by_file:
            return ()
        known = self._known.accounts - self._removed if self._known else frozenset()
        return {name for of, name in known | self._doubted if of == provider and not self.current.account(of, name)}

    @property
    def removes_by_file(self) -> bool:
        """Whether the file is in force as a whole, and says that what it lacks is removed."""
        return self.current.removal == "file" and self.trouble is None

    def in_doubt(self, provider: str) -> bool:
        """Whether it may have accounts that this process does not have: some are absent, or nobody could be asked."""
        return not self.removes_by_file and (self._known is None or bool(self.absent(provider)))

    @property
    def missing(self) -> int:
        """How much was in force and is not in the file, nor removed; here or, before this process began, elsewhere."""
        providers = {provider for provider, _ in self._known.accounts} if self._known else set()
        return len(self.vanished) + sum(len(self.absent(provider)) for provider in providers)

    @property
    def knows_accounts(self) -> bool:
        """Whether it has read which accounts were in force once."""
        return self._known is not None

    @property
    def uncertain(self) -> bool:
        """Whether what is written down should be looked at again."""
        return (
            self._known is None
            or bool(self._unnoted or self._doubted or self.vanished)
            or any(self.absent(provider) for provider, _ in self._known.accounts)
        )

    def doubt(self, provider: str, account: str) -> None:
        """There is work for this account, and it is neither in force nor removed."""
        self._doubted |= {(provider, account)}

    def take_unnoted(self) -> tuple[frozenset[Account], frozenset[Account]]:
        """The accounts that the file had since this was asked last, and those that there is only work for."""
        unnoted: frozenset[Account] = frozenset()
        while self._unnoted:
            unnoted |= self._unnoted.popleft()
        return unnoted, self._doubted

    def put_back(self, unnoted: frozenset[Account]) -> None:
        """They could not be written down."""
        self._unnoted.append(unnoted)


def vanished_sentence(path: Path, vanished: Sequence[str]) -> str:
    """What is in force and not in the file, and what to do."""
    return (
        f"{path} no longer has {', '.join(vanished)}: nothing is removed, and what it had stays in force. Put it back;"
        " or, if it is to go: an account by `penstock accounts remove PROVIDER/ACCOUNT`, anything by a file that ends"
        ' with [settings] removal = "file"'
    )


class _Read(NamedTuple):
    configuration: Configuration
    resolved: Resolved
    document: Mapping[str, Any]
    """What is in force, with its references."""
    in_file: frozenset[Account]
    vanished: Sequence[Place]
    stamps: dict[Path, _Stamp]


def _read(path: Path, before: Mapping[str, Any], removed: Collection[Account]) -> _Read:
    """The configuration and how its files looked before they were read, so that no later change goes unseen."""
    files = frozenset({path})
    while True:
        stamps = _stamps(files)
        document, text = read_document(path)
        in_file = frozenset(accounts_of(document))
        vanished: Sequence[Place] = ()
        if before and configure(resolve(document, path)).removal != "file":
            document, vanished = keep(without(before, set(removed) - in_file), document, text)
        resolved = resolve(document, path)
        try:
            configuration = configure(resolved)
        except SettingsError as error:
            if not vanished:
                raise
            raise SettingsError(f"{error}. {vanished_sentence(path, [title(place) for place in vanished])}") from None
        if resolved.files <= files:
            return _Read(configuration, resolved, document, in_file, vanished, stamps)
        files |= resolved.files


def _stamps(files: Iterable[Path]) -> dict[Path, _Stamp]:
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
