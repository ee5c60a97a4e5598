"""Offset and bound over time as a picture: text for a terminal, SVG for a file. Needs nothing but Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_TICKS = 5


class Sample(NamedTuple):
    """One reading: when (s, of any clock), corrected minus system time (s), its hard bound (s; None without), status."""

    at_s: float
    offset_s: float
    bound_s: float | None
    status: str


def unit_for(size_s: float) -> tuple[float, str]:
    """The unit in which this many seconds are a number of one to three digits: its size in seconds, and its name."""
    return next((unit for unit in _UNITS if abs(size_s) >= unit[0]), _UNITS[-1])


def text(samples: Sequence[Sample], columns: int = 80, rows: int = 16) -> str:
    """The plot in characters: `*` is the offset, the shaded band its bound."""
    if not samples:
        return "no reading yet"
    low, high = _range(samples)
    size, unit = unit_for(max(abs(low), abs(high)))
    width = max(columns - 14, 10)
    begin_s, end_s = samples[0].at_s, samples[-1].at_s
    grid = [[" "] * width for _ in range(rows)]

    def row(value: float) -> int:
        return min(max(round((high - value) / (high - low) * (rows - 1)), 0), rows - 1)

    for pass_ in ("bound", "offset"):
        for sample in samples:
            column = round((sample.at_s - begin_s) / ((end_s - begin_s) or 1.0) * (width - 1))
            if pass_ == "offset":
                grid[row(sample.offset_s)][column] = "*"
            elif sample.bound_s is not None:
                for r in range(row(sample.offset_s + sample.bound_s), row(sample.offset_s - sample.bound_s) + 1):
                    grid[r][column] = "░"
    lines = []
    for r, cells in enumerate(grid):
        value = high - (high - low) * r / (rows - 1)
        number = value / size
        label = f"{number:{'+10.3f' if abs(number) < 1e5 else '+10.3e'}} {unit:2}" if r % 3 == 0 or r == rows - 1 else " " * 13
        lines.append(f"{label}│{''.join(cells).rstrip()}")
    lines.append(" " * 13 + "└" + "─" * width)
    lines.append(" " * 14 + f"{begin_s - end_s:.1f} s".ljust(width - 3) + "now")
    return "\n".join(lines)


def svg(samples: Sequence[Sample], width: int = 900, height: int = 420) -> str:
    """The plot as a whole SVG document."""
    low, high = _range(samples) if samples else (-1e-3, 1e-3)
    size, unit = unit_for(max(abs(low), abs(high)))
    left, right, top, bottom = 90, width - 20, 40, height - 50
    begin_s, end_s = (samples[0].at_s, samples[-1].at_s) if samples else (0.0, 1.0)
    span_s = (end_s - begin_s) or 1.0

    def x(sample: Sample) -> float:
        return left + (sample.at_s - begin_s) / span_s * (right - left)

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (bottom - top)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="14">Corrected minus system time, and its hard bound</text>',
    ]
    for tick in range(_TICKS):
        value = low + (high - low) * tick / (_TICKS - 1)
        out.append(f'<line x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        label = escape(f"{value / size:+.3f} {unit}")
        out.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
        at_s = span_s * tick / (_TICKS - 1)
        at_x = left + (right - left) * tick / (_TICKS - 1)
        out.append(f'<text x="{at_x:.1f}" y="{bottom + 20}" text-anchor="middle">{at_s:.1f} s</text>')
    for run in _bounded_runs(samples):
        upper = [f"{x(s):.1f},{y(s.offset_s + (s.bound_s or 0.0)):.1f}" for s in run]
        lower = [f"{x(s):.1f},{y(s.offset_s - (s.bound_s or 0.0)):.1f}" for s in reversed(run)]
        out.append(f'<polygon points="{" ".join(upper + lower)}" fill="#9ecae1" fill-opacity="0.6"/>')
    line = " ".join(f"{x(s):.1f},{y(s.offset_s):.1f}" for s in samples)
    out.append(f'<polyline points="{line}" fill="none" stroke="#08519c" stroke-width="1.5"/>')
    out.append(f'<text x="{right}" y="{height - 10}" text-anchor="end">line: offset; band: bound</text>')
    out.append("</svg>\n")
    return "\n".join(out)


def _range(samples: Sequence[Sample]) -> tuple[float, float]:
    edges = [s.offset_s + sign * (s.bound_s or 0.0) for s in samples for sign in (-1, 1)]
    low, high = min(edges), max(edges)
    room = (high - low) * 0.05 or max(abs(high) * 0.1, 1e-6)
    # A float may swallow the room.
    return (low - room, high + room) if low - room < high + room else (math.nextafter(low, -1), math.nextafter(high, 1))


def _bounded_runs(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The stretches in which there is a bound."""
    runs: list[list[Sample]] = [[]]
    for sample in samples:
        if sample.bound_s is not None:
            runs[-1].append(sample)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
