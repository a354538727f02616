"""The providers. Adding one is its folder and its line here; queues, routes, workers and settings follow from it."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from shared.providers.interface import Provider


_FOLDERS = (
    "imin",
    "magicline",
    "paybook",
    "authenteq",
)

PROVIDERS: Mapping[str, Provider[Any, Any]] = MappingProxyType(
    {folder: import_module(f"shared.providers.{folder}").PROVIDER for folder in _FOLDERS}
)
