"""One page of metrics for all processes, put together from the files that each of them writes."""

import shutil
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ops.supervisor.alive import started_at


class Metrics:
    """Serves ``/metrics`` on a port of its own until it is closed. ``folder`` is PROMETHEUS_MULTIPROC_DIR."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What an ended run counted is no part of this one.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)

    def serve(self, host: str, port: int) -> None:
        """Answer from now on, in a thread."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self.folder))  # type: ignore[no-untyped-call]
        self._server, self._thread = start_http_server(port, host, registry)

    def forget_the_dead(self) -> None:
        """Take what ended processes said of the present moment off the page; what they counted stays."""
        for file in self.folder.glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            if started_at(pid) is None:
                with suppress(FileNotFoundError):
                    mark_process_dead(pid, path=str(self.folder))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
