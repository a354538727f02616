"""Servers on loopback for the tests of traces: an OTLP receiver, and a provider's API that is also an application."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Seen(ThreadingHTTPServer):
    """Keeps what it was sent: (method, path, headers by lower-case name, body)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[dict[str, Any]]:
        """The spans that came in as OTLP, with their ids in hexadecimal and the service that they are of."""
        found = []
        for _, path, headers, body in list(self.requests):
            if path != "/v1/traces":
                continue
            plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(plain).resource_spans:
                (service,) = (
                    each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
                )
                for scope in resource.scope_spans:
                    found += [_span(service, span) for span in scope.spans]
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Seen

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers, body))
        said = orjson.dumps({"@type": "CustomerAccount", "identifier": self.path.rpartition("/")[2]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = _answer  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""


@contextmanager
def receiving() -> Iterator[Seen]:
    """A server for the time of the block."""
    server = Seen()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _span(service: str, span: Any) -> dict[str, Any]:
    attributes = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    return {
        "service": service,
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "links": [link.trace_id.hex() for link in span.links],
        "attributes": attributes,
        "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    }
