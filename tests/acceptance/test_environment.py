"""An environment full of variables that are meant for other programs: Penstock does what it does without them."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import redis as client

from installation import Installation, clean_environment, started, until
from ops.embedded.redis import Redis
from ops.lab.process import Lab
from test_main_job import deliver, sample


_NOBODY = "127.0.0.1:1"

CELERY = {
    "CELERY_RESULT_BACKEND": f"redis://{_NOBODY}/0",
    "CELERY_CONFIG_MODULE": "nosuch.celeryconfig",
    "CELERY_LOADER": "nosuch.loaders:Loader",
    "CELERY_CUSTOM_WORKER_POOL": "nosuch.pools:Pool",
    "CELERY_WORKER_REVOKES_MAX": "many",
    "AUTOSCALE_KEEPALIVE": "long",
    "PICKLE_PROTOCOL": "newest",
    "DJANGO_SETTINGS_MODULE": "nosuch.settings",
    "REMAP_SIGTERM": "SIGQUIT",
    "C_STRICT_APP": "1",
}
FLOWER = {
    "FLOWER_PORT": "tcp://10.43.0.1:80",
    "FLOWER_PORT_80_TCP_ADDR": "10.43.0.1",
    "FLOWER_ADDRESS": "nosuch",
    "FLOWER_BASIC_AUTH": "other:password",
    "FLOWER_UNAUTHENTICATED_API": "true",
    "FLOWER_READ_ONLY": "false",
    "FLOWER_UNIX_SOCKET": "/nowhere/flower.sock",
    "FLOWER_BROKER_API": "no url",
    "FLOWER_CERTFILE": "/nowhere/cert.pem",
    "FLOWER_AUTH": ".*@example.com",
    "FLOWER_MAX_WORKERS": "tcp://10.43.0.1:80",
    "FLOWER_PURGE_OFFLINE_WORKERS": "never",
}
LIBPQ = {
    "PGHOST": "127.0.0.1",
    "PGPORT": "none",
    "PGUSER": "other",
    "PGPASSWORD": "other",
    "PGDATABASE": "other",
    "PGPASSFILE": "/nowhere/pgpass",
    "PGSERVICE": "other",
    "PGOPTIONS": "-c nosuch=1",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nowhere/ca.crt",
    "PGSSLCERT": "/nowhere/client.crt",
    "PGSSLKEY": "/nowhere/client.key",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLMINPROTOCOLVERSION": "TLSv9",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "Nowhere/Nothing",
    "PGDATESTYLE": "German",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATA": "/nowhere",
    "PGGSSLIB": "nosuch",
}
KUBERNETES = {
    f"PENSTOCK_{name}_{what}": text
    for name in ("INGRESS", "CONSOLE", "FLOWER", "METRICS")
    for what, text in (("SERVICE_HOST", "10.43.0.2"), ("PORT_80_TCP", "tcp://10.43.0.2:80"))
}
OTHERS = {
    "WEB_CONCURRENCY": "4",
    "FORWARDED_ALLOW_IPS": "*",
    "UVICORN_PORT": "1",
    "HTTP_PROXY": f"http://{_NOBODY}",
    "http_proxy": f"http://{_NOBODY}",
    "HTTPS_PROXY": f"http://{_NOBODY}",
    "ALL_PROXY": f"socks5://{_NOBODY}",
    "SSLKEYLOGFILE": "/nowhere/keys",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere/metrics",
    "prometheus_multiproc_dir": "/nowhere/metrics",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "OTEL_SDK_DISABLED": "no",
    "OTEL_TRACES_SAMPLER": "nosuch",
    "OTEL_PROPAGATORS": "nosuch",
    "LC_ALL": "xx_XX.ISO-8859-1",
    "TZ": "Pacific/Kiritimati",
    "COLUMNS": "wide",
}


@pytest.mark.parametrize("address", ["live", "dead"])
def test_up_does_its_job_and_leaves_others_alone(address: str, lab: Lab, empty_redis: Redis, tmp_path: Path) -> None:
    """Deliveries are followed up through our own stores; nothing of ours lies in another application's Redis."""
    theirs = empty_redis.url if address == "live" else f"redis://{_NOBODY}/0"
    brokers = dict.fromkeys(("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), theirs)
    variables = {**brokers, **CELERY, **FLOWER, **LIBPQ, **KUBERNETES, **OTHERS}

    with started(tmp_path, lab.config_toml(), variables=variables) as up:
        here = Installation(up.folder, up.code, up.ingress, up.process, lab, variables=up.variables)
        status, event = deliver(here, "magicline", sample("magicline", "CUSTOMER_CREATED__seed"))
        assert 200 == status
        (row,) = here.finished(event)
        assert "done" == row["state"]
        for name in ("CELERY_BROKER_URL", "PGSSLMODE", "FLOWER_PORT", "WEB_CONCURRENCY", "SSLKEYLOGFILE", "HTTP_PROXY"):
            assert name in (tmp_path / "up.log").read_text()
        _pages_are_ours(here)
        checked = subprocess.run(
            [sys.executable, "-m", "ops", "check"],
            cwd=tmp_path,
            env=clean_environment(variables=variables),
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert b"fix" not in checked.stdout, checked.stdout
        assert b"CELERY_BROKER_URL" in checked.stdout
        assert b"Traceback" not in checked.stdout + checked.stderr
        dumped = tmp_path / "backup"
        here.penstock("backup", str(dumped))
        assert dumped.is_dir()

    with client.Redis.from_url(empty_redis.url) as look:
        assert [] == look.keys()


def _pages_are_ours(installation: Installation) -> None:
    data = installation.folder / ".penstock"
    password = (data / "flower-password").read_text().strip()
    ports = {each["name"]: each["port"] for each in installation.lines("status")[0]["processes"]}
    until(lambda: _answers(f"http://127.0.0.1:{ports['console']}/"), 60, (data / "logs" / "console.log").read_text)
    url = f"http://127.0.0.1:{ports['flower']}"
    until(lambda: _answers(f"{url}/healthcheck"), 60, (data / "logs" / "flower.log").read_text)
    assert 401 == httpx.get(f"{url}/api/workers", trust_env=False).status_code
    assert 401 == httpx.get(f"{url}/api/workers", auth=("other", "password"), trust_env=False).status_code
    with httpx.Client(base_url=url, auth=("penstock", password), trust_env=False) as pages:
        assert 200 == pages.get("/api/queues/length").status_code
        assert 403 == pages.post("/api/worker/shutdown/any").status_code


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("name", ["INGRESS", "CONSOLE", "FLOWER", "METRICS"])
def test_the_address_of_a_service_is_no_port(name: str) -> None:
    """Kubernetes sets PENSTOCK_INGRESS_PORT in every container beside a Service named penstock-ingress."""
    from shared.settings import Settings  # noqa: PLC0415 - the rest of this module looks from outside

    default = getattr(Settings.read({}), f"{name.lower()}_port")
    for text in ("tcp://10.43.0.2:80", "udp://[fd00::1]:80", "sctp://10.43.0.2:1"):
        assert default == getattr(Settings.read({f"PENSTOCK_{name}_PORT": text}), f"{name.lower()}_port")


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "2"},
        {"SSLKEYLOGFILE": "/nowhere/keys"},
        {"COLUMNS": "0", "LINES": "x", "NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "nosuch"},
    ],
)
def test_a_command_speaks_under_any_locale_and_interpreter(variables: dict[str, str], tmp_path: Path) -> None:
    """What a letter is missing for is written as its number, never a traceback or an end."""
    settings = {"PENSTOCK_CONFIG": str(tmp_path / "Übung €.toml"), "PENSTOCK_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "ops", "check"],
        cwd=tmp_path,
        env=clean_environment(variables={**settings, **variables, "HOME": os.environ.get("HOME", "/")}),
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert 1 == done.returncode, done.stderr
    assert b"no database is known" in done.stdout, done.stdout + done.stderr
    assert b"unexpected" not in done.stderr
