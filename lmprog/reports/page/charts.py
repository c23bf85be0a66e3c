"""Line charts as plain geometry; the template writes them as SVG. All lengths are in units of the drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 36
"""Margins for the axes and their labels, on each side."""


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    about: str
    """The tooltip of the point."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points from left to right. `line` joins them, `steps` in stairs; `dots` draws them apart, with their intervals."""

    name: str
    points: Sequence[Point]
    style: str = "line"
    colour: int = 1


@dataclass(frozen=True)
class Chart:
    """Series, none of them empty, over one pair of axes. With `percent` the upright one is of fractions."""

    title: str
    across: str
    series: Sequence[Series]
    percent: bool = False
    span: tuple[float, float] | None = None
    """A range that the vertical axis includes whatever the points are."""
    note: str | None = None
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)

    @property
    def points(self) -> list[Point]:
        return [point for series in self.series for point in series.points]

    @cached_property
    def reach(self) -> tuple[float, float]:
        """The first and the last point across."""
        places = [point.x for point in self.points]
        return min(places), max(places)

    @cached_property
    def up_ticks(self) -> list[float]:
        values = [value for point in self.points for value in (point.y, point.low, point.high) if value is not None]
        values += self.span or ()
        return ticks(min(values), max(values), 5)

    @cached_property
    def across_ticks(self) -> list[float]:
        low, high = self.reach
        return [tick for tick in ticks(low, high, 6, whole=True) if low <= tick <= high]

    def x(self, value: float) -> float:
        low, high = self.reach
        # A single point stands in the middle.
        share = (value - low) / (high - low) if high > low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.up_ticks[0], self.up_ticks[-1]
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom of the part between the axes."""
        return LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def label(self, value: float) -> str:
        """Format a number of the vertical axis."""
        return f"{100 * value:.4g}%" if self.percent else f"{value:.4g}"

    def line(self, series: Series) -> str:
        """Return the SVG path of the series' points; empty for dots."""
        if series.style == "dots" or not series.points:
            return ""
        first, *others = [(self.x(point.x), self.y(point.y)) for point in series.points]
        path = [f"M{first[0]} {first[1]}"]
        for x, y in others:
            path.append(f"H{x}V{y}" if series.style == "steps" else f"L{x} {y}")
        return "".join(path)

    def band(self, series: Series) -> str:
        """Return the SVG path around the intervals of a line; empty where the line has no intervals."""
        whole = [(p.x, p.low, p.high) for p in series.points if p.low is not None and p.high is not None]
        if series.style == "dots" or len(whole) < 2:
            return ""
        stairs = series.style == "steps"
        upper = _corners([(self.x(x), self.y(high)) for x, _, high in whole], stairs)
        lower = _corners([(self.x(x), self.y(low)) for x, low, _ in whole], stairs)
        return "M" + "L".join(f"{x} {y}" for x, y in [*upper, *reversed(lower)]) + "Z"


def _corners(points: Sequence[tuple[float, float]], stairs: bool) -> list[tuple[float, float]]:
    found = list(points[:1])
    for (_, before), (x, y) in pairwise(points):
        found += [(x, before), (x, y)] if stairs else [(x, y)]
    return found


def ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Return round numbers, `about` so many; the first is not above `low` and the last not below `high`."""
    if high <= low:
        reach = abs(low) / 2 or 0.5
        low, high = low - reach, high + reach
    rough = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]
