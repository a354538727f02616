"""What people read of the results: a table, and below it what is wrong."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.chaos.verdict import Result


_COLUMNS = (
    "sent",
    "acknowledged",
    "spooled",
    "stored",
    "finished",
    "lost",
    "altered",
    "doubled",
    "refused",
    "unanswered",
    "ack p50",
    "ack p99",
    "slowest answer",
    "taken up",
    "drained",
    "finished after",
)
_COUNTS = _COLUMNS[:10]


def failed(results: Sequence[Result], *, patient: bool = False) -> bool:
    """Whether anything was lost, doubled, altered, wrongly refused or not finished; or late, unless ``patient``."""
    return any(result.why or (result.late and not patient) for result in results)


def show(results: Sequence[Result], page: Console) -> None:
    """The table, then a line for each thing that went wrong, then the sum."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("scenario")
    table.add_column("seed", justify="right")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("")
    for result in results:
        table.add_row(*_cells(result))
    page.print(table)
    for result in results:
        for reason in (*result.why, *(f"slow: {reason}" for reason in result.late)):
            page.print(f"{result.scenario}/{result.seed}  {reason}")
        if result.skipped:
            page.print(f"{result.scenario}/{result.seed}  skipped: {result.skipped}")
    page.print(summary(results))


def summary(results: Sequence[Result]) -> str:
    """One sentence over all results."""
    played = [result for result in results if not result.skipped]
    acknowledged, lost, doubled, altered = (
        sum(getattr(result, name) for result in played) for name in ("acknowledged", "lost", "doubled", "altered")
    )
    wrong = [f"{result.scenario}/{result.seed}" for result in played if result.why]
    late = [f"{result.scenario}/{result.seed}" for result in played if result.late and not result.why]
    ends = [f"not as promised: {', '.join(wrong)}"] * bool(wrong) + [f"only slow: {', '.join(late)}"] * bool(late)
    end = "; ".join(ends) or "all as promised"
    count = f"{len(played)} scenarios, {acknowledged:,} events acknowledged"
    return f"{count}: {lost} lost, {altered} altered, {doubled} doubled; {end}"


def _cells(result: Result) -> list[str | Text]:
    if result.skipped:
        return [result.scenario, str(result.seed), *("-" for _ in _COLUMNS), Text("skipped", style="yellow")]
    counts = [f"{getattr(result, name):,}" for name in _COUNTS]
    answers = [f"{milliseconds:,.0f} ms" for milliseconds in (result.p50_ms, result.p99_ms, result.slowest_ms)]
    measured = [
        "" if seconds is None else f"{seconds:.1f} s" for seconds in (result.taken_up_seconds, result.drained_seconds)
    ]
    finished = "never" if result.recovered_seconds is None else f"{result.recovered_seconds:.1f} s"
    verdict = Text("ok", style="green") if result.passed else Text("slow", style="yellow")
    if result.why:
        verdict = Text("FAILED", style="bold red")
    return [result.scenario, str(result.seed), *counts, *answers, *measured, finished, verdict]
