"""Opened inside ``with``, and every background task is watched: what the code of long-running processes may not do.

A connection that a retry loop opens is closed by the round that opened it; a task that runs beside the work is one of
``shared.background.Background``, or of a ``TaskGroup``, or its result is read.
"""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
FILES = sorted(file for room in ("ingress", "workers", "shared") for file in (ROOT / room).rglob("*.py"))

WATCHED_OTHERWISE = {
    "shared/background.py": "it is what watches",
    "workers/hand_over/delivering.py": "the results are read as they come in, and the rest is cancelled",
}
CLOSED_OTHERWISE = {
    "workers/relay/relay.py": "one pool for all duties: the round that has it is the last",
}
OPENERS = ("open_", "connect_", "create_pool")
CLOSERS = ("callback", "push_async_callback", "push_async_exit", "enter_async_context")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_task_is_left_to_itself_and_no_connection_to_the_next_round(file: Path) -> None:
    """Neither is in the code."""
    name = str(file.relative_to(ROOT))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert name in WATCHED_OTHERWISE or [] == list(_unwatched(tree))
    assert name in CLOSED_OTHERWISE or [] == list(_left_open(tree))


@pytest.mark.parametrize(
    "code",
    [
        "asyncio.create_task(work())",
        "self.task = asyncio.create_task(work())",
        "tasks = [asyncio.ensure_future(work()) for _ in range(3)]",
        "asyncio.get_running_loop().create_task(work())",
        "loop.create_task(work())",
        "self._loop.create_task(work())",
    ],
)
def test_a_task_that_nobody_watches_is_found(code: str) -> None:
    """However it is made."""
    assert [1] == list(_unwatched(ast.parse(code)))


def test_the_tasks_of_a_group_are_watched() -> None:
    """Whatever its name, it is not asyncio's own way to make one, nor a loop's."""
    assert [] == list(_unwatched(ast.parse("tasks.create_task(work())\nself._tasks.create_task(work())")))


_IN_A_LOOP = (
    "async def run(self):\n    while True:\n        try:\n            {}\n        except OSError:\n            pass\n"
)


@pytest.mark.parametrize(
    "code",
    [
        "self.pool = await open_pool(url)",
        "pool = pool or await open_pool(url)",
        "self.one, self.two = await open_pool(url), await asyncpg.create_pool(url)",
        "connection = await connect_once(url); await connection.execute('SELECT 1')",
        "await use(await connect_once(url))",
    ],
)
def test_a_connection_that_a_round_leaves_open_is_found(code: str) -> None:
    """The next round opens another one."""
    assert list(_left_open(ast.parse(_IN_A_LOOP.format(code))))


@pytest.mark.parametrize(
    "code",
    [
        "connection = await connect_once(url)\n            try: pass\n            finally: connection.terminate()",
        "pool = await open_pool(url)\n            opened.callback(pool.terminate)",
        "async with await connect_once(url) as connection:\n                pass",
    ],
)
def test_a_connection_that_its_round_closes_is_right(code: str) -> None:
    """By ``finally``, by an exit stack, or by ``with``."""
    assert [] == list(_left_open(ast.parse(_IN_A_LOOP.format(code))))


def _unwatched(tree: ast.AST) -> Iterator[int]:
    """The lines that make a task outside of a group."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = ast.unparse(node.func.value)
            by_itself = of == "asyncio" or of.endswith(("loop", "loop()"))
            if node.func.attr in {"create_task", "ensure_future"} and by_itself:
                yield node.lineno


def _left_open(tree: ast.AST) -> Iterator[int]:
    """The lines in loops that open something which is not closed by the block that opened it."""
    for loop in ast.walk(tree):
        if isinstance(loop, ast.While | ast.For | ast.AsyncFor):
            for block in _blocks(loop):
                for statement, following in pairwise([*block, None]):
                    if statement and _opens(statement) and not _is_closed_by(following):
                        yield statement.lineno


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for inner in ast.walk(node):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(inner, name, None)
            if isinstance(block, list):
                yield block


def _opens(statement: ast.stmt) -> bool:
    """Whether the statement itself, not one within it, opens something and lets it go on."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr):
        return False
    return any(
        isinstance(node, ast.Await)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).rpartition(".")[2].startswith(OPENERS)
        for node in ast.walk(statement)
    )


def _is_closed_by(following: ast.stmt | None) -> bool:
    if isinstance(following, ast.Try):
        return bool(following.finalbody)
    return (
        isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Call)
        and isinstance(following.value.func, ast.Attribute)
        and following.value.func.attr in CLOSERS
    )
