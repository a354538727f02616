"""One page of metrics for all processes of an installation, put together from the files that each of them writes."""

import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector


_DEAD: Final = 0
"""The process id under which the counts of ended processes are kept."""


class _Files(MultiProcessCollector):
    """prometheus-client's own, with one file for all that have ended.

    It never forgets a file, and a worker's children are replaced all the time: each scrape would read more of them.
    """

    def __init__(self, registry: CollectorRegistry, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        super().__init__(registry, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """What all processes counted, and what those that live say of the present moment."""
        with self._lock:
            self._fold_the_dead()
            collected: Iterable[Metric] = super().collect()  # type: ignore[no-untyped-call]
            return collected

    def _fold_the_dead(self) -> None:
        for file in self._folder.glob("*.db"):
            kind, _, pid = file.stem.rpartition("_")
            if int(pid) == _DEAD or _lives(int(pid)):
                continue
            if kind in {"counter", "histogram"}:
                self._add(file, self._folder / f"{kind}_{_DEAD}.db")
            # Of a gauge nothing is kept: it told of a moment that has passed.
            file.unlink(missing_ok=True)

    @staticmethod
    def _add(file: Path, to: Path) -> None:
        sums: Counter[str] = Counter()
        for each in (file, to):
            if each.exists():
                found: Any = MmapedDict.read_all_values_from_file(str(each))  # type: ignore[no-untyped-call]
                for key, value, *_ in found:
                    sums[key] += value
        kept = MmapedDict(str(to))  # type: ignore[no-untyped-call]
        for key, value in sums.items():
            kept.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
        kept.close()  # type: ignore[no-untyped-call]


def page_of(folder: Path) -> CollectorRegistry:
    """What to serve for all processes whose PROMETHEUS_MULTIPROC_DIR is this folder."""
    registry = CollectorRegistry()
    _Files(registry, folder)
    return registry


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
