"""``docs/reference/settings.md``, from the settings' own classes: their fields, bounds, defaults and docstrings."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise

from pydantic import BaseModel

from ops.reference.pages import page, prose, table
from ops.reference.words import section_of, takes, unless_set
from shared.configuration import FollowingUp, Freshness, OfFile, Retry, Timing
from shared.console_access import ConsoleAccess
from shared.handlers.settings import Handler
from shared.providers.account import Budget, Section
from shared.providers.registry import PROVIDERS
from shared.schedules import Reconcile, Retention, Watch
from shared.settings import Settings


_HEAD = ("setting", "takes", "default", "meaning")

_INTRODUCTION = """\
# Settings

This page is made from the settings' classes in `shared/`; `make docs` renews it.

Accounts, handlers and how things are done are in a file, `penstock.toml`. Where the stores are, and which ports are
used, is in the environment."""

_ENVIRONMENT = """\
## Environment

`deploy/env.example` names each variable once. Lists are separated by commas. A port of 0 takes any free one. Of
each variable `PENSTOCK_X`, `PENSTOCK_X_FILE` may name a file that holds the value, as containers are handed secrets."""

_OTHERS = (
    (
        "`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` ...",
        "the blob store, where `PENSTOCK_BLOB_URL` is an `s3://` address",
    ),
    (
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_...`",
        "[traces](../../deploy/monitoring/README.md#traces), which are off unless the first is set",
    ),
    ("`PENSTOCK_DEBUG`", "the command line: `1` shows where an error came from, beside its sentence"),
)

_FILE = """\
## penstock.toml

- A value `"file:secrets/key"` is read from that file, relative to `penstock.toml`; `"env:KEY"` from the environment;
  any other is taken as it stands.
- The file is watched, and so are the files that it names: a change takes effect within 5 s, without a restart. A change
  of an `env:` value needs one.
- An unknown section or field, an empty secret, a key that two accounts share and a webhook key that equals an API key
  are refused, each with a sentence that names it. While processes run they keep the old settings, and the log and
  `penstock check` say why."""


def settings_page() -> str:
    """The whole page, in Markdown."""
    others = table(("variable", "read by"), _OTHERS)
    return page(_INTRODUCTION, _ENVIRONMENT, _environment(), "### Variables of others", others, _FILE, *_sections())


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Each field -> the docstring below it, those of the classes it inherits from included.

    Read from the source here, rather than by pydantic in every process that reads settings.
    """
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls.__module__.partition(".")[0] == "pydantic":
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for statement, following in pairwise(body):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found


def _environment() -> str:
    return table(("variable", *_HEAD[1:]), _rows(Settings, lambda name: f"PENSTOCK_{name.upper()}"))


def _rows(model: type[BaseModel], shown: Callable[[str], str] = str) -> Iterator[tuple[str, str, str, str]]:
    """A row for each field. Raises TypeError for one without a docstring."""
    meaning = meanings(model)
    for name, field in model.model_fields.items():
        if name not in meaning:
            raise TypeError(f"{model.__name__}.{name} has no docstring below it: say there what it means")
        yield f"`{shown(name)}`", takes(field), unless_set(field), prose(meaning[name])


def _sections() -> Iterator[str]:
    for name, provider in PROVIDERS.items():
        yield from _section(f"[[{name}.accounts]]", provider.account)
    yield from _section(
        "budget = { ... }", Budget, "Of an account, or of a handler: `budget = { calls = 60, seconds = 60 }`."
    )
    yield from _section(
        "[PROVIDER]",
        Freshness,
        "`[imin]`, `[magicline]` and so on. A provider's section also takes `retry` and `retention`.",
    )
    yield from _section(
        "[retry]",
        Retry,
        "For every provider and for hand-overs; `[imin.retry]` and its like override it for one provider.",
    )
    yield from _section("[following_up]", FollowingUp)
    yield from _section("[[handlers]]", Handler, "[Handlers](../handlers.md) tells what they are.")
    yield from _section("[reconcile]", Reconcile)
    yield from _section("[watch]", Watch)
    yield from _section("[retention]", Retention)
    yield from _section("[console]", ConsoleAccess)
    yield from _section("[timing]", Timing)
    yield from _section("[settings]", OfFile)


def _section(title: str, section: type[Section], more: str = "") -> Iterator[str]:
    """A section, and below it those that stand in it; a budget has a place of its own."""
    yield f"### `{title}`"
    yield prose(inspect.getdoc(section) or "")
    yield more
    yield table(_HEAD, _rows(section))
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if inner is not None and inner is not Budget:
            yield from _section(_inside(title, name), inner)


def _inside(title: str, name: str) -> str:
    if title.startswith("[["):
        return f"{name} = {{ ... }}"
    within = title.strip("[]")
    return f"[[{within}.{name}]]" if name == "users" else f"[{within}.{name}]"
