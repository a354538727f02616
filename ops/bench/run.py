"""Runs benchmarks one after the other and writes down what they found."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from ops.bench.catalogue import BENCHMARKS, QUICK_GIVES_UP
from ops.bench.machine import described
from ops.bench.picture import picture
from ops.bench.proc import Company
from ops.bench.profile import Profiles
from ops.bench.results import Report
from ops.bench.stage import Stage
from ops.bench.stores import bench_stores
from ops.supervisor.launch import adopt_orphans
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run and where to write: ``names`` of BENCHMARKS; ``stored`` events where a benchmark stores many."""

    names: Sequence[str]
    quick: bool
    profile: bool
    out: Path
    stored: int | None = None


def run(settings: Settings, choice: Choice, say: Callable[[str], None]) -> Iterator[tuple[Report, dict[str, object]]]:
    """Each report as it is done, with the content of its JSON file. Raises SettingsError where there is data."""
    adopt_orphans()  # a worker may end before its children: their work would look like that of other programs
    with bench_stores(settings) as (stores, folder):
        machine = described(stores.opened, folder)
        profiles = Profiles(stores, folder, wanted=choice.profile)
        for benchmark in dict.fromkeys(BENCHMARKS[name] for name in choice.names):
            wanted = [name for name in choice.names if BENCHMARKS[name] is benchmark]
            say(f"{', '.join(wanted)} ...")
            began = time.monotonic()

            def tell(sentence: str, began: float = began) -> None:
                say(f"  {time.monotonic() - began:5.1f} s  {sentence}")

            company = Company()
            with Stage(stores, folder, quick=choice.quick, profiles=profiles, say=tell, stored=choice.stored) as stage:
                found = benchmark(stage)
            stores.drop()
            tell("done")
            others = company.share()
            for each in found:
                report = replace(each, others=others)
                if choice.quick:
                    told = {**each.conditions, "quick gives up": QUICK_GIVES_UP[each.benchmark]}
                    report = replace(report, conditions=told)
                if report.benchmark in wanted:
                    content = report.as_json(machine, quick=choice.quick)
                    _write(choice.out, report, content)
                    yield report, content


def _write(out: Path, report: Report, content: dict[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{report.benchmark}.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    (out / f"{report.benchmark}.svg").write_text(picture(report), encoding="utf-8")
