"""The figure of a posterior: for each parameter the interval before and after the data, in standard deviations before."""

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
LETTERS = 78  # of a label, one line
LEFT, RIGHT = 5.0, 1.55  # inches for labels and numbers
HEAD, GAP, FOOT = 1.2, 0.95, 0.7
REACH = 3.5  # prior SDs either side
COLOURS: Mapping[str, str] = dict(
    zip(VERDICTS, (OKABE_ITO[0], OKABE_ITO[2], OKABE_ITO[1], FAINT), strict=True)
)


def intervals(result: PosteriorResult) -> Figure:
    """Prior and posterior intervals, the most narrowed on top; parameters of the probability model below."""
    model = sorted(result.records, key=lambda r: -r["contraction"])
    hyper = sorted((r for r in result.hyper_records if "prior_sd" in r), key=lambda r: -r["contraction"])
    height = HEAD + ROW * len(model) + (GAP + ROW * len(hyper) if hyper else 0.0) + FOOT
    with house_style():
        page = _Page(10.4, height, Caption(result.title, result.band_note))
        axes = _panel(page, HEAD, model, "Parameters of the model")
        _legend(axes)
        if hyper:
            _panel(page, HEAD + ROW * len(model) + GAP, hyper, "Parameters of the probability model")
    return page.figure


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
        label = textwrap.shorten(record["label"], LETTERS, placeholder=" …")
        page.text(LEFT - 0.12, middle, label, size=7.5, ha="right", va="center")
        page.text(page.width - 0.2, middle, f"{record['contraction']:.0%}", size=7.5, ha="right", va="center")
    return axes


def _legend(axes: Axes) -> None:
    """What the colours say, above the panel."""
    handles = [Line2D([], [], color=c, lw=2.6, marker="o", ms=4.5, label=v) for v, c in COLOURS.items()]
    handles.append(Line2D([], [], color="#d9d9d9", lw=7, label="prior, 90 %"))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.02, 1.0), ncols=3, fontsize=7.5, labelcolor=INK,
        borderaxespad=0.1, columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip
