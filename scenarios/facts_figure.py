"""The figures of the facts: every prediction against the interval of its target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mscrenal.scenarios.facts import CheckResult, FactsResult
from mscrenal.scenarios.style import FAINT, OKABE_ITO, nice_unit

__all__ = ["figures_of"]

REACH = 4.0  # tolerances either side of the middle that a panel shows; beyond it an arrow
ONE_PAGE = 40  # rows
PASSED, MISSED = OKABE_ITO[0], OKABE_ITO[1]


def figures_of(result: FactsResult) -> dict[str, Figure]:
    """Rows, one a check, a heading a fact; `facts`, and `facts_2` with the later half where one page would be too long."""
    groups = list(result.by_fact.values())
    rows = [len(group) + 1 for group in groups]
    half = next((i + 1 for i in range(len(rows)) if sum(rows[: i + 1]) >= sum(rows) / 2), len(rows))
    parts = [groups] if sum(rows) <= ONE_PAGE else [groups[:half], groups[half:]]
    parts = [part for part in parts if part]
    return {"facts" if i == 0 else f"facts_{i + 1}": _page(result, part) for i, part in enumerate(parts)}


def _page(result: FactsResult, groups: Sequence[Sequence[CheckResult]]) -> Figure:
    height = sum(len(group) + 1 for group in groups)
    inches = 0.19 * height + 1.6
    figure = Figure(figsize=(9.6, inches))
    axes = figure.add_axes((0.29, 0.55 / inches, 0.36, 1 - 1.6 / inches))
    _panel(axes, groups, height, result.passed)
    done = sum(result.passed.values())
    title = f"{done} of {len(result.passed)} published facts reproduced"
    figure.text(0.02, 1 - 0.3 / inches, title, size=12, weight="bold")
    said = (
        f"Points: prediction at {result.provenance.get('origin', '')} medians; bars: 90 % of "
        f"{result.provenance.get('draws', 0)} draws. Grey band: the source's tolerance,\n"
        "scaled to the same width for every check. Blue circle: inside; orange cross: outside; arrow: beyond the axis."
    )
    figure.text(0.02, 1 - 0.4 / inches, said, size=8.5, color="#555555", va="top")
    return figure


def _panel(
    axes: Axes, groups: Sequence[Sequence[CheckResult]], height: int, passed: Mapping[int, bool]
) -> None:
    axes.axvspan(-1, 1, color="#e9e9e9", lw=0)
    axes.axvline(0, color=FAINT, lw=0.7)
    across = axes.get_yaxis_transform()
    y = 0
    for group in groups:
        fact = group[0].fact
        verdict = "reproduced" if passed[fact.number] else "not reproduced"
        heading = f"{fact.number}. {fact.title} ({verdict})"
        axes.text(-0.73, y, heading, transform=across, va="center", weight="bold", size=8)
        for offset, result in enumerate(group, start=1):
            _row(axes, y + offset, result)
        y += len(group) + 1
    axes.set(xlim=(-REACH, REACH), ylim=(height - 0.4, -0.8), yticks=[])
    axes.set_xticks([-4, -3, -2, -1, 0, 1, 2, 3, 4])
    axes.set_xlabel("distance from the middle of the tolerance [half-widths]")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _row(axes: Axes, y: float, result: CheckResult) -> None:
    check, across = result.check, axes.get_yaxis_transform()
    low, high = check.bounds
    middle, half = (low + high) / 2, (high - low) / 2
    axes.text(-0.7, y, check.id, transform=across, va="center", size=7.5)
    unit = nice_unit(check.unit)
    target = "" if check.target is None else f"{check.target:.4g} "
    number = f"{round(result.predicted, 6):.4g}" if math.isfinite(result.predicted) else "undefined"
    found = "not modelled" if result.passed is None else number
    said = f"{found} for {target}({low:.4g} to {high:.4g}) {unit}"
    axes.text(1.03, y, said, transform=across, va="center", size=7, color="#333333")
    if not math.isfinite(result.predicted):
        return
    colour, marker = (PASSED, "o") if result.passed else (MISSED, "X")
    x = (result.predicted - middle) / half
    bar = np.clip((np.array(result.ci90) - middle) / half, -REACH, REACH)
    if np.isfinite(bar).all():
        axes.plot(bar, [y, y], color=colour, lw=1.6, solid_capstyle="butt")
    beyond = "<" if x < -REACH else ">" if x > REACH else marker
    axes.plot(
        [np.clip(x, -0.98 * REACH, 0.98 * REACH)], [y], beyond, color=colour, ms=5, mec="white", mew=0.4
    )
