"""The tutorial works as it is written, from an empty folder: its files and commands are taken out of the document."""

import contextlib
import re
import socket
import sqlite3
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from handlers.terminals import Command, File, Terminal, steps
from installation import ROOT, clean_environment
from support.conditions import until


TUTORIAL = ROOT / "docs" / "tutorial" / "README.md"
PORT = "8700"
"""The receiver's, in the document; here it is a free one."""

ACTIVATE = ". .venv/bin/activate"
"""What is typed into each terminal before anything of Penstock."""


def _environment() -> Mapping[str, str]:
    """No index is asked: the new environment sees the libraries that are installed here, and installs the rest."""
    ports = {f"PENSTOCK_{name}_PORT": "0" for name in ("INGRESS", "CONSOLE", "FLOWER", "METRICS")}
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads a false "no" as "no"
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    kept = {name: value for name, value in clean_environment().items() if name != "VIRTUAL_ENV"}
    return {**kept, **ports, **offline}


@contextlib.contextmanager
def _typed(text: str, folder: Path) -> Iterator[list[Terminal]]:
    """The whole document done; ``penstock up`` and the receiver still run in their terminals."""
    terminals = [Terminal(folder, _environment())]
    activated = False
    try:
        for step in steps(text):
            match step:
                case File(name, content, added):
                    with (folder / name).open("a" if added else "x") as file:
                        file.write(content)
                case Command(line, _):
                    if line == ACTIVATE and activated:
                        terminals.append(Terminal(folder, _environment()))
                    activated = activated or line == ACTIVATE
                    terminals[-1].type(step)
        yield terminals
    finally:
        for terminal in reversed(terminals):
            terminal.interrupt()


def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    """Each customer has one message, although every change came again; the receiver knows each again, and a forgery."""
    (tmp_path / "penstock").symlink_to(ROOT)
    folder = tmp_path / "club"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        text = TUTORIAL.read_text(encoding="utf-8").replace(PORT, str(free.getsockname()[1]))
    with _typed(text, folder) as terminals:
        heard = terminals[1]

        def came() -> dict[str, Counter[str]] | None:
            lines = re.findall(r"^(new|again) (.+)$", heard.printed, re.MULTILINE)
            found = {said: Counter(what for each, what in lines if each == said) for said in ("new", "again")}
            return found if found["again"] else None

        assert until(came, otherwise=lambda: heard.printed)
    with contextlib.closing(sqlite3.connect(folder / "club.sqlite")) as club:
        messages = club.execute("SELECT studio, customer, count(*) FROM messages GROUP BY 1, 2").fetchall()
        (again,) = club.execute("SELECT count(*) FROM seen WHERE times > 1").fetchone()
        (customers,) = club.execute("SELECT count(*) FROM customers").fetchone()
    assert {1} == {count for _, _, count in messages}
    assert customers == len(messages)
    assert again >= 3
