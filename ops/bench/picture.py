"""One picture a benchmark: a bar for each figure's median, a dot for each round, a line for its target."""

from collections.abc import Iterator
from html import escape
from typing import Final

from ops.bench.results import Figure, Report
from ops.bench.statistics import Verdict


WIDTH: Final = 860
_LEFT: Final = 290
_RIGHT: Final = 250
_ROW: Final = 30
_TOP: Final = 64
_BAR: Final = 14
_COLOURS: Final = {
    Verdict.MET: "#2e8b57",
    Verdict.MISSED: "#c0392b",
    Verdict.NOISY: "#c08a1e",
    Verdict.MEASURED: "#5b7fa6",
}


def picture(report: Report) -> str:
    """The SVG. Figures of one unit share a scale, so that subjects can be compared by eye."""
    scales: dict[str, float] = {}
    for figure in report.figures:
        marks = [*figure.rounds, figure.target.value if figure.target and figure.unit == "x" else 0.0]
        scales[figure.unit] = max(scales.get(figure.unit, 0.0), *marks) or 1.0
    height = _TOP + _ROW * len(report.figures) + 16
    rows = "".join(
        part
        for place, figure in enumerate(report.figures)
        for part in _row(figure, report.verdict(figure), _TOP + _ROW * place, scales[figure.unit])
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        f' role="img" aria-label="{escape(report.title)}" font-family="sans-serif" font-size="13" fill="#222">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
        f'<text x="16" y="26" font-size="16" font-weight="bold">{escape(report.benchmark)}</text>\n'
        f'<text x="16" y="46" fill="#555">{escape(report.title)}</text>\n{rows}</svg>\n'
    )


def shown(value: float) -> str:
    """A value with about three digits that count."""
    if abs(value) >= 100:  # noqa: PLR2004 - from here on decimals say nothing
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _row(figure: Figure, said: Verdict, y: int, scale: float) -> Iterator[str]:
    room = WIDTH - _LEFT - _RIGHT

    def x(value: float) -> float:
        return round(_LEFT + room * min(value, scale) / scale, 1)

    middle = y + _BAR / 2
    colour = _COLOURS[said]
    yield f'<text x="{_LEFT - 10}" y="{y + 12}" text-anchor="end">{escape(figure.name)}</text>\n'
    yield f'<rect x="{_LEFT}" y="{y}" width="{x(figure.median) - _LEFT:.1f}" height="{_BAR}" fill="{colour}"/>\n'
    for value in figure.rounds:
        yield f'<circle cx="{x(value)}" cy="{middle}" r="2.5" fill="#111" fill-opacity="0.55"/>\n'
    told = f"{shown(figure.median)} {figure.unit}"
    if figure.target:
        told += f" (target {figure.target}{f', {said.value}' if said.value else ''})"
        if figure.target.value <= scale:
            at = x(figure.target.value)
            yield f'<line x1="{at}" x2="{at}" y1="{y - 3}" y2="{y + _BAR + 3}" stroke="#111" stroke-dasharray="2,2"/>\n'
    yield f'<text x="{WIDTH - _RIGHT + 10}" y="{y + 12}">{escape(told)}</text>\n'
