"""``docs/reference/commands.md``, from the command line itself: its help, arguments, options and examples."""

import re
from collections.abc import Iterator
from importlib import import_module

import typer
from rich.markup import render
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from ops.cli import COMMANDS
from ops.reference.pages import page, prose, table


Command = TyperCommand | TyperGroup

_INTRODUCTION = """\
# Commands

This page is made from the command line's own help; `make docs` renews it. `penstock --help` and
`penstock events list --help` show the same in a terminal, and `penstock --install-completion` has the shell complete
commands and options.

In the folder of a running `penstock up`, or with its `PENSTOCK_DATA_DIR`, every command finds the stores by itself;
elsewhere the [variables](settings.md#environment) name them. Times are UTC. A `TIME` is such as `2026-05-01T12:00Z`, or
an age: `90s`, `15m`, `2h`, `7d`. With `--json` a command prints one JSON object a line. The exit status is 0, 1 (not
found, or refused) or 2 (bad usage); an error is one sentence on standard error."""

_TAKES = {
    "str": "text",
    "int": "whole number",
    "int range": "whole number",
    "float": "number",
    "float range": "number",
    "path": "path",
    "UUID": "id",
    "list[str]": "text",
    "list[int]": "whole number",
    "list[UUID]": "ids",
}
"""What Typer calls the type of a parameter -> the same in plain words."""


def commands_page() -> str:
    """The whole page, in Markdown."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, entry in COMMANDS.items():
        panels.setdefault(entry.panel, []).append((f"[`penstock {name}`](#penstock-{name})", entry.help))
    summary = table(("", "command", ""), ((panel, *line) for panel, lines in panels.items() for line in lines))
    return page(_INTRODUCTION, summary, *_all())


def command_of(name: str) -> Command:
    """The command that is typed as ``penstock <name>``."""
    command = typer.main.get_command(import_module(f"ops.cli.{COMMANDS[name].module}").app)
    if not isinstance(command, Command):
        raise TypeError(f"penstock {name} is no command of Typer's")
    return command


def _all() -> Iterator[str]:
    for name in COMMANDS:
        yield f"## penstock {name}"
        yield from _described(f"penstock {name}", command_of(name))


def _described(path: str, command: Command) -> Iterator[str]:
    context = typer.Context(command, info_name=path)
    inner = command.commands if isinstance(command, TyperGroup) else {}
    yield prose(command.help or "")
    if not inner or (isinstance(command, TyperGroup) and command.invoke_without_command):
        yield f"```text\n{_synopsis(path, command)}\n```"
    yield _parameters(command, context)
    yield _examples(command.epilog or "")
    for name, each in inner.items():
        if not isinstance(each, Command):
            raise TypeError(f"{path} {name} is no command of Typer's")
        yield f"### {path} {name}"
        yield from _described(f"{path} {name}", each)


def _synopsis(path: str, command: Command) -> str:
    arguments = [_argument(each) for each in command.params if isinstance(each, TyperArgument)]
    options = any(isinstance(each, TyperOption) and not each.hidden for each in command.params)
    return " ".join([path, *arguments, *(["[OPTIONS]"] if options else [])])


def _argument(argument: TyperArgument) -> str:
    name = argument.metavar or argument.name.upper()
    if argument.nargs != 1 and not name.endswith("..."):
        name = f"{name}..."
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _parameters(command: Command, context: typer.Context) -> str:
    rows = [
        _row(each, context)
        for each in command.params
        if isinstance(each, TyperArgument | TyperOption) and not each.hidden
    ]
    return table(("argument or option", "takes", "default", "meaning"), rows) if rows else ""


def _row(parameter: TyperArgument | TyperOption, context: typer.Context) -> tuple[str, str, str, str]:
    name = _argument(parameter) if isinstance(parameter, TyperArgument) else "`, `".join(_flags(parameter))
    return f"`{name}`", _takes(parameter, context), _unless_given(parameter), parameter.help or ""


def _unless_given(parameter: TyperArgument | TyperOption) -> str:
    if parameter.required:
        return "required"
    if parameter.secondary_opts:
        return f"`{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`"
    return "" if parameter.default in {None, False, ""} else f"`{parameter.default}`"


def _flags(option: TyperOption) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def _takes(parameter: TyperArgument | TyperOption, context: typer.Context) -> str:
    if isinstance(parameter, TyperOption) and parameter.is_flag:
        return ""
    if isinstance(parameter, TyperOption) and parameter.metavar:
        return f"`{parameter.metavar}`"
    kind = parameter.display_type(context).strip("<>")
    if parameter.type_descriptor.is_choice:
        return ", ".join(f"`{choice}`" for choice in re.sub(r"^list\[|\]$", "", kind).split("|"))
    if kind not in _TAKES:
        raise TypeError(f"there is no word for {kind}, which {parameter.name} takes")
    bounds = [f"at least {parameter.min:,}"] if parameter.min is not None else []
    if parameter.max is not None:
        bounds = [f"{parameter.min or 0:,} to {parameter.max:,}"]
    return ", ".join([_TAKES[kind], *bounds])


def _examples(epilog: str) -> str:
    lines = [line.strip() for line in render(epilog).plain.splitlines()[1:]]
    return "```sh\n" + "\n".join(lines) + "\n```" if lines else ""
