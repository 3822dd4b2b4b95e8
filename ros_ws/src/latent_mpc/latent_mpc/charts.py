"""Charts as inline SVG: no script, nothing to load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

INK, MUTED, GRID = "#1c2733", "#66737f", "#e5e9ee"
BLUE, GREEN, RED, AMBER = "#2563eb", "#15803d", "#c2410c", "#b7791f"
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 40
# Lines with more points than pixels are thinned to this many.
_MOST_POINTS = 600


@dataclass(frozen=True)
class Line:
    """A line through ``x (N,)``, ``y (N,)``; ``label`` shows when the pointer rests on it."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line at ``x``."""

    x: float
    label: str
    colour: str = INK


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    width: int = 1032,
    height: int = 260,
    shaded: Sequence[tuple[float, float]] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """Lines over common axes that start at zero; ``shaded`` are ranges of x."""
    xs = np.concatenate([line.x for line in lines] or [np.zeros(1)])
    ys = np.concatenate([line.y for line in lines] or [np.zeros(1)])
    axes = _Axes(width, height, _ticks(float(xs.max(initial=0.0))), _ticks(float(ys.max(initial=0.0))))
    tall = axes.floor - _TOP
    parts = [f'<rect x="{axes.x(a):.1f}" y="{_TOP}" width="{axes.x(b) - axes.x(a):.1f}" height="{tall}" fill="#eef4ff"/>' for a, b in shaded]
    parts.append(axes.grid(x_label, y_label))
    for line in lines:
        step = max(1, len(line.x) // _MOST_POINTS)
        keep = np.unique(np.append(np.arange(0, len(line.x), step), len(line.x) - 1)) if len(line.x) else np.empty(0, int)
        points = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in zip(line.x[keep], line.y[keep], strict=True))
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="1.8" stroke-linejoin="round"{dash}>'
            f"<title>{escape(line.label)}</title></polyline>"
        )
    parts.extend(_mark(axes, mark, row) for row, mark in enumerate(marks))
    return _svg(width, height, parts, y_label)


def histogram(values: NDArray[np.float64], x_label: str, marks: Sequence[Mark] = (), *, width: int = 1032, height: int = 260, bins: int = 36) -> str:
    """How often ``values (N,)`` fall where, from zero on."""
    if not values.size:
        return empty("nothing was measured")
    x_ticks = _ticks(max(float(values.max()), *(mark.x for mark in marks)) if marks else float(values.max()))
    counts, edges = np.histogram(values, bins=bins, range=(0.0, x_ticks[-1]))
    axes = _Axes(width, height, x_ticks, _ticks(float(counts.max())))
    parts = [axes.grid(x_label, "plans")]
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            top = axes.y(float(count))
            parts.append(
                f'<rect x="{axes.x(left) + 0.5:.1f}" y="{top:.1f}" width="{axes.x(right) - axes.x(left) - 1:.1f}" height="{axes.floor - top:.1f}" '
                f'fill="{BLUE}" fill-opacity="0.75"><title>{count} between {left:.1f} and {right:.1f}</title></rect>'
            )
    parts.extend(_mark(axes, mark, row) for row, mark in enumerate(marks))
    return _svg(width, height, parts, x_label)


def band(seconds: NDArray[np.float64], values: NDArray[np.float64], lower: float, upper: float, *, width: int = 250, height: int = 84) -> str:
    """``values (N,)`` between the two limits that they must keep, without axes."""
    room = (upper - lower) * 0.06
    low, high = min(lower, float(values.min())) - room, max(upper, float(values.max())) + room
    span = max(float(seconds[-1] - seconds[0]), 1e-9)

    def y(value: float) -> float:
        return height * (high - value) / (high - low)

    keep = np.arange(0, len(values), max(1, len(values) // _MOST_POINTS))
    points = " ".join(f"{width * (seconds[i] - seconds[0]) / span:.1f},{y(values[i]):.1f}" for i in keep)
    broken = bool(values.min() < lower or values.max() > upper)
    limits = "".join(
        f'<line x1="0" x2="{width}" y1="{y(limit):.1f}" y2="{y(limit):.1f}" stroke="{RED}" stroke-dasharray="4 3"/>' for limit in (lower, upper)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="commanded position between its limits">'
        f'<rect width="{width}" height="{height}" fill="#f7f9fb"/>{limits}'
        f'<polyline points="{points}" fill="none" stroke="{RED if broken else BLUE}" stroke-width="1.6"/></svg>'
    )


def share_bar(share: float, label: str) -> str:
    """How much of a limit was used: ``share`` 1 is all of it."""
    colour = RED if share > 1.0 else AMBER if share > 0.95 else GREEN
    return f'<div class="bar" title="{escape(label)}"><i style="width:{min(share, 1.0):.1%};background:{colour}"></i><b>{share:.0%}</b></div>'


def empty(reason: str) -> str:
    """What stands where a chart would be."""
    return f'<p class="muted">{escape(reason)}</p>'


@dataclass(frozen=True)
class _Axes:
    width: int
    height: int
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]

    @property
    def floor(self) -> float:
        return self.height - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + (self.width - _LEFT - _RIGHT) * value / self.x_ticks[-1]

    def y(self, value: float) -> float:
        return self.floor - (self.floor - _TOP) * value / self.y_ticks[-1]

    def grid(self, x_label: str, y_label: str) -> str:
        parts = []
        for tick in self.y_ticks:
            parts.append(f'<line x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}" stroke="{GRID}"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.extend(f'<text x="{self.x(tick):.1f}" y="{self.floor + 17:.1f}" text-anchor="middle">{tick:g}</text>' for tick in self.x_ticks)
        middle = (_LEFT + self.width - _RIGHT) / 2
        parts.append(f'<text x="{middle:.1f}" y="{self.height - 6}" text-anchor="middle" class="label">{escape(x_label)}</text>')
        turned = f'transform="rotate(-90 12 {(self.floor + _TOP) / 2:.1f})"'
        parts.append(f'<text x="12" y="{(self.floor + _TOP) / 2:.1f}" text-anchor="middle" class="label" {turned}>{escape(y_label)}</text>')
        return "".join(parts)


def _mark(axes: _Axes, mark: Mark, row: int) -> str:
    x = axes.x(mark.x)
    # Near the right edge the label would run out of the picture.
    place, anchor = (x - 5, "end") if x > 0.85 * axes.width else (x + 5, "start")
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{axes.floor}" stroke="{mark.colour}" stroke-dasharray="3 3"/>'
        f'<text x="{place:.1f}" y="{_TOP + 12 + 16 * row}" text-anchor="{anchor}" style="fill:{mark.colour}" class="mark">{escape(mark.label)}</text>'
    )


def _ticks(top: float) -> tuple[float, ...]:
    """Round numbers from zero to at least ``top``, four to seven of them."""
    if top <= 0.0:
        return (0.0, 1.0)
    scale = 10 ** floor(log10(top / 5))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if top / (scale * factor) <= 6)
    return tuple(round(step * index, 10) for index in range(ceil(top / step - 1e-9) + 1))


def _svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
