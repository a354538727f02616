"""Variables that are meant for other programs: what is done about each, and that they are told of by name alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.celery_application import own_application
from shared.strangers import told, withhold


@pytest.mark.parametrize(
    ("name", "treatment"),
    [
        ("CELERY_BROKER_URL", "ignored"),
        ("CELERY_CONFIG_MODULE", "ignored"),
        ("CELERY_WORKER_REVOKE_EXPIRES", "withheld"),
        ("REMAP_SIGTERM", "withheld"),
        ("KOMBU_LOG_CHANNEL", "withheld"),
        ("PGSSLMODE", "ignored"),
        ("PGSSLCRLDIR", "ignored"),
        ("PGREQUIREAUTH", "ignored"),
        ("PGLOADBALANCEHOSTS", "ignored"),
        ("FLOWER_PORT", "ignored"),
        ("FLOWER_PORT_5555_TCP_PROTO", "ignored"),
        ("FLOWER_SERVICE_HOST", "ignored"),
        ("FLOWER_OAUTH2_KEY", "ignored"),
        ("FLOWER_URL_PREFIX", "heeded"),
        ("UVICORN_HOST", "ignored"),
        ("no_proxy", "ignored"),
        ("SSLKEYLOGFILE", "withheld"),
        ("AWS_ENDPOINT_URL", "heeded"),
        ("OTEL_TRACES_SAMPLER", "heeded"),
    ],
)
def test_each_kind_is_told_of_by_name(name: str, treatment: str) -> None:
    """Once, and its value, which may be a secret, is in no sentence."""
    environment = {name: "of-nobodys-business", "HOME": "/", "PATH": "/bin", "PGHOSTILE": "", "MYFLOWER_PORT": "1"}
    if treatment == "withheld":
        withhold(environment)
        assert name not in environment
    rows = [row for row in told(environment) if name in row.names]
    assert [treatment] == [row.treatment for row in rows]
    assert "of-nobodys-business" not in str(rows)
    assert "PGHOSTILE" not in str(told(environment))


def test_what_an_applications_handlers_may_mean_stays(tmp_path: Path) -> None:
    """An application's own Celery and its own libpq run in the worker for handlers, beside ours."""
    environment = {
        "CELERY_BROKER_URL": "redis://theirs",
        "PGHOST": "theirs",
        "DJANGO_SETTINGS_MODULE": "theirs",
        "HTTPS_PROXY": "theirs",
        "PENSTOCK_DATA_DIR": str(tmp_path),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "run" / "metrics"),
    }
    kept = dict(environment)
    withhold(environment)
    assert kept == environment
    environment["PROMETHEUS_MULTIPROC_DIR"] = environment["prometheus_multiproc_dir"] = "/theirs"
    withhold(environment)
    assert not {"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"} & environment.keys()


@pytest.mark.parametrize(
    "name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"]
)
def test_a_celery_application_of_ours_is_told_everything_by_us(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after its settings were read, and in what they are copied to."""
    monkeypatch.setenv(name, "redis://theirs:1/1")
    monkeypatch.setenv("CELERY_LOADER", "nosuch.module:Loader")
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "nosuch.celeryconfig")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "nosuch.settings")
    app = own_application("test")
    app.conf.update({"broker_url": "redis://ours:2/0", "result_backend": None})
    for _ in range(2):
        with app.connection_for_read() as reading, app.connection_for_write() as writing:
            assert ["ours", "ours"] == [reading.hostname, writing.hostname]
        assert app.conf.result_backend is None
    app.close()


def test_another_celery_application_of_the_process_keeps_its_own(tmp_path: Path) -> None:
    """In a process of its own: an application made by a handler finds its broker where it always did."""
    script = tmp_path / "both.py"
    script.write_text(
        "from shared.celery_application import own_application\n"
        "from celery import Celery\n"
        "ours = own_application('ours'); ours.conf.broker_url = 'redis://ours:1/0'\n"
        "theirs = Celery('theirs')\n"
        "print(ours.connection_for_write().hostname, theirs.connection_for_write().hostname)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"CELERY_BROKER_URL": "redis://theirs:1/0", "PATH": "/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"ours theirs" in done.stdout
