"""Terminals that a document is typed into, command by command, as a reader does."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from support.conditions import HANG_SECONDS


FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(Add to the end of|Put [^`]* into)\s+`([^`]+)`:\s*\Z")
LOOKS = ("python welcome.py", "penstock handlers list")
"""Commands that change nothing: typed again until they show what they should, as a reader would."""


class Command(NamedTuple):
    """What is typed, and the lines that are shown below it."""

    line: str
    shown: str


class File(NamedTuple):
    """What is put into a file, or added to its end."""

    name: str
    content: str
    added: bool


def steps(text: str) -> Iterator[Command | File]:
    """What a document has its reader do, in order: ``console`` blocks, and blocks after ``put this into `name`:``."""
    for block in FENCE.finditer(text):
        language, content = block.groups()
        if language == "console":
            for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                line, _, shown = part.partition("\n")
                yield Command(line, shown)
        else:
            named = FILE.search(text[: block.start()])
            assert named, f"nobody says where this goes:\n{content}"
            yield File(named[2], content, added=named[1].startswith("Add"))


def pattern(shown: str) -> re.Pattern[str]:
    """What an output looks like: any number for a number, any spaces for spaces, anything, or nothing, for "..."."""
    lines = []
    for line in shown.splitlines():
        words = re.split(r"(\d[\d.]*|\s+|\.\.\.)", line.strip())
        lines.append("".join(_part(word) for word in words))
    return re.compile(r"\s*\n(?:.*\n)*?\s*".join(line for line in lines if line != ".*"))


def _part(word: str) -> str:
    if word == "...":
        return ".*"
    if word[:1].isdigit():
        return r"\d[\d.]*"
    return r"\s+" if word.isspace() else re.escape(word)


class Terminal:
    """A shell in a folder. What it prints is kept."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._printed = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._typed = 0

    @property
    def printed(self) -> str:
        """All that was ever printed here."""
        return self._printed.decode(errors="replace")

    def type(self, command: Command) -> None:
        """Type it and wait until it has printed what is shown. One that shows nothing, or ends early, must go well."""
        wanted = pattern(command.shown)
        deadline = time.monotonic() + HANG_SECONDS
        status = self._enter(command.line)
        while True:
            output, ended = self._since(status)
            if ended is not None:
                assert 0 == ended, f"$ {command.line}\n{output}"
            if wanted.search(output) and (wanted.pattern or ended is not None):
                return
            assert time.monotonic() < deadline, f"$ {command.line}\n{output}\ndoes not look like\n{command.shown}"
            time.sleep(0.1)
            if ended is not None and command.line.startswith(LOOKS):
                time.sleep(0.5)
                status = self._enter(command.line)

    def interrupt(self) -> None:
        """Ctrl-C, and then the end of the shell; what hangs is killed."""
        os.killpg(self._shell.pid, signal.SIGINT)
        assert self._shell.stdin
        self._shell.stdin.close()
        try:
            self._shell.wait(HANG_SECONDS)
        finally:
            if self._shell.poll() is None:
                os.killpg(self._shell.pid, signal.SIGKILL)
                self._shell.wait()
            self._reader.join(HANG_SECONDS)
            assert self._shell.stdout
            self._shell.stdout.close()

    def _enter(self, line: str) -> tuple[int, str]:
        self._typed += 1
        mark = f"typed-{self._typed}-ended-with"
        began = len(self._printed)
        assert self._shell.stdin
        self._shell.stdin.write(f"{line}\necho {mark} $?\n".encode())
        self._shell.stdin.flush()
        return began, mark

    def _since(self, typed: tuple[int, str]) -> tuple[str, int | None]:
        """What was printed since, and the exit status when it has ended."""
        began, mark = typed
        output = self._printed[began:].decode(errors="replace")
        ended = re.search(rf"^{mark} (\d+)$", output, re.MULTILINE)
        return (output[: ended.start()], int(ended[1])) if ended else (output, None)

    def _read(self) -> None:
        assert self._shell.stdout
        while chunk := os.read(self._shell.stdout.fileno(), 65536):
            self._printed += chunk
