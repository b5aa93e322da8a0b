"""What people read on a terminal: tables, notes, progress and error messages.

Tables go to standard output; progress, notes and errors to standard error, so that ``--json`` leaves
standard output to one document. The same tables, as text, make the report (`mscrenal.app.report`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = [
    "DISCLAIMER",
    "TextTable",
    "clear_errors",
    "error_console",
    "progress_bar",
    "regimen_table",
    "show",
    "text_tables",
    "work_bar",
]

DISCLAIMER = "Research and teaching tool, not medical advice."

# What `simulate` prints; all observables are in --json and --out.
MAIN_OBSERVABLES = (
    "egfr",
    "uacr",
    "il6_serum",
    "tnfa_serum",
    "tgfb1_kidney",
    "psmad3_kidney",
    "fibrosis_area",
    "hba1c",
)
MOST_ENDPOINTS = 6  # on a terminal
MAIN_ENDPOINTS = (
    "egfr_change",
    "egfr_slope_chronic",
    "uacr_percent_change",
    "il6_percent_change",
    "fibrosis_change",
    "time_to_eskd",
)
MOST_TWO_LINED = 12  # arms; beyond, the terminal shows only the difference from the reference


def error_console() -> Console:
    """Standard error, looked up now (tests and pipes exchange it)."""
    return Console(stderr=True, highlight=False)


# --------------------------------------------------------------------------- numbers in words


def decimals_for(values: Sequence[float], digits: int = 2) -> int:
    """Decimals that show so many significant digits of the largest of `values`.

    >>> decimals_for([0.48, -0.1]), decimals_for([68.0]), decimals_for([45.2], digits=3)
    (2, 0, 1)
    """
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    if largest == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(largest)), 0), 4)


def number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """A number with a fixed count of decimals, a dash where there is none.

    >>> number(1.234, 1, sign=True), number(-0.04, 1, sign=True), number(float("nan"), 1)
    ('+1.2', '0.0', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    rounded = round(value, decimals) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:+.{decimals}f}" if sign and rounded else f"{rounded:.{decimals}f}"


def interval(numbers: Sequence[float | None], decimals: int, *, sign: bool = False) -> str:
    """'median (low, high)', a dash where there is no median; `sign` puts a plus before the median.

    >>> interval((0.5, 0.2, 0.9), 1, sign=True)
    '+0.5 (0.2, 0.9)'
    """
    median, low, high = numbers
    if median is None or not math.isfinite(median):
        return "–"
    return f"{number(median, decimals, sign=sign)} ({number(low, decimals)}, {number(high, decimals)})"


def engineering(value: float | None) -> str:
    """Cells as people write them.

    >>> engineering(3e6), engineering(0.0), engineering(None)
    ('3e6', '0', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


# --------------------------------------------------------------------------- tables as text


@dataclass(frozen=True)
class TextTable:
    """A table ready to print: headings, and rows of cells that may hold line breaks."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = field(default_factory=lambda: frozenset({0}))
    note: str = ""


def text_tables(result: Any, *, brief: bool = False) -> list[TextTable]:
    """The tables of a result in the order of reading. Numbers are rounded; files hold all digits.

    With `brief`, compare shows the first endpoints only, and with many arms only the differences.
    """
    makers: dict[str, Callable[[Any], list[TextTable]]] = {
        "explain": _explain_tables,
        "scenarios": _scenarios_tables,
    }
    if result.command == "compare":
        parts = getattr(result, "results", (result,))
        both = ((regimen_table(part.scenario, part.title), _endpoint_table(part, brief)) for part in parts)
        return [table for pair in both for table in pair]
    if result.command == "simulate":
        return _simulate_tables(result, brief)
    if result.command == "sensitivity":
        return [_sensitivity_table(result, brief)]
    if result.command == "trial":
        return _trial_tables(result, brief)
    if result.command == "optimise":
        return _optimise_tables(result, brief)
    if result.command == "validate":
        return _validate_tables(result, brief)
    if result.command in ("posterior", "calibrate"):
        return _posterior_tables(result, brief)
    if result.command in makers:
        return makers[result.command](result)
    return _any_table(result, brief)


def regimen_table(scenario: Any, title: str, arms: Sequence[str] | None = None) -> TextTable:
    """What each arm of a scenario gets; `arms`: only these."""
    from mscrenal.scenarios.results import describe_arm

    rows = []
    for given in scenario.arms:
        if arms is not None and given.name not in arms:
            continue
        arm = describe_arm(given, scenario.weight_kg)
        interval_days = arm["interval_days"]
        name = f"{arm['name']} (reference)" if arm["name"] == scenario.reference else arm["name"]
        added = f" + {', '.join(arm['drugs_added'])}" if arm["drugs_added"] else ""
        rows.append(
            (
                name,
                arm["product"] + added,
                arm["route"] or "–",
                str(arm["n_doses"]),
                arm["dose"] or "–",
                "–" if interval_days is None else f"{interval_days:g}",
                engineering(arm["total_cells_per_kg"]) if arm["n_doses"] else "–",
            )
        )
    headings = ("Arm", "Product", "Route", "Doses", "Each dose", "Interval\n[days]", "Total\n[cells/kg]")
    return TextTable(f"Regimens: {title}", headings, tuple(rows), frozenset({0, 1, 2}))


def _endpoint_table(result: Any, brief: bool) -> TextTable:
    """A row per arm, a column per endpoint: its own value, and below the difference from the reference."""
    shown = _foremost_endpoints(result) if brief else result.endpoints
    one_line = brief and len(result.arms) > MOST_TWO_LINED
    names = [wanted.name for wanted in shown]
    decimals = {name: _endpoint_decimals(result, name) for name in names}
    rows = []
    for arm in result.arms:
        cells = [f"{arm['name']} (reference)" if arm["is_reference"] else arm["name"]]
        for name in names:
            record = arm["endpoints"][name]
            own = interval((record["median"], *record["ci90"]), decimals[name], sign=name != "time_to_eskd")
            beside = record["vs_reference"]
            difference = interval((beside["median"], *beside["ci90"]), decimals[name], sign=True)
            chance = number(beside["prob_better"], 2)
            second = "" if arm["is_reference"] or difference == "–" else f"Δ {difference} P {chance}"
            cells.append(second or own if one_line else f"{own}\n{second}".rstrip())
        rows.append(tuple(cells))
    headings = []
    for wanted in shown:
        unit = "" if wanted.unit == "1" else wanted.unit.replace("percentage points", "%-points")
        headings.append(f"{wanted.label}\n[{unit}]" if unit else wanted.label)
    notes = [
        f"Median (90 % band) at day {result.scenario.horizon_days:g}.",
        f"Δ: difference from {result.reference}, that of percentages in percentage points.",
        "P: share of draws in which the arm does better.",
        *(
            f"{wanted.label} is not defined: {result.undefined[wanted.name]}."
            for wanted in shown
            if wanted.name in result.undefined
        ),
    ]
    if len(shown) < len(result.endpoints):
        more = len(result.endpoints) - len(shown)
        notes.append(f"{more} more endpoints: --json, --out, or choose with --endpoint.")
    return TextTable(f"Endpoints: {result.title}", ("Arm", *headings), tuple(rows), note=" ".join(notes))


def _foremost_endpoints(result: Any) -> tuple[Any, ...]:
    """The first endpoints of a scenario that chose some; the main ones where it lists them all."""
    wanted = tuple(result.endpoints)
    if len(wanted) > MOST_ENDPOINTS + len(MAIN_ENDPOINTS):
        wanted = tuple(item for item in wanted if item.name in MAIN_ENDPOINTS)
    return wanted[:MOST_ENDPOINTS]


def _endpoint_decimals(result: Any, name: str) -> int:
    """Two digits of the values, and of the differences as long as that is no more than two decimals."""
    records = [arm["endpoints"][name] for arm in result.arms]
    own = decimals_for([record["median"] for record in records])
    differences = decimals_for([record["vs_reference"]["median"] for record in records])
    return max(own, min(differences, 2))


def _nearest_days(days: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """The simulated days nearest to those wanted, each once."""

    def nearest(to: float) -> float:
        return min(days, key=lambda day: abs(day - to))

    return list(dict.fromkeys(nearest(day) for day in wanted))


def _simulate_tables(result: Any, brief: bool) -> list[TextTable]:
    from mscrenal.scenarios.style import nice_unit

    table = result.table
    days = sorted(table["time_day"].unique())
    wanted = _nearest_days(days, (0.0, days[-1] / 4, days[-1] / 2, days[-1]))
    shown = [name for name in MAIN_OBSERVABLES if name in set(table["name"])] or list(table["name"].unique())[
        :8
    ]
    rows = []
    for name in shown:
        part = table[table["name"] == name]
        unit = nice_unit(part["unit"].iloc[0])
        decimals = decimals_for(list(part["q50"]), digits=3)  # slow states move in the third digit
        rows.append((f"{name} [{unit}]" if unit else name, *("" for _ in wanted)))
        for arm in part["arm"].unique():
            of_arm = part[part["arm"] == arm].set_index("time_day")
            cells = [interval(tuple(of_arm.loc[day, ["q50", "q05", "q95"]]), decimals) for day in wanted]
            rows.append((f"  {arm}", *cells))
    headings = ("Observable, arm", *(f"Day {day:g}" for day in wanted))
    note = "Median (90 % band)." + (" All observables and times: --json, --out." if brief else "")
    return [TextTable(f"Trajectories: {result.title}", headings, tuple(rows), note=note)]


def _explain_tables(result: Any) -> list[TextTable]:
    table = result.table
    decimals = decimals_for(
        [value for name, value in zip(table["name"], table["shapley_median"], strict=True) if name != "total"]
    )
    rows = []
    for record in table.to_dict("records"):
        share = interval([record[f"shapley_{k}"] for k in ("median", "low", "high")], decimals, sign=True)
        loss = interval([record[f"knock_out_{k}"] for k in ("median", "low", "high")], decimals, sign=True)
        rows.append((str(record["name"]), share, loss))
    unit = result.endpoint.difference_unit
    bracket = "" if unit == "1" else f"\n[{unit}]"
    headings = ("Arm of action", f"Share of the effect{bracket}", f"Lost when knocked out alone{bracket}")
    note = f"{result.question} Median (90 % band); {result.endpoint.better} is better."
    return [TextTable(result.title, headings, tuple(rows), note=note)]


def _sensitivity_table(result: Any, brief: bool) -> TextTable:
    """A row per parameter; with `brief` in few letters, two lines at most on most terminals."""
    table, study = result.table, result.study
    decimals = decimals_for([*table["endpoint_at_q05"], *table["endpoint_at_q95"], study.tornado.base])
    rows = []
    for record in table.to_dict("records"):
        swing = [number(record[f"endpoint_at_{q}"], decimals, sign=True) for q in ("q05", "q95")]
        rows.append(
            (
                shorten(record["label"], 60, placeholder=" …") if brief else record["label"],
                *(() if brief else (record["parameter"],)),
                *(
                    interval([record[f"{kind}{end}"] for end in ("", "_low", "_high")], 2).replace(
                        " ", "\n", 1
                    )
                    for kind in ("total", "first")
                ),
                " → ".join(swing),
            )
        )
    names = () if brief else ("Name",)
    headings = ("Parameter", *names, "Total index", "First order", "At 5 % → 95 %")
    unit = "" if result.unit == "1" else f" [{result.unit}]"
    low, high = study.left_out_ci
    note = (
        f"{result.question} Shares of the variance (90 % interval). At 5 % → 95 % of the parameter: {result.quantity}"
        f"{unit}, {number(study.tornado.base, decimals, sign=True)} at all medians. The "
        f"{len(study.screen) - len(study.names)} parameters that the screen left at their medians carry "
        f"{study.left_out:.0%} ({max(low, 0):.0%} to {high:.0%}) of the variance. First-order indices sum to "
        f"{table['first'].sum():.2f}; what is missing to 1 is interactions."
        + (" Names and values of the parameters: --json, --out." if brief else "")
    )
    return TextTable(result.title, headings, tuple(rows), frozenset({0, 1} if names else {0, 3}), note)


def _trial_tables(result: Any, brief: bool) -> list[TextTable]:
    """A row per comparison, and assurance by size."""

    def share(found: Any) -> str:
        return f"{found.value:.1%}\n± {found.error:.1%}" if math.isfinite(found.value) else "–"

    rows = []
    values = [v for c in result.comparisons for v in (*c.truth, *c.estimate, c.detectable)]
    decimals = decimals_for([v for v in values if math.isfinite(v)])
    for c in result.comparisons:
        rows.append(
            (
                c.arm,
                f"{c.n_arm} + {c.n_reference}",
                share(c.assurance),
                share(c.power),
                share(c.type1),
                interval((c.truth[1], c.truth[0], c.truth[2]), decimals).replace(" ", "\n", 1),
                interval((c.estimate[1], c.estimate[0], c.estimate[2]), decimals).replace(" ", "\n", 1),
                number(c.detectable, decimals),
            )
        )
    headings = ("Arm", "Patients", "Assurance", "Power at\nthe medians", "Type I\nerror", "True effect\n(90 %)",
                "Estimates\n(90 %)", "Seen with\n80 % power")  # fmt: skip
    unit = result.endpoint.unit
    # The report says the summary at its top.
    note = f"{' '.join(result.summary)} " if brief else ""
    note += (
        f"Effects: {result.endpoint.label}, {unit}, against {result.reference}; {result.endpoint.better} is better; "
        f"analysis {result.design.analysis}, two-sided {result.design.alpha:g}. ±: Monte-Carlo standard error."
    )
    made = [TextTable(result.title, headings, tuple(rows), note=note)]
    curve = result.power_curve
    if curve["n_arm"].nunique() > 1:
        shown = tuple(
            (
                r["arm"],
                f"{r['n_arm']} + {r['n_reference']}{'' if r['series'] == 'curve' else ' (this design)'}",
                f"{r['assurance']:.1%} ± {r['mc_error']:.1%}",
                f"{r['type1_error']:.1%} ± {r['type1_mc_error']:.1%}",
                f"{r['trials']:,}",
            )
            for r in curve.to_dict("records")
        )
        heads = ("Arm", "Patients", "Assurance", "Type I error", "Trials")
        made.append(TextTable("By size", heads, shown))
    return made


MOST_REGIMENS, MOST_UNKNOWNS = 12, 5  # on a terminal


def _optimise_tables(result: Any, brief: bool) -> list[TextTable]:
    """The shortlist, then what knowing more is worth; with `brief` the best of each, and whatever the scenario gives."""
    records = result.records
    shown = [
        r for i, r in enumerate(records) if not brief or i < MOST_REGIMENS or r["pareto"] or r["of_scenario"]
    ]
    decimals = max(decimals_for([r["expected_gain"] for r in shown]), 1)
    relevant = result.relevant is not None
    rows = []
    for r in shown:
        mark = "* " if r["recommended"] else "+ " if r["pareto"] else ""
        risk = r["sensitisation"]
        rows.append(
            (
                f"{mark}{r['regimen']['name']}",
                engineering(r["burden"]["value"]),
                str(r["visits"]),
                interval((r["expected_gain"], *r["gain"]["ci90"]), decimals, sign=True),
                *([f"{r['prob_relevant']:.0%}"] if relevant else []),
                f"{r['prob_best']:.0%}",
                number(r["expected_loss"], decimals),
                "–" if risk is None else f"{risk['rejection']['median']:.2f}",
            )
        )
    unit = "" if result.unit == "1" else f"\n[{result.unit}]"
    headings = (
        "Regimen", "All doses\n[per kg]", "Visits", f"Expected gain{unit}",
        *([f"P(≥ {result.relevant:.2g})"] if relevant else []), "Best", "Loss", "Sensiti-\nsation",
    )  # fmt: skip
    left = len(records) - len(shown)
    note = (
        f"{result.recommended['reason']} *: recommended; +: on the front of gain, burden and visits. Band: 90 % of the draws. "
        "Best: share of the draws in which it is the best. Loss: what choosing it loses on average against the best of each "
        "draw. Sensitisation: how far a further dose would be rejected, 0 to 1."
    )
    for name, spared in result.recommended.get("sparing", {}).items():
        what = "Least burden" if name == "least_burden" else "Fewest visits"
        note += f" {what} within {result.margin:.0%} of the best: {spared['name']}."
    note += f" {left} more: --json, --out." if left else ""
    return [TextTable(result.title, headings, tuple(rows), note=note), _information_table(result, brief)]


def _information_table(result: Any, brief: bool) -> TextTable:
    records = result.value_of_information
    most = MOST_UNKNOWNS if brief else len(records)
    rows, count = [], {"EVPPI": 0, "EVPPI of a group": 0}
    for r in records:
        kind = r["kind"]
        if kind in count:
            count[kind] += 1
            if count[kind] > most:
                continue
        if kind == "EVSI" and brief and r["n_per_arm"] not in (100, 500):
            continue
        what = {
            "EVPI": "everything", "EVPPI": r.get("label", ""), "EVPPI of a group": f"all of: {r['of']}",
            "EVSI": f"trial, {r.get('n_per_arm')} per arm: {r['of']}",
        }[kind]  # fmt: skip
        sure = "" if kind in ("EVPI", "EVSI") else "yes" if r["beyond_noise"] else "no"
        se = r.get("se")
        value = f"{r['value']:.2g}" if se is None or not math.isfinite(se) else f"{r['value']:.2g} ± {se:.1g}"
        rows.append((shorten(what, 90, placeholder=" …") if brief else what, value, sure))
    unit = "" if result.unit == "1" else f"\n[{result.unit}]"
    note = (
        "What choosing after knowing it would gain on average, chance taken off (± standard error). More than chance: beyond "
        "what the largest of all reaches by chance in 95 of 100 cases."
    )
    headings = ("Knowing", f"Value{unit}", "More than\nchance")
    return TextTable("What knowing more is worth", headings, tuple(rows), frozenset({0, 2}), note)


WORST_ROWS, MOST_REASONS = 12, 12  # on a terminal


def _validate_tables(result: Any, brief: bool) -> list[TextTable]:
    """Coverage with the three models' densities, the rows (the worst, with `brief`), and why others were skipped."""
    found, table = result.assessment, result.table
    made = [_coverage_table(result)]
    if len(table):
        shown = table.reindex(table["z"].abs().sort_values(ascending=False).index)
        shown = shown.head(WORST_ROWS) if brief else table
        rows = tuple(
            (
                shorten(record["label"], 70, placeholder=" …") if brief else record["label"],
                f"{record['observed']:.3g}",
                f"{record['predicted']:.3g} ({record['low90']:.3g}, {record['high90']:.3g})",
                number(record["z"], 1, sign=True),
            )
            for record in shown.to_dict("records")
        )
        few = brief and len(table) > len(shown)
        title = f"The {len(rows)} rows farthest from their predictions" if few else "Rows"
        note = (
            "Median (90 % predictive interval), in the units of the source. All rows: --json, --out."
            if few
            else ""
        )
        made.append(TextTable(title, ("Row", "Published", "Predicted", "z"), rows, frozenset({0, 2}), note))
    reasons: dict[str, list[int]] = {}
    for skipped in result.skipped:
        reasons.setdefault(skipped["reason"], []).append(int(skipped["row"]))
    listed = sorted(reasons.items(), key=lambda item: -len(item[1]))
    told = tuple(
        (shorten(reason, 150, placeholder=" …") if brief else reason, str(len(lines)), _lines(lines))
        for reason, lines in (listed[:MOST_REASONS] if brief else listed)
    )
    if told:
        title = f"{len(result.skipped)} rows skipped"
        left = len(listed) - len(told)
        more = f"{left} more reasons: --json, --out." if left else ""
        made.append(TextTable(title, ("Reason", "Rows", "Lines of the file"), told, frozenset({0, 2}), more))
    if n_fitted := int(table["fitted"].sum()) if len(table) else 0:
        note = f"{n_fitted} of these rows stood in the likelihood of this posterior: of them this is no validation."
        made[0] = replace(made[0], note=f"{made[0].note} {note}")
    if not len(table) or not math.isfinite(found.elpd("no_effect")):
        made[0] = replace(made[0], note=f"{made[0].note} The rivals are not computed.")
    return made


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:8])
    return shown + (" …" if len(lines) > 8 else "")


def _coverage_table(result: Any) -> TextTable:
    found = result.assessment
    density = result.elpds()
    rows = (
        ("Rows compared", f"{len(result.table)} of {result.n_rows}"),
        ("Inside the 50 % interval", "–" if math.isnan(found.coverage50) else f"{found.coverage50:.0%}"),
        ("Inside the 90 % interval", "–" if math.isnan(found.coverage90) else f"{found.coverage90:.0%}"),
        ("Root mean square z (1 is right)", number(found.z_rms, 2)),
        ("Log predictive density", number(density["elpd"], 1)),
        ("  no MSC effect", number(density["elpd_no_effect"], 1)),
        ("  pooled meta-analytic effect", number(density["elpd_pooled"], 1)),
    )
    note = "Log predictive density: the sum over rows; higher is better."
    return TextTable(result.title, ("", ""), rows, frozenset({0, 1}), note)


def _posterior_tables(result: Any, brief: bool) -> list[TextTable]:
    """Parameters by module, prior beside posterior; then the parameters of the probability model."""
    rows: list[tuple[str, ...]] = []
    headings: tuple[str, ...] = ("Parameter", "Prior", "Posterior", "Narrowed by")
    headings = headings if brief else (headings[0], "Name", *headings[1:], "Verdict", "From")
    for module in dict.fromkeys(record["module"] for record in result.records):
        mine = [record for record in result.records if record["module"] == module]
        rows.append((module.capitalize(), *("" for _ in headings[1:])))
        rows += [_posterior_row(record, brief) for record in mine]
    note = f"{result.band_note[0].upper()}{result.band_note[1:]}. {result.by_prior_alone['n']} parameters keep their prior: --json."
    words = frozenset({0, 3}) if brief else frozenset({0, 1, 5, 6})
    made = [TextTable(result.title, headings, tuple(rows), words, note)]
    hyper = tuple(
        (
            shorten(record["label"], 70, placeholder=" …") if brief else record["label"],
            _three(record["prior"], brief),
            _three(record["posterior"], brief),
            f"{round(record['contraction'], 2) + 0.0:.0%}" if "contraction" in record else "–",
        )
        for record in result.hyper_records
    )
    if hyper:
        titles = ("Parameter", "Prior", "Posterior", "Narrowed by")
        made.append(TextTable("Parameters of the probability model", titles, hyper, frozenset({0, 3})))
    return made


def _posterior_row(record: dict[str, Any], brief: bool) -> tuple[str, ...]:
    unit = "" if record["unit"] == "1" else f" [{record['unit']}]"
    numbers = (_three(record["prior"], brief), _three(record["posterior"], brief))
    narrowed = f"{round(record['contraction'], 2) + 0.0:.0%}"
    if brief:
        label = shorten(record["label"], 70, placeholder=" …")
        return f" {label}{unit}", *numbers, f"{narrowed}, {record['verdict']}"
    return (
        f" {record['label']}{unit}",
        record["name"],
        *numbers,
        narrowed,
        record["verdict"],
        ", ".join(record["sources"]),
    )


def _three(numbers: dict[str, float] | None, brief: bool = False) -> str:
    """Median and interval to two digits each, whatever their size; on two lines if `brief`."""
    if numbers is None:
        return "–"
    return f"{numbers['median']:.2g}{chr(10) if brief else ' '}({numbers['low']:.2g}, {numbers['high']:.2g})"


def _scenarios_tables(result: Any) -> list[TextTable]:
    rows = [(s.name, s.title, s.source or "–", str(len(s.arms))) for s in result.scenarios]
    note = "`mscrenal scenarios NAME > mine.toml` gives one to edit."
    return [
        TextTable("Scenarios", ("Name", "Title", "Source", "Arms"), tuple(rows), frozenset({0, 1, 2}), note)
    ]


def _any_table(result: Any, brief: bool = True) -> list[TextTable]:
    """A result that brings its own table (facts): its summary if it has one, numbers to four digits."""

    def cell(value: Any) -> str:
        if isinstance(value, bool) or type(value).__name__ == "bool":
            return "yes" if value else "NO"
        if isinstance(value, float):
            return "–" if not math.isfinite(value) else f"{value:.4g}"
        if isinstance(value, (list, tuple)):
            return "(" + ", ".join(cell(item) for item in value) + ")"
        return "–" if value is None else str(value)

    table = getattr(result, "summary", None)
    table = result.table if table is None else table
    words = {
        place
        for place, name in enumerate(table.columns)
        if table[name].map(lambda v: isinstance(v, str)).any()
    }
    rows = tuple(tuple(cell(value) for value in row) for row in table.itertuples(index=False))
    title = getattr(result, "title", result.command)
    headings = tuple(str(name).replace("_", " ") for name in table.columns)
    passed = getattr(result, "passed", None)
    note = f"{sum(passed.values())} of {len(passed)} pass." if passed else ""
    note += " Every check: --json, --out." if passed and brief else ""
    return [TextTable(str(title), headings, rows, frozenset(words | {0}), note)]


# --------------------------------------------------------------------------- terminal


def show(result: Any, console: Console | None = None) -> None:
    """Print a result's tables and what a reader must know beside them."""
    out = console or Console(highlight=False)
    if getattr(result, "question", "") and result.command == "compare":
        out.print(Text(result.question, style="italic"))
    if hasattr(result, "band_note"):
        out.print(Text(f"{result.band_note[0].upper()}{result.band_note[1:]}.", style="dim"))
    for table in text_tables(result, brief=True):
        out.print()
        _print_table(out, table)
    extrapolated = list(getattr(result, "extrapolated", ()))
    if extrapolated:
        out.print("\n[bold]Extrapolated[/bold] (class priors, rodents only, or beyond the horizon):")
        listed = Table.grid(padding=(0, 1))
        for note in extrapolated:
            listed.add_row(" -", Text(str(note)))
        out.print(listed)
    out.print()


def _width(cell: str) -> int:
    return max((len(line) for line in cell.split("\n")), default=0)


def _print_table(out: Console, table: TextTable) -> None:
    """Print a table; one too wide for the terminal goes on below, its first column repeated."""
    heading = Text(table.title, style="bold")
    first = min(max((_width(row[0]) for row in table.rows), default=8), max(20, out.width // 4))
    blocks = _blocks(table, out.width, first)
    for place, columns in enumerate(blocks):
        out.print(heading if place == 0 else "")
        out.print(_rich_table(table, columns, first))
    if table.note:
        out.print(Text(table.note, style="dim"))


def _blocks(table: TextTable, width: int, first: int) -> list[list[int]]:
    """Which columns stand side by side. A table of words is never split: its cells wrap."""
    others = list(range(1, len(table.headings)))
    if len(table.left) > 1:
        return [others]
    needs = [
        max([_width(table.headings[c]), *(_width(row[c]) for row in table.rows)], default=1) + 2
        for c in others
    ]
    blocks: list[list[int]] = [[]]
    used = first + 2
    for column, need in zip(others, needs, strict=True):
        if blocks[-1] and used + need > width:
            blocks.append([])
            used = first + 2
        blocks[-1].append(column)
        used += need
    return blocks


def _rich_table(table: TextTable, columns: Sequence[int], first: int) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", row_styles=["", ""])
    words = len(table.left) > 1
    made.add_column(
        escape(table.headings[0]), overflow="fold", max_width=None if words else first, no_wrap=False
    )
    for column in columns:
        left = column in table.left
        made.add_column(
            escape(table.headings[column]),
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not words,
        )
    for row in table.rows:
        made.add_row(*(escape(row[c]) for c in (0, *columns)))
    return made


Step = Callable[..., None]


@contextmanager
def progress_bar(what: str) -> Iterator[Step]:
    """A bar with the remaining time on standard error; call it with (done, total, what is next)."""
    console = error_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Off a terminal there is nobody to watch: logs stay free of bars.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def step(done: int, total: int, now: str = "") -> None:
            bar.update(task, completed=done, total=total, description=now or what)

        yield step


@contextmanager
def work_bar(what: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error for work of hours; call it with the part done (0 to 1) and a word.

    Off a terminal a line for each new twentieth, so that a log says how far it is.
    """
    console = error_console()
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    shown = -1
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)

        def step(part: float, now: str = "") -> None:
            nonlocal shown
            bar.update(task, completed=part, description=escape(now or what))
            if not console.is_terminal and int(20 * part) > shown:
                shown = int(20 * part)
                console.print(Text(f"{part:4.0%}  {now}"), soft_wrap=True)

        yield step


def _ours(error: BaseException) -> bool:
    return any(cls.__module__.startswith("mscrenal.") for cls in type(error).__mro__)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn our own errors into one message and exit code 2, an interruption into 130.

    Anything else is a defect and keeps its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        error_console().print(
            "[bold]Interrupted.[/bold] Nothing is written but what is named above, if anything."
        )
        raise typer.Exit(130) from None
    except (ValueError, RuntimeError) as error:
        if not _ours(error):
            raise
        error_console().print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(2) from None
