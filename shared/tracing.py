"""Traces, off by default: one for each event, from its request over the queue to the last call that it led to.

They are on where OpenTelemetry's own variables name an OTLP endpoint (``OTEL_EXPORTER_OTLP_ENDPOINT`` or
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``). The trace's id is the event's: nothing has to be stored or sent over the queue,
and whoever has the id of one finds the other.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import structlog

from shared.errors import SettingsError


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_PROTOCOL: Final = "http/protobuf"

_WITH: Final = "shared.otlp"
"""Imported by its name only where it is wanted: nobody else pays its 20 MB, nor needs its libraries."""

_sent_on: ContextVar[str] = ContextVar("traceparent", default="")


class Span(Protocol):
    """What may be told of a step while it lasts."""

    def set_attribute(self, key: str, value: str | int) -> None:
        """Name one more thing about it."""


class Tracing(Protocol):
    """The traces of one process; what ``shared.otlp.OtlpTracing`` does. No method raises, and none waits."""

    def received(
        self, event: UUID, attributes: Mapping[str, str | int], seconds: float, traceparent: str | None
    ) -> None:
        """A delivery was acknowledged, after so long; ``traceparent`` is what its sender sent."""

    def steps(self, name: str, events: Sequence[UUID], attributes: Mapping[str, str | int], seconds: float) -> None:
        """A step of each of these events is over, which took them together so long."""

    def call(
        self, name: str, events: Sequence[UUID], attributes: Mapping[str, str | int]
    ) -> "AbstractContextManager[Span]":
        """A call to somebody else, for these events: the first one's trace has it, the others' are linked.

        Within the block ``with_traceparent`` adds the header that says so.
        """

    def close(self) -> None:
        """Send what is left; waits some seconds at most."""


def check_tracing() -> bool:
    """Whether traces are on; loads what they need, which is best done before a fork.

    Raises SettingsError where they are asked for and the libraries are not installed.
    """
    if not _wanted(os.environ):
        return False
    try:
        import_module(_WITH)
    except ImportError as error:
        raise SettingsError(
            f"{ENDPOINTS[0]} is set, but {error.name} is not installed: pip install 'penstock[tracing]'"
        ) from None
    return True


def open_tracing(service: str) -> Tracing | None:
    """The traces of this process, which names itself ``service``; None where they are off. Call it after any fork.

    Raises SettingsError.
    """
    if not check_tracing():
        return None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != _PROTOCOL:
        structlog.get_logger("penstock.tracing").warning(
            "traces are sent in another way than is asked for", asked=protocol, sent=_PROTOCOL
        )
    try:
        opened: Tracing = import_module(_WITH).OtlpTracing(service)
    except (ValueError, OSError) as error:
        raise SettingsError(f"one of the OTEL_... variables cannot be used: {error}") from None
    return opened


def with_traceparent(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, and within a traced call the one that sends its trace on (https://www.w3.org/TR/trace-context/)."""
    traceparent = _sent_on.get()
    return {**headers, "traceparent": traceparent} if traceparent else headers


@contextmanager
def sending_on(traceparent: str) -> Iterator[None]:
    """Calls within the block send this on."""
    token = _sent_on.set(traceparent)
    try:
        yield
    finally:
        _sent_on.reset(token)


def _wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp" and any(map(environment.get, ENDPOINTS))
