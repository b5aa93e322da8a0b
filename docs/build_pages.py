"""Write the pages and pictures that hold results, from runs of the package itself.

    python docs/build_pages.py [readme] [facts] [behaviours] [--draws N]

Without a name, all of them: the table and the picture of README.md, docs/facts.md and
docs/behaviours.md. Each ends with a stamp of the model and the priors that it was computed with; a test
compares it with the package, so that a page cannot outlive its numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mscrenal.calibration import draws as parameter_draws
from mscrenal.model.kernels import compiled
from mscrenal.scenarios import compare, facts
from mscrenal.scenarios.behaviours import check, shares

ROOT = Path(__file__).resolve().parent.parent
GENERATED = "<!-- Written by docs/build_pages.py; do not edit. -->"
MISSING = "–"
# What a reader of a trial asks first: kidney function, albuminuria, inflammation, scarring.
SHOWN = ("egfr_change", "egfr_slope_total", "uacr_percent_change", "il6_percent_change", "fibrosis_change")
WEEK = 7.0
ENOUGH = 0.95  # of the draws, in which a behaviour has to hold


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


def interval(band: Sequence[float | None], digits: int = 2) -> str:
    """A band in brackets."""
    low, high = band
    return f"({number(low, digits)} to {number(high, digits)})"


def _decimals(values: Sequence[float]) -> int:
    """Decimals that show two digits of the largest of `values`, at most two."""
    largest = max(abs(value) for value in values)
    return min(2, max(0, 1 - int(np.floor(np.log10(largest)))))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(headings), " | ".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


# --------------------------------------------------------------------------- README


def write_readme(n: int) -> None:
    """Run the main job as the first command of the README does; put its table and its picture there."""
    result = compare("uc-dn-weekly", draws=n)
    digits = {name: _decimals([arm["endpoints"][name]["median"] for arm in result.arms]) for name in SHOWN}
    rows = []
    for arm in result.arms:
        cells = [arm["name"]]
        for name in SHOWN:
            found, decimals = arm["endpoints"][name], digits[name]
            if arm["is_reference"]:
                cells.append(f"{found['median']:+.{decimals}f}")
            else:
                median, (low, high) = found["vs_reference"]["median"], found["vs_reference"]["ci90"]
                cells.append(f"{median:+.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})")
        rows.append(cells)
    first = result.arms[1]["endpoints"]
    headings = ["Arm", *(f"{first[name]['label']}, {first[name]['unit']}" for name in SHOWN)]
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
                interval(check["tolerance"], 3),
                number(check["predicted"], 3),
                interval(check["ci90"]),
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

CHAPTERS: Mapping[str, str] = {
    "1": "Where the cells go, and what outlives them",
    "2": "No dose, no effect",
    "3": "Potency and dose",
    "4": "Arms of action",
    "6": "Natural history",
    "8": "The order of effects",
}


def write_behaviours(n: int) -> None:
    """What the model does without having been told to: each statement at the medians and over draws."""
    median = check({})
    shown = shares(parameter_draws(n, seed=1), workers=os.cpu_count() or 1).to_dict("records")
    often = sum(row["share"] >= ENOUGH for row in shown)
    parts = [
        "# Behaviours",
        GENERATED,
        f"What comes out of the model without being put in: {len(shown)} statements, of which {sum(o.holds for o in median.values())} "
        f"hold at the medians and {often} in at least {ENOUGH:.0%} of {n} draws from the priors. A statement that fails more "
        "often says that a prior or the structure of the model is wrong. Beside them, `mscrenal.scenarios.behaviours` holds how "
        "each is judged; placebo arms and background drugs are compared with their trials under [facts](facts.md).",
    ]
    for chapter, title in CHAPTERS.items():
        rows = [
            (
                row["number"],
                row["statement"],
                "yes" if median[row["number"]].holds else "**no**",
                f"{row['holds']} of {row['draws']}" + (f" ({row['failed']} failed)" if row["failed"] else ""),
                ", ".join(f"{name} {small(value)}" for name, value in median[row["number"]].numbers.items()),
            )
            for row in shown
            if str(row["number"]).startswith(chapter)
        ]
        headings = ("", "Statement", "At the medians", "Draws in which it holds", "Numbers at the medians")
        parts += [f"## {title}", table(headings, rows)]
    (ROOT / "docs" / "behaviours.md").write_text(_stamped("\n\n".join(parts)), encoding="utf-8")


def small(value: float) -> str:
    """As `number`, but what is tiny keeps its size: solver errors are read by their exponents."""
    return f"{value:.0e}" if 0 < abs(value) < 1e-3 else number(value)


# --------------------------------------------------------------------------- command line

PAGES: Mapping[str, tuple[Callable[[int], None], int]] = {
    "readme": (write_readme, 100),
    "facts": (write_facts, 20),
    "behaviours": (write_behaviours, 200),
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
