"""What a benchmark leaves: a table, a JSON object, a picture; and what a profile is made of."""

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ops.bench.picture import picture, shown
from ops.bench.profile import summary
from ops.bench.results import Report
from ops.bench.statements import top
from ops.cli.bench import _show


def test_the_table_names_figures_targets_and_verdicts(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a figure: its median first."""
    _show(report)

    lines = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["over bare", "0.445 x", "0.44 x", "0.45 x", "≥ 0.4", "met"] in lines
    assert ["over usual", "4.94 x", "4.89 x", "5 x", "≥ 20", "missed"] in lines
    assert ["penstock", "44.5 events/s", "44 events/s", "45 events/s"] in lines


def test_the_json_holds_every_round_and_the_machine(report: Report) -> None:
    """So that others can judge for themselves."""
    content: Any = report.as_json({"processor": "two cores"}, quick=True)

    assert ("two cores", True) == (content["machine"]["processor"], content["quick"])
    first = content["figures"][0]
    assert ("over bare", [0.45, 0.44], "≥ 0.4", "met") == tuple(
        first[name] for name in ("name", "rounds", "target", "verdict")
    )


def test_the_picture_is_well_formed_and_shows_every_figure(report: Report) -> None:
    """A bar and its dots each; what is foreign is escaped."""
    drawn = ET.fromstring(picture(report))  # noqa: S314 - our own text

    texts = ["".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"over bare", "over usual", "penstock", report.title} <= set(texts)
    assert 6 == len(list(drawn.iter("{http://www.w3.org/2000/svg}circle")))


@pytest.mark.parametrize(("value", "text"), [(12345.6, "12,346"), (0.3456, "0.346"), (9.0, "9"), (99.94, "99.9")])
def test_values_are_shown_with_the_digits_that_count(value: float, text: str) -> None:
    """About three."""
    assert text == shown(value)


def test_a_profile_tells_our_functions_with_all_that_they_called() -> None:
    """As shares of the time, whether the process was busy or not."""
    stacks = "main (run.py:1);keep (ingress/receive.py:2);dumps (json.py:3) 30\nmain (run.py:1);wait (loop.py:4) 10\n"

    lines = summary("ingress", stacks, seconds=1.0)

    assert "ingress itself    15.0 %  dumps (json.py:3)" in lines
    assert "ingress together  15.0 %  keep (ingress/receive.py:2)" in lines
    assert not [line for line in lines if "together" in line and "loop.py" in line]


def test_statements_are_summed_from_the_log() -> None:
    """Whatever their numbers as prepared statements are; the most expensive first."""
    log = (
        "2026 [1] LOG:  duration: 0.500 ms  parse __asyncpg_stmt_1__: SELECT 1\n"
        "2026 [1] LOG:  duration: 2.000 ms  execute __asyncpg_stmt_1__: SELECT 1\n"
        "2026 [2] LOG:  duration: 9.000 ms  execute __asyncpg_stmt_7__: \n\t  UPDATE events\n\t  SET state = 'done'\n"
        "2026 [2] LOG:  duration: 4.000 ms  statement: SELECT 1\n"
    )

    first, second = top(log)

    assert "1 times,    9.00 ms each  UPDATE events SET state = 'done'" in first
    assert "6 ms (+0 ms to parse and bind),     2 times,    3.00 ms each  SELECT 1" in second
