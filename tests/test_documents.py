"""What the documents say holds: links lead somewhere, commands and settings exist, examples are valid."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from ops.cli import COMMANDS
from ops.reference.__main__ import GENERATED
from ops.reference.site import linked, stage
from shared.configuration import Configuration, read_configuration
from shared.providers.registry import PROVIDERS
from shared.settings import Settings


ROOT = Path(__file__).parents[1]
IGNORED = {".venv", ".penstock", ".pytest_cache", "node_modules", "dist", "build"}
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not IGNORED & set(path.relative_to(ROOT).parts))
COMMANDED = [path for path in DOCUMENTS if path.parent == ROOT or path.is_relative_to(ROOT / "docs")]
README = ROOT / "README.md"
COMMANDS_PAGE = ROOT / "docs" / "reference" / "commands.md"
SETTINGS_PAGE = ROOT / "docs" / "reference" / "settings.md"
PROVIDERS_PAGES = ROOT / "docs" / "providers"
ENVIRONMENT = ROOT / "deploy" / "env.example"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"\bPENSTOCK_[A-Z_]+\b")
OF_MAKE = {"PENSTOCK_DOMAIN", "PENSTOCK_IMAGE"}
"""Variables of the files in ``deploy/``, which Penstock itself does not read."""


def named(path: Path) -> str:
    """A document's name in a test's id."""
    return str(path.relative_to(ROOT))


def fields() -> set[str]:
    """The variables that there are."""
    return {f"PENSTOCK_{name.upper()}" for name in Settings.model_fields}


def command_lines(text: str) -> Iterator[list[str]]:
    """Every ``penstock ...`` that a document names: in code spans, and in blocks that show a terminal."""
    spans = CODE.findall(FENCE.sub("", text))
    shown = [block for _, language, block in FENCE.findall(text) if language in {"sh", "console"}]
    typed = [
        line.strip().removeprefix("$ ")
        for block in shown
        for line in block.replace("\\\n", " ").splitlines()
        if "penstock " in line
    ]
    for line in [*spans, *typed]:
        if match := re.match(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?penstock ([a-z].*)", line):
            before_the_next = re.split(r" [|>] | && ", match[1])[0]
            yield [word for word in shlex.split(before_the_next) if word != "..."]


def command_and_rest(words: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command that the first words lead to, and what is left of them. Fails when there is none."""
    assert words[0] in COMMANDS, f"there is no command {words[0]}"
    command = typer.main.get_command(import_module(f"ops.cli.{COMMANDS[words[0]].module}").app)
    rest = words[1:]
    while isinstance(command, TyperGroup) and rest:
        assert rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    assert isinstance(command, TyperCommand | TyperGroup)
    return command, rest


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    """A link without a scheme names a file or folder of the repository."""
    targets = [target.partition("#")[0] for target in LINK.findall(document.read_text(encoding="utf-8"))]
    relative = [target for target in targets if target and not re.match(r"[a-z]+:", target)]

    assert [] == [target for target in relative if not (document.parent / target).exists()]


@pytest.mark.parametrize("document", COMMANDED, ids=named)
def test_every_command_that_is_named_exists_with_its_flags(document: Path) -> None:
    """The command, its subcommands and each ``--flag`` are those of the command line."""
    for words in command_lines(document.read_text(encoding="utf-8")):
        command, rest = command_and_rest(words)
        flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set() == flags - known - {"--help"}, f"penstock {' '.join(words)}"


def test_every_command_is_in_the_reference() -> None:
    """Nothing that can be typed is left out."""
    assert set(COMMANDS) == {words[0] for words in command_lines(COMMANDS_PAGE.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("document", GENERATED, ids=named)
def test_the_generated_pages_are_up_to_date(document: Path) -> None:
    """They are what `make docs` would write now."""
    assert GENERATED[document]() == document.read_text(encoding="utf-8")


@pytest.mark.parametrize("document", [README, ROOT / "CONTRIBUTING.md"], ids=named)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    """What is typed after ``make`` is a target of the Makefile."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shown = re.findall(
        r"(?:^(?:   )? +|`|\$ )make (?:PYTHON=\S+ )?([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert shown
    assert set() == set(shown) - set(targets)


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.parent != ROOT], ids=named)
def test_every_test_that_is_named_exists(document: Path) -> None:
    """By its path, or by its name alone behind another one of the same folder; a document shows what is shown."""
    folder = Path()
    for name in re.findall(
        r"`((?:tests/[a-z_/]*)?test_[a-z_]+\.py)(?:::[a-z_]+)?`", document.read_text(encoding="utf-8")
    ):
        folder = Path(name).parent if "/" in name else folder
        assert (ROOT / folder / Path(name).name).is_file(), f"{document.name}: {name}"


def test_the_reference_names_every_setting() -> None:
    """Each variable of ``Settings`` has its row, and the other documents name no other variable."""
    rows = re.findall(r"^\| `(PENSTOCK_[A-Z_]+)` \|", SETTINGS_PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    elsewhere = {name for path in COMMANDED for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}

    elsewhere = {name for name in elsewhere if not name.startswith("PENSTOCK_TEST_")}  # of the tests themselves

    assert fields() <= set(rows)
    assert set() == elsewhere - set(rows) - {"PENSTOCK_X", "PENSTOCK_X_FILE", "PENSTOCK_"} - OF_MAKE


def test_the_example_environment_names_every_setting_and_is_valid() -> None:
    """``deploy/env.example`` is what ``Settings.read`` takes."""
    lines = [line for line in ENVIRONMENT.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    environment = dict(line.split("=", 1) for line in lines)

    settings = Settings.read(environment)

    assert fields() == set(environment)
    assert Settings.read({}).ingress_port == settings.ingress_port
    assert settings.database_url is not None


def configurations(document: Path) -> list[str]:
    """The ``toml`` blocks of a document that are parts of a ``penstock.toml``."""
    found = FENCE.findall(document.read_text(encoding="utf-8"))
    blocks = [block for _, language, block in found if language == "toml"]
    return [block for block in blocks if "[project" not in block and "[build-system" not in block]


def settings_of(blocks: list[str], folder: Path) -> Configuration:
    """What blocks say together, with secrets that fit."""
    text = "\n".join(blocks)
    (folder / "secrets").mkdir()
    for number, name in enumerate(re.findall(r'"file:(?:\.\./)*([\w/-]+)"', text)):
        secret = "$argon2id$" if "password" in name else f"whsec_{number:032}"  # also a key in base64
        (folder / name).write_text(secret)
    file = folder / "penstock.toml"
    file.write_text(text.replace("file:../../", "file:"))
    return read_configuration(file)


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if configurations(path)], ids=named)
def test_every_configuration_that_is_shown_is_valid(document: Path, tmp_path: Path) -> None:
    """The ``toml`` blocks of a document together are one ``penstock.toml``."""
    settings_of(configurations(document), tmp_path)


def test_the_pages_of_the_providers_show_an_account_of_each(tmp_path: Path) -> None:
    """And all of them together are valid as well."""
    blocks = [block for page in sorted(PROVIDERS_PAGES.glob("*.md")) for block in configurations(page)]

    assert set(PROVIDERS) == set(settings_of(blocks, tmp_path).accounts)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a link to a page that is not there fails the build."""
    folder = tmp_path_factory.mktemp("site")
    stage(ROOT, folder / "build" / "documents")
    shutil.copyfile(ROOT / "zensical.toml", folder / "zensical.toml")
    built = subprocess.run(
        [str(Path(sys.executable).with_name("zensical")), "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build" / "site"


class Page(HTMLParser):
    """What a page of the site leads to, what it loads, and the places within it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.places: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element names."""
        named_here = {name: value for name, value in attrs if value}
        self.places |= {named_here["id"]} if "id" in named_here else set()
        into = {"a": self.links, "link": self.loaded, "script": self.loaded, "img": self.loaded}.get(tag)
        if into is not None:
            into.update(named_here[name] for name in ("href", "src") if name in named_here)


def test_every_link_of_the_site_leads_to_its_place(site: Path) -> None:
    """Also within a page, and also what leads to a file that is no page."""
    pages = {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    dead = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (file.parent / parts.path).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (parts.fragment and parts.fragment not in pages[target].places):
                dead.append(f"{file.relative_to(site)}: {link}")

    assert len(pages) > 40
    assert [] == dead


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles and pictures are its own; Mermaid comes before the theme would ask another server for it."""
    pages = [Page(file) for file in site.rglob("*.html")]

    assert [] == [name for page in pages for name in page.loaded if urlsplit(name).netloc]
    assert all(any(name.endswith("mermaid.tiny.js") for name in page.loaded) for page in pages)


def test_a_link_to_code_becomes_its_words_on_the_site() -> None:
    """The site has documents alone; a link between those is kept, and what is in a block of code as well."""
    text = "[`code`](../shared/settings.py), [Deploying](../deploy/README.md#compose)\n\n```md\n[x](y.py)\n```\n"

    shown = linked(text, "docs/concepts.md", ROOT)

    assert shown == "`code`, [Deploying](deploy/index.md#compose)\n\n```md\n[x](y.py)\n```\n"
