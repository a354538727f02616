"""``penstock``: everything that operators type. One module a command; each is imported when it is called."""

import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from ops.cli.examples import examples
from shared.errors import PenstockError
from shared.strangers import withhold


class _Entry(NamedTuple):
    module: str
    panel: str
    help: str


_RUN = "Run"
_LOOK = "Look"
_ACT = "Act"
_TRY = "Try out"

COMMANDS = {
    "up": _Entry("up", _RUN, "Run everything on this machine under one supervisor."),
    "ingress": _Entry("ingress", _RUN, "Receive webhooks."),
    "worker": _Entry("worker", _RUN, "Follow up the events of the named providers."),
    "relay": _Entry("relay", _RUN, "Queue again whatever is due."),
    "console": _Entry("console", _RUN, "Serve the console, for a browser."),
    "flower": _Entry("flower", _RUN, "Serve flower: queues and tasks, for a browser."),
    "migrate": _Entry("migrate", _RUN, "Bring the database to the schema of this version."),
    "roles": _Entry("roles", _RUN, "Print the SQL of the processes' database roles."),
    "status": _Entry("status", _LOOK, "Show the processes of the running installation."),
    "check": _Entry("check", _LOOK, "Test every setting, store and credential."),
    "stats": _Entry("stats", _LOOK, "Count events and calls per provider."),
    "events": _Entry("events", _LOOK, "List, show, replay and discard events."),
    "records": _Entry("records", _LOOK, "List the newest known state of things."),
    "changes": _Entry("changes", _LOOK, "Read the change feed."),
    "handlers": _Entry("handlers", _LOOK, "List, explain and resume handlers; print record schemas."),
    "handovers": _Entry("handovers", _LOOK, "List, explain, replay and discard hand-overs."),
    "replays": _Entry("replays", _LOOK, "List replays: who, why, and how far."),
    "accounts": _Entry("accounts", _LOOK, "List accounts and their budgets."),
    "reconcile": _Entry("reconcile", _ACT, "Find and repair what no delivery told of."),
    "quarantine": _Entry("quarantine", _ACT, "List refused deliveries and let in what a mended key proves."),
    "paybook": _Entry("paybook", _ACT, "List, create, delete and watch webhooks at Paybook."),
    "backup": _Entry("backup", _ACT, "Write the database and the blobs of one moment into a folder."),
    "restore": _Entry("restore", _ACT, "Put a backup into an empty installation, or try that it works."),
    "keys": _Entry("keys", _ACT, "Make and rotate encryption keys."),
    "erase": _Entry("erase", _ACT, "Remove everything of one customer or one account."),
    "lab": _Entry("lab", _TRY, "Run the provider lab and send sample deliveries."),
    "bench": _Entry("bench", _TRY, "Measure Penstock beside its yardsticks."),
    "chaos": _Entry("chaos", _TRY, "Play faults against a throw-away installation and count what is lost."),
}
"""name -> the module of this package that holds the command, and its line in the help.

Such a module has ``app = typer.Typer(add_completion=False)`` with one command, or with a callback and several.
"""


_SERVERS = frozenset({"ingress", "worker", "relay", "console", "flower"})


_SCREENS = frozenset({"rich.console", "rich.pretty", "rich.progress", "rich.traceback"})
"""structlog and httpx load them for a screen of their own wherever they find them (``structlog/dev.py``,
``httpx/_main.py``): 4 MB of every process that serves and shows nothing."""

_TELEMETRY = frozenset({"opentelemetry"})
"""redis loads it for figures of its own that nobody asks for (``redis/observability``): 3 MB of every process. Where
traces are wanted, ``shared.tracing`` loads it afterwards."""


_NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
"""pydantic looks through every installed package for plugins when the first model is made: 60 ms of every start. Ours
need none; an application's handlers, which are imported later, get theirs."""


@contextmanager
def _without(modules: frozenset[str]) -> Iterator[None]:
    """Import as if these, and plugins of pydantic, were not installed."""
    hidden = modules - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: the import system's "not there"
    plugins = os.environ.get(_NO_PLUGINS)
    os.environ[_NO_PLUGINS] = "__all__"
    try:
        yield
    finally:
        if plugins is None:
            del os.environ[_NO_PLUGINS]
        else:
            os.environ[_NO_PLUGINS] = plugins
        for name in hidden:
            del sys.modules[name]


def load(name: str) -> Any:
    """Import a command's module, without what it has no use for."""
    with _without(_TELEMETRY | _SCREENS if name in _SERVERS else _TELEMETRY):
        return import_module(f"{__name__}.{COMMANDS[name].module}")


class _OnDemand(TyperGroup):
    """Shows names and summaries from the table, and imports a command's module when that command is called.

    What Click calls lazily loaded subcommands (https://click.palletsprojects.com/en/stable/complex/). The stand-ins are
    enough for help and for suggestions after a typing error; calls and shell completion both go through
    ``resolve_command``.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=entry.help, rich_help_panel=entry.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, stand_in, rest = super().resolve_command(ctx, args)
        if name is None or stand_in is None:
            return name, stand_in, rest
        command = typer.main.get_command(load(name).app)
        return name, command, rest


app = typer.Typer(
    name="penstock",
    cls=_OnDemand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("penstock up --demo", "penstock stats", "penstock events list --state failed"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {version('penstock')}")
        raise typer.Exit


@app.callback()
def penstock(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Takes webhooks in, acknowledges each within milliseconds, and follows each one up.

    Settings come from PENSTOCK_... variables and penstock.toml; in the folder of a running `penstock up`, or with its
    PENSTOCK_DATA_DIR, every command finds the stores by itself.
    """


def main() -> None:
    """The program. An error is one sentence on standard error: exit status 1, or 2 for bad usage."""
    withhold()
    if "PYTHONWARNINGS" in os.environ:
        # Under "error" a library's notice of what it will drop one day would be the end of a process.
        warnings.simplefilter("default")
    for stream in (sys.stdout, sys.stderr):
        # Where the locale or PYTHONIOENCODING says ASCII or Latin 1, a name may hold what they have no letter for.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="penstock")
    except KeyboardInterrupt:
        sys.exit(130)
    except PenstockError as error:
        _end_with(str(error))
    except Exception as error:  # noqa: BLE001 - the last resort: an operator gets a sentence, never a traceback
        what = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1])
        _end_with(f"something unexpected went wrong ({what}); PENSTOCK_DEBUG=1 shows where")


def _end_with(sentence: str) -> NoReturn:
    if os.environ.get("PENSTOCK_DEBUG"):
        traceback.print_exc()
    sys.stderr.write(f"penstock: {sentence}\n")
    sys.exit(1)
