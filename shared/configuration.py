"""``penstock.toml``: accounts, retry policy, timing and handlers, validated as a whole."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from shared.console_access import ConsoleAccess
from shared.errors import SettingsError
from shared.handlers.settings import TASK_SECONDS, Handler
from shared.providers.account import AccountSettings, Section
from shared.providers.interface import Privacy
from shared.providers.registry import PROVIDERS
from shared.schedules import Reconcile, Retention, Watch


_SECTIONS = ("retry", "timing", "following_up", "handlers", "reconcile", "watch", "retention", "console", "settings")


class OfFile(Section):
    """What the file says of itself. Put it last: a file that was cut does not say it then."""

    removal: Literal["command", "file"] = "command"
    """``command``: what vanishes from the file stays in force; an account goes by `penstock accounts remove`.
    ``file``: what is not in this file is removed.
    """


class Retry(Section):
    """Full-jitter exponential backoff: a random part of ``base_seconds * 2**attempt``, at most ``max_seconds``."""

    base_seconds: float = Field(default=1.0, gt=0)
    """The longest first wait; each further one may be twice as long."""
    max_seconds: float = Field(default=3600.0, gt=0)
    """No wait is longer."""
    max_attempts: int = Field(default=20, ge=1)
    """After so many a call has failed, or a hand-over is parked."""


class Timing(Section):
    """Deadlines in seconds, each inside the next, and the beat of a worker's lease inside the lease."""

    call_seconds: float = Field(default=30.0, gt=0)
    """How long one call to a provider's API may take."""
    soft_limit_seconds: float = Field(default=90.0, gt=0)
    """A task that takes longer is interrupted."""
    time_limit_seconds: float = Field(default=120.0, gt=0)
    """A task that takes longer is killed, with its process."""
    visibility_timeout_seconds: float = Field(default=900.0, gt=0)
    """A message that nobody has acknowledged for so long is delivered again."""
    beat_seconds: float = Field(default=3.0, gt=0)
    """How often a worker process renews its lease."""
    lease_seconds: float = Field(default=10.0, gt=0)
    """What a process holds is free for others when its last beat is so old."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        order = ("call_seconds", "soft_limit_seconds", "time_limit_seconds", "visibility_timeout_seconds")
        for inner, outer in pairwise(order):
            if getattr(self, inner) >= getattr(self, outer):
                raise ValueError(f"{inner} must be less than {outer}")
        if 3 * self.beat_seconds >= self.lease_seconds:
            raise ValueError("three times beat_seconds must be less than lease_seconds")
        return self


class Freshness(Section):
    """How soon after an event a provider is asked: ``debounce_seconds`` later, for events that come in bursts."""

    debounce_seconds: float = Field(default=0.0, ge=0)
    """So long after its first event a read begins; what comes in meanwhile shares it."""


class Shares(Section):
    """How much of a budget may be used up before calls of a kind are put off; the rest is kept for the others."""

    background: float = Field(default=0.5, gt=0, le=1)
    """Replays and reconciliation: the rest is reserved for live events."""
    again: float = Field(default=0.6, gt=0, le=1)
    """What was read within the budget's window already: the rest is reserved for what was not.

    So while a storm lasts more and more events share each read.
    """


class FollowingUp(Section):
    """How workers follow up: batch sizes, bounds, and how close together one resource may be fetched."""

    batch_events: int = Field(default=50, ge=1, le=1000)
    """How many events a task plans at a time."""
    concurrent_calls: int = Field(default=75, ge=1, le=200)
    """How many calls a worker process makes side by side; for one account two of three of them at most."""
    coalesce_seconds: float = Field(default=0.5, ge=0)
    """A resource is fetched at most once in this time: the first fetch goes at once, later events share the next."""
    max_calls: int = Field(default=5_000, ge=1)
    """A delivery that asks for more calls is parked as ``too-many-calls``: nobody's budget is used up by one body."""
    max_pages: int = Field(default=10_000, ge=1)
    """A chain of pages ends here as ``endless-pages``; what it brought is kept."""
    max_answer_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """A longer answer, decompressed, is a broken one."""
    longest_retry_after_seconds: float = Field(default=3600.0, gt=0)
    """What a ``Retry-After`` asks for beyond this is cut off, and said."""
    probe_seconds: float = Field(default=5.0, gt=0)
    """An API that is down, or refuses an account's key, is asked once in this time; less and less often."""
    shares: Shares = Shares()
    """How budgets are shared out."""


_PROVIDER_FIELDS = frozenset({"accounts", "retry", "retention", *Freshness.model_fields})


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that ``penstock.toml`` says, secrets resolved."""

    accounts: Mapping[str, Mapping[str, AccountSettings]]
    """provider -> account name -> settings; providers without an account are left out."""
    retry: Mapping[str, Retry]
    """provider -> policy, for every known provider."""
    debounce: Mapping[str, float]
    """provider -> seconds from an event to its first call, for every known provider."""
    handing_over: Retry
    """How hand-overs are tried again: ``[retry]``, without what a provider's section overrides."""
    timing: Timing
    following_up: FollowingUp
    handlers: Sequence[Handler]
    files: frozenset[Path]
    """The files that this was read from; a change of any of them is a change of this."""
    reconcile: Reconcile = field(default_factory=Reconcile)
    watch: Watch = field(default_factory=Watch)
    retention: Mapping[str, Retention] = field(default_factory=dict)
    """provider -> what is removed when, for every known provider."""
    console: ConsoleAccess = field(default_factory=ConsoleAccess)
    removal: Literal["command", "file"] = "command"
    """Whether what is not in the file is removed by that (``[settings]``)."""

    def account(self, provider: str, name: str) -> AccountSettings | None:
        """The account, or None when it is not configured (any more)."""
        return self.accounts.get(provider, {}).get(name)


def read_configuration(path: Path) -> Configuration:
    """Read and validate the file. A file that is not there is an empty one. Raises SettingsError."""
    document, _ = read_document(path)
    return configure(resolve(document, path))


class Document(NamedTuple):
    """A settings file as it stands, references and all."""

    document: Mapping[str, Any]
    text: str


class Resolved(NamedTuple):
    """A document with what its references name, and the files that it was read from."""

    document: Mapping[str, Any]
    files: frozenset[Path]


def read_document(path: Path) -> Document:
    """The file as TOML; one that is not there is an empty one. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
        return Document(tomllib.loads(text), text)
    except FileNotFoundError:
        return Document({}, "")
    # a ValueError: not UTF-8, not TOML, or a number too long for Python
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from None


def resolve(document: Mapping[str, Any], path: Path) -> Resolved:
    """The document with what ``env:`` and ``file:`` name in it. Raises SettingsError."""
    files = {path}
    resolved = _resolve(document, path, files)
    return Resolved(resolved, frozenset(files))


def configure(resolved: Resolved) -> Configuration:
    """Validate a document as a whole. Raises SettingsError."""
    return _validate(resolved.document, resolved.files)


def _validate(document: Mapping[str, Any], files: frozenset[Path]) -> Configuration:
    if unknown := sorted(set(document) - {*PROVIDERS, *_SECTIONS}):
        known = ", ".join((*sorted(PROVIDERS), *_SECTIONS))
        raise SettingsError(f"[{unknown[0]}]: there is no such section; known are {known}")
    general = _table(document.get("retry", {}), "[retry]")
    accounts: dict[str, dict[str, AccountSettings]] = {}
    retry: dict[str, Retry] = {}
    debounce: dict[str, float] = {}
    retention: dict[str, Retention] = {}
    for name, provider in PROVIDERS.items():
        section = _table(document.get(name, {}), f"[{name}]")
        if unknown := sorted(set(section) - _PROVIDER_FIELDS):
            known = ", ".join(sorted(_PROVIDER_FIELDS))
            raise SettingsError(f"[{name}] {unknown[0]}: there is no such field; known are {known}")
        retry[name] = _section(
            Retry,
            {**general, **_table(section.get("retry", {}), f"[{name}.retry]")},
            f"[{name}.retry]" if "retry" in section else "[retry]",
        )
        retention[name] = _retention(name, provider.privacy, document.get("retention", {}), section)
        fresh = {field: section[field] for field in Freshness.model_fields if field in section}
        debounce[name] = _section(Freshness, fresh, f"[{name}]").debounce_seconds
        entries = section.get("accounts", [])
        if not isinstance(entries, list):
            raise SettingsError(f"[{name}] accounts: write [[{name}.accounts]] for each account")
        found = [
            _section(provider.account, entry, f"[[{name}.accounts]] {_label(entry, number)}")
            for number, entry in enumerate(entries, 1)
        ]
        _refuse_shared_names_and_keys(name, found)
        if found:
            accounts[name] = {account.name: account for account in found}
    entries = document.get("handlers", [])
    if not isinstance(entries, list):
        raise SettingsError("[handlers]: write [[handlers]] for each handler")
    handlers = [
        _section(Handler, entry, f"[[handlers]] {_label(entry, number)}") for number, entry in enumerate(entries, 1)
    ]
    timing = _section(Timing, document.get("timing", {}), "[timing]")
    _refuse_shared_handler_names(handlers)
    _refuse_slow_handlers(handlers, timing)
    return Configuration(
        accounts=accounts,
        retry=retry,
        debounce=debounce,
        handing_over=_section(Retry, general, "[retry]"),
        timing=timing,
        following_up=_section(FollowingUp, document.get("following_up", {}), "[following_up]"),
        handlers=handlers,
        files=files,
        reconcile=_section(Reconcile, document.get("reconcile", {}), "[reconcile]"),
        watch=_section(Watch, document.get("watch", {}), "[watch]"),
        retention=retention,
        console=_section(ConsoleAccess, document.get("console", {}), "[console]"),
        removal=_section(OfFile, document.get("settings", {}), "[settings]").removal,
    )


def _retention(name: str, privacy: Privacy, general: object, section: Mapping[str, Any]) -> Retention:
    of_provider = _table(section.get("retention", {}), f"[{name}.retention]")
    where = f"[{name}.retention]" if of_provider else "[retention]"
    found: Retention = _section(Retention, {**_table(general, "[retention]"), **of_provider}, where)
    if short := found.shorter_than(privacy.redelivered_days):
        raise SettingsError(
            f"{where} {short}: {name} sends a delivery again for {privacy.redelivered_days} days, and what tells it"
            " from a new one must be kept as long"
        )
    return found


def _refuse_shared_names_and_keys(provider: str, accounts: Sequence[AccountSettings]) -> None:
    names: set[str] = set()
    owners: dict[str, str] = {}
    outbound = {key.get_secret_value(): account.name for account in accounts for key in account.outbound_secrets()}
    for account in accounts:
        where = f"[[{provider}.accounts]] {account.name}"
        if account.name in names:
            raise SettingsError(f"{where}: two accounts have this name; give each its own")
        names.add(account.name)
        for secret in (*account.inbound_secrets(), *account.outbound_secrets()):
            if not secret.get_secret_value():
                raise SettingsError(f"{where}: a key or secret is empty; an empty one would let anybody in")
        for secret in account.inbound_secrets():
            key = secret.get_secret_value()
            if (other := owners.setdefault(key, account.name)) != account.name:
                raise SettingsError(f"{where}: it shares a webhook key with account {other}; each needs its own")
            if (other := outbound.get(key, "")) and key not in {s.get_secret_value() for s in account.shared_secrets()}:
                raise SettingsError(f"{where}: a webhook key equals the API key of account {other}; they must differ")


def _refuse_shared_handler_names(handlers: Sequence[Handler]) -> None:
    names = [handler.name for handler in handlers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"[[handlers]] {twice[0]}: two handlers have this name; give each its own")


def _refuse_slow_handlers(handlers: Sequence[Handler], timing: Timing) -> None:
    for handler in handlers:
        if handler.timeout_seconds + TASK_SECONDS >= timing.soft_limit_seconds:
            raise SettingsError(
                f"[[handlers]] {handler.name} timeout_seconds: must be more than {TASK_SECONDS:g} s less than"
                f" [timing] soft_limit_seconds ({timing.soft_limit_seconds:g})"
            )


def _section(model: type[Any], values: object, where: str) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such field"
        raise SettingsError(f"{where} {path}: {message}" if path else f"{where}: {message}") from None


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: must be a table")
    return value


def _label(entry: object, number: int) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return str(name) if name else f"number {number}"


def _resolve(value: Any, path: Path, files: set[Path], where: str = "") -> Any:
    """Replace ``"env:NAME"`` and ``"file:PATH"`` by what they name, at any depth; note the files."""
    match value:
        case dict():
            return {key: _resolve(item, path, files, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
        case list():
            return [_resolve(item, path, files, where) for item in value]
        case str() if value.startswith("env:"):
            name = value.removeprefix("env:")
            if not os.environ.get(name):
                raise SettingsError(f"{where}: the environment variable {name} is not set, or empty")
            return os.environ[name]
        case str() if value.startswith("file:"):
            file = path.parent / value.removeprefix("file:")
            files.add(file)
            try:
                return file.read_text(encoding="utf-8").rstrip("\n")
            except (OSError, ValueError) as error:  # a ValueError: not UTF-8, or a path that cannot be one
                raise SettingsError(f"{where}: cannot read {file}: {error}") from None
    return value
