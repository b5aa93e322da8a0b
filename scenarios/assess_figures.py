"""Figures of predictions against published rows: row by row, the PIT histogram, coverage by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.stats import binom

from mscrenal.calibration.assess import coverage_by
from mscrenal.scenarios.figures import wrapped
from mscrenal.scenarios.style import FAINT, INK, OKABE_ITO, house_style, nice_unit

__all__ = ["coverage_figure", "pit_figure", "rows_figure"]

INSIDE, OUTSIDE = OKABE_ITO[0], OKABE_ITO[1]
REACH = 4.0  # half-widths of the 90 % interval that a row shows; beyond it an arrow
PIT_BINS = 10
LONGEST = 80  # letters of a row's name; both ends tell rows apart


def rows_figure(rows: pd.DataFrame, title: str) -> Figure:
    """Every row on a line of its own, by class: published value in its predictive intervals.

    Rows have different units, so that each is drawn in half-widths of its own 90 % interval around its median; the
    numbers stand beside it.
    """
    with house_style():
        groups = [(str(name), part) for name, part in rows.groupby("class", sort=False)]
        lines = max(1, sum(len(part) + 1 for _, part in groups))
        inches = 0.19 * lines + 1.4
        figure = Figure(figsize=(11.5, inches))
        axes = figure.add_axes((0.42, 0.5 / inches, 0.33, 1 - 1.25 / inches))
        across, y = axes.get_yaxis_transform(), 0
        axes.axvspan(-1, 1, color="#ededed", lw=0)
        axes.axvline(0, color=FAINT, lw=0.7)
        for name, part in groups:
            inside = int(part["inside90"].sum())
            heading = f"{name}: {inside} of {len(part)} inside 90 %"
            axes.text(-1.26, y, heading, transform=across, va="center", weight="bold", size=8)
            for offset, row in enumerate(part.to_dict("records"), start=1):
                _row(axes, y + offset, row)
            y += len(part) + 1
        axes.set(xlim=(-REACH, REACH), ylim=(lines - 0.4, -0.8), yticks=[])
        axes.set_xlabel("distance from the predictive median [half-widths of the 90 % interval]")
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        figure.text(0.012, 1 - 0.3 / inches, title, size=12, weight="bold")
        said = "Grey band: 90 % predictive interval; bar: 50 %. Blue circle: published value inside; orange cross: outside."
        figure.text(0.012, 1 - 0.42 / inches, said, size=8.5, color="#555555", va="top")
    return figure


def _row(axes: Axes, y: float, row: Mapping[str, Any]) -> None:
    across = axes.get_yaxis_transform()
    observed, middle = float(row["observed"]), float(row["predicted"])
    ends = [float(row[k]) for k in ("low90", "low50", "high50", "high90")]
    label = str(row["label"])
    axes.text(-1.23, y, wrapped(label, LONGEST), transform=across, va="center", size=7)

    def place(value: float) -> float:
        # Either side of the median has its own width: intervals of ratios are not symmetric.
        width = ends[3] - middle if value >= middle else middle - ends[0]
        return (value - middle) / width if width > 0 else 0.0

    good = bool(row["inside90"])
    axes.plot([place(ends[1]), place(ends[2])], [y, y], color="#9a9a9a", lw=3.2, solid_capstyle="butt")
    x = place(observed)
    marker = "<" if x < -REACH else ">" if x > REACH else ("o" if good else "X")
    colour = INSIDE if good else OUTSIDE
    axes.plot(
        [np.clip(x, -0.97 * REACH, 0.97 * REACH)], [y], marker, color=colour, ms=5, mec="white", mew=0.4
    )
    unit = nice_unit(str(row["unit"]))
    said = f"{observed:.3g} for {middle:.3g} ({ends[0]:.3g} to {ends[3]:.3g}) {unit}"
    axes.text(1.02, y, said, transform=across, va="center", size=7, color="#333333")


def _roomy() -> ConstrainedLayoutEngine:
    """A layout that leaves a margin around titles and names."""
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)


def pit_figure(rows: pd.DataFrame, title: str) -> Figure:
    """Histogram of where published values lie in their predictive distributions, with what chance allows.

    Level if predictions are right; a hump: too wide; a bowl: too narrow; a slope: to one side. The band is of the
    binomial distribution of a bin's count, as if rows were independent: rows of one study are not, so that it is
    narrower than it should be.
    """
    with house_style():
        figure = Figure(figsize=(5.6, 3.8), layout=_roomy())
        axes = figure.add_subplot()
        pit = rows["pit"].to_numpy(dtype=float)
        low, high = pit_band(len(pit))
        axes.axhspan(low, high, color="#e4e4e4", lw=0, label="what chance allows, 90 %")
        axes.axhline(len(pit) / PIT_BINS, color=FAINT, lw=0.9, label="level: right predictions")
        axes.hist(
            pit, bins=[k / PIT_BINS for k in range(PIT_BINS + 1)], color=INSIDE, edgecolor="white", alpha=0.85
        )
        axes.set(
            xlabel="share of the predictive distribution below the published value",
            ylabel="rows",
            xlim=(0, 1),
        )
        axes.set_title(title)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def pit_band(n: int, bins: int = PIT_BINS) -> tuple[float, float]:
    """Counts of a bin between which 90 % of independent, rightly predicted sets of n rows lie.

    >>> pit_band(100)
    (5.0, 15.0)
    """
    return float(binom.ppf(0.05, n, 1 / bins)), float(binom.ppf(0.95, n, 1 / bins))


def coverage_figure(rows: pd.DataFrame, title: str, column: str = "class") -> Figure:
    """Shares inside the 50 % and 90 % intervals by class (or study), with 90 % intervals of a share of so few rows."""
    with house_style():
        table = coverage_by(rows, column)
        names: Sequence[str] = [f"{n} ({k})" for n, k in zip(table[column], table["rows"], strict=True)]
        names = [*names, f"all ({len(rows)})"]
        figure = Figure(figsize=(6.4, 0.28 * len(names) + 1.4), layout=_roomy())
        axes = figure.add_subplot()
        for nominal, key, colour, marker, shift in (
            (0.5, "inside50", OKABE_ITO[2], "s", -0.14), (0.9, "inside90", INSIDE, "o", 0.14),
        ):  # fmt: skip
            axes.axvline(nominal, color=colour, lw=0.9, ls=(0, (4, 2)))
            shares = [*table[key], float(rows[key].mean()) if len(rows) else math.nan]
            counts = [*table["rows"], len(rows)]
            for y, (share, n) in enumerate(zip(shares, counts, strict=True)):
                low, high = wilson(share, int(n))
                axes.plot([low, high], [y + shift] * 2, color=colour, lw=1.2)
                axes.plot(
                    [share],
                    [y + shift],
                    marker,
                    color=colour,
                    ms=5,
                    label=f"{nominal:.0%}" if y == 0 else None,
                )
        axes.set_yticks(range(len(names)), names)
        axes.set(
            xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.6), xlabel="share of rows inside the interval"
        )
        axes.tick_params(axis="y", length=0, colors=INK)
        axes.set_title(title)
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, title="interval"
        )
    return figure


def wilson(share: float, n: int, z: float = 1.6449) -> tuple[float, float]:
    """A 90 % interval of a share of n (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    >>> [round(x, 2) for x in wilson(0.9, 10)]
    [0.66, 0.98]
    """
    if n == 0 or not math.isfinite(share):
        return math.nan, math.nan
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
