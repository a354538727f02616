"""What a check found: a line for people."""

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One line: ``fix`` needs doing, ``advice`` would be better done, ``ok`` is as it should be."""

    level: Literal["ok", "advice", "fix"]
    item: str
    sentence: str


def ok(item: str, sentence: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", item, sentence)


def advice(item: str, sentence: str) -> Finding:
    """It works; the sentence says what would be better."""
    return Finding("advice", item, sentence)


def fix(item: str, sentence: str) -> Finding:
    """It does not work; the sentence says what to do."""
    return Finding("fix", item, sentence)
