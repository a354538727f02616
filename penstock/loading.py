"""Importing what applications registered: the modules that installed packages name as ``penstock.handlers``."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final


GROUP: Final = "penstock.handlers"


def load() -> Mapping[str, str]:
    """Import every entry point of the group; returns those that could not be, each with the reason."""
    faults: dict[str, str] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the code of others: the other entry points go on
            faults[f"{entry.name} = {entry.value}"] = f"{type(error).__name__}: {error}"
    return faults


def any_installed() -> bool:
    """Whether an installed package names such a module; nothing is imported."""
    return bool(entry_points(group=GROUP))
