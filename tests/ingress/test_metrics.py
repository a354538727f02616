"""What ingress counts is served on a port of its own, never on the public one."""

import socket
import urllib.request
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from pathlib import Path

    from tests.ingress.conftest import Start


def test_answers_are_counted_by_provider_and_status(start_ingress: "Start", tmp_path: "Path") -> None:
    """Success, refusals and batches show on the metrics port, also when several processes share one folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "metrics"
    folder.mkdir()
    ingress = start_ingress(metrics_port=str(port), PROMETHEUS_MULTIPROC_DIR=str(folder))
    assert 204 == ingress.imin(b"{}").status
    assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "wrong"}).status
    assert 404 == ingress.post("/nowhere").status
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    for name in (
        'answers_total{durability="postgres",provider="imin",status="204"}',
        'answers_total{durability="none",provider="imin",status="401"}',
        'answers_total{durability="none",provider="",status="404"}',
        'answer_seconds_count{provider="imin"}',
        "commit_events_count",
    ):
        assert f"penstock_ingress_{name} 1.0" in lines
    assert 404 == ingress.get("/metrics").status
