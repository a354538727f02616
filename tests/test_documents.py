"""What the documents say holds: links lead somewhere, commands and settings exist, examples are valid."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from ops.cli import COMMANDS
from shared.configuration import read_configuration
from shared.settings import Settings


ROOT = Path(__file__).parents[1]
IGNORED = {".venv", ".penstock", ".pytest_cache", "node_modules", "dist", "build"}
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not IGNORED & set(path.relative_to(ROOT).parts))
COMMANDED = [path for path in DOCUMENTS if path.parent == ROOT or path.is_relative_to(ROOT / "docs")]
README = ROOT / "README.md"
ENVIRONMENT = ROOT / "deploy" / "env.example"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"\bPENSTOCK_[A-Z_]+\b")


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
        assert set() == flags - known, f"penstock {' '.join(words)}"


def test_every_command_is_named_in_the_readme() -> None:
    """Nothing that can be typed is left out."""
    assert set(COMMANDS) == {words[0] for words in command_lines(README.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("document", [README, ROOT / "CONTRIBUTING.md"], ids=named)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    """What is typed after ``make`` is a target of the Makefile."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shown = re.findall(
        r"(?:^(?:   )? +|`|\$ )make (?:PYTHON=\S+ )?([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert shown
    assert set() == set(shown) - set(targets)


def test_the_readme_names_every_setting_and_no_other() -> None:
    """The table of variables is that of ``Settings``."""
    assert fields() == set(VARIABLE.findall(README.read_text(encoding="utf-8")))


def test_the_example_environment_names_every_setting_and_is_valid() -> None:
    """``deploy/env.example`` is what ``Settings.read`` takes."""
    lines = [line for line in ENVIRONMENT.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    environment = dict(line.split("=", 1) for line in lines)

    settings = Settings.read(environment)

    assert fields() == set(environment)
    assert Settings.read({}).ingress_port == settings.ingress_port
    assert settings.database_url is not None


def test_every_configuration_that_the_readme_shows_is_valid(tmp_path: Path) -> None:
    """The ``toml`` blocks together are one ``penstock.toml`` with an account of each provider."""
    blocks = [block for _, language, block in FENCE.findall(README.read_text(encoding="utf-8")) if language == "toml"]
    text = "\n".join(blocks)
    (tmp_path / "secrets").mkdir()
    for number, name in enumerate(re.findall(r'"file:secrets/([\w-]+)"', text)):
        (tmp_path / "secrets" / name).write_text(f"whsec_{number:032}")  # also a key in base64
    file = tmp_path / "penstock.toml"
    file.write_text(text)

    accounts = read_configuration(file).accounts

    assert {"imin", "magicline", "paybook", "authenteq"} == set(accounts)
