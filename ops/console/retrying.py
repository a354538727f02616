"""Retrying many events in the background, and how far it has come.

Each batch is a transaction: what was done stays done if the console stops, and the rest stays as it was.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from ops.cli.store import writing_store
from shared.errors import PenstockError
from shared.settings import Settings
from shared.store import replaying
from shared.store.selecting import Selection


_KEPT: Final = 50


class TooMany(PenstockError):
    """Another retry is under way: one at a time, so that live traffic comes through."""


@dataclass(slots=True)
class Retry:
    """One bulk retry; ``ended_at`` is None while it runs, ``problem`` says why it ended early."""

    number: int
    what: str
    total: int
    who: str
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    outcomes: Counter[replaying.Outcome] = field(default_factory=Counter)
    ended_at: datetime | None = None
    problem: str | None = None

    @property
    def handled(self) -> int:
        """Events so far, whatever became of them."""
        return self.outcomes.total()


class Retries:
    """The last fifty, by number, in this process's memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._numbers = itertools.count(1)
        self._kept: dict[int, Retry] = {}
        self._task: asyncio.Task[None] | None = None

    def get(self, number: int) -> Retry | None:
        """The retry of this number, if it is still known."""
        return self._kept.get(number)

    def start(self, selections: Sequence[Selection], *, what: str, total: int, who: str, note: str) -> Retry:
        """Begin one. Raises TooMany while another runs."""
        if self._task is not None and not self._task.done():
            raise TooMany("Another retry is under way; begin this one when it has ended.")
        retry = Retry(next(self._numbers), what, total, who)
        self._kept[retry.number] = retry
        for old in list(self._kept)[:-_KEPT]:
            del self._kept[old]
        self._task = asyncio.create_task(self._run(retry, selections, note))
        return retry

    async def close(self) -> None:
        """Stop after the batch that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, retry: Retry, selections: Sequence[Selection], note: str) -> None:
        try:
            async with writing_store(self._settings) as connection:
                for selection in selections:
                    async for batch in replaying.replay(connection, selection, note=note):
                        retry.outcomes.update(event.outcome for event in batch)
        except PenstockError as error:
            retry.problem = str(error)
        except Exception as error:  # noqa: BLE001 - its page says that it ended, whatever ended it
            retry.problem = "it ended unexpectedly; the console's log says why"
            structlog.get_logger("penstock.console").exception("a retry ended", reason=type(error).__name__)
        finally:
            retry.ended_at = datetime.now(UTC)
