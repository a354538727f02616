"""``penstock chaos``: fault scenarios against a throw-away installation."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.text import Text

from ops.chaos.evidence import refuse_what_holds_events, refuse_what_holds_keys
from ops.chaos.report import failed, show
from ops.chaos.run import LoadOf, play_all
from ops.chaos.scenario import Load, Scenario
from ops.chaos.scenarios import SCENARIOS
from ops.chaos.throwaway import GivenStores
from ops.chaos.verdict import Result
from ops.cli import choices
from ops.cli.examples import examples
from ops.cli.output import Column, paper, print_json, print_table


app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        "penstock chaos",
        "penstock chaos --scenario redis-flushed --scenario worker-killed --seed 7",
        "penstock chaos --seed 1 --seed 2 --seed 3 --json",
        "penstock chaos --patient",
    )
)
def chaos(
    scenario: Annotated[list[str] | None, typer.Option(help="Only this one; may be given several times.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="What traffic and faults follow from. Default: 1.")] = None,
    events: Annotated[int | None, typer.Option(min=1, help="Deliveries of each scenario; each has its own.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Deliveries a second; each has its own.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Your own empty staging database.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Your own staging Redis; it is emptied.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where throw-away installations are put.")] = None,
    patient: Annotated[
        bool, typer.Option(help="Bounds in seconds decide nothing: for a machine that is busy.")
    ] = False,
    as_list: Annotated[bool, typer.Option("--list", help="Print the scenarios and play none.")] = False,
    as_json: choices.Json = False,
) -> None:
    """Play fault scenarios against a throw-away installation under load, and count what became of every event.

    Exit status 1 when anything was lost, altered, doubled, wrongly refused or not finished (FAILED), or was answered
    after 4.5 s or took longer than the scenario promises (slow; docs/guarantees.md). With --patient what is only slow
    is told and ends with 0.
    """
    chosen = _chosen(scenario or [])
    if as_list:
        _print_list(chosen, as_json=as_json)
        return
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    stores = GivenStores(database_url, redis_url)
    results = uvloop.run(_play(chosen, seed or [1], _load_of(events, rate), stores, folder, as_json=as_json))
    if not as_json:
        show(results, paper())
    conclude(results, patient=patient)


def conclude(results: Sequence[Result], *, patient: bool = False) -> None:
    """End with exit status 1 if anything failed, or was slow and nobody is ``patient``."""
    if failed(results, patient=patient):
        raise typer.Exit(1)


async def _play(
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    load_of: LoadOf,
    stores: GivenStores,
    folder: Path | None,
    *,
    as_json: bool,
) -> list[Result]:
    if stores.database_url:
        await refuse_what_holds_events(stores.database_url)
    if stores.redis_url:
        await refuse_what_holds_keys(stores.redis_url)
    results: list[Result] = []
    console = Console(stderr=True, highlight=False)
    total = len(scenarios) * len(seeds)
    with console.status("") as status:

        def say(sentence: str) -> None:
            if console.is_terminal:
                status.update(Text(f"{len(results) + 1} of {total}  {sentence}"))
            else:
                sys.stderr.write(f"{len(results) + 1} of {total}  {sentence}\n")

        async for result in play_all(scenarios, seeds, load_of, stores, folder, say):
            results.append(result)
            if as_json:
                print_json([result])
    return results


def _load_of(events: int | None, rate: float | None) -> LoadOf:
    """A scenario's own load, but for what is asked for."""
    return lambda scenario: Load(events or scenario.load.events, rate or scenario.load.rate)


def _chosen(names: Sequence[str]) -> list[Scenario]:
    for name in names:
        if name not in SCENARIOS:
            raise typer.BadParameter(f"there is no scenario {name}; there are {', '.join(SCENARIOS)}")
    return [SCENARIOS[name] for name in names] or list(SCENARIOS.values())


def _print_list(scenarios: Sequence[Scenario], *, as_json: bool) -> None:
    if as_json:
        print_json([{"name": each.name, "does": each.does, "protects": each.protects} for each in scenarios])
        return
    columns = [
        Column("scenario", lambda each: each.name),
        Column("what happens", lambda each: each.does),
        Column("what protects", lambda each: each.protects),
    ]
    print_table(scenarios, columns)
