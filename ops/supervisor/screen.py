"""What `penstock up` says: sentences, where everything is, and live counts."""

import asyncio

from rich.console import Console
from rich.live import Live

from ops.supervisor.counts import OpenCounts, ReadCounts, line, table
from ops.supervisor.ports import reachable
from ops.supervisor.table import ingress_url
from shared.settings import Settings


LIVE_SECONDS = 1.0
LINE_SECONDS = 5.0
_READ_SECONDS = 5.0


class Screen:
    """A terminal, or a pipe that gets a line every few seconds."""

    def __init__(self, console: Console | None = None, seconds: float | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._seconds = seconds or (LIVE_SECONDS if self._console.is_terminal else LINE_SECONDS)

    def say(self, sentence: str) -> None:
        """One line, above the counts."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    def places(self, settings: Settings, *, demo: bool) -> None:
        """Where ingress, console, flower and metrics are."""
        host = reachable(settings.host)
        secret = settings.flower_password.get_secret_value() if settings.flower_password else ""
        password = secret if demo else f"PENSTOCK_FLOWER_PASSWORD, or {settings.data / 'flower-password'}"
        for name, place in (
            ("ingress", f"{ingress_url(settings)}/webhooks/..."),
            ("console", f"http://{host}:{settings.console_port}"),
            ("flower", f"http://{host}:{settings.flower_port} (user penstock, password {password})"),
            ("metrics", f"http://{host}:{settings.metrics_port}/metrics"),
            ("logs", str(settings.data / "logs")),
        ):
            self.say(f"  {name:<9}{place}")

    async def show_counts(self, open_counts: OpenCounts, database_url: str, redis_url: str) -> None:
        """Show the counts until cancelled. A store that does not answer is said, and asked again."""
        while True:
            try:
                async with open_counts(database_url, redis_url) as read:
                    await self._show(read)
            except Exception as error:  # noqa: BLE001 - whatever the stores do, the pipeline behind runs on
                self.say(f"The counts cannot be read: {str(error) or type(error).__name__}")
                await asyncio.sleep(self._seconds)

    async def _show(self, read: ReadCounts) -> None:
        if not self._console.is_terminal:
            while True:
                self.say(line(await asyncio.wait_for(read(), _READ_SECONDS)))
                await asyncio.sleep(self._seconds)
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                live.update(table(await asyncio.wait_for(read(), _READ_SECONDS)), refresh=True)
                await asyncio.sleep(self._seconds)
