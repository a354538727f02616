"""A name is one handler's: its place in the feed, its hand-overs and its circuit are kept under it."""

from collections.abc import Mapping, Sequence

from penstock.handlers import Handler as PythonHandler
from shared.handlers.settings import Handler


def clashes(by_http: Sequence[Handler], functions: Mapping[str, PythonHandler]) -> Mapping[str, str]:
    """The names that a function and an entry of the settings share, each with a sentence that says what to do."""
    return {
        handler.name: f"[[handlers]] {handler.name}: {_place(functions[handler.name])} is a handler of this name, too;"
        " give one of them another; until then its changes wait"
        for handler in by_http
        if handler.name in functions
    }


def _place(handler: PythonHandler) -> str:
    return f"{handler.function.__module__}.{handler.function.__qualname__}"
