"""The geometry of line charts, which templates write as SVG. All lengths are in units of the drawing."""

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
    """A point of a chart: its values on the horizontal and vertical axis (`x`, `y`), the text of its tooltip (`about`), and the
    interval of `y` from `low` to `high` (None: none).
    """

    x: float
    y: float
    about: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one line in a chart, from left to right, with the line's name, its style and the number of its colour (a class
    of the page's style).

    The style `line` joins the points, `steps` draws stairs, `dots` draws them apart.
    """

    name: str
    points: Sequence[Point]
    style: str = "line"
    colour: int = 1


@dataclass(frozen=True)
class Chart:
    """A chart of several series over common axes, with at least one point (its axes raise ValueError without), under a
    `title` and with a `note` below (None: none); `across` is the name of the horizontal axis.

    With `percent` the vertical axis shows fractions as percentages. `width` and `height` are those of the drawing.
    """

    title: str
    across: str
    series: Sequence[Series]
    percent: bool = False
    span: tuple[float, float] | None = None
    """A range that the vertical axis includes whatever the points are; None: only that of the points and intervals."""
    note: str | None = None
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)

    @property
    def points(self) -> list[Point]:
        """The points of all series."""
        return [point for series in self.series for point in series.points]

    @cached_property
    def reach(self) -> tuple[float, float]:
        """The smallest and the largest value on the horizontal axis."""
        places = [point.x for point in self.points]
        return min(places), max(places)

    @cached_property
    def up_ticks(self) -> list[float]:
        """The values with a tick on the vertical axis, ascending; the first and the last are the ends of the axis,
        which holds all points, their intervals and `span`."""
        values = [value for point in self.points for value in (point.y, point.low, point.high) if value is not None]
        values += self.span or ()
        return ticks(min(values), max(values), 5)

    @cached_property
    def across_ticks(self) -> list[float]:
        """The whole numbers with a tick on the horizontal axis, ascending, within the range of the points."""
        low, high = self.reach
        return [tick for tick in ticks(low, high, 6, whole=True) if low <= tick <= high]

    def x(self, value: float) -> float:
        """Return the horizontal position in the drawing of a value of the horizontal axis; the middle where all points
        have the same."""
        low, high = self.reach
        # A single point stands in the middle.
        share = (value - low) / (high - low) if high > low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the vertical position in the drawing, from its top, of a value of the vertical axis."""
        low, high = self.up_ticks[0], self.up_ticks[-1]
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """The left, right, top and bottom of the area between the axes."""
        return LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def label(self, value: float) -> str:
        """Return a value of the vertical axis as text with four significant digits, as a percentage if the chart shows
        these."""
        return f"{100 * value:.4g}%" if self.percent else f"{value:.4g}"

    def line(self, series: Series) -> str:
        """Return the SVG path (attribute `d`) through a series' points, in stairs for `steps`; empty for `dots`, and without
        points.
        """
        if series.style == "dots" or not series.points:
            return ""
        first, *others = [(self.x(point.x), self.y(point.y)) for point in series.points]
        path = [f"M{first[0]} {first[1]}"]
        for x, y in others:
            path.append(f"H{x}V{y}" if series.style == "steps" else f"L{x} {y}")
        return "".join(path)

    def band(self, series: Series) -> str:
        """Return the SVG path (attribute `d`) around the intervals of a series, in stairs for `steps`; empty for
        `dots`, and where fewer than two points have one."""
        whole = [(p.x, p.low, p.high) for p in series.points if p.low is not None and p.high is not None]
        if series.style == "dots" or len(whole) < 2:
            return ""
        stairs = series.style == "steps"
        upper = _corners([(self.x(x), self.y(high)) for x, _, high in whole], stairs)
        lower = _corners([(self.x(x), self.y(low)) for x, low, _ in whole], stairs)
        return "M" + "L".join(f"{x} {y}" for x, y in [*upper, *reversed(lower)]) + "Z"


def _corners(points: Sequence[tuple[float, float]], stairs: bool) -> list[tuple[float, float]]:
    """Return the corners of a line through points of the drawing; with `stairs` also those between two points."""
    found = list(points[:1])
    for (_, before), (x, y) in pairwise(points):
        found += [(x, before), (x, y)] if stairs else [(x, y)]
    return found


def ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Return about `about` round numbers for an axis, ascending and at least two, the first not above `low` and the
    last not below `high`; integers if `whole`. Bounds that are equal but for rounding get room around them; `low` must
    not be above `high`."""
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * size:
        reach = size / 2 or 0.5
        low, high = low - reach, high + reach
    rough = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.14g}") for place in range(first, last + 1)]
