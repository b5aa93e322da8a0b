"""The figures of a posterior: for each parameter the interval before and after the data, in standard deviations before."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mscrenal.scenarios.figures import Caption, _Page
from mscrenal.scenarios.posterior_result import LIMIT, VERDICTS, PosteriorResult
from mscrenal.scenarios.style import FAINT, INK, OKABE_ITO, house_style

__all__ = ["intervals"]

ROW = 0.27  # inches
LETTERS = 78  # of a label, a line
LEFT, RIGHT = 5.0, 1.55  # inches for labels and numbers
HEAD, FOOT = 1.45, 0.7
REACH = 3.5  # prior SDs either side
COLOURS: Mapping[str, str] = dict(
    zip(VERDICTS, (OKABE_ITO[0], OKABE_ITO[2], OKABE_ITO[1], FAINT), strict=True)
)


def intervals(result: PosteriorResult) -> dict[str, Figure]:
    """Prior and posterior intervals, the most narrowed on top: `posterior`, and `hyper_parameters` of the probability model."""
    model = sorted(result.records, key=lambda r: -r["contraction"])
    hyper = sorted((r for r in result.hyper_records if "prior_sd" in r), key=lambda r: -r["contraction"])
    parts = {"posterior": (model, "Parameters of the model")}
    if hyper:
        parts["hyper_parameters"] = (hyper, "Parameters of the probability model")
    made = {}
    with house_style():
        for name, (records, title) in parts.items():
            page = _Page(10.4, HEAD + ROW * len(records) + FOOT, Caption(result.title, result.band_note))
            axes = _panel(page, HEAD, records, title)
            if name == "posterior":
                _legend(axes)
            made[name] = page.figure
    return made


def _panel(page: _Page, top: float, records: Sequence[Mapping[str, Any]], title: str) -> Axes:
    n = len(records)
    axes = page.axes(LEFT, top, page.width - LEFT - RIGHT, ROW * n)
    axes.set(xlim=(-REACH, REACH), ylim=(n - 0.5, -0.5), yticks=[])
    axes.set_xlabel("standard deviations of the prior, from its median")
    axes.spines["left"].set_visible(False)
    axes.axvspan(-LIMIT, LIMIT, color="#ececec", lw=0, zorder=0)
    axes.axvline(0, color=FAINT, lw=0.8)
    page.text(LEFT - 0.12, top - 0.12, title, size=9, weight="bold", ha="right", va="bottom")
    page.text(page.width - 0.2, top - 0.12, "contraction", size=8, weight="bold", ha="right", va="bottom")
    for line, record in enumerate(records):
        sd, middle = record["prior_sd"], top + (line + 0.5) * ROW
        colour = COLOURS.get(record.get("verdict", ""), OKABE_ITO[0])
        ends = np.clip([sd["low"], sd["high"]], -REACH, REACH)
        axes.plot(ends, [line, line], color=colour, lw=2.6, solid_capstyle="butt")
        axes.plot(np.clip(sd["median"], -REACH, REACH), line, "o", color=colour, ms=4.5, mec="white", mew=0.5)
        label = textwrap.wrap(record["label"], LETTERS, max_lines=2, placeholder=" …")
        size = 7.5 if len(label) == 1 else 6.5
        page.text(LEFT - 0.12, middle, "\n".join(label), size=size, ha="right", va="center", linespacing=1.0)
        page.text(
            page.width - 0.2,
            middle,
            f"{round(record['contraction'], 2) + 0.0:.0%}",
            size=7.5,
            ha="right",
            va="center",
        )
    return axes


def _legend(axes: Axes) -> None:
    """What the colours say, above the panel."""
    handles = [Line2D([], [], color=c, lw=2.6, marker="o", ms=4.5, label=v) for v, c in COLOURS.items()]
    handles.append(Line2D([], [], color="#d9d9d9", lw=7, label="prior, 90 %"))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.02, 1.0), ncols=3, fontsize=7.5, labelcolor=INK,
        borderaxespad=0.1, columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip
