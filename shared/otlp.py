"""Traces through OpenTelemetry's SDK to an OTLP receiver; only loaded where they are on (``shared.tracing``)."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

from shared.errors import SettingsError
from shared.tracing import sending_on


CLOSE_SECONDS: Final = 3.0
_RANDOM_BITS: Final = 32
"""So many of an event id's last bits are random; before them ``uuid_utils`` counts those of one millisecond."""


class OtlpTracing:
    """The traces of one process. A receiver that is away costs nothing but the spans: they are dropped."""

    def __init__(self, service: str) -> None:
        self._ids = _Ids()
        named = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: service}
        self._provider = TracerProvider(
            sampler=_ByEvent(_ratio(os.environ)),
            resource=Resource.create(named),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("penstock")

    def received(
        self, event: UUID, attributes: Mapping[str, str | int], seconds: float, traceparent: str | None
    ) -> None:
        """Write down the request, which is the root of the event's trace; its sender's trace is linked."""
        end = time.time_ns()
        links = []
        if traceparent:
            sender = trace.get_current_span(TraceContextTextMapPropagator().extract({"traceparent": traceparent}))
            links = [Link(sender.get_span_context())] if sender.get_span_context().is_valid else []
        self._ids.following = (event.int, _root(event))
        try:
            span = self._tracer.start_span(
                f"POST /webhooks/{attributes['penstock.provider']}",
                Context(),
                SpanKind.SERVER,
                {"http.request.method": "POST", "penstock.event_id": str(event), **attributes},
                links,
                start_time=end - _nanoseconds(seconds),
            )
        finally:
            self._ids.following = None
        span.end(end)

    def steps(self, name: str, events: Sequence[UUID], attributes: Mapping[str, str | int], seconds: float) -> None:
        """Write down a step of each event."""
        end = time.time_ns()
        for event in events:
            self._start(name, event, SpanKind.CONSUMER, attributes, start_time=end - _nanoseconds(seconds)).end(end)

    @contextmanager
    def call(self, name: str, events: Sequence[UUID], attributes: Mapping[str, str | int]) -> Iterator[Span]:
        """Write down a call; whatever it raises is raised on, and told of by its type alone."""
        if not events:
            yield trace.INVALID_SPAN
            return
        links = [Link(_root_context(event)) for event in events[1:]]
        span = self._start(name, events[0], SpanKind.CLIENT, attributes, links)
        try:
            with (
                trace.use_span(span, record_exception=False, set_status_on_exception=False),
                sending_on(_traceparent(span.get_span_context())),
            ):
                yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what is left; a receiver that does not answer is not waited for."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)

    def _start(
        self,
        name: str,
        event: UUID,
        kind: SpanKind,
        attributes: Mapping[str, str | int],
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span:
        parent = trace.set_span_in_context(NonRecordingSpan(_root_context(event)), Context())
        told = {"penstock.event_id": str(event), **attributes}
        return self._tracer.start_span(name, parent, kind, told, links, start_time=start_time)


class _Ids(IdGenerator):
    """Random ids, but for the root of an event's trace."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.following: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.following[0] if self.following else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        return self.following[1] if self.following else self._random.generate_span_id()


class _ByEvent(Sampler):
    """Samples a share of the events, and of each all or nothing: every process decides alike by the event's id.

    The SDK's own looks at 64 bits, of which two are the same in every UUID and thirty are counted.
    """

    def __init__(self, ratio: float) -> None:
        self._bound = round(ratio * (1 << _RANDOM_BITS))

    def should_sample(
        self,
        parent_context: Context | None,  # noqa: ARG002 - the SDK's signature, as all that follow
        trace_id: int,
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,  # noqa: ARG002
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        if trace_id % (1 << _RANDOM_BITS) < self._bound:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return "by event"


def _ratio(environment: Mapping[str, str]) -> float:
    """The share that the standard's variables ask for. Raises SettingsError."""
    sampler = environment.get("OTEL_TRACES_SAMPLER", "always_on").removeprefix("parentbased_")
    if sampler == "always_off":
        return 0.0
    if sampler != "traceidratio":
        return 1.0
    text = environment.get("OTEL_TRACES_SAMPLER_ARG", "1")
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG: {text!r} is not a number from 0 to 1")
    return ratio


def _root(event: UUID) -> int:
    """The id of the first span of an event's trace: known to every process, and never 0."""
    return int.from_bytes(blake2b(event.bytes, digest_size=8).digest()) or 1


def _root_context(event: UUID) -> SpanContext:
    return SpanContext(event.int, _root(event), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _traceparent(context: SpanContext) -> str:
    flags = context.trace_flags
    return f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}-{flags:02x}"


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
