"""Write the pages and pictures that hold results, from runs of the package itself.

    python docs/build_pages.py [readme] [facts] [behaviours] [evidence] [predictions] [validation] [identifiability]
        [knowledge] [calibration] [trials] [--draws N]

Without a name, all of them: the table of README.md, docs/facts.md, docs/behaviours.md, docs/evidence.md,
scenarios/evidence_predictions.json (published rows beside predictions), docs/validation.md, docs/identifiability.md,
docs/model/knowledge.md, and what docs/calibration.md says of the posterior and docs/trials.md of the shipped trials. Each ends with a stamp of what it was computed with, the model and the priors (of the page of
evidence: the tables and what is said of their studies); a test compares it with the package, so that a page cannot
outlive its numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mscrenal.calibration import Posterior, prior_draws, shipped_posterior
from mscrenal.calibration import draws as parameter_draws
from mscrenal.calibration.assess import coverage_by, predictive_checks
from mscrenal.calibration.calibrate import prepare
from mscrenal.calibration.diagnostics import IDENTIFIED, INFORMED
from mscrenal.calibration.evidence import TABLES, evidence_hash
from mscrenal.calibration.identifiability import Identifiability, Structure, identifiability
from mscrenal.calibration.rivals import compare_loo, fit_rivals
from mscrenal.calibration.studies import ROLES, SPLIT_FILE, STUDY_FOLDER, Study, held_out, roles, studies
from mscrenal.model import sampled_parameters
from mscrenal.model.kernels import compiled
from mscrenal.scenarios import compare, facts, trial, validate
from mscrenal.scenarios.assess_figures import coverage_figure
from mscrenal.scenarios.behaviours import check, shares
from mscrenal.scenarios.evidence import address_of, predict_rows, write_predictions
from mscrenal.scenarios.posterior_result import module_of, posterior_result
from mscrenal.scenarios.sources import BY_PRIOR
from mscrenal.scenarios.style import nice_unit
from mscrenal.scenarios.trial_result import Share, TrialResult

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


def evidence_stamp() -> str:
    """Twelve digits that change with the evidence: the tables, the files of studies, and what is held out."""
    digest = hashlib.sha256(evidence_hash().encode())
    for path in (*sorted(STUDY_FOLDER.glob("*.toml")), SPLIT_FILE):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]


def _stamped(text: str, mark: str = "") -> str:
    return f"{text.rstrip()}\n\n<!-- computed with: {mark or stamp()} -->\n"


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
    shown = shares(prior_draws(n, seed=1), workers=os.cpu_count() or 1).to_dict("records")
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


# --------------------------------------------------------------------------- evidence

CHAPTERS_OF_EVIDENCE: Mapping[str, str] = {
    "animal_msc": "Animals treated with cells, vesicles or medium",
    "clinical_msc": "People treated with cells",
    "disease_progression": "The diseases and their drugs",
    "msc_kinetics": "Where cells and vesicles go, and what they secrete",
    "second_round": "Later additions of all kinds",
}
LONGEST = 90  # letters of a citation


def count(number: int, noun: str) -> str:
    """A number of things, in the plural where there are several."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def cited(citation: str) -> str:
    """A citation, shortened to first author, journal and year where it is long."""
    parts = [part.strip() for part in citation.split(",")]
    if len(citation) > LONGEST and len(parts) > 3:
        return f"{parts[0]}, {', '.join(parts[-2:])}"
    return citation


def identified(name: str) -> str:
    """A DOI or another identifier as a link; a dash where there is none."""
    if target := address_of(name):
        # Brackets of old DOIs would end the link.
        target = target.replace("(", "%28").replace(")", "%29")
        return f"[{name}]({target})"
    return name or MISSING


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _distinct(column: pd.Series) -> list[str]:
    return [str(value) for value in dict.fromkeys(column) if value and value != "none"]


def _study_row(study: Study, lines: pd.DataFrame) -> tuple[str, ...]:
    """One study: who wrote it, of whom, what was given, what becomes of its rows and why."""
    rows = study.rows
    simulated = list(dict.fromkeys(arm.product for arm in study.arms.values() if arm.product))
    printed = _distinct(rows["product"].where(rows["product"] != "", rows["cell_source"]))
    reasons = [study.entry.reason]
    for (role, reason), group in lines.groupby(["role", "reason"], sort=False):
        if reason != study.entry.reason:
            reasons.append(f"**{role}**, {count(len(group), 'row')}: {reason}")
    numbers = lines["role"].value_counts()
    return tuple(
        map(
            _cell,
            (
                f'<a id="{rows["table"].iloc[0]}-{study.id}"></a>`{study.id}`',
                cited(next(iter(_distinct(rows["citation"])), MISSING)),
                identified(next(iter(_distinct(rows["doi_or_pmid"])), "")),
                f"{', '.join(_distinct(rows['species'])) or MISSING}: {', '.join(_distinct(rows['disease_model'])) or MISSING}",
                ", ".join(simulated or printed) or MISSING,
                ", ".join(f"{role} {numbers[role]}" for role in ROLES if role in numbers),
                "<br>".join(reasons),
            ),
        )
    )


def _summary(every: pd.DataFrame) -> str:
    """Rows and studies by role and table."""
    rows = []
    for role, meaning in (*ROLES.items(), ("all", "")):
        mine = every if role == "all" else every[every["role"] == role]
        by_table = mine["table"].value_counts()
        rows.append(
            (
                role,
                meaning,
                *(f"{by_table.get(name, 0):,}" for name in TABLES),
                f"{len(mine):,}",
                f"{mine['study_id'].nunique():,}",
            )
        )
    return table(("Role", "Meaning", *(f"`{name}`" for name in TABLES), "Rows", "Studies"), rows)


def evidence_page() -> str:
    """Every study of the evidence tables, what becomes of its rows, and why."""
    found, every = studies(), roles()
    fitted, kept = (every[every["role"] == role] for role in ("calibrate", "validate"))
    parts = [
        "# The evidence, study by study",
        GENERATED,
        f"{count(len(every), 'row')} of {count(every['study_id'].nunique(), 'study')}. "
        f"The likelihood holds {count(len(fitted), 'row')} of {count(fitted['study_id'].nunique(), 'study')}; "
        f"{count(len(kept), 'row')} of {count(kept['study_id'].nunique(), 'study')} are held out and compared with the "
        "prediction afterwards. Each row has one role; a study may have rows in several, and a row that the model cannot "
        "honestly predict is excluded with its reason. How a row becomes a prediction stands in "
        "[the files of studies](../calibration/evidence/studies/), what was published in the tables beside them "
        "([columns](../calibration/evidence/SCHEMA.md)).",
        _summary(every),
        "## Held out",
        "Whole studies, chosen before anything was fitted.",
        table(
            ("Study", "Rows", "Why"),
            [
                (f"[`{study}`](#{name}-{study})", str(len(rows)), _cell(held_out()[study]))
                for (name, study), rows in kept.groupby(["table", "study_id"])
            ],
        ),
    ]
    headings = ("Study", "Citation", "Source", "Studied", "Given", "Rows", "Why")
    for name in TABLES:
        mine = {study.id: study for study in found.values() if (study.rows["table"] == name).all()}
        here = every[every["table"] == name]
        parts += [
            f"## {CHAPTERS_OF_EVIDENCE[name]}",
            f"`{name}.csv`, {count(len(here), 'row')} of {count(len(mine), 'study')}; "
            f"[what is to be known of it](../calibration/evidence/{name}.md).",
            table(headings, [_study_row(mine[key], here[here["study_id"] == key]) for key in sorted(mine)]),
        ]
    parts.append("```{toctree}\n:hidden:\n\nColumns, notes, files <evidence-tables>\n```")
    return _stamped("\n\n".join(parts), evidence_stamp())


def write_evidence(_: int) -> None:
    """The page of studies; no draws are needed."""
    (ROOT / "docs" / "evidence.md").write_text(evidence_page(), encoding="utf-8")


def write_predicted(_: int) -> None:
    """The file of predictions that the page's tab of evidence shows; its number of draws is fixed, as it is stamped."""
    write_predictions(predict_rows())


# --------------------------------------------------------------------------- validation

WORST = 12
WORST_STUDIES = 12
FIGURE_WORDS: Mapping[str, str] = {
    "pit": "Probability integral transform of the held-out rows",
    "predicted_observed": "Published values beside their predictions",
    "coverage": "Rows inside their intervals, by class of observable",
    "fitted": "Rows that were fitted, inside their intervals, by class of observable",
}
MODELS = {"": "mechanistic model", "no_effect": "no MSC effect", "pooled": "pooled meta-analytic effect"}
COVERAGE = ("Rows", "Inside 50 %", "Inside 90 %", "RMS z")


def validation_stamp(posterior: Posterior) -> str:
    """Twelve digits that change with the posterior and with what it is compared with."""
    told = json.dumps(dict(posterior.provenance), sort_keys=True)
    return hashlib.sha256((told + evidence_stamp()).encode()).hexdigest()[:12]


def meaning(row: Mapping[str, Any]) -> str:
    """What it says of the model that a row lies where it does."""
    above, benefit = row["observed"] > row["predicted"], row["benefit"]
    if not benefit:
        return f"published {'above' if above else 'below'} the prediction"
    better = above == (benefit > 0)
    if row["treated"] and row["against"]:
        return f"the published effect is {'larger' if better else 'smaller'} than predicted"
    if row["treated"]:
        return f"treated subjects were {'better' if better else 'worse'} than predicted"
    return f"the untreated were {'better' if better else 'worse'} than predicted"


def _coverage_table(by: pd.DataFrame, column: str) -> str:
    rows = [
        (str(r[column]), str(r["rows"]), f"{r['inside50']:.0%}", f"{r['inside90']:.0%}", number(r["z_rms"]))
        for r in by.to_dict("records")
    ]
    return table((column.capitalize(), *COVERAGE), rows)


def _densities(rows: pd.DataFrame, left_out: pd.DataFrame) -> str:
    """The three models on rows that none of them saw, and on those that all were fitted to."""
    lines = []
    for (key, name), loo in zip(MODELS.items(), left_out.to_dict("records"), strict=True):
        each = rows[f"elpd_{key}" if key else "elpd"]
        gap = rows["elpd"] - each
        error = float(np.sqrt(len(gap) * gap.var(ddof=0)))
        lines.append(
            (
                name,
                f"{each.sum():.1f}",
                f"{gap.sum():+.1f} ± {error:.1f}" if key else MISSING,
                f"{loo['elpd']:.1f} ± {loo['error']:.1f}",
                f"{loo['difference']:+.1f} ± {loo['difference_error']:.1f}" if key else MISSING,
                f"{loo['bad_k']:.0%} of rows (largest k {loo['largest_k']:.1f})",
            )
        )
    headings = (
        "Model",
        "Held out",
        "Model less rival",
        "Fitted rows, PSIS-LOO",
        "Model less rival",
        "Pareto k > 0.7",
    )
    return table(headings, lines)


def _farthest(rows: pd.DataFrame) -> str:
    """The rows that lie worst, what that means, and what the study was."""
    known = studies()
    far = rows.reindex(rows["z"].abs().sort_values(ascending=False).index).head(WORST)
    lines = [
        (
            _cell(r["label"]),
            f"{r['observed']:.3g}",
            f"{r['predicted']:.3g} ({r['low90']:.3g} to {r['high90']:.3g}) {nice_unit(r['unit'])}",
            f"{r['z']:+.1f}",
            meaning(r),
            _cell(known[r["study"]].entry.reason),
        )
        for r in far.to_dict("records")
    ]
    return table(("Row", "Published", "Predicted (90 %)", "z", "So", "The study"), lines)


def _pictures(figures: Mapping[str, Figure]) -> dict[str, str]:
    folder = ROOT / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"validation_{name}.png", dpi=90, metadata={"Software": None})
    return {n: f"![{FIGURE_WORDS[n]}](figures/validation_{n}.png)" for n in figures}


def validation_page(n: int, posterior: Posterior) -> str:
    """Held-out rows, the rivals, and what the posterior says of the rows that it was fitted to."""
    result, rivals = validate(posterior=posterior, draws=n), fit_rivals(posterior, n=max(n, 1000))
    checks, found, rows, origin = (
        predictive_checks(posterior),
        result.assessment,
        result.table,
        posterior.provenance,
    )
    fitted = coverage_figure(checks.rows, "Rows that were fitted")
    shown = _pictures({**result.plot(), "fitted": fitted})
    worst = checks.by("study").sort_values("z_rms", ascending=False, kind="stable").head(WORST_STUDIES)
    parts = [
        "# Validation",
        GENERATED,
        f"The posterior ({origin['sampler']}; {origin['rows']} rows of {origin['studies']} studies) against what was "
        "published. `mscrenal validate` computes the first half anew; with a file it does the same for rows of your own "
        "([how](commands.md#validate)).",
        "## Studies that no likelihood saw",
        "Whole studies, [chosen before anything was fitted](evidence.md#held-out), each predicted as a new one: the potency "
        "of its cells, its own level and the residual drawn anew. Where only contrasts within a study count, its first "
        "untreated row sets the level and is not scored.",
        f"Of {len(rows)} rows **{found.coverage90:.0%} lie inside the 90 % interval** and {found.coverage50:.0%} inside the "
        f"50 % interval; the root mean square z is {number(found.z_rms)} (1 if intervals are as wide as they should be). "
        f"{count(len(result.skipped), 'row')} of the {result.n_rows} set a level or could not be simulated.",
        _coverage_table(coverage_by(rows, "class"), "class"),
        shown["pit"],
        "Level if predictions are right. The band is for independent rows; those of one study are not.",
        shown["predicted_observed"],
        "## Against two rivals",
        "Sums of log predictive densities, higher is better; differences with their standard error over rows. *No MSC "
        "effect* is the model without any cells; its parameters, levels, residuals, small-study effect and uncontrolled "
        "gain are fitted anew (a normal approximation around the mode). *Pooled meta-analytic effect* adds one "
        "random-effects mean for each class of observable (DerSimonian and Laird), in units of the spread between "
        "subjects, to treated rows. Both saw the fitted rows only. The pooled means come from the very rows that PSIS-LOO "
        "leaves out one at a time, which flatters that number a little; the held-out one it does not.",
        _densities(rows, compare_loo(posterior, rivals)),
        "## The rows farthest from their predictions",
        _farthest(rows),
        "## Rows that were fitted",
        "Posterior predictive checks, each study with its own level and potency: "
        f"{checks.rows['inside90'].mean():.0%} of {len(checks.rows)} rows inside 90 %, {checks.rows['inside50'].mean():.0%} "
        "inside 50 %. More than nominal is to be expected of rows that were fitted.",
        _coverage_table(checks.by("class"), "class"),
        shown["fitted"],
        f"The {len(worst)} studies with the largest root mean square z:",
        _coverage_table(worst, "study"),
    ]
    return _stamped("\n\n".join(parts), validation_stamp(posterior))


def write_validation(n: int) -> None:
    """The page of validation, of the posterior that ships."""
    page = validation_page(n, shipped_posterior())
    (ROOT / "docs" / "validation.md").write_text(page, encoding="utf-8")


# --------------------------------------------------------------------------- identifiability

STRONGEST = 12  # combinations of parameters shown


def posterior_stamp(posterior: Posterior) -> str:
    """Twelve digits that change with the posterior."""
    told = json.dumps(dict(posterior.provenance), sort_keys=True)
    return hashlib.sha256(told.encode() + posterior.flat("z").astype(np.float32).tobytes()).hexdigest()[:12]


def _structure_words(found: Structure) -> str:
    n, singular = len(found.names), found.singular_values[:, -1] / found.singular_values[:, 0]
    ranks = ", ".join(map(str, found.ranks))
    if found.full:
        return (
            f"The rank is full ({n} of {n}; at the points {ranks}): all {n} calibrated parameters are locally identifiable. The "
            f"smallest singular value is {singular.min():.0e} of the largest, where the error of the derivatives is about 1e-7. "
            f"Brun's collinearity index of all together is {found.collinearity:.0f}; sets above 10 to 15 cannot be told apart "
            "with realistic noise, which is what the priors are for."
        )
    blind = [f"`{name}`" for name, share in found.blind.items() if share > 1e-3]
    return (
        f"The rank is {max(found.ranks)} of {n} (at the points {ranks}). Even perfect data of this kind fix {', '.join(blind)} "
        "only in combination: the model turns them into one number in every arm that was fitted. The prior tells them apart, "
        "and predictions that need only the combination are not harmed."
    )


def identifiability_page(posterior: Posterior, found: Identifiability) -> str:
    """What can be told by structure, by the rows, and by the posterior."""
    practical, structural = found.practice, found.structure
    pairs = [
        (
            f"`{r['first']}`",
            f"`{r['second']}`",
            "exact" if r["collinearity"] > 1e4 else f"{r['collinearity']:.0f}",
        )
        for r in structural.pairs.head(STRONGEST).to_dict("records")
    ]
    directions = [
        (f"{r['sd']:.2f}", f"`{r['combination']}`")
        for r in practical.directions.head(STRONGEST).to_dict("records")
    ]
    rows = [
        (
            f"`{r['parameter']}`",
            r["structural"],
            f"{r['sd_if_alone']:.2f}",
            f"{r['sd_from_rows']:.2f}",
            f"{r['contraction']:.0%}",
            r["verdict"],
            f"{r['low']:+.1f} to {r['high']:+.1f}",
            f"{r['profile_low']:+.1f} to {r['profile_high']:+.1f}",
        )
        for r in found.table.sort_values("contraction", ascending=False).to_dict("records")
    ]
    headings = (
        "Parameter",
        "Structure",
        "SD if alone",
        "SD from rows",
        "Contraction",
        "Verdict",
        "Posterior, 90 %",
        "Profile, 90 %",
    )
    kept = len(sampled_parameters()) - len(posterior.parameters)
    parts = [
        "# What the evidence can tell",
        GENERATED,
        f"{len(posterior.parameters)} of the model's {len(sampled_parameters())} uncertain numbers were sampled; no row can "
        f"narrow the other {kept} by 5 %, and they keep their prior ([how](calibration.md)). Numbers below are on the scale on "
        "which each prior is standard normal: an SD of 1 is the prior's.",
        "## By the structure of the model",
        "Could data without noise fix the parameters, near a point? All fitted arms, all observables fitted in them, "
        "observed densely; derivatives by forward sensitivities at five random points of the prior; rank of the "
        "sensitivity matrix by singular values ([Stigter 2015](https://doi.org/10.1016/j.automatica.2015.05.004)), "
        "collinearity by [Brun 2001](https://doi.org/10.1029/2000WR900350).",
        _structure_words(structural),
        *(
            [
                "Pairs that nearly compensate each other (index above 5 at every point):",
                table(("", "", "Collinearity"), pairs),
            ]
            if pairs
            else []
        ),
        "## By the rows there are",
        "The information in the rows as they are, with their errors, heavy tails, levels, potencies of studies and biases, at "
        f"the medians of the posterior. It takes away {practical.informed:.1f} parameters' worth of the prior's variance. The "
        "combinations known best:",
        table(("SD", "Combination"), directions),
        "## Parameter by parameter",
        "*SD if alone*: from the rows, if all other parameters were known. *SD from rows*: with all others free; where it is "
        "much larger, the parameter is tied to others. *Profile*: where the log density, the others following, has fallen by "
        "1.35; by the tangent of the predictions, so that a profile unlike the posterior's interval tells of curvature, of "
        "skewness, or of a parameter whose likelihood is flat.",
        table(headings, rows),
    ]
    return _stamped("\n\n".join(parts), posterior_stamp(posterior))


def write_identifiability(_: int) -> None:
    """The page of identifiability, of the posterior that ships."""
    posterior = shipped_posterior()
    page = identifiability_page(posterior, identifiability(posterior, prepare()))
    (ROOT / "docs" / "identifiability.md").write_text(page, encoding="utf-8")


# --------------------------------------------------------------------------- what is known of each parameter

# Of `mscrenal posterior`, in its order, with what each asks of the data.
VERDICT_MEANINGS: Mapping[str, str] = {
    "identified": f"the rows narrow it by {IDENTIFIED:.0%} or more",
    "weakly identified": f"the rows narrow it by {INFORMED:.0%} or more",
    "moved, hardly narrowed": "the rows narrow it less, but shift its median by more than half a prior SD",
    BY_PRIOR: "neither: the rows say next to nothing of it",
}
KEPT = "not in the calibration"
LIMIT = 1.6448536269514722  # 90 % of a standard normal distribution lies within


def _between(three: Mapping[str, float]) -> str:
    median, low, high = (
        f"{v:.1e}" if 0 < abs(v) < 1e-3 else number(v) for v in (three[k] for k in ("median", "low", "high"))
    )
    return f"{median} ({low} to {high})"


def _basis(name: str) -> str:
    """What the prior rests on."""
    source = sampled_parameters()[name].source
    return "; ".join(map(str, source)) if isinstance(source, tuple) else str(source)


def _calibrated_rows(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            f"`{r['name']}`",
            _cell(r["label"]),
            nice_unit(r["unit"]),
            _between(r["prior"]),
            _between(r["posterior"]),
            f"{r['contraction']:.0%}",
            r["verdict"],
            _cell(_basis(r["name"])),
            _cell(", ".join(r["sources"]) or MISSING),
        )
        for r in found
    ]


def _kept_rows(names: Sequence[str]) -> list[tuple[str, ...]]:
    known = sampled_parameters()
    rows: list[tuple[str, ...]] = []
    for name in names:
        p = known[name]
        prior = {"median": p.at(0.0), "low": p.at(-LIMIT), "high": p.at(LIMIT)}
        rows.append((f"`{name}`", _cell(p.meaning), nice_unit(p.unit), _between(prior), _cell(_basis(name))))
    return rows


def knowledge_page(posterior: Posterior) -> str:
    """Each sampled parameter: prior, posterior, contraction, verdict, and what both rest on."""
    result = posterior_result(posterior)
    records, kept = result.records, result.by_prior_alone["not_sampled"]
    verdicts = pd.Series([r["verdict"] for r in records]).value_counts()
    parts = [
        "# What is known of each parameter",
        GENERATED,
        f"{len(sampled_parameters())} numbers of the model have a prior. The calibration sampled {len(records)} of them; of the "
        f"other {len(kept)} no row of the evidence can narrow any by 5 %, and they keep their prior "
        "([why](../calibration.md#which-parameters-are-sampled)). Medians and 90 % intervals, in the unit of the parameter. "
        "*Contraction*: 1 less the posterior SD over the prior's, on the scale on which the prior is normal; below zero where "
        "the data made it wider. `mscrenal posterior` prints the same.",
        table(
            ("Verdict", "Meaning", "Parameters"),
            [
                *((name, meaning, str(verdicts.get(name, 0))) for name, meaning in VERDICT_MEANINGS.items()),
                (KEPT, "left at its prior", str(len(kept))),
            ],
        ),
        "A verdict is about this posterior and these rows: a parameter that is *by the prior alone* may still decide a result, "
        "as [sensitivity](../commands.md#sensitivity) tells. Correlations between parameters are not in this table; "
        "[identifiability](../identifiability.md) has the combinations that the rows know best.",
        "## In the calibration",
    ]
    headings: tuple[str, ...] = (
        "Parameter", "Meaning", "Unit", "Prior", "Posterior", "Contraction", "Verdict", "The prior rests on", "Rows that say most",
    )  # fmt: skip
    modules = list(dict.fromkeys(r["module"] for r in records))
    for module in modules:
        mine = [r for r in records if r["module"] == module]
        parts += [f"### {_title(module)}", table(headings, _calibrated_rows(mine))]
    parts.append("## Not in the calibration: the prior as it is")
    homes: dict[str, list[str]] = {}
    for name in kept:
        homes.setdefault(module_of(name), []).append(name)
    for module in sorted(homes):
        headings = ("Parameter", "Meaning", "Unit", "Prior", "Rests on")
        parts += [f"### {_title(module)}, kept", table(headings, _kept_rows(homes[module]))]
    return _stamped("\n\n".join(parts), knowledge_stamp(posterior))


def _title(module: str) -> str:
    return module[:1].upper() + module[1:]


def knowledge_stamp(posterior: Posterior) -> str:
    """Twelve digits that change with the posterior and with what is declared of the sampled parameters."""
    digest = hashlib.sha256(posterior_stamp(posterior).encode())
    for name, p in sampled_parameters().items():
        digest.update(
            f"{name}|{p.unit}|{p.meaning}|{p.at(-LIMIT):.9g}|{p.at(LIMIT):.9g}|{_basis(name)}\n".encode()
        )
    return digest.hexdigest()[:12]


def write_knowledge(_: int) -> None:
    """The page of the model book that says what is known of each parameter, by the posterior that ships."""
    page = knowledge_page(shipped_posterior())
    (ROOT / "docs" / "model" / "knowledge.md").write_text(page, encoding="utf-8")


# --------------------------------------------------------------------------- calibration

SBC = ROOT / "docs" / "sbc.json"  # summary.json of `python -m mscrenal.calibration.sbc`


def calibration_block(posterior: Posterior) -> str:
    """What the page of the calibration says of the posterior that ships."""
    told, found = posterior.provenance, posterior.provenance["diagnostics"]
    verdicts = pd.Series([v["verdict"] for v in told["verdicts"].values()]).value_counts()
    rows = [
        ("Likelihood", f"{told['rows']} rows of {told['studies']} studies"),
        ("Sampled", f"{count(len(posterior.parameters), 'parameter')} of {len(sampled_parameters())}, {len(posterior.hyper_names)} "
         f"hyper-parameters, {posterior.data.sizes['level_name']} levels and {posterior.data.sizes['study_name']} potencies of studies"),
        ("Sampler", told["sampler"]),
    ]  # fmt: skip
    if not told.get("draft"):
        rows += [
            ("Divergences", str(found["divergences"])),
            ("Largest R-hat", f"{found['rhat_max']:.4f}"),
            (
                "Smallest effective sample size",
                f"{found['ess_bulk_min']:.0f} bulk, {found['ess_tail_min']:.0f} tail",
            ),
        ]
    for key, name in (
        ("pareto_k", "Pareto k of the engine's weights"),
        ("weight_ess", "Effective sample size of the weights"),
        ("simulations", "Evaluations of the engine"),
        ("minutes", "Minutes"),
    ):
        if found.get(key) is not None:
            rows.append((name, number(float(found[key]), 3)))
    rows.append(("Verdicts", "; ".join(f"{n} {verdict}" for verdict, n in verdicts.items())))
    return _stamped(table(("", ""), rows), posterior_stamp(posterior))


def sbc_block(told: Mapping[str, Any]) -> str:
    """What the page says of the simulation-based calibration that was run."""
    rejected = ", ".join(told["rejected"]) or "none"
    return (
        f"Run with {told['simulations']:,} simulated data sets ({told['rows']} rows of {told['studies']} studies, "
        f"{told['free_variables']} free variables, {told['draws_per_fit']} nearly independent draws a fit): rejected of "
        f"{told['quantities']} quantities: **{rejected}** (family level {told['family_level']:.1%}; smallest p of one test "
        f"{told['smallest_p']['ecdf_p']:.2g} for the distribution functions, {told['smallest_p']['chi2_p']:.2g} for chi-square).\n\n"
        "![ranks](figures/sbc.png)\n"
    )


def _filled(text: str, name: str, block: str) -> str:
    """A page with the block of that name replaced."""
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"the page has no block {name!r}"
    return f"{before}{start}\n{block}{end}{after}"


def write_calibration(_: int) -> None:
    """Fill what docs/calibration.md says of the shipped posterior, and of the simulation-based calibration if it was run."""
    page = ROOT / "docs" / "calibration.md"
    text = _filled(page.read_text(encoding="utf-8"), "posterior", calibration_block(shipped_posterior()))
    if SBC.exists():
        text = _filled(text, "sbc", sbc_block(json.loads(SBC.read_text(encoding="utf-8"))))
    page.write_text(text, encoding="utf-8")


# --------------------------------------------------------------------------- trials

# Each with the endpoint of its design, and what else its readers would ask.
SHIPPED_TRIALS: tuple[tuple[str, str | None], ...] = (
    ("uc-dn-weekly", None),
    ("uc-dn-weekly", "uacr_percent_change"),
    ("uc-dn-weekly", "egfr_slope_total"),
    ("nephstrom", None),
    ("rexlemestrocel", None),
    ("t2d-uc-monthly", None),
    ("sle-uc", None),
)


def _trial_rows(result: TrialResult) -> list[tuple[str, ...]]:
    def share(found: Share) -> str:
        return f"{found.value:.1%} ± {found.error:.1%}"

    return [
        (
            f"`{result.scenario.name}`",
            f"{c.arm}, {c.n_arm} + {c.n_reference}",
            f"{result.endpoint.label}, {result.endpoint.unit}; {result.design.analysis}",
            f"{number(c.truth[1])} {interval((c.truth[0], c.truth[2]))}",
            number(c.detectable),
            share(c.assurance),
            share(c.power),
            share(c.type1),
        )
        for c in result.comparisons
    ]


def write_trials(n: int) -> None:
    """Every shipped trial; for the first what it can and cannot show, in a paragraph and two figures."""
    rows, words = [], ""
    for k, (name, endpoint) in enumerate(SHIPPED_TRIALS):
        result = trial(name, endpoint=endpoint, trials=n, curve=k == 0)
        rows += _trial_rows(result)
        if k == 0:
            for figure, picture in result.plot().items():
                picture.savefig(ROOT / "docs" / "figures" / f"trial_{figure}.png", dpi=150)
            words = " ".join(result.summary)
    heads = (
        "Trial", "Arm, patients", "Endpoint, analysis", "True effect: median (90 % of worlds)", "Seen with 80 % power",
        "Assurance", "Power at the medians", "Type I error",
    )  # fmt: skip
    parts = [
        f"{n:,} virtual trials of each design; ±: Monte-Carlo standard error; effects against the reference arm, ratios and hazard ratios as such.",
        table(heads, rows),
        "### What 38 patients can and cannot show",
        words,
        "![Assurance by size](figures/trial_assurance.png)",
        "![What a trial of this size would see](figures/trial_effects.png)",
    ]
    page = ROOT / "docs" / "trials.md"
    block = _stamped("\n".join(part + "\n" for part in parts))
    page.write_text(_filled(page.read_text(encoding="utf-8"), "trials", block), encoding="utf-8")


# --------------------------------------------------------------------------- command line

PAGES: Mapping[str, tuple[Callable[[int], None], int]] = {
    "readme": (write_readme, 100),
    "facts": (write_facts, 20),
    "behaviours": (write_behaviours, 200),
    "evidence": (write_evidence, 1),
    "predictions": (write_predicted, 1),
    "validation": (write_validation, 400),
    "identifiability": (write_identifiability, 1),
    "knowledge": (write_knowledge, 1),
    "calibration": (write_calibration, 1),
    "trials": (write_trials, 1000),
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
