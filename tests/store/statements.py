"""Reads the statements that write or lock out of the code, and tells which of them have a bound.

What Postgres does with them is another matter (``plans.py``): here a statement is bounded when it says so itself.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shared.store.schema import metadata


_WRITES = re.compile(r"\bUPDATE\s+(?:ONLY\s+)?(\w+)\s+(?:AS\s+)?(?:\w+\s+)?SET\b|\bDELETE\s+FROM\s+(\w+)")
_LOCKS = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE)\b")
_FROM = re.compile(r"\bFROM\s+(\w+)")
_CTE = re.compile(r"\b(\w+)\s*(?:\([\w\s,]*\)\s*)?AS\s+(?:(?:NOT\s+)?MATERIALIZED\s+)?\(")
_ARGUMENT = r"(?:ANY\s*\(\s*(?:ARRAY\()?)?\$\d+"
_UNKNOWN = "dynamic"
"""In place of what an f-string puts in."""


class Statement(NamedTuple):
    """One write or lock: where it stands, of which table, and its text."""

    module: str
    name: str
    """The function or constant."""
    what: str
    clause: str
    ctes: Mapping[str, str]
    table: str

    @property
    def key(self) -> str:
        """As a table of exceptions names it."""
        return f"{self.module}:{self.name} {self.what}"


def statements(root: Path, *folders: str) -> Iterator[Statement]:
    """Every one in these folders' modules, migrations left out."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield from of_source(str(path.relative_to(root)), path.read_text())


def of_source(module: str, source: str) -> Iterator[Statement]:
    """Every one in a module's text."""
    for name, text in _texts(ast.parse(source)):
        ctes = {found[1]: _inside(text, found.end()) for found in _CTE.finditer(text)}
        for found in _WRITES.finditer(text):
            table = found[1] or found[2]
            what = f"{'UPDATE' if found[1] else 'DELETE'} {table}"
            yield Statement(module, name, what, _inside(text, found.start()), ctes, table)
        for found in _LOCKS.finditer(text):
            clause = _around(text, found.start())
            table = named[1] if (named := _FROM.search(clause)) else _UNKNOWN
            if re.search(r"\bSELECT\b", clause):  # not ON CONFLICT DO UPDATE, nor a sentence
                yield Statement(module, name, f"LOCK {table}", clause, ctes, table)


def is_bounded(statement: Statement) -> bool:
    """Whether a LIMIT, keys in its arguments, or a bounded part of the same statement says how many rows there are."""
    return _bounded(statement.clause, statement.table, statement.ctes, frozenset())


def _bounded(clause: str, table: str, ctes: Mapping[str, str], seen: frozenset[str]) -> bool:
    if re.search(r"\bLIMIT\b", clause):
        return True
    return any(all(_named(clause, column, ctes, seen) for column in key) for key in _keys(table))


def _named(clause: str, column: str, ctes: Mapping[str, str], seen: frozenset[str]) -> bool:
    """Whether arguments, or what is bounded itself, say which values of a column are meant."""
    if re.search(rf"\b{column}\s*=\s*{_ARGUMENT}", clause):
        return True
    # (a, b) IN (SELECT * FROM unnest($1, $2)), and columns of the same names in a list of arguments
    if re.search(rf"\([^()]*\b{column}\b[^()]*\)\s*IN\s*\(\s*SELECT\s+\*\s+FROM\s+unnest\(\s*\$", clause):
        return True
    sources = set(re.findall(rf"\b{column}\s*=\s*(\w+)\.\w+", clause))
    sources |= set(re.findall(rf"\b(\w+)\.\w+\s*=\s*(?:\w+\.)?{column}\b", clause))
    within = r"(?:IN\s*\(|=\s*ANY\s*\(\s*ARRAY\s*\()\s*SELECT\s+[\w.]+\s+FROM\s+(\w+)"
    sources |= set(re.findall(rf"\b{column}\s+{within}", clause))
    return any(_given(clause, name, ctes, seen) for name in sources)


def _given(clause: str, name: str, ctes: Mapping[str, str], seen: frozenset[str]) -> bool:
    """Whether this is a list of arguments, or a bounded part of the statement."""
    if re.search(rf"unnest\(\s*\$[^)]*\)\s*(?:AS\s+)?{name}\b", clause):
        return True
    aliased = re.findall(rf"(?:FROM|JOIN|USING|,)\s+(\w+)\s+(?:AS\s+)?{name}\b", clause)
    for source in (name, *aliased):
        if source not in ctes or source in seen:
            continue
        inner, met = ctes[source], seen | {source}
        if re.search(r"unnest\(\s*\$", inner):
            return True
        if written := _WRITES.search(inner):
            table = written[1] or written[2]
        else:
            table = found[1] if (found := _FROM.search(inner)) else _UNKNOWN
        if _bounded(inner, table, ctes, met) or _given(inner, table, ctes, met):
            return True
    return False


def _keys(table: str) -> list[tuple[str, ...]]:
    """The columns of a table that lead to one row."""
    keys = [("ctid",)]
    if table in metadata.tables:
        known = metadata.tables[table]
        keys.append(tuple(column.name for column in known.primary_key))
        keys += [tuple(column.name for column in index.columns) for index in known.indexes if index.unique]
    else:
        keys.append(("id",))
    return [key for key in keys if key]


@dataclass
class _Reading(ast.NodeVisitor):
    found: list[tuple[str, str]]
    name: str = "module"

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self.name = self.name, node.name
        self.generic_visit(node)
        self.name = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's name

    def visit_Assign(self, node: ast.Assign) -> None:
        self._assigned(node.targets[0], node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._assigned(node.target, node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        parts = [part.value if isinstance(part, ast.Constant) else _UNKNOWN for part in node.values]
        self.found.append((self.name, "".join(map(str, parts))))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.append((self.name, node.value))

    def _assigned(self, target: ast.expr, node: ast.AST) -> None:
        outer = self.name
        if isinstance(target, ast.Name) and outer == "module":
            self.name = target.id
        self.generic_visit(node)
        self.name = outer


def _texts(tree: ast.Module) -> list[tuple[str, str]]:
    """Every string with the function or constant that it stands in, comments of the SQL left out."""
    reading = _Reading([])
    reading.visit(tree)
    return [(name, re.sub(r"--[^\n]*", "", text)) for name, text in reading.found]


def _inside(text: str, start: int) -> str:
    """From ``start`` to the end of the parenthesis that it stands in."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth < 0:
            return text[start:place]
    return text[start:]


def _around(text: str, place: int) -> str:
    """The whole parenthesis that a place stands in."""
    depth = 0
    for start in range(place - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[start], 0)
        if depth < 0:
            return _inside(text, start + 1)
    return _inside(text, 0)
