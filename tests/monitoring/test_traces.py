"""One trace an event, from its request over the queue to the last call, told to a real OTLP receiver."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from installation import ROOT, Running, post, started, until
from shared.errors import SettingsError
from shared.otlp import OtlpTracing
from shared.tracing import open_tracing, with_traceparent
from tests.monitoring.receiving import Seen, receiving


SAMPLE = (ROOT / "tests" / "deliveries" / "imin" / "customer-account__seed" / "body.raw").read_bytes()
SENDER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEY = "a-key-that-imin-sends-to-us"


def config(world: Seen) -> str:
    """One account at this API, and one handler."""
    return f"""
[[imin.accounts]]
name = "main"
webhook_keys = ["{KEY}"]
api_key = "a-key-that-we-send-to-imin"
base_url = "{world.url}"

[[handlers]]
name = "crm"
url = "{world.url}/changes"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
kinds = ["imin.customer-account"]
"""


def deliver(up: Running, world: Seen, headers: dict[str, str]) -> UUID:
    """The document's sample, at this account's own host; the event's id."""
    body = SAMPLE.replace(b"https://book.imin.co", world.url.encode())
    answer = post(up, "/webhooks/imin", body, {"x-api-key": KEY, "content-type": "application/json", **headers})
    assert 204 == answer.status_code
    return UUID(answer.headers["x-penstock-event"])


def test_one_trace_leads_from_the_request_to_the_last_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id is the event's; the provider's API and the application are sent it on; the sender's trace is linked."""
    with receiving() as receiver, receiving() as world:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with started(tmp_path, config(world)) as up:
            event = deliver(up, world, {"traceparent": SENDER})
            until(lambda: any(path == "/changes" for _, path, _, _ in world.requests), 60)

            def complete() -> list[dict[str, Any]] | None:
                mine = [span for span in receiver.spans() if span["trace"] == event.hex]
                return mine if len(mine) >= 5 else None

            spans = {span["name"]: span for span in until(complete, 20, receiver.spans)}
    assert {"POST /webhooks/imin", "plan", "store", "hand over to crm"} < spans.keys()
    (fetch,) = (span for name, span in spans.items() if name.startswith("GET "))
    root = spans["POST /webhooks/imin"]
    assert ("", ["0af7651916cd43dd8448eb211c80319c"]) == (root["parent"], root["links"])
    assert {root["id"]} == {span["parent"] for span in spans.values() if span is not root}
    assert "penstock-ingress" == root["service"]
    assert {"penstock-worker"} == {span["service"] for span in spans.values() if span is not root}
    assert 200 == fetch["attributes"]["http.response.status_code"]
    (called,) = (headers for method, _, headers, _ in world.requests if method == "GET")
    assert f"00-{event.hex}-{fetch['id']}-01" == called["traceparent"]
    (told,) = (headers for _, path, headers, _ in world.requests if path == "/changes")
    assert f"00-{event.hex}-{spans['hand over to crm']['id']}-01" == told["traceparent"]
    whole = str(spans)
    assert KEY not in whole
    assert "a-key-that-we-send" not in whole


def test_without_an_endpoint_nothing_is_loaded() -> None:
    """Off is off: neither exporter nor header; redis-py looks for OpenTelemetry on its own account."""
    code = """
import sys
from shared.tracing import open_tracing, with_traceparent
assert open_tracing("penstock-test") is None
import ingress.server, workers.app
assert not {"shared.otlp", "opentelemetry.exporter.otlp.proto.http"} & sys.modules.keys()
headers = {"a": "b"}
assert with_traceparent(headers) is headers
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=kept, timeout=60)


def test_libraries_that_are_missing_are_a_sentence() -> None:
    """Who asks for traces without having installed what they need is told what to install."""
    code = """
import sys
sys.modules["opentelemetry.sdk.trace"] = None
from shared.errors import SettingsError
from shared.tracing import check_tracing
try:
    check_tracing()
except SettingsError as error:
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert "pip install 'penstock[tracing]'" in told


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")], ids=lambda each: each
)
def test_the_standards_own_switches_turn_it_off(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that is set for others of the same machine does not bind Penstock."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    assert open_tracing("penstock-test") is None


def test_a_call_for_several_events_is_in_the_first_ones_trace_and_linked_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events that share a fetch share its span."""
    first, second = uuid7(), uuid7()
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        tracing = OtlpTracing("penstock-test")

        def call() -> None:
            with tracing.call("GET customer", [first, second], {"n": 1}):
                assert with_traceparent({})["traceparent"].startswith(f"00-{first.hex}-")
                raise KeyError("SECRET")

        with pytest.raises(KeyError):
            call()
        assert {} == with_traceparent({})
        with tracing.call("GET nothing", [], {}):
            pass
        tracing.close()
        (span,) = receiver.spans()
    assert (first.hex, [second.hex]) == (span["trace"], span["links"])
    assert "KeyError" == span["attributes"]["error.type"]
    assert "SECRET" not in str(span)


def test_every_process_samples_the_same_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the events is told of, wholly; the others not at all."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    events = [uuid7() for _ in range(400)]
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        here, there = OtlpTracing("here"), OtlpTracing("there")
        for event in events:
            here.received(event, {"penstock.provider": "imin"}, 0.001, None)
            there.steps("plan", [event], {}, 0.001)
        here.close()
        there.close()
        traces = {
            name: {span["trace"] for span in receiver.spans() if span["service"] == name} for name in ("here", "there")
        }
    assert traces["here"] == traces["there"]
    assert 120 < len(traces["here"]) < 280


def test_a_share_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the variable."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "half")
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER_ARG"):
        OtlpTracing("penstock-test")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "-5"),
    ],
)
def test_a_variable_that_cannot_be_read_is_a_sentence(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At start, and no traceback."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"one of the OTEL_\.\.\. variables cannot be used"):
        open_tracing("penstock-test")


def test_a_receiver_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are dropped: neither a step nor the end of a process waits for it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing = OtlpTracing("penstock-test")
    began = time.monotonic()
    for _ in range(5000):
        tracing.steps("plan", [uuid7()], {}, 0.001)
    assert time.monotonic() - began < 60
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < 60
