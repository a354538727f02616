"""A lab in a process of its own, for tests, chaos and bench: ``with running_lab(seed=7) as lab: ...``."""

import base64
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from ops.lab.accounts import STUDIOS, Account, config_toml, lab_accounts
from ops.lab.deliveries import Delivery
from ops.lab.faults import Fault
from ops.lab.happening import LabError
from ops.lab.limits import Limit
from ops.lab.server import LabOptions
from ops.supervisor.process import launched


_ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Lab:
    """A running lab, driven through its control API. Every method raises LabError with the lab's own sentence."""

    seed: int
    ports: Mapping[str, int]
    client: httpx.Client
    studios: int = len(STUDIOS)
    pid: int = 0

    def url(self, provider: str) -> str:
        """The base URL of a provider's API (or of ``control``)."""
        return f"http://127.0.0.1:{self.ports[provider]}"

    def accounts(self) -> Sequence[Account]:
        """The accounts with both sides' keys."""
        return lab_accounts(self.seed, self.ports, studios=self.studios)

    def config_toml(self, retry: Mapping[str, float] | None = None) -> str:
        """A ``penstock.toml`` with the lab's accounts."""
        return config_toml(self.accounts(), retry)

    def calls(self, provider: str = "", path: str = "", after: int = 0, limit: int = 10_000) -> dict[str, Any]:
        """Calls seen: ``total``, ``outcomes`` by provider, ``counts`` by path and outcome, ``calls``, ``seen`` ..."""
        query = {"provider": provider, "path": path, "after": after, "limit": limit}
        found: dict[str, Any] = self._ask("GET", "/calls", params=query)
        return found

    def set_faults(self, *faults: Fault) -> None:
        """Replace the rules; none ends all faults."""
        self._ask("POST", "/faults", json=[msgspec.to_builtins(fault) for fault in faults])

    def set_limits(self, limits: Mapping[str, Limit | None]) -> None:
        """Override limits by provider; ``Limit(calls=0, seconds=1)`` lifts one, None brings back the published."""
        self._ask("POST", "/limits", json={name: msgspec.to_builtins(limit) for name, limit in limits.items()})

    def set_latency(self, **seconds: float) -> None:
        """How long each call takes, by provider; none given: no latency."""
        self._ask("POST", "/latency", json=seconds)

    def world(self, provider: str, kind: str, external_id: str, account: str = "") -> bytes | None:
        """The JSON of one thing exactly as the API holds it, or None."""
        answer = self.client.get(f"/world/{provider}/{kind}/{external_id}", params={"account": account})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return _checked(answer).content

    def change(self, provider: str, kind: str, external_id: str, account: str = "", **changes: Any) -> None:
        """Change fields of one thing without a delivery; ``gone=True`` deletes it."""
        self._ask("POST", f"/world/{provider}/{kind}/{external_id}", params={"account": account}, json=changes)

    def happen(self, provider: str, event: str = "", account: str = "", **options: Any) -> Delivery:
        """Change the world; the signed delivery that follows, not sent."""
        asked = {"provider": provider, "event": event, "account": account, "options": options}
        told = self._ask("POST", "/happen", json=asked)
        body = base64.b64decode(told["body_base64"])
        return Delivery(provider, told["account"], told["path"], told["headers"], body)

    def send(
        self,
        provider: str,
        event: str = "",
        *,
        count: int = 1,
        rate: float = 0.0,
        account: str = "",
        duplicate: bool = False,
        withhold: int = 0,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Let it happen ``count`` times and let the lab deliver; the ledger's entries (``sender.Sent``).

        ``withhold`` of them happen without being delivered.
        """
        asked = {
            "provider": provider,
            "event": event,
            "count": count,
            "rate": rate,
            "account": account,
            "duplicate": duplicate,
            "withhold": withhold,
            "options": options,
        }
        entries: list[dict[str, Any]] = self._ask("POST", "/send", json=asked)
        return entries

    def ledger(self, provider: str = "", after: int = 0) -> dict[str, Any]:
        """Everything sent: ``sent``, ``acknowledged``, ``given_up``, ``deliveries``."""
        found: dict[str, Any] = self._ask("GET", "/ledger", params={"provider": provider, "after": after})
        return found

    def set_sender(self, **changes: Any) -> None:
        """Change ``ingress`` or ``clock_speed`` of the senders."""
        self._ask("POST", "/sender", json=changes)

    def set_refresh_size(self, **sizes: Any) -> None:
        """Paybook: ``transactions``, ``attachments``, ``limit``; of one ``credential`` or of all that follow."""
        self._ask("POST", "/paybook/refresh-size", json=sizes)

    def set_raw_attachments(self, raw: bool) -> None:  # noqa: FBT001 - the one thing that it sets
        """Paybook: whether the attachments' export answers a file instead of the envelope."""
        self._ask("POST", "/paybook/attachments", json={"raw": raw})

    def reset(self) -> None:
        """Forget calls, ledger, faults, latency and limits; the world stays as it is."""
        self._ask("POST", "/reset")

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        return _checked(self.client.request(method, path, **arguments)).json()


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise LabError(msgspec.json.decode(answer.content)["error"] if answer.content[:1] == b"{" else answer.text)
    return answer


@contextlib.contextmanager
def running_lab(
    *,
    seed: int = 1,
    latency: float = 0.0,
    rate: float = 0.0,
    ingress: str = "http://127.0.0.1:9",
    clock_speed: float = 1.0,
    niceness: int = 0,
    studios: int = len(STUDIOS),
) -> Iterator[Lab]:
    """A lab on free ports; it ends with the block, or with this process. Nothing listens at the default ingress.

    ``studios``: how many accounts Magicline has. ``niceness``: how far it stands back from the processor, which a
    provider's own API does not use.
    """
    options = LabOptions(
        seed=seed,
        latency=latency,
        rate=rate,
        ingress=ingress,
        clock_speed=clock_speed,
        studios=studios,
        with_parent=True,
    )
    command = [sys.executable, "-m", "ops.lab.server", msgspec.json.encode(options).decode()]
    launch = launched(command, signal.SIGTERM, None, niceness)
    with subprocess.Popen(  # noqa: S603 - our own program
        launch, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise LabError("the lab did not start; what it said is above")
            ports = msgspec.json.decode(line)["ports"]
            with httpx.Client(base_url=f"http://127.0.0.1:{ports['control']}", timeout=60.0) as client:
                yield Lab(seed, ports, client, studios, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
