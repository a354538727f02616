"""A stand-in for imin's API that answers after as many seconds as the customer's name says: ``5-anything``."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


CALLS: Counter[str] = Counter()
"""customer -> how often it was read; names are unique over all tests of a process."""


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The customer account, late."""
        customer = self.path.rpartition("/")[2]
        CALLS[customer] += 1
        time.sleep(float(customer.partition("-")[0]))
        body = json.dumps({"identifier": customer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Calls are counted, not printed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that was killed is no matter here."""


@contextmanager
def running_api() -> Iterator[str]:
    """Its base URL."""
    with _Server(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, name="api")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
