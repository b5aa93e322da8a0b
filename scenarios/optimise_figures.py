"""Figures of a search for regimens: effect against burden, response surface, sensitisation, value of information."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from mscrenal.model.text import format_duration
from mscrenal.scenarios.figures import HEADER, Caption, _label_inches, _Page, _parameter_axes, _parameter_rows
from mscrenal.scenarios.regimens import BURDEN_UNITS
from mscrenal.scenarios.style import FAINT, INK, OKABE_ITO, arm_styles, house_style, nice_unit

if TYPE_CHECKING:
    from mscrenal.scenarios.optimise_result import OptimiseResult

__all__ = ["pareto", "response_surface", "sensitisation", "shortlist", "value_of_information"]

# From paper to the blue of what is better: a gain has no sign to tell apart.
GAIN = LinearSegmentedColormap.from_list("mscrenal_gain", ["#f7f2ec", "#8cb8dc", "#2166ac", "#0b3c6f"])
MOST_BARS = 12
LABEL_ROOM = 0.2  # inches that a number beside a point takes, either way


def _bracket(unit: str) -> str:
    shown = nice_unit(unit)
    return f" [{shown}]" if shown else ""


def _engineering(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


# --------------------------------------------------------------------------- effect against burden


def pareto(result: OptimiseResult) -> Figure:
    """Expected gain against the burden, a panel per kind of product; the shortlist with bands, the front joined.

    Products differ in colour and marker, numbers of visits are printed; small grey points were tried on few draws only.
    """
    kinds = list(dict.fromkeys(r.kind for r in result.regimens))
    products = list(dict.fromkeys(f"{r.product} {r.route}" for r in result.regimens))
    styles = arm_styles(["", *products], "")
    panel, gap = (5.6 if len(kinds) == 1 else 4.2, 3.6), 0.95
    rows = math.ceil((len(products) + 4) / 3)
    top = HEADER + 0.5 + 0.2 * rows
    caption = Caption(result.title, f"{result.band_note}; numbers beside points: visits")
    with house_style():
        page = _Page(max(0.85 + len(kinds) * (panel[0] + gap), 7.0), top + panel[1] + 0.75, caption)
        for place, kind in enumerate(kinds):
            axes = page.axes(0.8 + place * (panel[0] + gap), top + 0.1, *panel)
            _pareto_panel(axes, result, kind, styles, panel)
            if place == 0:
                axes.set_ylabel(f"expected {result.quantity}\n{_bracket(result.unit).strip()}")
        handles = [
            Line2D([], [], color=styles[p].colour, marker=styles[p].marker, linestyle="", label=p)
            for p in products
        ]
        handles += [
            Line2D([], [], color=INK, linewidth=1.0, label="front: none gains as much with less"),
            Line2D([], [], color=INK, marker="*", markersize=11, linestyle="", label="recommended"),
            Line2D([], [], color="#c9c9c9", marker=".", linestyle="", label="tried on few draws only"),
        ]
        if result.relevant is not None:
            handles.append(
                Line2D(
                    [],
                    [],
                    color=FAINT,
                    linestyle=(0, (4, 2)),
                    label=f"gain that matters: {result.relevant:.2g}",
                )
            )
        page.figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.25 / page.width, 1 - (HEADER + 0.12) / page.height),
            ncols=3, borderaxespad=0.0, handletextpad=0.5, columnspacing=1.4,
        )  # fmt: skip
    return page.figure


def _pareto_panel(
    axes: Axes, result: OptimiseResult, kind: str, styles: Any, size: tuple[float, float]
) -> None:
    mine = [i for i, r in enumerate(result.regimens) if r.kind == kind]
    tried = [(r.burden, gain) for r, gain in result.screened if r.kind == kind and math.isfinite(gain)]
    if tried:
        axes.plot(*np.array(tried).T, ".", color="#d4d4d4", markersize=3, zorder=1)
    mean, front = result.expected, result.front
    low, high = np.quantile(result.gains[:, result.whole], (0.05, 0.95), axis=1)
    for i in mine:
        r = result.regimens[i]
        style = styles[f"{r.product} {r.route}"]
        if front[i] or i == result.choice:  # all others would hide each other at the limit
            axes.vlines(r.burden, low[i], high[i], color=style.colour, linewidth=1.0, alpha=0.4, zorder=2)
        axes.plot(r.burden, mean[i], style.marker, color=style.colour, markersize=5.5, zorder=4)
    steps = sorted((result.regimens[i].burden, mean[i]) for i in mine if front[i])
    if steps:
        # Burden and gain alone draw the line: where fewer visits cost gain, a point of the front lies below it.
        x, y = np.array(steps).T
        axes.plot(x, np.maximum.accumulate(y), color=INK, linewidth=1.0, zorder=3)
    if result.choice in mine:
        at = result.regimens[result.choice]
        axes.plot(
            at.burden, mean[result.choice], "*", color="white", markeredgecolor=INK, markersize=14, zorder=5
        )
    if result.relevant is not None:
        axes.axhline(result.relevant, color=FAINT, linestyle=(0, (4, 2)), linewidth=0.9, zorder=1)
    axes.axhline(0, color=INK, linewidth=0.9, zorder=1)
    # One scale for all kinds: gains can be compared, burdens cannot.
    seen = np.concatenate([low[front], high[front], mean, [result.relevant or 0.0, 0.0]])
    reach = float(np.ptp(seen)) or 1.0
    axes.set_ylim(float(seen.min()) - 0.05 * reach, float(seen.max()) + 0.08 * reach)
    burdens = sorted({result.regimens[i].burden for i in mine})
    axes.set_xscale("log")
    _burden_ticks(axes, burdens[0] / 1.25, burdens[-1] * 1.3)
    _visits(axes, result, [i for i in mine if front[i] or i == result.choice], size)
    axes.set_xlabel(f"all doses together [{BURDEN_UNITS[result.regimens[mine[0]].kind]}]")
    axes.set_title({"cells": "Cells", "ev": "Vesicles", "medium": "Conditioned medium"}[kind])


def _visits(axes: Axes, result: OptimiseResult, which: list[int], size: tuple[float, float]) -> None:
    """The number of visits above each point of the front; points that stand close share one label."""
    placed: list[tuple[float, float]] = []
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    width, height = size
    for i in sorted(which, key=lambda i: -result.expected[i]):
        r, y = result.regimens[i], float(result.expected[i])
        at = (
            math.log(r.burden / left) / math.log(right / left) * width,
            (y - bottom) / (top - bottom) * height,
        )
        if any(abs(at[0] - a) < LABEL_ROOM and abs(at[1] - b) < LABEL_ROOM for a, b in placed):
            continue
        placed.append(at)
        axes.annotate(
            str(r.n_doses), (r.burden, y), xytext=(-6, 4), textcoords="offset points", size=7.5, ha="right",
            color=INK, zorder=6,
        )  # fmt: skip


def _burden_ticks(axes: Axes, low: float, high: float) -> None:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    many = math.log10(high / low) > 2.2
    ticks = [
        s * 10.0**d for d in decades for s in ((1,) if many else (1, 2, 5)) if low <= s * 10.0**d <= high
    ]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _engineering(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low, high)


# --------------------------------------------------------------------------- the shortlist


def shortlist(result: OptimiseResult) -> Figure:
    """The gain of every regimen of the shortlist with its band, and how often each is the best; the best on top."""
    records = result.records
    names = [
        f"{r['regimen']['name']}{' *' if r['recommended'] else ''}{' (scenario)' if r['of_scenario'] else ''}"
        for r in records
    ]
    products = list(dict.fromkeys(f"{r['regimen']['product']} {r['regimen']['route']}" for r in records))
    styles = arm_styles(["", *products], "")
    left, top, row = 0.25 + _label_inches(names, 8.5) + 0.1, HEADER + 0.6, 0.24
    note = f"{result.band_note}; diamonds: expected gain, dots: medians; *: recommended"
    columns = [("best of all", "prob_best")]
    if result.relevant is not None:
        columns.insert(0, (f"P(≥ {result.relevant:.2g})", "prob_relevant"))
    with house_style():
        page = _Page(
            left + 4.4 + 0.85 * len(columns) + 0.3,
            top + row * len(records) + 0.75,
            Caption(result.title, note),
        )
        axes = page.axes(left, top, 4.2, row * len(records))
        axes.set_ylim(len(records) - 0.5, -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        if result.relevant is not None:
            axes.axvline(result.relevant, color=FAINT, linestyle=(0, (4, 2)), linewidth=0.9, zorder=1)
        for line, (name, record) in enumerate(zip(names, records, strict=True)):
            middle = top + (line + 0.5) * row
            page.text(left - 0.1, middle, name, size=8.5, va="center", ha="right")
            if line % 2 == 0:
                axes.axhspan(line - 0.5, line + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
            colour = styles[f"{record['regimen']['product']} {record['regimen']['route']}"].colour
            axes.hlines(line, *record["gain"]["ci90"], color=colour, linewidth=1.6)
            axes.plot(record["gain"]["median"], line, "o", color=colour, markersize=4)
            axes.plot(
                record["expected_gain"], line, "D", color=colour, markeredgecolor="white", markersize=5.5
            )
            for place, (_, key) in enumerate(columns):
                x = left + 4.4 + 0.85 * place + 0.6
                page.text(x, middle, f"{record[key]:.2f}", size=8.5, va="center", ha="right")
        for place, (title, _) in enumerate(columns):
            page.text(
                left + 4.4 + 0.85 * place + 0.6,
                top - 0.08,
                title,
                size=8,
                va="bottom",
                ha="right",
                weight="bold",
            )
        axes.set_xlabel(f"{result.quantity}{_bracket(result.unit)}")
    return page.figure


# --------------------------------------------------------------------------- response surface


def response_surface(result: OptimiseResult) -> Figure:
    """Expected gain over dose (rows), interval (columns) and number of doses (panels), a row of panels per product.

    Of four products at most: the recommended one and those that gain most. Blank: beyond the limits.
    """
    expected = result.surface.expected
    best = expected.max(("dose", "n_doses", "interval_days"), skipna=True)
    order = sorted(best["pair"].values.tolist(), key=lambda pair: -float(best.sel(pair=pair).fillna(-np.inf)))
    if result.choice is not None:
        chosen = result.regimens[result.choice]
        mine = f"{chosen.product} {chosen.route}"
        order = [mine, *(pair for pair in order if pair != mine)]
    pairs = order[:4]
    top = float(np.nanmax(expected.sel(pair=pairs).values))
    reach = (min(0.0, float(np.nanmin(expected.sel(pair=pairs).values))), max(top, 1e-12))
    # As many columns as the interval has, one for a single dose.
    numbers = [int(n) for n in expected["n_doses"].values]
    intervals = [float(i) for i in expected["interval_days"].values if i > 0]
    cell, gap = (0.56, 0.27), 0.3
    label = 1.0
    sizes = [1 if n == 1 else max(len(intervals), 1) for n in numbers]
    width = 0.25 + label + sum(cell[0] * s for s in sizes) + gap * len(sizes) + 0.95
    heights = [cell[1] * _rows_of(result, pair) for pair in pairs]
    few = result.provenance["screened"]["draws"]
    more = (
        f"; the {len(pairs)} of {len(order)} products and routes that gain most"
        if len(order) > len(pairs)
        else ""
    )
    note = f"{result.quantity}{_bracket(result.unit)}, mean over the first {few} {result.origin} draws; blank: beyond the limits{more}"
    with house_style():
        page = _Page(
            max(width, 7.0), HEADER + 0.25 + sum(h + 1.0 for h in heights) + 0.1, Caption(result.title, note)
        )
        y = HEADER + 0.4
        image = None
        for pair, height in zip(pairs, heights, strict=True):
            x = 0.25 + label
            for n, size in zip(numbers, sizes, strict=True):
                axes = page.axes(x, y, cell[0] * size, height)
                image = _surface_panel(axes, result, pair, n, intervals, reach)
                if n == numbers[0]:
                    axes.set_ylabel(
                        f"{pair}\neach dose [{result.surface.gains['unit'].sel(pair=pair).item()}]"
                    )
                else:
                    axes.set_yticklabels([])
                x += cell[0] * size + gap
            if pair == pairs[0] and image is not None:
                bar = page.axes(x - 0.1, y, 0.13, height)
                colours = page.figure.colorbar(image, cax=bar)
                colours.outline.set_visible(False)
                colours.set_label(_bracket(result.unit).strip(), size=7.5)
            y += height + 1.0
    return page.figure


def _rows_of(result: OptimiseResult, pair: str) -> int:
    mine = result.surface.expected.sel(pair=pair)
    return int(np.isfinite(mine.values).any(axis=(1, 2)).sum())


def _surface_panel(
    axes: Axes, result: OptimiseResult, pair: str, n: int, intervals: list[float], reach: tuple[float, float]
) -> Any:
    mine = result.surface.expected.sel(pair=pair)
    kept = np.isfinite(mine.values).any(axis=(1, 2))
    doses = mine["dose"].values[kept][::-1]
    columns = [0.0] if n == 1 else intervals
    values = mine.sel(n_doses=n, dose=doses, interval_days=columns).transpose("dose", "interval_days").values
    image = axes.imshow(values, cmap=GAIN, vmin=reach[0], vmax=reach[1], aspect="auto")
    decimals = max(0, 2 - math.floor(math.log10(max(abs(reach[0]), reach[1]))))
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            dark = value - reach[0] > 0.5 * (reach[1] - reach[0])
            axes.text(
                column, row, f"{value:.{decimals}f}", ha="center", va="center", size=7,
                color="white" if dark else INK,
            )  # fmt: skip
    axes.set_yticks(range(len(doses)), labels=[_engineering(d) if d >= 1e4 else f"{d:.3g}" for d in doses])
    if n == 1:
        axes.set_xticks([])
        axes.set_title("once", fontsize=8.5)
    else:
        axes.set_xticks(range(len(columns)), labels=[format_duration(c) for c in columns])
        axes.set_title(f"{n} doses", fontsize=8.5)
        axes.set_xlabel("interval")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


# --------------------------------------------------------------------------- sensitisation


def sensitisation(result: OptimiseResult) -> Figure:
    """What one more dose adds, and what the host's memory takes, over the number of doses."""
    found = result.tradeoff
    assert found is not None  # `plot` asks only then
    table, chosen = found.table, found.regimens[-1]
    n = table["n_doses"].to_numpy()
    panels = (
        (f"{result.quantity}\n{_bracket(result.unit).strip()}", "What repetition adds", ("gain", "without_sensitisation")),
        (f"gain\n{_bracket(result.unit).strip()}", "Taken by sensitisation", ("taken_by_sensitisation",)),
        ("largest rejection of a further dose [0 to 1]", "Sensitisation of the host", ("rejection",)),
        ("share of its cell-days [0 to 1]", "Lost of the last dose", ("last_dose_lost",)),
    )  # fmt: skip
    often = f", one each {format_duration(chosen.interval_days)}" if chosen.n_doses > 1 else ""
    note = f"{chosen.product} {chosen.route}, {chosen.dose_text} a dose{often}; {result.band_note}"
    colours = {"without_sensitisation": OKABE_ITO[1]}
    size, gap = (2.9, 2.1), (0.95, 0.95)
    with house_style():
        page = _Page(
            0.75 + 2 * (size[0] + gap[0]), HEADER + 0.5 + 2 * (size[1] + gap[1]), Caption(result.title, note)
        )
        for place, (label, title, stems) in enumerate(panels):
            row, column = divmod(place, 2)
            axes = page.axes(
                0.95 + column * (size[0] + gap[0]), HEADER + 0.55 + row * (size[1] + gap[1]), *size
            )
            for shift, stem in zip((-0.09, 0.09) if len(stems) > 1 else (0.0,), stems, strict=True):
                colour = colours.get(stem, OKABE_ITO[0])
                axes.vlines(
                    n + shift, table[f"{stem}_low"], table[f"{stem}_high"], color=colour, linewidth=1.3
                )
                axes.plot(
                    n + shift, table[f"{stem}_median"], "s-" if stem in colours else "o-", color=colour, markersize=4,
                    linewidth=1.1, label={"gain": "as it is", "without_sensitisation": "host that never remembers"}.get(stem),
                )  # fmt: skip
            axes.set_title(title)
            axes.set_ylabel("\n".join(textwrap.wrap(label, 34)))
            axes.set_xlabel("number of doses")
            axes.xaxis.set_major_locator(FixedLocator(n.tolist()))
            axes.set_xlim(n.min() - 0.5, n.max() + 0.5)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            if place >= 2:
                axes.set_ylim(0, 1)
            if len(stems) > 1:
                axes.set_ylim(top=1.35 * axes.get_ylim()[1])  # room for the legend above the bands
                axes.legend(loc="upper left")
    return page.figure


# --------------------------------------------------------------------------- value of information


def value_of_information(result: OptimiseResult) -> Figure:
    """Left: what knowing each parameter is worth, chance taken off; right: what a next study is, by its size."""
    names = list(result.information)[:MOST_BARS]
    labels = [record["label"] for record in result.value_of_information if record["kind"] == "EVPPI"][
        : len(names)
    ]
    n, top = max(len(names), 5), HEADER + 0.65
    value, se = result.perfect
    note = (
        f"gain from choosing after knowing{_bracket(result.unit)}; perfect information: {value:.2g} (standard error {se:.1g}); "
        f"lines: standard errors; pale: no more than chance gives the largest of {len(result.information)} parameters"
    )
    with house_style():
        page = _Page(
            11.6, top + n * 0.38 + 1.0, Caption(f"{result.scenario.title}: what knowing more is worth", note)
        )
        left = _parameter_rows(page, top, labels)
        axes = _parameter_axes(page, left, top, 3.0, n)
        axes.set_title("Knowing one parameter")
        for line, name in enumerate(names):
            found = result.information[name]
            colour = OKABE_ITO[0] if found.beyond_noise else "#cfe3f1"
            axes.barh(line, found.value, height=0.6, color=colour, edgecolor=INK, linewidth=0.5)
            if math.isfinite(found.se):
                axes.hlines(
                    line, max(found.value - found.se, 0.0), found.value + found.se, color=INK, linewidth=1.2
                )
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_xlabel(f"value of knowing it\n{_bracket(result.unit).strip()}")
        if not names:
            _nothing(axes, "too few draws to tell")
        beside = page.axes(left + 3.0 + 0.85, top, page.width - left - 3.85 - 0.35, n * 0.38)
        _studies(beside, result)
    return page.figure


def _nothing(axes: Axes, words: str) -> None:
    """A panel without numbers has no axes either: ticks would look like some."""
    title = axes.get_title(loc="left")
    axes.clear()
    axes.set_axis_off()
    axes.set_title(title)
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=FAINT)


def _studies(axes: Axes, result: OptimiseResult) -> None:
    axes.set_title("A next study")
    value, _ = result.perfect
    names = list(dict.fromkeys(s.study for s in result.studies))
    top = max([s.value for s in result.studies], default=0.0)
    for name, style in zip(names, ("o-", "s--"), strict=False):
        mine = [s for s in result.studies if s.study == name]
        words = "\n".join(textwrap.wrap(name, 42))
        axes.plot(
            [s.n_per_arm for s in mine], [s.value for s in mine], style, color=OKABE_ITO[names.index(name)],
            markersize=4, linewidth=1.2, label=words,
        )  # fmt: skip
    if not names:
        _nothing(axes, "not defined here")
        return
    axes.set_xscale("log")
    sizes = sorted({s.n_per_arm for s in result.studies})
    shown = [n for i, n in enumerate(sizes) if i == 0 or n / sizes[i - 1] > 1.5]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if value < 3 * max(top, 1e-12):
        axes.axhline(value, color=FAINT, linestyle=(0, (4, 2)), linewidth=0.9, label="perfect information")
        top = max(top, value)
    axes.set_ylim(0, (top or 1.0) * 1.75)  # room for the legend above the lines
    axes.set_xlabel("patients per arm")
    axes.set_ylabel(f"value of the study {_bracket(result.unit).strip()}")
    axes.legend(loc="upper left", fontsize=7.5)
