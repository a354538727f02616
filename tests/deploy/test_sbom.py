"""`make sbom` lists what a release consists of, as the standard has it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is written; whatever is newer than the last installation, nothing is installed now."""
    file = tmp_path_factory.mktemp("sbom") / "sbom.json"
    make = shutil.which("make")
    assert make
    subprocess.run([make, "--silent", "--old-file=.venv/.installed", "sbom", f"SBOM={file}"], cwd=ROOT, check=True)
    return file.read_text(encoding="utf-8")


def test_it_is_valid_cyclonedx(sbom: str) -> None:
    """By the schema of its version, strictly."""
    assert "1.6" == orjson.loads(sbom)["specVersion"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom) is None


def test_it_names_each_locked_package_with_its_digests(sbom: str) -> None:
    """Exactly those of requirements/runtime.txt, which the image is built from; the main component is Penstock."""
    bom: dict[str, Any] = orjson.loads(sbom)
    lock = (ROOT / "requirements" / "runtime.txt").read_text(encoding="utf-8")
    locked = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", lock, re.MULTILINE)

    assert set(locked) == {(each["name"], each["version"]) for each in bom["components"]}
    assert "penstock" == bom["metadata"]["component"]["name"]
    for each in bom["components"]:
        assert each["purl"].startswith(f"pkg:pypi/{each['name']}@{each['version']}")
        digests = [digest for reference in each["externalReferences"] for digest in reference["hashes"]]
        assert digests, each["name"]
        assert {"SHA-256"} == {digest["alg"] for digest in digests}
