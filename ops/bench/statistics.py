"""What repeats say: medians, percentiles, how far they lie apart, and whether that lets one conclude anything."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


NOISY_SPREAD: Final = 0.25
"""Rounds that lie further apart than this share of their median say nothing by themselves."""


class Verdict(StrEnum):
    """What a figure's rounds say about its target."""

    MET = "met"
    MISSED = "missed"
    NOISY = "too noisy to conclude"
    MEASURED = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to reach: ``at_least``, or (False) at most this value."""

    value: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of the values do not exceed; nothing is interpolated."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one of the rounds."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """How far the rounds lie apart, as a share of their median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def verdict(values: Sequence[float], target: Target | None) -> Verdict:
    """The verdict on one figure: rounds on both sides of a target that lie far apart do not conclude."""
    apart = spread(values) > NOISY_SPREAD
    if target is None:
        return Verdict.NOISY if apart else Verdict.MEASURED
    sides = {target.met_by(value) for value in values}
    if apart and len(sides) > 1:
        return Verdict.NOISY
    return Verdict.MET if target.met_by(median(values)) else Verdict.MISSED
