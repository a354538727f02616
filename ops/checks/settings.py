"""Checks of what is written down: penstock.toml, the time limits, the encryption keys."""

from collections.abc import Iterator

from ops.checks.finding import Finding, advice, fix, ok
from shared.configuration import Configuration, Timing, read_configuration
from shared.errors import SettingsError
from shared.sealing import Keys
from shared.settings import Settings


def check_settings(settings: Settings) -> tuple[list[Finding], Configuration | None]:
    """The findings, and the configuration if it can be read."""
    findings = [_keys(settings)]
    try:
        configuration = read_configuration(settings.config)
    except SettingsError as error:
        sentence = f"{error}; until this is mended, running processes go on with the settings that they have"
        return [fix("settings", sentence), *findings], None
    return [_file(settings, configuration), *_timing(configuration.timing), *findings], configuration


def _file(settings: Settings, configuration: Configuration) -> Finding:
    accounts = sum(len(of_provider) for of_provider in configuration.accounts.values())
    if not settings.config.exists():
        return advice("settings", f"there is no {settings.config}: no provider has an account; see docs/providers")
    if not accounts:
        return advice("settings", f"{settings.config} is valid and has no account: every webhook is answered 404")
    providers = ", ".join(f"{name} {len(of_provider)}" for name, of_provider in configuration.accounts.items())
    return ok("settings", f"{settings.config} is valid; accounts: {providers}")


def _timing(timing: Timing) -> Iterator[Finding]:
    """In order always, since a file with another order is not valid."""
    yield ok(
        "time limits",
        f"a call {timing.call_seconds:g} s < soft limit {timing.soft_limit_seconds:g} s < time limit"
        f" {timing.time_limit_seconds:g} s < visibility timeout {timing.visibility_timeout_seconds:g} s;"
        f" three beats {3 * timing.beat_seconds:g} s < lease {timing.lease_seconds:g} s",
    )


def _keys(settings: Settings) -> Finding:
    try:
        Keys.parse(settings.encryption_keys)
    except SettingsError as error:
        return fix("encryption keys", str(error))
    older = len(settings.encryption_keys) - 1
    return ok("encryption keys", f"one key encrypts, {older} older {'decrypts' if older == 1 else 'decrypt'}")
