"""What a handler wants, by its name: as the settings or an installed package have it at this moment."""

from functools import cache

from penstock.handlers import registered
from penstock.loading import load
from shared.configuration import read_configuration
from shared.errors import PenstockError, SettingsError
from shared.handlers.names import clashes
from shared.handlers.subscriptions import of_python, of_settings
from shared.settings import Settings
from shared.store.handovers.handing_over import Subscription


def wanted_by(settings: Settings, name: str) -> Subscription | None:
    """None where nobody has this name, or the settings do not validate and no function has it."""
    try:
        by_http = read_configuration(settings.config).handlers
    except SettingsError:
        by_http = ()
    for handler in by_http:
        if handler.name == name:
            return of_settings(handler)
    _load_once()
    function = registered().get(name)
    return of_python(function) if function else None


def subscription_of(settings: Settings, name: str) -> Subscription:
    """The same. Raises PenstockError where nobody knows it, SettingsError for settings that are wrong."""
    by_http = read_configuration(settings.config).handlers
    _load_once()
    if clash := clashes(by_http, registered()).get(name):
        raise PenstockError(clash)
    if wanted := wanted_by(settings, name):
        return wanted
    raise PenstockError(
        f"{name} is neither in the settings nor in an installed package, so nobody knows which changes it wants;"
        " nothing was done"
    )


@cache
def _load_once() -> None:
    load()
