"""What several clocks agree on: Marzullo's common interval, and the order of vector clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

Order = Literal["before", "after", "equal", "concurrent"]


class Interval(NamedTuple):
    """Where one clock says that the true time lies, Unix ns, both ends included."""

    name: str
    earliest_ns: int
    latest_ns: int


class Agreement(NamedTuple):
    """The common interval of the largest number of clocks, and who is outside it."""

    earliest_ns: int
    latest_ns: int
    agreeing: int
    inside: tuple[str, ...]
    outside: tuple[Interval, ...]


def common_interval(clocks: Sequence[Interval]) -> Agreement:
    """Marzullo's algorithm: where the most intervals overlap.

    When several places tie, the true time may be in any of them, so the answer spans them all.
    """
    # At one moment beginnings come first: intervals that touch share that moment.
    edges = sorted(
        [(c.earliest_ns, 0) for c in clocks] + [(c.latest_ns, 1) for c in clocks],
    )
    most = overlap = 0
    earliest_ns = latest_ns = edges[0][0]
    open_at_most = False
    for at_ns, is_end in edges:
        if is_end:
            if open_at_most and overlap == most:
                latest_ns, open_at_most = at_ns, False
            overlap -= 1
            continue
        overlap += 1
        if overlap > most:
            most, earliest_ns = overlap, at_ns
        open_at_most = overlap == most
    inside = tuple(c.name for c in clocks if c.earliest_ns <= latest_ns and c.latest_ns >= earliest_ns)
    outside = tuple(c for c in clocks if c.name not in inside)
    return Agreement(earliest_ns, latest_ns, most, inside, outside)


def vector_order(a: Mapping[str, int], b: Mapping[str, int]) -> Order:
    """Whether the state `a` was before `b`; a process that a clock does not name counts as 0."""
    names = a.keys() | b.keys()
    less = any(a.get(n, 0) < b.get(n, 0) for n in names)
    more = any(a.get(n, 0) > b.get(n, 0) for n in names)
    if less and more:
        return "concurrent"
    return "before" if less else "after" if more else "equal"


def causal_order(vectors: Mapping[str, Mapping[str, int]]) -> list[dict[str, str]]:
    """The order of each pair: `{"a": ..., "b": ..., "order": ...}` says that a is that of b."""
    return [
        {"a": a, "b": b, "order": vector_order(vectors[a], vectors[b])} for a, b in combinations(vectors, 2)
    ]


def merged(vectors: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The vector clock of one who has heard of all of these."""
    out: dict[str, int] = {}
    for vector in vectors.values():
        for name, count in vector.items():
            out[name] = max(count, out.get(name, 0))
    return out
