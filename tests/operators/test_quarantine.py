"""``penstock quarantine`` as an operator types it."""

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner
from uuid_utils.compat import uuid7

from ops.cli.quarantine import app
from shared.quarantine import Refused, seal_head
from shared.sealing import Keys, generate_key
from shared.store.quarantine import NewRefused, keep


CONFIG = """
[[imin.accounts]]
name = "main"
webhook_keys = ["{key}"]
api_key = "to-them"
base_url = "https://book.imin.co"
"""


@pytest.fixture
def event(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of one refused delivery, which had the key ``mended``."""
    key = generate_key()
    keys = Keys.parse([SecretStr(key)])
    config = tmp_path / "penstock.toml"
    config.write_text(CONFIG.format(key="old"), encoding="utf-8")
    for name, value in {
        "CONFIG": str(config),
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": database_url,
        "ENCRYPTION_KEYS": key,
    }.items():
        monkeypatch.setenv(f"PENSTOCK_{name}", value)
    body = b'{"identifier": "1"}'
    refused = Refused(
        uuid7(), "imin", datetime.now(UTC), "192.0.2.1", "unknown-key", [(b"x-api-key", b"mended")], b"", body
    )

    async def put() -> None:
        connection = await asyncpg.connect(database_url)
        digest = hashlib.sha256(body).digest()
        row = NewRefused(
            refused.id,
            "imin",
            refused.received_at,
            refused.source,
            refused.cause,
            seal_head(keys, refused),
            keys.seal(body, refused.id),
            len(body),
            digest,
            "",
        )
        await keep(connection, [row])
        await connection.close()

    asyncio.run(put())
    return str(refused.id)


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and everything printed."""
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def test_it_is_listed_shown_and_let_in(event: str, tmp_path: Path) -> None:
    """The cause and the sender are told, no value of a header ever; a mended key lets it in."""
    for arguments in (["list"], ["list", "--json", "--provider", "imin"], ["show", event], ["show", event, "--json"]):
        status, printed = run(*arguments)
        assert 0 == status, printed
        assert event in printed
        assert "unknown-key" in printed
        assert "192.0.2.1" in printed
        assert "mended" not in printed
    assert "x-api-key" in run("show", event)[1]

    assert (1, True) == (run("release", event)[0], event in run("list")[1])
    (tmp_path / "penstock.toml").write_text(CONFIG.format(key="mended"), encoding="utf-8")
    assert '"released":true' in run("release", "--provider", "imin", "--dry-run", "--json")[1]
    assert event in run("list")[1]
    assert '"account":"main"' in run("release", event, "--json")[1]
    assert "Nothing is in quarantine." in run("list")[1]
    assert "0 were released" in run("release", "--all")[1]


def test_bad_usage_is_told(event: str) -> None:
    """Nothing selected, two selections, an unknown provider."""
    for arguments in (["release"], ["release", event, "--all"], ["list", "--provider", "nobody"]):
        assert 2 == run(*arguments)[0]
    assert 0 != run("show", "01a1fc32-b8df-7331-a335-21d0f0dec2bf")[0]
    assert 0 != run("release", "01a1fc32-b8df-7331-a335-21d0f0dec2bf")[0]
