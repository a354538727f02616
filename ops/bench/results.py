"""What a benchmark found: figures with all their rounds, and the conditions under which they were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ops.bench.statistics import NOISY_SPREAD, Target, Verdict, median, spread, verdict


DISTURBED: Final = 0.2
"""When other programs used more of a core than this, a target that was missed may have been missed because of them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its name, its unit (``x`` for a ratio), the value of each round, and what it has to reach.

    ``yardstick`` is True where Penstock has no part in it: then only the machine can make its rounds differ.
    """

    name: str
    unit: str
    rounds: Sequence[float]
    target: Target | None = None
    yardstick: bool = False

    @property
    def median(self) -> float:
        """The middle round."""
        return median(self.rounds)

    def as_json(self, said: Verdict) -> dict[str, object]:
        """The figure as the JSON file holds it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "rounds": list(self.rounds),
            "spread": spread(self.rounds),
            "target": str(self.target) if self.target else None,
            "verdict": said.value,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's result. ``conditions`` is what a reader must know; ``profile`` lines say where the time goes."""

    benchmark: str
    title: str
    figures: Sequence[Figure]
    conditions: Mapping[str, str]
    profile: Sequence[str] = field(default=())
    others: float = 0.0
    """How much of a core programs that have nothing to do with the bench used meanwhile."""

    @property
    def disturbed(self) -> str:
        """Why the machine was too restless to say of anything that it cannot be reached; empty if it was not.

        Either other programs worked, or a yardstick, which is the same program each time, was not as fast each time.
        """
        if self.others > DISTURBED:
            return f"other programs used {self.others:.2f} cores meanwhile"
        for figure in self.figures:
            if figure.yardstick and (apart := spread(figure.rounds)) > NOISY_SPREAD:
                return f"the rounds of {figure.name} lie {100 * apart:.0f} % apart, and nothing changed between them"
        return ""

    def verdict(self, figure: Figure) -> Verdict:
        """What a figure's rounds say about its target, and whether they may say it."""
        said = verdict(figure.rounds, figure.target)
        # Memory is the one thing that others do not take away.
        return Verdict.NOISY if said is Verdict.MISSED and self.disturbed and figure.unit != "MiB" else said

    def as_json(self, machine: Mapping[str, str], *, quick: bool) -> dict[str, object]:
        """The whole report as its JSON file holds it."""
        return {
            "benchmark": self.benchmark,
            "title": self.title,
            "quick": quick,
            "machine": dict(machine),
            "conditions": dict(self.conditions),
            "others": self.others,
            "disturbed": self.disturbed,
            "figures": [figure.as_json(self.verdict(figure)) for figure in self.figures],
            "profile": list(self.profile),
        }


def over(name: str, ours: Sequence[float], theirs: Sequence[float], target: Target | None = None) -> Figure:
    """The ratio round by round: what was measured side by side is divided, not the medians of different minutes."""
    return Figure(name, "x", [mine / other for mine, other in zip(ours, theirs, strict=True)], target)
