"""Whose turn it is in a task that claims until nothing is left: suspects one at a time, between whole batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Claimed(Protocol):
    """An event or a fetch, claimed."""

    @property
    def suspect(self) -> bool:
        """Whether it was claimed alone, because a worker died while it held it."""


@dataclass(slots=True)
class Turns:
    """After each suspect it is the others' turn, so that a row of slow suspects holds nobody up."""

    left: bool = True
    """Whether there may be more to claim."""
    first: bool = True
    """Whether the batch that the task's message names is still to be claimed."""
    suspects: bool = True
    """Whether the next claim may take a suspect."""

    def took(self, claimed: Sequence[Claimed]) -> None:
        """Tell what the last claim took."""
        was_suspect = bool(claimed) and claimed[0].suspect
        self.left = bool(claimed) or not self.suspects
        self.first = self.first and was_suspect
        self.suspects = not was_suspect
