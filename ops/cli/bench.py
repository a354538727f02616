"""``penstock bench``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from ops.bench.picture import shown
from ops.bench.results import Figure, Report
from ops.cli.examples import examples
from ops.cli.output import Column, note, paper, print_json, print_table
from shared.errors import SettingsError
from shared.settings import Settings


app = typer.Typer(add_completion=False)

_QUICK_FOLDER: Final = "quick"
_NEEDED: Final = ("fastapi", "dlt", "psycopg")


@app.command(
    epilog=examples(
        "penstock bench --quick",
        "penstock bench --only ack-throughput",
        "penstock bench --only console --stored 2000000",
        "penstock bench --json",
    )
)
def bench(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Under two minutes: short rounds, small tables; not fairness, console, scale unless named."
        ),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this benchmark; may be repeated.")
    ] = None,
    stored: Annotated[
        int | None, typer.Option(metavar="N", min=1000, help="So many events for growth and console, not 10,000,000.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time goes, if py-spy is there.")] = False,
    out: Annotated[Path, typer.Option(help="Where JSON and pictures go; quick ones into its folder quick.")] = Path(
        "docs/benchmarks"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a benchmark.")] = False,
) -> None:
    """Measure Penstock beside its yardsticks, in turn in one run, on servers of its own that are thrown away."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise SettingsError(
            f"the yardsticks need {', '.join(missing)}: `make bench` installs what is in requirements/bench.txt"
        )
    from ops.bench.catalogue import BENCHMARKS, NOT_IN_QUICK  # noqa: PLC0415 - what it imports is installed by `make bench` only
    from ops.bench.run import Choice, run  # noqa: PLC0415 - the same

    names = only or [name for name in BENCHMARKS if not (quick and name in NOT_IN_QUICK)]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise typer.BadParameter(f"there is no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    choice = Choice(names=names, quick=quick, profile=profile, out=out / _QUICK_FOLDER if quick else out, stored=stored)
    for report, content in run(Settings.read(), choice, note):
        if as_json:
            print_json([content])
        else:
            _show(report)
    note(f"JSON and pictures are in {choice.out}.")


def _show(report: Report) -> None:
    paper().print(f"{report.benchmark}: {report.title}")
    for name, told in report.conditions.items():
        paper().print(f"  {name}: {told}")
    columns = (
        Column("figure", lambda figure: figure.name),
        Column("median", lambda figure: _value(figure, figure.median), figure=True),
        Column("lowest", lambda figure: _value(figure, min(figure.rounds)), figure=True),
        Column("highest", lambda figure: _value(figure, max(figure.rounds)), figure=True),
        Column("target", lambda figure: str(figure.target or ""), figure=True),
        Column("", lambda figure: report.verdict(figure).value),
    )
    print_table(report.figures, columns)
    if report.disturbed:
        paper().print(f"Too noisy to conclude: {report.disturbed}. What is missed here proves nothing.")
    for line in report.profile:
        paper().print(line)
    paper().print()


def _value(figure: Figure, value: float) -> str:
    return f"{shown(value)} {figure.unit}"
