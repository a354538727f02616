"""What ingress counts is served on a port of its own, never on the public one."""

import socket
import urllib.request
from typing import TYPE_CHECKING

import redis
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from shared.spool import ASIDE, SPOOL
from support.conditions import HANG_SECONDS


if TYPE_CHECKING:
    from pathlib import Path

    from tests.ingress.conftest import Server, Start


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

    def lines() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return [str(line) for line in answer.read().decode().splitlines()]

    for name in (
        'answers_total{durability="postgres",provider="imin",status="204"}',
        'answers_total{durability="none",provider="imin",status="401"}',
        'answers_total{durability="none",provider="",status="404"}',
        'answer_seconds_count{provider="imin"}',
        "commit_events_count",
    ):
        # Successes are counted together, once a second.
        ingress.until(lambda name=name: f"penstock_ingress_{name} 1.0" in lines())
    assert 'penstock_ingress_answer_seconds_bucket{le="+Inf",provider="imin"} 1.0' in lines()
    assert 404 == ingress.get("/metrics").status


def test_the_last_answers_before_the_end_are_counted(start_ingress: "Start", tmp_path: "Path") -> None:
    """What was counted and not shown yet is written when the process stops."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    ingress = start_ingress(PROMETHEUS_MULTIPROC_DIR=str(folder))
    for _ in range(3):
        assert 204 == ingress.imin(b"{}").status
    ingress.process.terminate()
    ingress.process.wait(HANG_SECONDS)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    labels = {"provider": "imin", "status": "204", "durability": "postgres"}
    assert 3 == registry.get_sample_value("penstock_ingress_answers_total", labels)
    assert 3 == registry.get_sample_value("penstock_ingress_answer_seconds_count", {"provider": "imin"})


def test_the_spool_is_told(start_ingress: "Start", redis_server: "Server") -> None:
    """How much waits in the spool and what was set aside shows without anything being delivered."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.xadd(SPOOL, {"event-1": b"x"})
        for _ in range(2):
            client.xadd(ASIDE, {"event-1": b"x", "reason": b"y"})
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            ingress = start_ingress(metrics_port=str(port))

            def told(line: str) -> bool:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    return line in answer.read().decode().splitlines()

            ingress.until(lambda: told("penstock_spool_events 1.0"))
            ingress.until(lambda: told("penstock_spool_set_aside_events 2.0"))
        finally:
            client.delete(SPOOL, ASIDE)
