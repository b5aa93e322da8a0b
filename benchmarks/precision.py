"""Work and precision: which time a simulator needs for an error, read off its ladder of tolerances.

The rule. Of the points (error, time) of a ladder only those count that no other beats in both. Between two
neighbours of this front, one on each side of the error asked for, the time is interpolated, linear in the logarithms.
A front that lies below the error altogether is not extrapolated: the cheapest point stands for it, and its
better error is reported. A front that never gets there has no time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Matched", "Point", "around", "bracket", "front", "matched"]


@dataclass(frozen=True)
class Point:
    """One rung of a ladder: its relative tolerance, the error achieved with it, the time that it takes.

    `beside` is an error that came with it and is not matched: that of the derivatives, where values are.
    """

    tolerance: float
    error: float
    seconds: float
    beside: float = math.nan


@dataclass(frozen=True)
class Matched:
    """Time at an error; `error` is below the one asked for where nothing looser was measured."""

    seconds: float
    error: float
    tolerance: float
    beside: float = math.nan


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in both error and time, from large errors to small ones."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda q: (q.error, q.seconds)):
        if not (math.isfinite(point.error) and math.isfinite(point.seconds)):
            continue
        if not kept or point.seconds < kept[-1].seconds:
            kept.append(point)
    return kept[::-1]


def bracket(points: Sequence[Point], target: float) -> list[Point]:
    """The one or two points of the front between which `target` lies; none if it is not reached."""
    ordered = front(points)
    below = [q for q in ordered if q.error <= target]
    if not below:
        return []
    above = [q for q in ordered if q.error > target]
    return [*above[-1:], below[0]]


def around(points: Sequence[Point], target: float, each: int = 1) -> list[Point]:
    """The `each` rungs on either side of `target` that are nearest to it in error, whatever time they took.

    These are the ones to time with care: the times that a ladder begins with are too rough to choose by.
    """
    ordered = sorted((q for q in points if math.isfinite(q.error)), key=lambda q: q.error)
    below = [q for q in ordered if q.error <= target]
    above = [q for q in ordered if q.error > target]
    return [*reversed(above[:each]), *reversed(below[-each:])]


def matched(points: Sequence[Point], target: float) -> Matched | None:
    """Time at the error `target`, by the rule of this module; None if no point reaches it."""
    near = bracket(points, target)
    if not near:
        return None
    if len(near) == 1:
        return Matched(near[0].seconds, near[0].error, near[0].tolerance, near[0].beside)
    loose, tight = near
    share = math.log(loose.error / target) / math.log(loose.error / max(tight.error, 1e-300))

    def between(a: float, b: float) -> float:
        return math.exp(math.log(a) + share * (math.log(b) - math.log(a)))

    return Matched(
        between(loose.seconds, tight.seconds), target, between(loose.tolerance, tight.tolerance),
        between(loose.beside, tight.beside),
    )  # fmt: skip
