"""Pieces of Markdown that the generated pages are made of."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar within a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def prose(docstring: str) -> str:
    """A docstring's words as Markdown: double backticks become single ones, lines of a paragraph become one."""
    paragraphs = re.split(r"\n\s*\n", docstring.strip())
    return "\n\n".join(" ".join(paragraph.replace("``", "`").split()) for paragraph in paragraphs)


def page(*parts: str) -> str:
    """The parts, an empty line between two of them."""
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
