"""Write the pages and pictures that hold results, from runs of the package itself.

    python docs/build_pages.py [readme] [facts] [behaviours] [--draws N]

Without a name, all of them: the table and the picture of README.md, docs/facts.md and
docs/behaviours.md. Each ends with a stamp of the model and the priors that it was computed with; a test
compares it with the package, so that a page cannot outlive its numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mscrenal.calibration import draws as parameter_draws
from mscrenal.model import ARMS_OF_ACTION, Dose, DrugCourse, Patient, simulate
from mscrenal.model.codegen import compiled
from mscrenal.scenarios import compare, facts

ROOT = Path(__file__).resolve().parent.parent
GENERATED = "<!-- Written by docs/build_pages.py; do not edit. -->"
MISSING = "–"
# What a reader of a trial asks first: kidney function, albuminuria, inflammation, scarring.
SHOWN = ("egfr_change", "egfr_slope_total", "uacr_percent_change", "il6_percent_change", "fibrosis_change")
Theta = Mapping[str, float]
WEEK = 7.0


def stamp() -> str:
    """Twelve digits that change when results do: of the generated model, the priors and the solver's input."""
    digest = hashlib.sha256(compiled(1).hash.encode())
    digest.update(parameter_draws(3, seed=1).hash.encode())
    return digest.hexdigest()[:12]


def _stamped(text: str) -> str:
    return f"{text.rstrip()}\n\n<!-- computed with: {stamp()} -->\n"


# --------------------------------------------------------------------------- numbers and tables


def number(value: float | None, digits: int = 2) -> str:
    """Two significant digits (or more), never an exponent; a dash where there is no number."""
    if value is None or not np.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    shown = f"{value:.{min(decimals, 4)}f}"
    return "0" if float(shown) == 0 else shown


def signed(value: float | None, digits: int = 2) -> str:
    """As `number`, with a plus before what is positive."""
    shown = number(value, digits)
    return f"+{shown}" if value is not None and np.isfinite(value) and value > 0 and shown != "0" else shown


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """A band in brackets."""
    return f"({number(low, digits)} to {number(high, digits)})"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(headings), " | ".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


# --------------------------------------------------------------------------- README


def write_readme(n: int) -> None:
    """Run the main job as the first command of the README does; put its table and its picture there."""
    result = compare("uc-dn-weekly", draws=n)
    rows = []
    for arm in result.arms:
        cells = [arm["name"]]
        for name in SHOWN:
            found = arm["endpoints"][name]
            difference = found["vs_reference"]
            cells.append(
                f"{signed(found['median'])}"
                if arm["is_reference"]
                else f"{signed(difference['median'])} {interval(*difference['ci90'])}"
            )
        rows.append(cells)
    first = result.arms[1]["endpoints"]
    headings = ["Arm"] + [f"{first[name]['label']}, {first[name]['unit']}" for name in SHOWN]
    text = (
        f"First row: change of the reference arm over {result.scenario.horizon_days / WEEK:g} weeks. Below: difference "
        f"from it, median and 90 % band over {n} draws of the {result.origin}, in one typical patient (eGFR 45, UACR 900 "
        f"mg/g).\n\n{table(headings, rows)}"
    )
    page = ROOT / "README.md"
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- results: start -->")
    _, _, after = rest.partition("<!-- results: end -->")
    block = f"<!-- results: start -->\n{_stamped(text)}<!-- results: end -->"
    page.write_text(before + block + after, encoding="utf-8")
    folder = ROOT / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    result.plot()["time_courses"].savefig(folder / "compare.png", dpi=90, metadata={"Software": None})


# --------------------------------------------------------------------------- facts


def write_facts(n: int) -> None:
    """Every published fact beside the prediction, as `mscrenal facts` gives it."""
    document = facts(draws=n).to_json()
    parts = [
        "# Published facts",
        GENERATED,
        f"The model reproduces **{document['passed']} of {document['of']}** published facts at the medians of the "
        f"{document['provenance']['origin']}. A fact counts only if each of its checks lies inside the tolerance; bands "
        f"are over {n} draws. Targets and tolerances, with how each was read or worked out, stand in "
        "`scenarios/facts_table.toml`; `mscrenal facts` computes this page anew.",
        "A fact that was used to set priors shows that the model can hold it; only an independent one tests the model.",
        table(
            ("", "Fact", "Basis", "Checks passed", "Reproduced"),
            [
                (
                    str(fact["number"]),
                    f"[{fact['title']}](#fact-{fact['number']})",
                    fact["basis"],
                    f"{fact['checks_passed']} of {fact['checks_counted']}",
                    "yes" if fact["pass"] else "**no**",
                )
                for fact in document["facts"]
            ],
        ),
    ]
    for fact in document["facts"]:
        rows = [
            (
                check["id"],
                number(check["target"], 3),
                interval(*check["tolerance"], 3),
                number(check["predicted"], 3),
                interval(*check["ci90"]),
                check["unit"],
                {True: "yes", False: "**no**", None: "not modelled"}[check["pass"]],
            )
            for check in fact["checks"]
        ]
        parts += [
            f'<a id="fact-{fact["number"]}"></a>\n\n## {fact["number"]}. {fact["title"]}',
            f"Source: {', '.join(fact['source'])}. {fact['computed']}",
            table(("Check", "Target", "Tolerance", "Predicted", "90 % band", "Unit", "Inside"), rows),
        ]
    (ROOT / "docs" / "facts.md").write_text(_stamped("\n\n".join(parts)), encoding="utf-8")


# --------------------------------------------------------------------------- behaviours


@dataclass(frozen=True)
class Behaviour:
    """One statement about the model: what is measured under one parameter vector, and when it holds.

    `measure` gives named numbers; `holds` takes them in that order.
    """

    statement: str
    measure: Callable[[Theta], dict[str, float]]
    holds: Callable[..., bool]


PATIENT = Patient(disease="diabetic", age=58, sex="male", weight_kg=72, egfr=45, uacr=900, hba1c=7.8, drugs=("ras",))
RAT = Patient(species="rat", disease="stz", onset_days=42)
CELLS = ("cells_blood", "cells_lung", "cells_liver", "cells_kidney", "cells_depot")
THREE = tuple(Dose(day, 1.0, "UC") for day in (0.0, 7.0, 14.0))
YEAR = 336.0


def _run(theta: Theta, doses: Sequence[Dose], days: Sequence[float], *, who: Patient = PATIENT, **options: Any) -> Any:
    trajectory = simulate(who, doses, options.pop("courses", ()), theta, days, **options)
    if trajectory.status != "ok":
        raise ArithmeticError(f"{trajectory.status}: {trajectory.message}")
    return trajectory


def _fate(theta: Theta) -> dict[str, float]:
    """Where one intravenous dose of 1e6 cells/kg is, in % of the dose."""
    days = (0.01, 1.0, 7.0, 28.0)  # the first is a quarter of an hour
    venous = _run(theta, [Dose(0.0, 1.0, "UC", "IV", 0.0)], days)
    arterial = _run(theta, [Dose(0.0, 1.0, "UC", "IA-renal", 0.0)], days)
    untreated = _run(theta, [], days)
    living = sum(venous.observable(name) for name in CELLS) / 1e4
    elsewhere = sum(arterial.observable(name) for name in CELLS) / 1e4
    gain = (venous.observable("uacr") - untreated.observable("uacr")) / untreated.observable("uacr")
    return {
        "in the lungs after a quarter of an hour, % of the living": float(venous.observable("cells_lung")[0] / living[0]) / 100,
        "in the kidneys then, % of the living": float(venous.observable("cells_kidney")[0] / living[0]) / 100,
        "the same by the renal artery, %": float(arterial.observable("cells_kidney")[0] / elsewhere[0]) / 100,
        "alive anywhere on day 7, % of the dose": float(living[2]),
        "alive anywhere on day 28, % of the dose": float(living[3]),
        "UACR against no dose on day 28, %": float(100 * gain[3]),
    }


def _nothing_given(theta: Theta) -> dict[str, float]:
    """The largest relative difference from no dose, over all observables and a year."""
    days = (0.0, 1.0, 28.0, 168.0, YEAR)
    untreated = _run(theta, [], days)

    def furthest(trajectory: Any) -> float:
        names = [name for name in trajectory.model.observables if name not in CELLS]
        pairs = ((trajectory.observable(name), untreated.observable(name)) for name in names)
        return max(float(np.nanmax(np.abs(a - b) / np.maximum(1e-3, np.abs(b)))) for a, b in pairs)

    return {
        "after doses of zero": furthest(_run(theta, [Dose(day, 0.0, "UC") for day in (0.0, 7.0)], days)),
        "after cells whose six arms of action are all knocked out": furthest(
            _run(theta, THREE, days, knock_out=ARMS_OF_ACTION)
        ),
    }


def _dose_response(theta: Theta) -> dict[str, float]:
    """eGFR gained over no dose at week 24, by dose and by how often it is given."""
    days = (168.0,)
    nothing = _run(theta, [], days).observable("egfr")[0]

    def gain(doses: Sequence[Dose], **options: Any) -> float:
        return float(_run(theta, doses, days, **options).observable("egfr")[0] - nothing)

    out = {
        f"eGFR gained by {amount:g}e6 cells/kg once, mL/min/1.73 m²": gain([Dose(0.0, amount, "UC")])
        for amount in (0.25, 1.0, 4.0, 16.0)
    }
    names = list(out)
    out["share of the first four-fold step that the next one adds"] = (out[names[2]] - out[names[1]]) / (
        out[names[1]] - out[names[0]]
    )
    return out


def _knock_outs(theta: Theta) -> dict[str, float]:
    """Share of the fall in UACR at week 12 that is lost when one arm of action is switched off."""
    days = (84.0,)
    nothing = _run(theta, [], days).observable("uacr")[0]
    whole = _run(theta, THREE, days).observable("uacr")[0] - nothing
    out = {}
    for arm in ARMS_OF_ACTION:
        left = _run(theta, THREE, days, knock_out=(arm,)).observable("uacr")[0] - nothing
        out[f"lost without {arm}, % of the effect on UACR"] = float(100 * (1 - left / whole))
    return out


def _drugs(theta: Theta) -> dict[str, float]:
    """Background drugs: the dip of eGFR at week 4 and the slope from month 3 to year 3, against none."""
    days = (0.0, 28.0, 90.0, 1095.0)
    naive = PATIENT.replace(drugs=())

    def read(drug: str | None) -> tuple[float, float]:
        courses = [DrugCourse(drug)] if drug else []
        egfr = _run(theta, [], days, who=naive, courses=courses).observable("egfr")
        return float(egfr[1]), float((egfr[3] - egfr[2]) / (days[3] - days[2]) * 365.25)

    dip, slope = read(None)
    out = {"chronic slope without drugs, mL/min/1.73 m²/year": slope}
    for drug in ("ras", "sglt2i", "finerenone", "glp1ra"):
        with_dip, with_slope = read(drug)
        out[f"{drug}: eGFR at week 4 against none"] = with_dip - dip
        out[f"{drug}: slope against none"] = with_slope - slope
    return out


def _natural_history(theta: Theta) -> dict[str, float]:
    """A rat from streptozotocin on: what comes first."""
    days = np.linspace(-41.0, 365.0, 59)
    rat = _run(theta, [], days, who=RAT)
    gfr, uacr = rat.observable("mgfr"), rat.observable("uacr")
    healthy = float(_run(theta, [], [0.0], who=Patient(species="rat", disease="healthy")).observable("mgfr")[0])
    raised = days[np.argmax(uacr > 1.5 * uacr[0])]
    low = np.append(gfr < 0.95 * healthy, True)  # the last week stands for "not within the time simulated"
    fallen = days[min(int(np.argmax(low)), len(days) - 1)]
    return {
        "highest GFR, fold of healthy": float(gfr.max() / healthy),
        "UACR raised by half, weeks from streptozotocin": float((raised + 42) / WEEK),
        "GFR below 95 % of healthy, weeks from streptozotocin (58: not yet)": float((fallen + 42) / WEEK),
    }


def _order(theta: Theta) -> dict[str, float]:
    """Day by which half of the largest effect of one dose has come, by what is measured."""
    days = np.concatenate([[0.0], np.geomspace(0.25, 168.0, 60)])
    treated, nothing = _run(theta, [Dose(0.0, 1.0, "UC")], days), _run(theta, [], days)
    out = {}
    for name in ("il6_serum", "tnfa_serum", "collagen1_kidney", "egfr"):
        effect = np.abs(treated.observable(name) - nothing.observable(name))
        out[f"{name}, day of half its largest effect"] = float(days[np.argmax(effect >= effect.max() / 2)])
    return out


BEHAVIOURS: tuple[tuple[str, Behaviour], ...] = (
    (
        "Cells pass, effects stay",
        Behaviour(
            "Most of an intravenous dose is in the lungs within minutes, and few cells live a week later; more reaches the "
            "kidney by its artery. The effect is still there when the cells are not.",
            _fate,
            lambda lungs, kidneys, by_artery, week, month, uacr: (
                lungs > 50 and by_artery > kidneys and month < 2 and month < week < 50 and uacr < 0
            ),
        ),
    ),
    (
        "No dose, no effect",
        Behaviour(
            "Doses of zero, and cells with all arms of action knocked out, leave every observable where it was.",
            _nothing_given,
            lambda zero, knocked_out: max(zero, knocked_out) < 1e-4,
        ),
    ),
    (
        "More helps, less and less",
        Behaviour(
            "Over the doses of trials the effect grows with the dose, and each step adds less than in proportion: a "
            "four-fold step adds less than four times what the step before it added.",
            _dose_response,
            lambda quarter, one, four, sixteen, step: quarter < one < four and step < 4,
        ),
    ),
    (
        "Each arm of action carries a part",
        Behaviour(
            "Switching off an arm of action never adds to the benefit.",
            _knock_outs,
            lambda *lost: min(lost) > -0.5,
        ),
    ),
    (
        "Background drugs dip and protect",
        Behaviour(
            "Drugs that lower the glomerular pressure lower eGFR at first and slow its loss later. How near to the trials: "
            "see [facts](facts.md).",
            _drugs,
            lambda slope, *drugs: slope < 0 and max(drugs[::2]) < 0 < min(drugs[1::2]),
        ),
    ),
    (
        "Hyperfiltration, then albumin, then decline",
        Behaviour(
            "In a diabetic rat GFR rises above health before it falls, and albuminuria rises before GFR falls.",
            _natural_history,
            lambda highest, uacr, gfr: highest > 1.02 and uacr < gfr,
        ),
    ),
    (
        "Inflammation answers first, eGFR last",
        Behaviour(
            "After a dose IL-6 and TNF-α move within days to weeks, matrix and eGFR later.",
            _order,
            lambda il6, tnfa, matrix, egfr: max(il6, tnfa) < min(matrix, egfr),
        ),
    ),
)


def _table_of(behaviour: Behaviour, thetas: Sequence[Theta]) -> tuple[str, str]:
    """Numbers at the medians with their bands over draws, and the share of draws in which it holds."""
    typical = behaviour.measure({})
    drawn, failed = [], 0
    for theta in thetas:
        try:
            drawn.append(behaviour.measure(theta))
        except ArithmeticError:
            failed += 1
    held = sum(behaviour.holds(*values.values()) for values in drawn)
    rows = []
    for name, value in typical.items():
        low, high = np.quantile([values[name] for values in drawn], (0.05, 0.95)) if drawn else (np.nan, np.nan)
        rows.append((name, _small(value), f"({_small(low)} to {_small(high)})"))
    verdict = "holds" if behaviour.holds(*typical.values()) else "**does not hold**"
    told = f"At the medians it {verdict}; it holds in {held} of {len(drawn)} draws"
    told += f" ({failed} more could not be simulated)." if failed else "."
    return told, table(("Measured", "At the medians", "90 % of draws"), rows)


def _small(value: float) -> str:
    return f"{value:.0e}" if 0 < abs(value) < 1e-3 else number(value)


def write_behaviours(n: int) -> None:
    """What the model does without having been told to, measured at the medians and over draws."""
    thetas = list(parameter_draws(n, seed=1))
    parts = [
        "# Behaviours",
        GENERATED,
        "What comes out of the model, measured in a patient with diabetic nephropathy (58 years, eGFR 45, UACR 900 mg/g, on "
        f"RAS blockade) and in a rat with streptozotocin diabetes, at the medians of the priors and over {n} draws.",
    ]
    for title, behaviour in BEHAVIOURS:
        told, rows = _table_of(behaviour, thetas)
        parts += [f"## {title}", f"{behaviour.statement} {told}", rows]
    (ROOT / "docs" / "behaviours.md").write_text(_stamped("\n\n".join(parts)), encoding="utf-8")


# --------------------------------------------------------------------------- command line

PAGES: Mapping[str, tuple[Callable[[int], None], int]] = {
    "readme": (write_readme, 100),
    "facts": (write_facts, 20),
    "behaviours": (write_behaviours, 40),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"of: {', '.join(PAGES)}; default: all")
    parser.add_argument("--draws", type=int, help="parameter draws, instead of each page's own number")
    given = parser.parse_args(arguments)
    unknown = [page for page in given.pages if page not in PAGES]
    if unknown:
        parser.error(f"no page {unknown[0]!r}; allowed: {', '.join(PAGES)}.")
    for page in given.pages or PAGES:
        start = time.perf_counter()
        write, usual = PAGES[page]
        write(given.draws or usual)
        print(f"{page}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
