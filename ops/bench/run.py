"""Runs benchmarks one after the other and writes down what they found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from ops.bench.catalogue import BENCHMARKS
from ops.bench.machine import described
from ops.bench.picture import picture
from ops.bench.proc import Company
from ops.bench.profile import Profiles
from ops.bench.results import Report
from ops.bench.stage import Stage
from ops.bench.stores import bench_stores
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run and where to write: ``names`` of BENCHMARKS."""

    names: Sequence[str]
    quick: bool
    profile: bool
    out: Path


def run(settings: Settings, choice: Choice, say: Callable[[str], None]) -> Iterator[tuple[Report, dict[str, object]]]:
    """Each report as it is done, with the content of its JSON file. Raises SettingsError where there is data."""
    with bench_stores(settings) as (stores, folder):
        machine = described(stores.opened, folder)
        profiles = Profiles(stores, folder, wanted=choice.profile)
        for benchmark in dict.fromkeys(BENCHMARKS[name] for name in choice.names):
            wanted = [name for name in choice.names if BENCHMARKS[name] is benchmark]
            say(f"{', '.join(wanted)} ...")
            company = Company()
            with Stage(stores, folder, quick=choice.quick, profiles=profiles) as stage:
                found = benchmark(stage)
            stores.drop()
            others = company.share()
            for report in (replace(each, others=others) for each in found):
                if report.benchmark in wanted:
                    content = report.as_json(machine, quick=choice.quick)
                    _write(choice.out, report, content)
                    yield report, content


def _write(out: Path, report: Report, content: dict[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{report.benchmark}.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    (out / f"{report.benchmark}.svg").write_text(picture(report), encoding="utf-8")
