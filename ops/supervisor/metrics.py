"""The port on which one page of metrics answers for all processes."""

import shutil
from pathlib import Path

from prometheus_client import start_http_server

from shared.metric_files import page_of


class Metrics:
    """Serves ``/metrics`` on a port of its own until it is closed. ``folder`` is PROMETHEUS_MULTIPROC_DIR."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What an ended run counted is no part of this one.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)

    def serve(self, host: str, port: int) -> None:
        """Answer from now on, in a thread."""
        self._server, self._thread = start_http_server(port, host, page_of(self.folder))

    def close(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
