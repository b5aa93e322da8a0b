"""Figures of the results: time courses, cells per organ, forest plot, dose grid, attribution, sensitivity.

Each function takes plain tables or labelled arrays and returns a `matplotlib.figure.Figure` that belongs
to nobody else (no pyplot state). Positions are reckoned in inches, so that long arm names and many
arms widen the page instead of running into each other.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mscrenal.scenarios.style import (
    DIVERGING,
    FAINT,
    INK,
    OKABE_ITO,
    ArmStyle,
    arm_styles,
    house_style,
    nice_unit,
)

__all__ = [
    "CELL_PANELS",
    "PANELS",
    "Caption",
    "attribution",
    "cells_per_organ",
    "dose_grid",
    "forest",
    "sobol_bars",
    "time_axis",
    "time_courses",
    "tornado",
    "wrapped",
]

# Observable -> panel title, in reading order: kidney, inflammation, fibrosis, metabolism, cells.
PANELS: dict[str, str] = {
    "egfr": "eGFR",
    "uacr": "UACR",
    "fibrosis_area": "Fibrosis area",
    "il6_serum": "Serum IL-6",
    "tnfa_serum": "Serum TNF-α",
    "tgfb1_kidney": "Kidney TGF-β1",
    "psmad3_kidney": "Kidney pSmad3",
    "hba1c": "HbA1c",
    "cells_kidney": "Cells in the kidney",
}
CELL_PANELS: dict[str, str] = {
    "cells_blood": "Blood",
    "cells_lung": "Lung",
    "cells_liver": "Liver and spleen",
    "cells_kidney": "Kidney",
    "cells_depot": "Injection site",
}
LOG_SCALED = ("uacr", "urine_protein_24h", *CELL_PANELS)
CELL_FLOOR = 1.0  # cells/kg: fewer than one cell per kg is no cell
MOST_BANDS = 8  # arms in colour; beyond, those that do best
MOST_FILLED = (
    3  # beyond this many arms filled bands hide each other: bars at the end of the panel show them too
)
BAR_STEP = 0.075  # inches from bar to bar


@dataclass(frozen=True)
class Caption:
    """What stands above a figure: the scenario, and honestly what the bands are."""

    title: str
    subtitle: str


# --------------------------------------------------------------------------- page


class _Page:
    """A figure laid out in inches from the top left corner."""

    def __init__(self, width: float, height: float, caption: Caption) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height))
        title = "\n".join(textwrap.wrap(caption.title, int(width * 9.2))[:2])
        self.text(0.25, 0.16, title, size=12, weight="bold", va="top")
        lines = textwrap.wrap(caption.subtitle, int(width * 13))
        self.text(0.25, 0.42 + 0.2 * title.count("\n"), "\n".join(lines), size=8.5, color="#555555", va="top")

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, **style)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = 1 - (top + height) / self.height
        return self.figure.add_axes((left / self.width, bottom, width / self.width, height / self.height))


HEADER = 0.85  # inches kept for the caption


def wrapped(name: str, columns: int = 40) -> str:
    """An arm's name on one line, shortened in the middle: the ends tell arms apart."""
    if len(name) <= columns:
        return name
    head = (columns - 1) * 2 // 3
    return f"{name[:head].rstrip()}…{name[-(columns - 1 - head) :].lstrip()}"


def _label_inches(names: Sequence[str], size: float = 8.5) -> float:
    """Room for the longest label; 0.0092 inch per point and letter is DejaVu Sans' mean advance."""
    return max((len(wrapped(name)) for name in names), default=0) * size * 0.0092 + 0.1


def time_axis(horizon_days: float) -> tuple[float, str]:
    """Days per tick unit and its name, for a readable time axis.

    >>> time_axis(336), time_axis(14)
    ((7.0, 'weeks'), (1.0, 'days'))
    """
    if horizon_days <= 63:
        return 1.0, "days"
    if horizon_days <= 2.2 * 365.25:
        return 7.0, "weeks"
    return 365.25, "years"


def _time_ticks(axes: Axes, low: float, high: float) -> None:
    steps = (0.25, 0.5, 1, 2, 4, 7, 8, 12, 13, 14, 24, 26, 52)
    step = next((s for s in steps if (high - low) / s <= 6.5), 104)
    axes.xaxis.set_major_locator(
        FixedLocator(list(np.arange(math.ceil(low / step) * step, high + 1e-9, step)))
    )
    axes.set_xlim(low, high)


def _log_axis(axes: Axes, low: float, high: float, *, cells: bool) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    decades = math.log10(high / low)
    if cells or decades > 3:
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
    else:
        subs: tuple[float, ...] = (1, 2, 5) if decades > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}".replace(",", " ")))
    axes.yaxis.set_minor_formatter(NullFormatter())


# --------------------------------------------------------------------------- time courses


def time_courses(
    bands: xr.Dataset,
    *,
    reference: str,
    doses: Mapping[str, Sequence[float]],
    caption: Caption,
    highlight: Sequence[str] | None = None,
) -> Figure:
    """Small multiples of the main observables, with the doses of every arm above.

    bands: one variable per observable, dims (arm, time, quantile), quantiles 0.05, 0.5, 0.95, `time` in
    days, attributes unit and label. doses: days of each arm's doses. `highlight`: with more than
    eight arms, those drawn in colour; the others stay thin and grey.
    """
    shown = [name for name in PANELS if name in bands]
    with house_style():
        return _panels(bands, {n: PANELS[n] for n in shown}, reference, doses, caption, highlight, None)


def cells_per_organ(
    bands: xr.Dataset,
    *,
    reference: str,
    doses: Mapping[str, Sequence[float]],
    caption: Caption,
    highlight: Sequence[str] | None = None,
) -> Figure | None:
    """Cells in each organ on a log axis, until five weeks after the last dose; None without cells.

    Arguments as in `time_courses`.
    """
    present = [n for n in CELL_PANELS if n in bands and float(bands[n].sel(quantile=0.5).max()) > CELL_FLOOR]
    given = [day for days in doses.values() for day in days]
    if not present or not given:
        return None
    end = min(float(bands["time"].max()), max(given) + 35.0)
    near = bands.sel(time=bands["time"] <= end)
    with house_style():
        return _panels(near, {n: CELL_PANELS[n] for n in present}, reference, doses, caption, highlight, end)


def _panels(
    bands: xr.Dataset,
    titles: Mapping[str, str],
    reference: str,
    doses: Mapping[str, Sequence[float]],
    caption: Caption,
    highlight: Sequence[str] | None,
    end: float | None,
) -> Figure:
    arms = [str(arm) for arm in bands["arm"].values]
    chosen = {reference, *(highlight or arms[: MOST_BANDS - 1])}
    vivid = [arm for arm in arms if len(arms) <= MOST_BANDS or arm in chosen]
    styles = {arm: ArmStyle("#b5b5b5", "-", "o", 0.7) for arm in arms} | arm_styles(vivid, reference)
    if len(vivid) < len(arms):
        caption = replace(
            caption, subtitle=f"{caption.subtitle}; in colour: the best arms; in grey: the rest"
        )
    bars = len(vivid) > MOST_FILLED and any(name not in CELL_PANELS for name in titles)
    if bars:
        caption = replace(caption, subtitle=f"{caption.subtitle}; bars right of a panel: its end")
    columns = 2 if len(titles) == 4 else min(3, max(1, len(titles)))
    rows = math.ceil(len(titles) / columns)
    row_height, panel = 0.185, (2.75, 1.85)
    gap = 0.9 + (0.1 + BAR_STEP * len(vivid) if bars else 0.0)
    top = HEADER + 0.3 + len(arms) * row_height + 0.75
    page = _Page(max(0.65 + columns * (panel[0] + gap), 7.0), top + rows * (panel[1] + 0.95) - 0.2, caption)
    low, high = float(bands["time"].min()), end or float(bands["time"].max())
    per, unit = time_axis(high - low)
    _dose_strip(page, arms, styles, doses, (low / per, high / per), (per, unit), row_height)
    for place, (name, title) in enumerate(titles.items()):
        row, column = divmod(place, columns)
        axes = page.axes(0.85 + column * (panel[0] + gap), top + row * (panel[1] + 0.95), *panel)
        _time_panel(axes, bands[name], name, title, styles, vivid, per)
        if bars and name not in CELL_PANELS:
            _end_bars(axes, bands[name].isel(time=-1), styles, vivid, panel[0])
        _time_ticks(axes, low / per, high / per)
        if end is not None:  # what a dose on day 0 leaves for less than a day must not hide in the axis
            axes.set_xlim(left=(low - 0.02 * (high - low)) / per)
        axes.set_xlabel(f"time since the first dose [{unit}]")
    return page.figure


def _dose_strip(
    page: _Page,
    arms: Sequence[str],
    styles: Mapping[str, ArmStyle],
    doses: Mapping[str, Sequence[float]],
    limits: tuple[float, float],
    time_unit: tuple[float, str],
    row_height: float,
) -> None:
    """Legend and dose calendar in one: a row per arm, its line, and a mark on every dose day."""
    per, unit = time_unit
    names = _label_inches(arms)
    left = 0.25 + names + 0.55
    top = HEADER + 0.3
    page.text(0.25, top - 0.12, "Arm", size=8.5, weight="bold", va="bottom")
    page.text(left, top - 0.12, f"Doses given [{unit}]", size=8.5, weight="bold", va="bottom")
    axes = page.axes(left, top, page.width - left - 0.35, len(arms) * row_height)
    sample = page.axes(0.25 + names, top, 0.42, len(arms) * row_height)
    sample.set_axis_off()
    for axis in (axes, sample):
        axis.set_ylim(len(arms) - 0.5, -0.5)
    sample.set_xlim(0, 1)
    for row, arm in enumerate(arms):
        style = styles[arm]
        page.text(0.25, top + (row + 0.5) * row_height, wrapped(arm), size=8.5, va="center")
        sample.plot([0, 1], [row, row], **style.drawn)
        days = np.asarray(doses.get(arm, ()), dtype=float) / per
        axes.plot(
            days, np.full(days.size, row), style.marker, color=style.colour, markersize=4.5, clip_on=False
        )
    axes.set_yticks(range(len(arms)), labels=[])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _time_ticks(axes, *limits)


def _time_panel(
    axes: Axes,
    band: xr.DataArray,
    name: str,
    title: str,
    styles: Mapping[str, ArmStyle],
    vivid: Sequence[str],
    per: float,
) -> None:
    time = band["time"].values / per
    log, cells = name in LOG_SCALED, name in CELL_PANELS
    floor = CELL_FLOOR if cells else 0.0
    order = sorted(styles, key=lambda arm: arm in vivid)
    alpha = 0.18 if len(vivid) <= MOST_FILLED else 0.06
    for arm in order:
        low, mid, high = (band.sel(arm=arm, quantile=q).values for q in (0.05, 0.5, 0.95))
        if log:
            low, high = np.maximum(low, floor or np.nan_to_num(low)), np.where(high > floor, high, np.nan)
            mid = np.where(mid > floor, mid, np.nan)
        if arm in vivid:
            axes.fill_between(time, low, high, color=styles[arm].colour, alpha=alpha, linewidth=0)
        axes.plot(time, mid, **styles[arm].drawn)
        alone = _alone(mid)
        if cells and alone.any():
            axes.plot(time[alone], mid[alone], styles[arm].marker, color=styles[arm].colour, markersize=3.6)
    axes.set_title(title)
    # States are relative to the healthy animal or person: a bare number is a fold of healthy.
    axes.set_ylabel(f"[{nice_unit(str(band.attrs.get('unit', ''))) or 'fold of healthy'}]")
    if log:
        top = float(np.nanmax(band.values, initial=10.0))
        positive = band.values[np.isfinite(band.values) & (band.values > 0)]
        bottom = floor or (float(positive.min()) / 1.15 if positive.size else 1.0)
        _log_axis(axes, bottom, top * (3 if cells else 1.15), cells=cells)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))


def _alone(values: np.ndarray) -> np.ndarray:
    """Which values stand between missing ones: no line reaches them.

    >>> _alone(np.array([1.0, np.nan, 2.0, 3.0])).tolist()
    [True, False, False, False]
    """
    known = np.isfinite(values)
    beside = np.zeros_like(known)
    beside[1:] |= known[:-1]
    beside[:-1] |= known[1:]
    return np.asarray(known & ~beside)


def _end_bars(
    axes: Axes, last: xr.DataArray, styles: Mapping[str, ArmStyle], vivid: Sequence[str], width: float
) -> None:
    """Medians and bands at the last time, side by side right of the panel: fills would hide each other."""
    beside = axes.get_yaxis_transform()
    for place, arm in enumerate(vivid):
        x = 1 + (0.12 + BAR_STEP * place) / width
        low, mid, high = (float(last.sel(arm=arm, quantile=q)) for q in (0.05, 0.5, 0.95))
        if not math.isfinite(mid):
            continue
        colour = styles[arm].colour
        axes.plot([x, x], [low, high], color=colour, linewidth=1.3, transform=beside, clip_on=False)
        axes.plot(x, mid, styles[arm].marker, color=colour, markersize=3.6, transform=beside, clip_on=False)


# --------------------------------------------------------------------------- forest plot


def forest(table: pd.DataFrame, *, reference: str, caption: Caption) -> Figure:
    """Each arm's difference from the reference, one panel per endpoint.

    table: rows per arm and endpoint with arm, label, better, vs_reference_median, vs_reference_low,
    vs_reference_high, vs_reference_unit, prob_better and note, as `CompareResult.table`.
    """
    arms = [str(arm) for arm in table["arm"].unique() if arm != reference]
    endpoints = list(dict.fromkeys(table["endpoint"]))
    names = _label_inches(arms)
    columns = min(3, max(1, len(endpoints)))
    rows = math.ceil(len(endpoints) / columns)
    row_height = 0.27 if len(arms) <= 12 else 0.21
    panel = (2.6, max(len(arms), 2) * row_height)
    step_x, step_y = panel[0] + 0.95, panel[1] + 1.25
    with house_style():
        page = _Page(max(0.35 + names + columns * step_x, 6.0), HEADER + 0.35 + rows * step_y, caption)
        styles = arm_styles([str(arm) for arm in table["arm"].unique()], reference)
        for place, name in enumerate(endpoints):
            row, column = divmod(place, columns)
            top = HEADER + 0.45 + row * step_y
            axes = page.axes(0.25 + names + column * step_x, top, *panel)
            part = table[table["endpoint"] == name].set_index("arm")
            _forest_panel(axes, part, arms, styles, reference)
            if column == 0:
                for line, arm in enumerate(arms):
                    middle = top + (line + 0.5) * panel[1] / len(arms)
                    page.text(0.13 + names, middle, wrapped(arm), size=8.5, va="center", ha="right")
    return page.figure


def _forest_panel(
    axes: Axes, part: pd.DataFrame, arms: Sequence[str], styles: Mapping[str, ArmStyle], reference: str
) -> None:
    axes.set_ylim(max(len(arms), 1) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    first = part.iloc[0]
    axes.set_title(first["label"], pad=16)
    axes.grid(axis="x")
    for line in range(0, len(arms), 2):
        axes.axhspan(line - 0.5, line + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    edge = axes.get_yaxis_transform()
    _over(axes, 1.22, "P(better)", "right")
    drawn = False
    for line, arm in enumerate(arms):
        row = part.loc[arm]
        if not math.isfinite(row["vs_reference_median"]):
            axes.text(0.5, line, "–", transform=edge, ha="center", va="center", color=FAINT)
            continue
        drawn, style = True, styles[arm]
        axes.plot(
            [row["vs_reference_low"], row["vs_reference_high"]],
            [line, line],
            color=style.colour,
            linewidth=1.8,
        )
        axes.plot(row["vs_reference_median"], line, style.marker, color=style.colour, markersize=5.5)
        axes.text(1.22, line, f"{row['prob_better']:.2f}", transform=edge, size=8, ha="right", va="center")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    unit = nice_unit(first["vs_reference_unit"])
    axes.set_xlabel(f"difference from {wrapped(reference, 22)}\n[{unit or 'ratio'}]")
    if first["better"] == "higher":
        _over(axes, 1.0, "better →", "right")
    else:
        _over(axes, 0.0, "← better", "left")
    if not drawn:
        note = textwrap.fill(f"not defined here: {first['note'] or 'no value in any draw'}", 30)
        axes.clear()
        axes.set_axis_off()
        axes.set_title(first["label"], pad=16)
        axes.text(0.5, 0.5, note, transform=axes.transAxes, size=8, color=FAINT, ha="center", va="center")


def _over(axes: Axes, x: float, words: str, align: Literal["left", "right"]) -> None:
    """A small heading between a panel and its title; `x` as a share of the panel's width."""
    axes.annotate(
        words,
        (x, 1.0),
        xycoords="axes fraction",
        xytext=(0, 3),
        textcoords="offset points",
        size=7.5,
        color="#555555",
        ha=align,
        va="bottom",
    )


# --------------------------------------------------------------------------- dose x frequency


def dose_grid(grid: pd.DataFrame, *, reference: str, caption: Caption) -> Figure:
    """Heat map of dose by schedule, one panel per endpoint and product.

    grid: columns panel (its title), label, unit, better, dose (row, text), dose_order, schedule (text),
    schedule_order, value (median difference from the reference), prob_better.
    """
    keys = list(dict.fromkeys(zip(grid["panel"], grid["label"], strict=True)))
    most_rows, most_columns = grid["dose"].nunique(), grid["schedule"].nunique()
    columns = 2 if len(keys) > 1 and most_columns <= 8 else 1
    rows = math.ceil(len(keys) / columns)
    panel = (max(2.4, 0.72 * most_columns), max(1.0, 0.42 * most_rows))
    labels = _label_inches(list(grid["dose"].unique())) + 0.35
    step_x, step_y = panel[0] + labels + 1.1, panel[1] + 1.1
    with house_style():
        page = _Page(max(columns * step_x + 0.3, 6.5), HEADER + 0.35 + rows * step_y, caption)
        for place, (title, label) in enumerate(keys):
            row, column = divmod(place, columns)
            axes = page.axes(0.25 + labels + column * step_x, HEADER + 0.35 + row * step_y, *panel)
            part = grid[(grid["panel"] == title) & (grid["label"] == label)]
            _heat_panel(page, axes, part, f"{label}: {title}" if title else str(label), reference)
    return page.figure


def _heat_panel(page: _Page, axes: Axes, part: pd.DataFrame, title: str, reference: str) -> None:
    doses = part.sort_values("dose_order", ascending=False)["dose"].unique()
    schedules = part.sort_values("schedule_order")["schedule"].unique()
    shape = (len(doses), len(schedules))
    value, chance = np.full(shape, np.nan), np.full(shape, np.nan)
    for record in part.itertuples():
        at = (list(doses).index(record.dose), list(schedules).index(record.schedule))
        value[at], chance[at] = record.value, record.prob_better
    sign = 1.0 if part["better"].iloc[0] == "higher" else -1.0
    reach = float(np.nanmax(np.abs(value))) if np.isfinite(value).any() else 1.0
    reach = reach or 1.0
    image = axes.imshow(sign * value, cmap=DIVERGING, vmin=-reach, vmax=reach, aspect="auto")
    for (row, column), number in np.ndenumerate(value):
        if not math.isfinite(number):
            axes.text(column, row, "–", ha="center", va="center", color=FAINT)
            continue
        dark = abs(number) > 0.62 * reach
        axes.text(
            column,
            row,
            f"{number:+.2g}\nP {chance[row, column]:.2f}",
            ha="center",
            va="center",
            size=7,
            linespacing=1.05,
            color="white" if dark else INK,
        )
    axes.set_xticks(range(len(schedules)), labels=[str(s) for s in schedules])
    axes.set_yticks(range(len(doses)), labels=[str(d) for d in doses])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title)
    axes.set_xlabel("doses × interval")
    axes.set_ylabel("each dose")
    bar = page.figure.add_axes(
        (
            axes.get_position().x1 + 0.1 / page.width,
            axes.get_position().y0,
            0.1 / page.width,
            axes.get_position().height,
        )
    )
    colours = page.figure.colorbar(image, cax=bar)
    colours.set_ticks(
        [-reach, 0, reach], labels=[f"{-sign * reach:+.2g}\nworse", "0", f"{sign * reach:+.2g}\nbetter"]
    )
    colours.outline.set_visible(False)
    unit = nice_unit(part["unit"].iloc[0])
    colours.set_label(f"vs {wrapped(reference, 16)}" + (f"\n[{unit}]" if unit else ""), size=7.5)


# --------------------------------------------------------------------------- attribution


def attribution(table: pd.DataFrame, *, unit: str, label: str, caption: Caption) -> Figure:
    """Shapley shares of the arms of action, and the loss when each alone is knocked out.

    table: rows per arm of action (and 'residual', 'total') with name, shapley_median, shapley_low,
    shapley_high, knock_out_median, knock_out_low, knock_out_high.
    """
    arms = table[~table["name"].isin(("residual", "total"))]
    order = arms.reindex(arms["shapley_median"].abs().sort_values(ascending=False).index)
    rows = pd.concat([order, table[table["name"] == "residual"], table[table["name"] == "total"]])
    names = [str(name) for name in rows["name"]]
    left = _label_inches(names)
    shown = nice_unit(unit)
    bracket = f" [{shown}]" if shown else ""
    height = 0.32 * len(rows)
    with house_style():
        page = _Page(0.35 + left + 2 * 3.6 + 0.2, HEADER + 0.4 + height + 0.8, caption)
        for place, (stem, title) in enumerate(
            (("shapley", "Share of the effect (Shapley value)"), ("knock_out", "Lost when knocked out alone"))
        ):
            axes = page.axes(0.25 + left + place * 3.6, HEADER + 0.4, 3.2, height)
            _bars(axes, rows, stem)
            axes.set_title(title)
            axes.set_xlabel(f"{label}{bracket}")
            axes.set_yticks(range(len(rows)), labels=names if place == 0 else [])
            axes.tick_params(axis="y", length=0)
    return page.figure


def _bars(axes: Axes, rows: pd.DataFrame, stem: str) -> None:
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.spines["left"].set_visible(False)
    for line, record in enumerate(rows.to_dict("records")):
        mid, low, high = (float(record[f"{stem}_{part}"]) for part in ("median", "low", "high"))
        if not math.isfinite(mid):
            continue
        plain = record["name"] in ("residual", "total")
        colour = "#d9d9d9" if plain else "#9ecae1"
        hatch = "///" if record["name"] == "residual" else None
        axes.barh(line, mid, height=0.62, color=colour, edgecolor=INK, linewidth=0.6, hatch=hatch)
        axes.plot([low, high], [line, line], color=INK, linewidth=1.3)
        axes.plot([low, high], [line, line], "|", color=INK, markersize=6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


# --------------------------------------------------------------------------- sensitivity

PARAMETER_ROW = 0.38  # inches: two lines of words
PARAMETER_COLUMNS = 46  # letters a line


def _parameter_rows(page: _Page, top: float, labels: Sequence[str]) -> float:
    """Names of parameters, at most two lines each, right-aligned; gives the left edge of what comes beside them."""
    left = 0.3 + PARAMETER_COLUMNS * 8 * 0.0092
    for line, label in enumerate(labels):
        words = textwrap.wrap(label, PARAMETER_COLUMNS, max_lines=2, placeholder=" …")
        middle = top + (line + 0.5) * PARAMETER_ROW
        page.text(left - 0.12, middle, "\n".join(words), size=8, va="center", ha="right", linespacing=1.1)
    return left


def _parameter_axes(page: _Page, left: float, top: float, width: float, n: int) -> Axes:
    axes = page.axes(left, top, width, n * PARAMETER_ROW)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for line in range(0, n, 2):
        axes.axhspan(line - 0.5, line + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    return axes


def sobol_bars(table: pd.DataFrame, *, caption: Caption) -> Figure:
    """First-order and total Sobol indices with their intervals, a row per parameter.

    table: rows with label, first, first_low, first_high, total, total_low, total_high, as `SensitivityResult.table`.
    """
    n, top = len(table), HEADER + 0.6
    with house_style():
        page = _Page(8.4, top + n * PARAMETER_ROW + 0.6, caption)
        left = _parameter_rows(page, top, list(table["label"]))
        axes = _parameter_axes(page, left, top, page.width - left - 0.3, n)
        axes.axvline(0, color=INK, linewidth=0.9)
        kinds = {
            "total": (0.17, "#cfe3f1", "total: with interactions"),
            "first": (-0.17, OKABE_ITO[0], "first order: alone"),
        }
        for kind in ("first", "total"):
            shift, colour, said = kinds[kind]
            at = np.arange(n) + shift
            axes.barh(at, table[kind], height=0.3, color=colour, edgecolor=INK, linewidth=0.5, label=said)
            axes.hlines(at, table[f"{kind}_low"], table[f"{kind}_high"], color=INK, linewidth=1.2)
            for end in ("low", "high"):
                axes.plot(table[f"{kind}_{end}"], at, "|", color=INK, markersize=4.5)
        axes.set_xlabel("Sobol index [share of the variance]")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.4)
    return page.figure


def tornado(table: pd.DataFrame, *, base: float, label: str, unit: str, caption: Caption) -> Figure:
    """The endpoint with one parameter low or high, the widest swing on top.

    table: rows with label, unit, q05, q95, endpoint_at_q05, endpoint_at_q95; base: the endpoint at all medians.
    """
    swing = (table["endpoint_at_q95"] - table["endpoint_at_q05"]).abs().fillna(-1.0)
    rows = table.loc[swing.sort_values(ascending=False, kind="stable").index]
    n, top, beside = len(rows), HEADER + 0.6, 2.0
    shown = nice_unit(unit)
    with house_style():
        page = _Page(9.6, top + n * PARAMETER_ROW + 0.6, caption)
        left = _parameter_rows(page, top, list(rows["label"]))
        axes = _parameter_axes(page, left, top, page.width - left - beside, n)
        ends = (
            ("endpoint_at_q05", OKABE_ITO[1], "at its 5 %"),
            ("endpoint_at_q95", OKABE_ITO[0], "at its 95 %"),
        )
        for column, colour, said in ends:
            reach = rows[column].to_numpy() - base
            axes.barh(
                np.arange(n), reach, left=base, height=0.5, color=colour, linewidth=0, alpha=0.85, label=said
            )
            axes.plot(
                rows[column], np.arange(n), "o" if column.endswith("q95") else "s", color=colour, markersize=4
            )
        axes.axvline(base, color=INK, linewidth=0.9)
        axes.set_xlabel(f"{label} [{shown}]" if shown else label)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.4)
        page.text(
            page.width - beside + 0.15,
            top - 0.08,
            "parameter, 5 % to 95 %",
            size=8,
            va="bottom",
            weight="bold",
        )
        for line, record in enumerate(rows.to_dict("records")):
            own = nice_unit(str(record["unit"]))
            said = f"{record['q05']:.3g} to {record['q95']:.3g}{f' {own}' if own else ''}"
            page.text(
                page.width - beside + 0.15, top + (line + 0.5) * PARAMETER_ROW, said, size=8, va="center"
            )
    return page.figure
