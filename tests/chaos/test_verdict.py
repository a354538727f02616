"""The checker itself is checked: whatever went wrong in a run is counted, told and ends in exit status 1."""

from dataclasses import replace
from typing import Any

import pytest
import typer

from ops.chaos.evidence import Evidence, Stored
from ops.chaos.report import summary
from ops.chaos.scenario import NO_ANSWER, NOTHING, UNAVAILABLE, Bounds, Measured, Scenario, Stage
from ops.chaos.sending import Attempt, Sent
from ops.chaos.verdict import Result, judge
from ops.cli.chaos import conclude


async def _nothing(_: Stage) -> None:
    """Nothing happens."""


CALM = Scenario("calm", "Nothing happens.", "nothing", _nothing)


def sent(number: int, **changes: Any) -> Sent:
    """A Magicline delivery, acknowledged at once."""
    whole = Sent(
        provider="magicline",
        account="studio-berlin",
        event="CUSTOMER_UPDATED",
        sha256=f"{number:064x}",
        size=100,
        ends="done",
        attempts=[Attempt(0.0, 0.01, 200, "postgres")],
        receipt=f"event-{number}",
    )
    return replace(whole, **changes)


def stored(number: int, **changes: str) -> Stored:
    """The row of that delivery, followed up."""
    return replace(Stored(f"event-{number}", "magicline", "studio-berlin", "done", f"{number:064x}"), **changes)


def status(*results: Result, patient: bool = False) -> int:
    """How the command ends."""
    try:
        conclude(results, patient=patient)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def test_a_run_in_which_all_went_well_ends_with_0() -> None:
    """Every delivery is stored as it was sent and finished."""
    result = judge(CALM, 1, [sent(1), sent(2)], Evidence([stored(1), stored(2)]), 0.5)

    assert (2, 2, 2, 2, []) == (result.sent, result.acknowledged, result.stored, result.finished, result.why)
    assert 0 == status(result)


def test_one_lost_one_altered_and_one_doubled_are_counted_and_end_with_1() -> None:
    """The second has no row, the third another body, the fourth is followed up as two events."""
    rows = [stored(1), stored(3, sha256="f" * 64), stored(4), stored(4, id="event-again")]

    result = judge(CALM, 1, [sent(1), sent(2), sent(3), sent(4)], Evidence(rows), 0.5)

    assert (4, 2, 1, 1, 1) == (result.acknowledged, result.stored, result.lost, result.altered, result.doubled)
    assert ["lost", "altered", "doubled"] == [reason.partition(":")[0] for reason in result.why]
    assert 1 == status(result)


@pytest.mark.parametrize(
    ("rows", "counted"),
    [
        ([], (1, 0, 0)),
        ([stored(1, sha256="")], (0, 1, 0)),
        ([stored(1, account="studio-hamburg")], (0, 1, 0)),
        ([stored(1), stored(1, id="event-again")], (0, 0, 1)),
    ],
)
def test_each_of_them_alone_ends_with_1(rows: list[Stored], counted: tuple[int, int, int]) -> None:
    """Lost, altered (also one that cannot be opened any more, or another account's), doubled."""
    result = judge(CALM, 1, [sent(1)], Evidence(rows), 0.5)

    assert counted == (result.lost, result.altered, result.doubled)
    assert 1 == status(result)


def test_what_the_change_feed_and_the_calls_tell_twice_is_doubled() -> None:
    """Both are counted beside doubled events."""
    evidence = Evidence([stored(1)], doubled_changes=["change 7"], fetched_again=["call 8"])

    result = judge(CALM, 1, [sent(1)], evidence, 0.5)

    assert (2, ["doubled: change 7", "doubled: call 8"]) == (result.doubled, result.why)
    assert 1 == status(result)


def test_a_record_whose_image_is_not_there_ends_with_1() -> None:
    """The delivery itself is whole, and still something of it is lost."""
    result = judge(CALM, 1, [sent(1)], Evidence([stored(1)], broken_images=["image a/b cannot be read"]), 0.5)

    assert (1, 0, 1) == (result.altered, result.lost, status(result))
    assert ["altered: image a/b cannot be read"] == result.why


def test_a_second_delivery_that_is_kept_as_a_duplicate_is_right() -> None:
    """One event is followed up, the other points to it; imin's deliveries have no identity and are never one."""
    same = [sent(1), sent(1, receipt="event-again")]
    kept = [stored(1), stored(1, id="event-again", state="duplicate")]
    of_imin = [sent(2, provider="imin"), sent(2, provider="imin", receipt="event-other")]
    kept_of_imin = [stored(2, provider="imin"), stored(2, provider="imin", id="event-other")]

    result = judge(CALM, 1, [*same, *of_imin], Evidence([*kept, *kept_of_imin]), 0.5)

    assert (0, []) == (result.doubled, result.why)


def test_an_event_that_ends_otherwise_than_it_should_ends_with_1() -> None:
    """A failed event is no finished one, and an unknown type has to be parked."""
    ledger = [sent(1), sent(2, ends="parked")]

    result = judge(CALM, 1, ledger, Evidence([stored(1, state="failed", error="attempts-used-up"), stored(2)]), 0.5)

    assert ["wrong end", "wrong end"] == [reason.partition(":")[0] for reason in result.why]
    assert 1 == status(result)


@pytest.mark.parametrize("first", [[], [Attempt(0.0, 5.1, 0, said="ReadTimeout")]])
def test_an_answer_after_four_and_a_half_seconds_is_slow_and_nothing_else(first: list[Attempt]) -> None:
    """However the delivery ended, and also where its sender had given up: who is patient lets it pass."""
    late = sent(1, attempts=[*first, Attempt(6.0, 4.6, 200, "postgres")])

    result = judge(CALM, 1, [late], Evidence([stored(1)]), 0.5)

    assert (1 + len(first), max([4600.0, *(1000 * each.seconds for each in first)])) == (
        result.slow,
        result.slowest_ms,
    )
    assert (0, []) == (result.wrongly_refused, result.why)
    assert (1, 0) == (status(result), status(result, patient=True))
    assert not result.passed
    assert "only slow: calm/1" in summary([result])


def test_an_answer_that_never_comes_is_no_matter_of_patience() -> None:
    """A sender that gave up each time has a delivery that nobody acknowledged."""
    never = sent(1, receipt="", attempts=[Attempt(0.0, 5.1, 0, said="ReadTimeout")] * 3)

    result = judge(CALM, 1, [never], Evidence(), 0.5)

    assert ["never acknowledged"] == [reason.partition(":")[0] for reason in result.why]
    assert 1 == status(result, patient=True)
    assert "not as promised: calm/1" in summary([result])


@pytest.mark.parametrize(
    ("answer", "may_refuse", "may_refuse_large", "size", "wrong"),
    [
        (503, NOTHING, NOTHING, 100, 1),
        (503, UNAVAILABLE, NOTHING, 100, 0),
        (503, NOTHING, UNAVAILABLE, 100, 1),
        (503, NOTHING, UNAVAILABLE, 100_000, 0),
        (0, NO_ANSWER, NOTHING, 100, 0),
        (500, UNAVAILABLE, NO_ANSWER, 100, 1),
    ],
)
def test_a_refusal_is_wrong_unless_the_scenario_says_otherwise(
    answer: int, may_refuse: frozenset[int], may_refuse_large: frozenset[int], size: int, wrong: int
) -> None:
    """The delivery is sent again and taken; what came before counts all the same."""
    scenario = replace(CALM, may_refuse=may_refuse, may_refuse_large=may_refuse_large)
    attempts = [Attempt(0.0, 0.1, answer, retry_after="1"), Attempt(1.0, 0.1, 200, "postgres")]

    result = judge(scenario, 1, [sent(1, size=size, attempts=attempts)], Evidence([stored(1)]), 0.5)

    assert wrong == result.wrongly_refused
    assert 1 == result.refused + result.unanswered
    assert wrong == status(result)


def test_a_503_has_to_say_when_to_come_again() -> None:
    """Even where a 503 is right."""
    attempts = [Attempt(0.0, 0.1, 503), Attempt(1.0, 0.1, 200, "postgres")]

    result = judge(replace(CALM, may_refuse=UNAVAILABLE), 1, [sent(1, attempts=attempts)], Evidence([stored(1)]), 0.5)

    assert ["503 without Retry-After"] == [reason.partition(":")[0] for reason in result.why]


def test_a_delivery_that_was_never_taken_ends_with_1() -> None:
    """It was not acknowledged, so it is not lost; but the stores were back and it should have been taken."""
    never = sent(1, receipt="", attempts=[Attempt(0.0, 0.1, 503, retry_after="1")])

    result = judge(replace(CALM, may_refuse=UNAVAILABLE), 1, [never], Evidence(), 0.5)

    assert (0, 0) == (result.acknowledged, result.lost)
    assert 1 == status(result)


@pytest.mark.parametrize(("recovered", "patiently"), [(None, 1), (31.0, 0)])
def test_a_recovery_that_never_ends_or_takes_too_long_ends_with_1(recovered: float | None, patiently: int) -> None:
    """Thirty seconds are allowed here; one that takes longer is only slow."""
    result = judge(CALM, 1, [sent(1)], Evidence([stored(1)]), recovered)

    assert (1, patiently) == (status(result), status(result, patient=True))


@pytest.mark.parametrize(
    ("bounds", "measured"),
    [
        (Bounds(p99_ms=5.0), Measured()),
        (Bounds(taken_up_seconds=15.0), Measured(taken_up_seconds=15.3)),
        (Bounds(taken_up_seconds=15.0), Measured()),
        (Bounds(drained_seconds=10.0), Measured(drained_seconds=10.1)),
        (Bounds(drained_seconds=10.0), Measured()),
    ],
)
def test_a_figure_over_its_bound_or_not_measured_at_all_ends_with_1(bounds: Bounds, measured: Measured) -> None:
    """What is promised of a scenario beside what holds for all of them."""
    result = judge(replace(CALM, bounds=bounds), 1, [sent(1)], Evidence([stored(1)]), 0.5, measured)

    assert 1 == len([*result.why, *result.late])
    assert 1 == status(result)
    assert status(result, patient=True) == len(result.why) == (measured == Measured() and bounds.p99_ms is None)


def test_figures_within_their_bounds_end_with_0() -> None:
    """They are in the result."""
    bounds = Bounds(p99_ms=50.0, taken_up_seconds=15.0, drained_seconds=10.0)
    measured = Measured(taken_up_seconds=14.9, drained_seconds=1.0)

    result = judge(replace(CALM, bounds=bounds), 1, [sent(1)], Evidence([stored(1)]), 0.5, measured)

    assert (10.0, 14.9, 1.0) == (result.p99_ms, result.taken_up_seconds, result.drained_seconds)
    assert 0 == status(result)


def test_a_load_that_the_machine_could_not_send_proves_no_percentile() -> None:
    """Ten deliveries in nine seconds are one a second and not three hundred."""
    ledger = [sent(number, attempts=[Attempt(float(number), 0.01, 200, "postgres")]) for number in range(10)]
    kept = Evidence([stored(number) for number in range(10)])
    scenario = replace(CALM, bounds=Bounds(p99_ms=50.0))

    assert [0, 1] == [status(judge(scenario, 1, ledger, kept, 0.5, Measured(), rate)) for rate in (1.0, 300.0)]


@pytest.mark.parametrize(
    ("attempt", "wrong"),
    [
        (Attempt(2.0, 0.1, 200, "postgres"), 1),
        (Attempt(2.0, 0.1, 503, retry_after="1"), 1),
        (Attempt(2.0, 0.1, 200, "spool"), 0),
    ],
)
def test_what_is_answered_while_postgres_is_away_comes_from_the_spool(attempt: Attempt, wrong: int) -> None:
    """From its first second to its third; what was begun before or answered after may have been kept by Postgres."""
    last = Attempt(9.0, 0.1, 200, "postgres")
    others = [Attempt(0.5, 2.0, 200, "postgres"), Attempt(2.5, 2.0, 200, "postgres"), Attempt(1.5, 0.1, 200, "spool")]
    ledger = [sent(number, attempts=[other]) for number, other in enumerate(others)]
    ledger.append(sent(3, attempts=[attempt] if attempt.durability else [attempt, last]))
    kept = Evidence([stored(number) for number in range(4)])
    scenario = replace(CALM, may_refuse=UNAVAILABLE)

    result = judge(scenario, 1, ledger, kept, 0.5, Measured((1.0, 3.0)))

    assert wrong == len(result.why)
    assert wrong == status(result)


def test_a_postgres_that_was_away_while_nothing_was_sent_proves_nothing() -> None:
    """The load was over before."""
    result = judge(CALM, 1, [sent(1)], Evidence([stored(1)]), 0.5, Measured((100.0, 103.0)))

    assert 1 == status(result)


def test_a_skipped_scenario_is_neither_passed_nor_failed() -> None:
    """It does not end the command with 1, and it does not pass for played."""
    skipped = Result("poison", 1, skipped="not here")

    assert (False, 0) == (skipped.passed, status(skipped))
