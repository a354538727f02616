"""The providers. Adding one is its folder and its line here; queues, routes, workers and settings follow from it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from shared.providers import authenteq, imin, magicline, paybook
from shared.providers.interface import Provider


PROVIDERS: Mapping[str, Provider[Any, Any]] = MappingProxyType(
    {
        provider.name: provider
        for provider in (
            imin.PROVIDER,
            magicline.PROVIDER,
            paybook.PROVIDER,
            authenteq.PROVIDER,
        )
    }
)
