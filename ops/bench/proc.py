"""What the kernel counts of processes: CPU time, memory, descendants (``man 5 proc``)."""

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final


_TICKS: Final = os.sysconf("SC_CLK_TCK")
_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)
_RESET_PEAK: Final = "5"


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(*_GONE):
                children.setdefault(int(_fields(int(folder.name))[1]), []).append(int(folder.name))
    found, new = [pid], [pid]
    while new:
        new = [child for parent in new for child in children.get(parent, ())]
        found += new
    return found


def cpu_seconds(pids: Iterable[int], *, ended: bool = False) -> float:
    """CPU time that these processes have used so far, in user and system mode; ``ended``: their ended children too."""
    counted = slice(11, 15) if ended else slice(11, 13)
    ticks = 0
    for pid in pids:
        with suppress(*_GONE):
            ticks += sum(map(int, _fields(pid)[counted]))
    return ticks / _TICKS


def machine_seconds() -> float:
    """CPU time that the whole machine has used so far, by whomever; what another guest took of it counts too.

    Without interrupts: nearly all of theirs is the bench's own traffic over the loopback, charged to no process.
    """
    user, nice, system, _idle, _iowait, _irq, _softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    )
    return (user + nice + system + steal) / _TICKS


def own_seconds() -> float:
    """CPU time of this process and of all that it started, whether they still run or have been waited for."""
    return cpu_seconds(family(os.getpid()), ended=True)


class Company:
    """Who else works on this machine, from the making of this on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._others = machine_seconds() - own_seconds()

    def share(self) -> float:
        """How much of a core all other programs have used since, on average."""
        used = machine_seconds() - own_seconds() - self._others
        return max(0.0, used) / (time.monotonic() - self._began)


def pss_bytes(pids: Iterable[int]) -> int:
    """Their memory, each shared page divided among those that share it."""
    return sum(_kilobytes(pid, "smaps_rollup", "Pss") for pid in pids) * 1024


def rss_bytes(pid: int) -> int:
    """A process's resident memory now."""
    return _kilobytes(pid, "status", "VmRSS") * 1024


def peak_bytes(pid: int) -> int:
    """The most resident memory that a process ever had, or had since ``forget_peak``; 0 when it is gone."""
    return _kilobytes(pid, "status", "VmHWM") * 1024


def forget_peak(pid: int) -> None:
    """Let ``peak_bytes`` count from now on."""
    with suppress(*_GONE):
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def _fields(pid: int) -> Sequence[str]:
    """Of ``stat``: what follows the name; 0 state, 1 parent, 11 and 12 CPU ticks, 13 and 14 those of ended children."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _kilobytes(pid: int, file: str, name: str) -> int:
    with suppress(*_GONE):
        for line in Path(f"/proc/{pid}/{file}").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0
