"""When what is measured: turns of the subjects, and the times at which an open loop sends."""

from collections.abc import Iterator, Sequence


def turns(subjects: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """(round, subject), A B A B ...: a machine that grows slow meanwhile slows all of them down."""
    for number in range(rounds):
        for subject in subjects:
            yield number, subject


def offsets(rate: float, seconds: float) -> list[float]:
    """Seconds after the start at which each request of an open loop is due: evenly, whatever the answers do."""
    return [position / rate for position in range(round(rate * seconds))]
