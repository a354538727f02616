"""Where flower is, for links to it: as the settings say, or beside this console."""

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request

from ops.installation import running
from shared.errors import SettingsError
from shared.providers.account import is_loopback


if TYPE_CHECKING:
    from shared.settings import Settings


async def flower_of(request: Request) -> str | None:
    """Flower's address as this visitor's browser reaches it; None where no flower is known."""
    state = request.app.state
    if (named := state.watch.current.console.flower_url) is not None:
        return str(named)
    settings: Settings = state.settings
    port = await asyncio.to_thread(_beside, settings)
    host = request.url.hostname or ""
    # who looks from elsewhere reaches it only if it listens to more than this machine
    if port is None or not (is_loopback(host) or not is_loopback(settings.host)):
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _beside(settings: "Settings") -> int | None:
    """The port of the flower that `penstock up` has started in this data directory."""
    try:
        found = running(settings.data)
    except SettingsError:
        return None
    processes = found.processes if found else ()
    return next((process.port for process in processes if process.name == "flower" and process.alive), None)
