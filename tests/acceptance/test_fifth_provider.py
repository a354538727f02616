"""A fifth provider is its folder and its line in the registry: proved by adding one to a copy of the project."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import unified_diff
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson

from installation import PROVIDERS, ROOT, post, started


PACKAGES = ("ingress", "workers", "shared", "ops")
ACME = Path(__file__).parent / "fifth_provider" / "acme"
FOLDER = Path("shared/providers/acme")
REGISTRY = Path("shared/providers/registry.py")
WEBHOOK_KEY = "acme-sends-this"
API_KEY = "we-send-this"
GADGET = '{"id": 7, "name": "winch", "price": 12.3400}'


class AcmeApi(BaseHTTPRequestHandler):
    """Acme's side: one gadget, for whoever has the key."""

    def do_GET(self) -> None:
        """Answer the one call that is right, refuse every other."""
        right = (self.path, self.headers["authorization"]) == ("/v1/gadgets/7", f"Bearer {API_KEY}")
        body = GADGET.encode() if right else b"{}"
        self.send_response(200 if right else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def acme_api() -> Iterator[str]:
    """The base URL of Acme's API on a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), AcmeApi) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def with_acme(copy: Path) -> None:
    """Copy the project and do what CONTRIBUTING.md says under "A new provider"."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ACME, copy / FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
    registry = copy / REGISTRY
    registry.write_text(registry.read_text().replace('    "imin",\n', '    "acme",\n    "imin",\n', 1))


def files(root: Path) -> dict[Path, bytes]:
    """Every file of the packages below a root."""
    return {
        path.relative_to(root): path.read_bytes()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def added_lines(before: bytes, after: bytes) -> list[str]:
    """What the second text has that the first has not, line by line."""
    lines = unified_diff(before.decode().splitlines(), after.decode().splitlines(), n=0, lineterm="")
    return [line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++")]


def test_a_fifth_provider_works_from_delivery_to_record_with_its_folder_and_its_line(tmp_path: Path) -> None:
    """Acme's delivery is acknowledged as Acme wants it, followed up, and ends as the record that its API holds."""
    ours = files(ROOT)
    copy = tmp_path / "copy"
    with_acme(copy)
    with acme_api() as base_url:
        folder = tmp_path / "installation"
        folder.mkdir()
        config = (
            f'[[acme.accounts]]\nname = "main"\nwebhook_keys = ["{WEBHOOK_KEY}"]\n'
            f'api_key = "{API_KEY}"\nbase_url = "{base_url}"\n'
        )
        with started(folder, config, code=copy) as up:
            body = b'{"delivery": "d-1", "type": "gadget.changed", "gadget": 7}'
            refused = post(up, "/webhooks/acme", body, {"x-acme-key": "somebody-else"})
            first = post(up, "/webhooks/acme", body, {"x-acme-key": WEBHOOK_KEY})
            second = post(up, "/webhooks/acme", body, {"x-acme-key": WEBHOOK_KEY})

            assert [401, 202, 202] == [answer.status_code for answer in (refused, first, second)]
            receipts = [answer.headers["x-penstock-event"] for answer in (first, second)]
            assert ["done", "duplicate"] == sorted(row["state"] for row in up.finished(*receipts))
            record = up.records("acme.gadget")["7"]
            assert ("acme", "main", orjson.loads(GADGET)) == (record["provider"], record["account"], record["data"])
            assert "12.3400" in up.penstock("records", "list", "--kind", "acme.gadget", "--json")
            assert {"acme", *PROVIDERS} == {row["provider"] for row in up.lines("stats")}
            assert 404 == post(up, "/webhooks/magicline", body, {}).status_code

    assert_nothing_else_differs(ours, files(copy))


def assert_nothing_else_differs(ours: dict[Path, bytes], theirs: dict[Path, bytes]) -> None:
    """The copy that just ran is this project, Acme's folder, and the line of the registry that names it."""
    assert {FOLDER / path.relative_to(ACME) for path in ACME.iterdir() if path.is_file()} == set(theirs) - set(ours)
    assert [REGISTRY] == [path for path in ours if ours[path] != theirs.get(path)]
    assert ['"acme",'] == added_lines(ours[REGISTRY], theirs[REGISTRY])
