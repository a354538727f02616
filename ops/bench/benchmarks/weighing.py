"""What it weighs: a very large delivery beside the others, and the whole pipeline with nothing to do."""

import hashlib
import hmac
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from ops.bench import penstock
from ops.bench.deliveries import BODY_BYTES, imin_requests, request, write
from ops.bench.load import HOST, Order
from ops.bench.proc import cpu_seconds, family, forget_peak, peak_bytes, pss_bytes, rss_bytes
from ops.bench.results import Figure, Report, over
from ops.bench.stage import BenchFailed, Stage
from ops.bench.statistics import Target
from ops.installation import running
from ops.lab.accounts import Account
from shared.providers.registry import PROVIDERS
from shared.settings import Settings


LARGE_BYTES: Final = 64 * 1024 * 1024
GROWTH_MIB: Final = Target(24, at_least=False)
P99_OVER_WITHOUT: Final = Target(2, at_least=False)
OTHERS_RATE: Final = 300
IDLE_CPU: Final = Target(5, at_least=False)
IDLE_MIB: Final = Target(700, at_least=False)
_MIB: Final = 1024 * 1024
_RESPONSE_BYTES: Final = 4096
_WORKER_PROCESSES: Final = penstock.WORKER_PROCESSES * len(PROVIDERS)


def large_body(stage: Stage) -> Sequence[Report]:
    """Ingress's memory while 64 MiB arrive, and how long the others wait meanwhile."""
    rounds, seconds = (2, 1.5) if stage.quick else (5, 10.0)
    lab = stage.lab()
    accounts = {account.provider: account for account in lab.accounts()}
    requests = write(stage.folder, "imin", imin_requests(accounts["imin"], 100_000))
    large = _large_request(accounts["authenteq"])
    subject = penstock.start(stage, penstock.config_for(lab))
    stage.ready()
    ingress = subject.processes["ingress"].pid
    order = Order(port=subject.port, requests=requests, rate=OTHERS_RATE, seconds=seconds)
    stage.load(order)
    _deliver(subject.port, large)  # the first one also imports and grows pools
    growth: list[float] = []
    without: list[float] = []
    meanwhile: list[float] = []
    taken: list[float] = []
    for number in range(rounds):
        stage.say(f"round {number + 1} of {rounds}")
        without.append(stage.load(order).latency["p99"])
        forget_peak(ingress)
        before = rss_bytes(ingress)
        _deliver(subject.port, large)
        growth.append((peak_bytes(ingress) - before) / _MIB)
        with _delivering(subject.port, large) as delivered:
            meanwhile.append(stage.load(order).latency["p99"])
        taken.append(sum(delivered) / len(delivered))
    if stage.profiles.active:
        with _delivering(subject.port, large), stage.profiles.of(ingress=ingress):
            stage.load(order)
    return [
        Report(
            "large-body",
            "A delivery of 64 MiB (Authenteq): ingress's memory, and the others' latency meanwhile",
            [
                Figure("growth of ingress", "MiB", growth, GROWTH_MIB),
                over("p99 of others, over without", meanwhile, without, P99_OVER_WITHOUT),
                Figure("p99 of others, without", "ms", without),
                Figure("p99 of others, meanwhile", "ms", meanwhile),
                Figure("the large delivery itself", "s", taken),
            ],
            {
                "load": f"others: open loop at {OTHERS_RATE}/s for {seconds:g} s, {BODY_BYTES} bytes (imin);"
                " meanwhile: one large delivery after the other, as fast as they are taken",
                "growth": "the peak of resident memory during one large delivery, less what was resident before it",
            },
            stage.profiles.take(),
        )
    ]


@contextmanager
def _delivering(port: int, large: bytes) -> Iterator[list[float]]:
    """Deliver it again and again, each time as fast as it is taken; the seconds that each took."""
    ended = threading.Event()
    delivered: list[float] = []

    def keep_delivering() -> None:
        while not ended.is_set():
            delivered.append(_deliver(port, large))

    sender = threading.Thread(target=keep_delivering)
    sender.start()
    try:
        yield delivered
    finally:
        ended.set()
        sender.join()


def idle(stage: Stage) -> Sequence[Report]:
    """CPU and memory of a whole ``penstock up`` to which nothing is sent."""
    settle, seconds, rounds = (2.0, 3.0, 1) if stage.quick else (10.0, 20.0, 3)
    lab = stage.lab()
    database_url = stage.stores.database()
    environment = penstock.environment(stage, penstock.config_for(lab), database_url, stage.stores.redis()) | {
        f"PENSTOCK_{name}_PORT": "0" for name in ("INGRESS", "CONSOLE", "FLOWER", "METRICS")
    }
    up = _Up(stage, environment)
    try:
        stage.until(up.complete, "penstock up", up.process)
        stage.until(lambda: penstock.leases(database_url) >= _WORKER_PROCESSES, "its workers", up.process)
        time.sleep(settle)
        servers = [pid for server in stage.stores.servers if server.process for pid in family(server.process.pid)]
        ours = family(up.process.pid)
        cpu: list[float] = []
        for number in range(rounds):
            stage.say(f"round {number + 1} of {rounds}")
            began, used = time.monotonic(), cpu_seconds([*ours, *servers])
            time.sleep(seconds)
            cpu.append(100 * (cpu_seconds([*ours, *servers]) - used) / (time.monotonic() - began))
        by_name = {
            name: pss_bytes(pids) / _MIB for name, pids in {"supervisor": [up.process.pid], **up.families()}.items()
        }
        pss = pss_bytes(ours) / _MIB
    finally:
        up.stop()
    return [
        Report(
            "idle",
            "The whole pipeline with nothing to do",
            [
                Figure("CPU of all processes, both servers too", "% of a core", cpu, IDLE_CPU),
                Figure("memory (PSS) without the two servers", "MiB", [pss], IDLE_MIB),
                *(Figure(f"memory of {name}", "MiB", [value]) for name, value in by_name.items()),
            ],
            {
                "processes": f"{len(ours)} of `penstock up`, {len(servers)} of Postgres and Redis",
                "time": f"{settle:g} s to settle, then {rounds} x {seconds:g} s",
            },
            stage.profiles.take(),
        )
    ]


class _Up:
    """A whole ``penstock up``, stopped as Ctrl-C stops it."""

    def __init__(self, stage: Stage, environment: dict[str, str]) -> None:
        self._settings = Settings.read(environment)
        self.process = stage.start("up", [sys.executable, "-m", "ops", "up"], environment)

    def complete(self) -> bool:
        """Whether every process of it runs."""
        found = running(self._settings.data)
        names = {each.name for each in found.processes if each.alive} if found else set()
        return {"ingress-1", "relay", "console", "flower"} <= names

    def families(self) -> dict[str, list[int]]:
        """Its processes by name, each with its descendants."""
        found = running(self._settings.data)
        return {each.name: family(each.pid) for each in found.processes} if found else {}

    def stop(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)


def _large_request(account: Account) -> bytes:
    """A delivery that fills Authenteq's limit: a result and one image."""
    boundary = "bench0000000000000000"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="result"\r\nContent-Type: application/json\r\n\r\n'
        '{"id": "bench", "status": "PASSED", "documentData": {"documentType": "PP"}}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="faceImage"; filename="faceImage.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    body = head + os.urandom(LARGE_BYTES - len(head) - len(end)) + end
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "X-CLIENT-ID": account.client_id,
        "X-SIGNATURE": hmac.new(account.webhook_key.encode(), body, hashlib.sha256).hexdigest(),
    }
    return request("/webhooks/authenteq", headers, body)


def _deliver(port: int, delivery: bytes) -> float:
    """Seconds that one delivery takes. Raises BenchFailed unless it is acknowledged."""
    began = time.monotonic()
    with socket.create_connection((HOST, port), timeout=120) as connection:
        connection.sendall(delivery)
        answer = connection.recv(_RESPONSE_BYTES)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise BenchFailed(f"the large delivery was answered {answer[:60]!r}")
    return time.monotonic() - began
