"""Figures of virtual trials: assurance by size, and what a trial of this size would see."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from mscrenal.scenarios.style import FAINT, INK, arm_styles, house_style, nice_unit

if TYPE_CHECKING:
    from mscrenal.scenarios.trial_result import TrialResult

__all__ = ["figures"]

WIDTH = 7.2  # inches


def figures(result: TrialResult) -> dict[str, Figure]:
    """The figures by file name; a curve only if sizes were simulated."""
    with house_style():
        made = {"effects": _effects(result)}
        if result.power_curve["n_arm"].nunique() > 2:
            made = {"assurance": _assurance(result), **made}
    return made


def _head(figure: Figure, title: str, note: str) -> float:
    """Title and note; returns what is left of the height."""
    lines = [*textwrap.wrap(title, 88), *textwrap.wrap(note, 112)]
    n_title = len(textwrap.wrap(title, 88))
    height = figure.get_figheight()
    y = 1 - 0.10 / height
    for k, line in enumerate(lines):
        bold = k < n_title
        figure.text(
            0.02, y, line, ha="left", va="top", fontsize=10 if bold else 8, fontweight="bold" if bold else "normal",
            color=INK if bold else "#555555",
        )  # fmt: skip
        y -= (0.19 if bold else 0.155) / height
    return y - 0.12 / height


def _assurance(result: TrialResult) -> Figure:
    """Assurance and type I error against patients in the treated arm."""
    curve = result.power_curve
    figure = Figure(figsize=(WIDTH, 4.1))
    top = _head(
        figure,
        f"{result.title}: probability of a significant result, by size",
        f"{result.endpoint.label}, {result.design.analysis}, two-sided {result.design.alpha:g}. {result.band_note}.",
    )
    top -= 0.2 / figure.get_figheight()  # what stands above the axes
    axes = figure.add_axes((0.1, 0.13, 0.61, top - 0.13))
    styles = arm_styles(list(result.design.arms), result.reference)
    sizes = sorted(curve["n_arm"].unique())
    notes = []
    for c in result.comparisons:
        style = styles[c.arm]
        mine = curve[(curve["arm"] == c.arm)].sort_values("n_arm")
        line = mine[mine["series"] == "curve"]
        axes.plot(line["n_arm"], line["assurance"], **style.drawn)
        # The main series is the best measured one at its size.
        axes.errorbar(
            mine["n_arm"], mine["assurance"], yerr=1.96 * mine["mc_error"], fmt=style.marker, color=style.colour,
            markersize=4, elinewidth=0.9, capsize=2, linestyle="none",
        )  # fmt: skip
        axes.axhline(c.in_favour.value, color=style.colour, linewidth=0.8, linestyle=(0, (1, 2)))
        notes.append((line["assurance"].iloc[-1] if len(line) else c.assurance.value, c.arm, style.colour))
    false = curve[curve["series"] == "curve"]
    axes.plot(
        false.groupby("n_arm")["type1_error"].mean().index,
        false.groupby("n_arm")["type1_error"].mean(),
        color=FAINT, linestyle="-", marker="x", markersize=4, linewidth=0.9,
    )  # fmt: skip
    axes.axhline(result.design.alpha, color=FAINT, linewidth=0.8, linestyle=(0, (4, 2)))
    design = result.comparisons[0].n_arm
    axes.axvline(design, color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
    _log_sizes(axes, [float(s) for s in sizes])
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("share of virtual trials")
    axes.set_xlabel("patients in the treated arm")
    # Names beside the axes, apart from each other.
    entries = [
        *[(value, f"{textwrap.fill(arm, 26)}", colour) for value, arm, colour in notes],
        (result.design.alpha, "no effect: type I error\n(dashed: nominal)", FAINT),
    ]
    entries.append(
        (
            max(c.in_favour.value for c in result.comparisons),
            "dotted: worlds with a true\neffect in favour (ceiling)",
            "#555555",
        )
    )
    _beside(figure, axes, entries)
    axes.text(
        design, 1.045, f"this design: {design}", ha="center", va="bottom", fontsize=7.5, color=INK,
    )  # fmt: skip
    return figure


def _beside(figure: Figure, axes: Axes, entries: list[tuple[float, str, str]]) -> None:
    """Words to the right of the axes at their heights, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    height = axes.get_position().height * figure.get_figheight()  # inches
    placed: list[tuple[float, str, str]] = []
    floor = -math.inf
    for value, words, colour in sorted(entries, key=lambda e: e[0]):
        size = 0.145 * (words.count("\n") + 1) + 0.05
        centre = (value - low) / (high - low) * height
        centre = max(centre, floor + size / 2)
        placed.append((centre, words, colour))
        floor = centre + size / 2
    # What grew out at the top is pushed back from there.
    ceiling = height + 0.1
    for k in range(len(placed) - 1, -1, -1):
        centre, words, colour = placed[k]
        size = 0.145 * (words.count("\n") + 1) + 0.05
        centre = min(centre, ceiling - size / 2)
        placed[k] = (centre, words, colour)
        ceiling = centre - size / 2
    for centre, words, colour in placed:
        axes.annotate(
            words, (1.0, centre / height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", ha="left", fontsize=7.8, color=colour, annotation_clip=False,
        )  # fmt: skip


def _log_sizes(axes: Axes, sizes: list[float]) -> None:
    axes.set_xscale("log")
    low, high = min(sizes) / 1.25, max(sizes) * 1.25
    axes.set_xlim(low, high)
    steps = [s * 10.0**k for k in range(6) for s in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator([s for s in steps if low <= s <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _effects(result: TrialResult) -> Figure:
    """True effects over worlds and estimates over trials, significant ones marked, for each comparison."""
    comparisons = result.comparisons
    data = result.data
    figure = Figure(figsize=(WIDTH, 1.55 + 1.75 * len(comparisons)))
    unit = nice_unit(result.endpoint.unit)
    top = _head(
        figure,
        f"{result.title}: what a trial of this size would see",
        f"Grey: estimates of the virtual trials; blue: significant in favour; orange: significant against; black line: true "
        f"effects of the worlds. {result.band_note.split(';')[0]}.",
    )
    bottom = 0.62 / figure.get_figheight()
    gap = 0.42 / figure.get_figheight()
    height = (top - bottom - gap * len(comparisons)) / len(comparisons)
    log = result.endpoint.as_ratio
    everything = data["effect"].values
    known = everything[np.isfinite(everything)]
    if not len(known):
        known = np.array([-1.0, 1.0])
    reach = float(np.quantile(np.abs(known), 0.995)) or 1.0
    edges = np.linspace(-reach, reach, 46)
    sign = 1.0 if result.endpoint.better == "higher" else -1.0
    for k, c in enumerate(comparisons):
        y = top - gap - height - k * (height + gap)
        axes = figure.add_axes((0.1, y, 0.86, height))
        effect = data["effect"].sel(arm=c.arm).values
        p, truth = data["p"].sel(arm=c.arm).values, data["truth"].sel(arm=c.arm).values
        clipped = np.clip(effect, -reach, reach)
        good = (p <= result.design.alpha) & (sign * effect > 0)
        bad = (p <= result.design.alpha) & (sign * effect < 0)
        weights = np.full(len(effect), 1 / max(1, np.isfinite(effect).sum()))
        rest = ~good & ~bad & np.isfinite(effect)
        axes.hist(
            [clipped[good], clipped[bad], clipped[rest]],
            bins=edges.tolist(),
            stacked=True,
            weights=[weights[good], weights[bad], weights[rest]],
            color=["#0072B2", "#D55E00", "#c9c9c9"],
        )
        steps, _ = np.histogram(np.clip(truth[np.isfinite(truth)], -reach, reach), bins=edges)
        density = steps / max(1, steps.sum())
        # Worlds are far narrower than estimates: drawn to their own height, which the axis does not measure.
        most = max(axes.get_ylim()[1], 1e-9)
        axes.stairs(density / max(density.max(), 1e-12) * most * 0.9, edges, color=INK, linewidth=1.2)
        axes.axvline(0.0, color=FAINT, linewidth=0.8)
        detectable = math.log(c.detectable) if log else c.detectable
        if abs(detectable) <= reach:
            axes.axvline(detectable, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
            side = "left" if detectable < 0.45 * reach else "right"
            axes.annotate(
                "80 % power for\nthis true effect", (detectable, 0.97), xycoords=("data", "axes fraction"),
                xytext=(3 if side == "left" else -3, 0), textcoords="offset points", ha=side, va="top", fontsize=7,
                color=INK,
            )  # fmt: skip
        axes.set_xlim(-reach, reach)
        axes.set_title(
            f"{c.arm} ({c.n_arm}) against {result.reference} ({c.n_reference}): assurance {c.assurance.value:.1%} "
            f"± {c.assurance.error:.1%}, type I error {c.type1.value:.1%} ± {c.type1.error:.1%}",
            fontsize=8.5,
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("share of trials")
        if log:
            _ratio_ticks(axes, reach)
        if k == len(comparisons) - 1:
            axes.set_xlabel(
                f"{result.endpoint.label}: effect, {unit}"
                + (f" ({result.endpoint.better} is better; outer bars hold all beyond)")
            )
        else:
            axes.tick_params(labelbottom=False)
    return figure


def _ratio_ticks(axes: Axes, reach: float) -> None:
    candidates = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0, 3.0, 5.0, 10.0, 20.0)
    shown = [r for r in candidates if abs(math.log(r)) <= reach]
    if len(shown) > 9:
        shown = [r for r in shown if r in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
    axes.xaxis.set_major_locator(FixedLocator([math.log(r) for r in shown]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{math.exp(x):.3g}"))
