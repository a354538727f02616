"""From what was sent and what is stored to what became of it. Nothing here asks anybody; everything is given."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

from ops.chaos.evidence import UNFINISHED, Evidence, Stored
from ops.chaos.scenario import Bounds, Measured, Scenario
from ops.chaos.sending import Attempt, Sent


SLOWEST_SECONDS = 4.5
"""The contract's 4 s with the tolerance that it gives to tests; providers give up at 5 s."""
LARGE_BYTES = 64 * 1024
_TOLD = 5
_NEAR_ENOUGH = 0.9
_NOTHING_MEASURED = Measured()


class Result(msgspec.Struct, omit_defaults=False):
    """One line of the table. ``why`` tells, for each figure that is wrong, the first few cases."""

    scenario: str
    seed: int
    skipped: str = ""
    sent: int = 0
    rate: float = 0.0
    """Deliveries that were begun a second."""
    acknowledged: int = 0
    spooled: int = 0
    stored: int = 0
    finished: int = 0
    lost: int = 0
    altered: int = 0
    doubled: int = 0
    refused: int = 0
    """Answers that were no acknowledgement; ``wrongly_refused`` of them, and of no answers, had no right to be."""
    unanswered: int = 0
    wrongly_refused: int = 0
    slow: int = 0
    slowest_ms: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    """Of the answers that were acknowledgements, from the beginning of the POST (connecting included) to its answer."""
    longest_seconds: float = 0.0
    """From the receipt of an event to its end, the longest of all."""
    taken_up_seconds: float | None = None
    """From the kill of a worker process until others had claimed what it held; None: not measured."""
    drained_seconds: float | None = None
    """From the return of Postgres until the spool was empty; None: not measured."""
    recovered_seconds: float | None = None
    """From the fault's last act and the last delivery sent until all was finished; None: it never was."""
    why: list[str] = msgspec.field(default_factory=list)
    late: list[str] = msgspec.field(default_factory=list)
    """What was right but over a bound in seconds: of a machine that others keep busy it proves nothing."""

    @property
    def passed(self) -> bool:
        """Whether nothing at all is wrong, and nothing late; a skipped scenario is neither passed nor failed."""
        return not self.skipped and not self.why and not self.late


def judge(
    scenario: Scenario,
    seed: int,
    ledger: Sequence[Sent],
    evidence: Evidence,
    recovered_seconds: float | None,
    measured: Measured = _NOTHING_MEASURED,
    rate: float = 0.0,
) -> Result:
    """The result of one scenario; ``recovered_seconds`` is None when not everything finished in time.

    ``rate`` is how many deliveries a second were to be sent.
    """
    taken = [sent for sent in ledger if sent.acknowledged]
    attempts = [(sent, attempt) for sent in ledger for attempt in sent.attempts]
    answered = sorted(sent.attempts[-1].seconds for sent in taken)
    slow = [pair for pair in attempts if pair[1].seconds > SLOWEST_SECONDS]
    refused = [(sent, attempt) for sent, attempt in attempts if not _is_acknowledgement(sent, attempt)]
    wrongly = [pair for pair in refused if _wrongly_refused(scenario, *pair)]
    result = Result(
        scenario=scenario.name,
        seed=seed,
        sent=len(ledger),
        rate=_rate(ledger),
        acknowledged=len(taken),
        spooled=sum(sent.attempts[-1].durability == "spool" for sent in taken),
        refused=sum(attempt.status != 0 for _, attempt in refused),
        unanswered=sum(attempt.status == 0 for _, attempt in refused),
        wrongly_refused=len(wrongly),
        slow=len(slow),
        slowest_ms=round(max((attempt.seconds for _, attempt in attempts), default=0.0) * 1000, 1),
        p50_ms=_milliseconds(answered, 0.5),
        p99_ms=_milliseconds(answered, 0.99),
        longest_seconds=round(evidence.longest_seconds, 1),
        taken_up_seconds=measured.taken_up_seconds,
        drained_seconds=measured.drained_seconds,
        recovered_seconds=recovered_seconds,
    )
    _count(result, taken, evidence)
    unsent = [sent for sent in ledger if not sent.acknowledged]
    result.why += [
        *_cases("never acknowledged", [_told(sent) for sent in unsent]),
        *_cases("wrongly refused", _summed(wrongly)),
        *_cases("503 without Retry-After", [_told(sent) for sent, attempt in attempts if _no_retry_after(attempt)]),
    ]
    result.late += _cases(f"slower than {SLOWEST_SECONDS} s", [_attempted(*pair) for pair in slow])
    if recovered_seconds is None:
        result.why += _cases("not finished in time", evidence.unfinished) or ["not finished in time"]
    elif recovered_seconds > scenario.within_seconds:
        result.late.append(f"took {recovered_seconds:.1f} s to recover; {scenario.within_seconds:.0f} s are allowed")
    if measured.postgres_away is not None:
        result.why += _away_from_postgres(attempts, *measured.postgres_away)
    result.why += _not_measured(result, scenario.bounds)
    result.late += _over_bounds(result, scenario.bounds)
    if scenario.bounds.p99_ms is not None and result.rate < rate * _NEAR_ENOUGH:
        result.late.append(
            f"only {result.rate:.0f} deliveries a second could be sent from this machine, not {rate:.0f}"
        )
    return result


def _rate(ledger: Sequence[Sent]) -> float:
    begun = sorted(sent.attempts[0].at for sent in ledger if sent.attempts)
    if not begun or not (seconds := begun[-1] - begun[0]):
        return 0.0
    return round((len(begun) - 1) / seconds, 1)


def _milliseconds(ascending: Sequence[float], share: float) -> float:
    return round(ascending[int(len(ascending) * share)] * 1000, 1) if ascending else 0.0


def _away_from_postgres(attempts: Sequence[tuple[Sent, Attempt]], gone: float, back: float) -> list[str]:
    """What was begun and answered while Postgres was away, otherwise than by an acknowledgement from the spool."""
    meanwhile = [
        (sent, attempt) for sent, attempt in attempts if gone <= attempt.at and attempt.at + attempt.seconds <= back
    ]
    if not meanwhile:
        return ["nothing was sent and answered while Postgres was away"]
    wrong = [
        (sent, attempt)
        for sent, attempt in meanwhile
        if not (_is_acknowledgement(sent, attempt) and attempt.durability == "spool")
    ]
    return _cases("not from the spool", [_attempted(*pair) for pair in wrong])


def _bounded(result: Result, bounds: Bounds) -> list[tuple[str, float | None, float, str]]:
    """What the scenario promises in time: what it is, what was measured, what is allowed, and the unit of both."""
    figures = (
        ("the 99th percentile of the acknowledgements", result.p99_ms, bounds.p99_ms, "ms"),
        ("work was taken up again", result.taken_up_seconds, bounds.taken_up_seconds, "s"),
        ("the spool was drained", result.drained_seconds, bounds.drained_seconds, "s"),
    )
    return [(what, figure, most, unit) for what, figure, most, unit in figures if most is not None]


def _not_measured(result: Result, bounds: Bounds) -> list[str]:
    """The figures that were to be measured and were not: what they are of did not happen."""
    return [
        f"{what}: not measured; {most:.0f} {unit} are allowed"
        for what, figure, most, unit in _bounded(result, bounds)
        if figure is None
    ]


def _over_bounds(result: Result, bounds: Bounds) -> list[str]:
    """The figures that are over what the scenario promises."""
    return [
        f"{what}: {figure:.1f} {unit}; {most:.0f} {unit} are allowed"
        for what, figure, most, unit in _bounded(result, bounds)
        if figure is not None and figure > most
    ]


def _count(result: Result, taken: Sequence[Sent], evidence: Evidence) -> None:
    """Lost, altered, doubled, finished: each acknowledged delivery against the row that its receipt names."""
    rows = {row.id: row for row in evidence.events}
    kept = [(sent, rows[sent.receipt]) for sent in taken if sent.receipt in rows]
    lost = [sent for sent in taken if sent.receipt not in rows]
    altered = [pair for pair in kept if not _same(*pair)]
    wrong = [pair for pair in kept if pair[1].state not in {pair[0].ends, "duplicate", *UNFINISHED}]
    doubled = [*_followed_up_twice(taken, evidence.events), *evidence.doubled_changes, *evidence.fetched_again]
    result.stored = len(kept) - len(altered)
    result.finished = sum(row.state not in UNFINISHED for _, row in kept)
    result.lost, result.doubled = len(lost), len(doubled)
    result.altered = len(altered) + len(evidence.broken_images)
    result.why += [
        *_cases("lost", [_told(sent) for sent in lost]),
        *_cases("altered", [f"{_told(sent)} is stored as {row}" for sent, row in altered]),
        *_cases("altered", evidence.broken_images),
        *_cases("doubled", doubled),
        *_cases("wrong end", [f"{_told(sent)} is {row.state}: {row.error}" for sent, row in wrong]),
    ]


def _same(sent: Sent, row: Stored) -> bool:
    return (sent.provider, sent.account, sent.sha256) == (row.provider, row.account, row.sha256)


def _followed_up_twice(taken: Sequence[Sent], events: Sequence[Stored]) -> list[str]:
    """Deliveries that are followed up more than once although their bytes are the same.

    The bytes stand for the provider's identity: they hold it, and the senders repeat them. imin's have none, and an
    event that is parked is no first one (contract, "Identity").
    """
    parked = {sent.sha256 for sent in taken if sent.ends == "parked"}
    first: defaultdict[tuple[str, str, str], list[Stored]] = defaultdict(list)
    for row in events:
        if (
            row.provider != "imin"
            and row.state not in {"duplicate", "received"}
            and row.sha256
            and row.sha256 not in parked
        ):
            first[row.provider, row.account, row.sha256].append(row)
    return [
        f"{key[0]} {key[2][:12]} is followed up as {', '.join(f'{row.id} ({row.state})' for row in rows)}"
        for key, rows in first.items()
        if len(rows) > 1
    ]


def _is_acknowledgement(sent: Sent, attempt: Attempt) -> bool:
    return sent.acknowledged and attempt is sent.attempts[-1]


def _wrongly_refused(scenario: Scenario, sent: Sent, attempt: Attempt) -> bool:
    if not attempt.status and attempt.seconds > SLOWEST_SECONDS:
        return False  # The sender gave up: it is told as slow, and as never acknowledged where no answer ever came.
    allowed = {*scenario.may_refuse, *(scenario.may_refuse_large if sent.size > LARGE_BYTES else ())}
    return attempt.status not in allowed


def _no_retry_after(attempt: Attempt) -> bool:
    return attempt.status == 503 and not attempt.retry_after  # noqa: PLR2004 - an HTTP status


def _told(sent: Sent) -> str:
    statuses = Counter(attempt.status for attempt in sent.attempts)
    return (
        f"{sent.provider} {sent.event} {sent.receipt or sent.sha256[:12]} ({sent.size} bytes, answers {dict(statuses)})"
    )


def _attempted(sent: Sent, attempt: Attempt) -> str:
    return f"{sent.provider} {sent.event}: {attempt.status} {attempt.said} after {attempt.seconds:.2f} s"


def _summed(refused: Sequence[tuple[Sent, Attempt]]) -> list[str]:
    """Refusals by what was said, with the slowest of each."""
    by_answer: defaultdict[tuple[int, str], list[Attempt]] = defaultdict(list)
    for _, attempt in refused:
        by_answer[attempt.status, attempt.said].append(attempt)
    return [
        f"{len(found)} times {status} {said}, the slowest after {max(each.seconds for each in found):.2f} s"
        for (status, said), found in by_answer.items()
    ]


def _cases(what: str, cases: Sequence[str]) -> list[str]:
    """The first few cases, each as a sentence, and how many more there are."""
    more = [f"{what}: and {len(cases) - _TOLD} more"] if len(cases) > _TOLD else []
    return [f"{what}: {case}" for case in cases[:_TOLD]] + more
