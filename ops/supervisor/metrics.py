"""The port on which one page of metrics answers for all processes."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from shared.metric_files import page_of


if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer


class Metrics:
    """Serves ``/metrics`` on a port of its own until it is closed. ``folder`` is PROMETHEUS_MULTIPROC_DIR."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._serving: tuple[WSGIServer, Thread] | None = None
        # What an ended run counted is no part of this one.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)

    def serve(self, host: str, port: int) -> None:
        """Answer from now on, in a thread. Raises OSError."""
        self._serving = start_http_server(port, host, page_of(self.folder))

    def close(self) -> None:
        """Free the port."""
        if self._serving:
            server, thread = self._serving
            server.shutdown()
            server.server_close()
            thread.join()
