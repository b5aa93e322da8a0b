"""The tab Evidence: every published row, what becomes of it, and the number beside the prediction.

Fitted rows, held-out ones and those that were only compared are told apart wherever they are counted: what was fitted
says how well the model can hold the data, only what was held out tests it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from scipy.stats import binomtest

from mscrenal.app.console import DISCLAIMER
from mscrenal.app.page.desk import Answer, work
from mscrenal.app.page.setup import Problem, problems_of
from mscrenal.calibration.studies import ROLES, Arm, held_out, studies
from mscrenal.model import DISEASES, DRUGS, PRODUCTS, DrugCourse
from mscrenal.model.declare import nearest
from mscrenal.model.text import format_duration
from mscrenal.scenarios.evidence import NO_CELLS, OTHER, address_of, evidence_rows, shipped_predictions
from mscrenal.scenarios.style import nice_unit

__all__ = ["BY", "SHOWN", "View", "answer", "covered", "downloads", "places", "study", "view_of"]

SHOWN = ("studies", "forest", "scatter")
BY = ("product", "species", "disease", "endpoint")
FILTERS = ("role", "species", "product", "disease", "endpoint")
NOBODY = "not-simulated"
# In the order of the page: the honest test first.
PREDICTED_AS = {
    "validate": "held out",
    "calibrate": "fitted (in-sample)",
    "check": "compared only",
}
PRODUCT_WORDS = {NO_CELLS: "no cells", OTHER: "another product, or not said"}


class View(BaseModel):
    """What somebody looks at: filters, the kind of view, its grouping, and the study that is open.

    Parameters
    ----------
    search : str
        Words that all have to be found in a row.
    role, species, product, disease, endpoint : str
        Empty: any.
    show : {'studies', 'forest', 'scatter'}
    by : {'product', 'species', 'disease', 'endpoint'}
        What forest plots are grouped by.
    study : str
        A key of `mscrenal.calibration.studies.studies`, or empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: str = Field(default="", max_length=100)
    role: str = ""
    species: str = ""
    product: str = ""
    disease: str = ""
    endpoint: str = ""
    show: str = "studies"
    by: str = "product"
    study: str = ""

    @field_validator(*FILTERS, "show", "by", "study")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        allowed = allowed_for(info.field_name)
        if value and value not in allowed:
            raise ValueError(f"unknown {info.field_name} {value[:60]!r}.{nearest(value[:60], allowed)}")
        if not value and info.field_name in ("show", "by"):
            raise ValueError(f"empty. Allowed: {', '.join(allowed)}.")
        return value

    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query, what is default left out."""
        return [
            (name, getattr(self, name))
            for name, field in type(self).model_fields.items()
            if getattr(self, name) != field.default
        ]


@cache
def allowed_for(field: str) -> tuple[str, ...]:
    """Values of a field, in the order in which the page offers them."""
    rows = evidence_rows()
    if field == "show":
        return SHOWN
    if field == "by":
        return BY
    if field == "role":
        return tuple(ROLES)
    if field == "study":
        return tuple(studies())
    if field == "species":
        known = pd.Series([s for kinds in rows["kinds"] for s in kinds.split(";")])
        return tuple(str(s) for s in known.value_counts(sort=True).index)
    if field == "product":
        there = set(rows["given"])
        return tuple(n for n in (*PRODUCTS, NO_CELLS, OTHER) if n in there)
    if field == "disease":
        there = set(rows["simulated"])
        return (*(d for d in DISEASES if d in there), NOBODY)
    return tuple(sorted(set(rows["endpoint"])))


def view_of(pairs: Sequence[tuple[str, str]]) -> tuple[View, list[Problem]]:
    """What the query of an address says; what it says wrongly is left out, with the reason."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for name, text in pairs:
        if name not in View.model_fields:
            problems.append(Problem(name[:60], f"unknown.{nearest(name[:60], View.model_fields)}"))
            continue
        try:
            View.model_validate({name: text})
            values[name] = text
        except ValidationError as error:
            problems += [Problem(name, p.message) for p in problems_of(error)]
    return View.model_validate(values), problems


# --------------------------------------------------------------------------- rows


@cache
def _texts() -> pd.Series:
    """What a search looks through, of each row."""
    rows = evidence_rows()
    columns = ["key", "citation", "doi_or_pmid", "species", "disease_model", "arm", "cell_source", "product", "given", "simulated", "endpoint", "reason", "note"]  # fmt: skip
    joined = rows[columns].astype(str).agg(" ".join, axis=1)
    return joined.str.lower()


def filtered(view: View) -> pd.DataFrame:
    """The rows that a view asks for."""
    rows = evidence_rows()
    keep = pd.Series(True, index=rows.index)
    for word in view.search.lower().split():
        keep &= _texts().str.contains(word, regex=False)
    if view.role:
        keep &= rows["role"] == view.role
    if view.species:
        keep &= rows["kinds"].map(lambda kinds: view.species in kinds.split(";"))
    if view.product:
        keep &= rows["given"] == view.product
    if view.disease:
        keep &= rows["simulated"] == ("" if view.disease == NOBODY else view.disease)
    if view.endpoint:
        keep &= rows["endpoint"] == view.endpoint
    return rows[keep]


def _within(k: int, n: int) -> tuple[float, float]:
    """The 90 % interval of a share of k in n, by Wilson's method."""
    ends = binomtest(k, n).proportion_ci(0.9, method="wilson")
    return float(ends.low), float(ends.high)


def covered(rows: pd.DataFrame) -> list[Answer]:
    """Coverage of the predicted rows among `rows`, of each role for itself; never of several together.

    Returns
    -------
    list of dict
        role, words, rows, studies, inside50, inside90 (counts), share50, share90 ([share, low, high], a 90 % interval of the
        share as of independent rows), z_rms.
    """
    predicted = rows[rows["predicted"].notna()]
    columns = [predicted[c].tolist() for c in ("role", "key", "inside50", "inside90", "z")]
    records = list(zip(*columns, strict=True))
    out = []
    for role, words in PREDICTED_AS.items():
        mine = [r for r in records if r[0] == role]
        n = len(mine)
        if not n:
            continue
        record: Answer = {"role": role, "words": words, "rows": n, "studies": len({r[1] for r in mine})}
        for column, level in ((2, "50"), (3, "90")):
            inside = sum(bool(r[column]) for r in mine)
            record[f"inside{level}"] = inside
            record[f"share{level}"] = [inside / n, *_within(inside, n)]
        record["z_rms"] = math.sqrt(math.fsum(r[4] ** 2 for r in mine) / n)
        out.append(record)
    return out


def places(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Where a row's numbers lie, in half-widths of its 90 % prediction interval from the predictive median.

    Ratios and levels that are compared by logarithms are placed by logarithms, shares by logits; either side of the median has
    its own width, so that the interval ends at -1 and 1.
    """

    def scaled(value: float) -> float:
        if row["measure"] == "share":
            return math.log(value / (1 - value)) if 0 < value < 1 else math.copysign(math.inf, value - 0.5)
        return (math.log(value) if value > 0 else -math.inf) if row["log"] else value

    middle, low, high = (scaled(row[k]) for k in ("predicted", "low90", "high90"))

    def place(name: str) -> float | None:
        if not math.isfinite(row[name]):
            return None
        distance = scaled(row[name]) - middle
        width = high - middle if distance >= 0 else middle - low
        found = distance / width if width > 0 else math.copysign(99.0, distance) if distance else 0.0
        return float(f"{max(-99.0, min(99.0, found)):.4g}")

    return {k: place(k) for k in ("observed", "observed_low", "observed_high", "low50", "high50")}


def _unit(row: Mapping[str, Any]) -> str:
    """Unit of a compared number; of a level on the study's own scale the printed one."""
    unit = row["unit"] if row["p_unit"] == "as published" else row["p_unit"]
    return nice_unit(str(unit)) if unit else ""


def _scale(row: Mapping[str, Any]) -> tuple[str, str]:
    """Which rows share one axis, and its words."""
    measure = row["measure"]
    if measure in ("ratio", "fold"):
        return "ratio", "Ratios, to baseline or control"
    if measure == "smd":
        return "smd", "Standardised differences, SD"
    if measure == "share":
        return "share", "Shares of patients"
    unit = _unit(row)
    return (
        f"{row['observable']} {measure} {unit}",
        f"{row['observable']}, {measure}{f', {unit}' if unit else ''}",
    )


def _label(row: Mapping[str, Any]) -> str:
    """What a predicted row is, without its study; what tells rows of a study apart comes first."""
    versus = f" vs {row['against']}" if row["against"] else ""
    when = "" if row["measure"] == "slope" else f" day {row['day']:.4g}"
    return f"{row['observable']} {row['measure']}{when}, {row['p_arm']}{versus}"


def _predicted(name: str, row: Mapping[str, Any]) -> Answer:
    """A predicted row as the page draws it."""
    key, words = _scale(row)
    numbers = (
        "observed",
        "observed_low",
        "observed_high",
        "predicted",
        "low50",
        "high50",
        "low90",
        "high90",
        "z",
    )
    return {
        "name": name,
        "key": row["key"],
        "role": row["role"],
        "label": _label(row),
        "product": PRODUCT_WORDS.get(row["given"], row["given"]),
        "species": row["kinds"],
        "disease": DISEASES[row["simulated"]].title if row["simulated"] else "",
        "endpoint": row["endpoint"],
        "measure": row["measure"],
        "unit": _unit(row),
        "scale": key,
        "scale_words": words,
        "log": bool(row["log"]),
        "inside50": bool(row["inside50"]),
        "inside90": bool(row["inside90"]),
        "place": places(row),
        **{n: _number(row[n]) for n in numbers},
    }


def _number(value: Any) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


@cache
def _all_studies() -> list[Answer]:
    """One record a study: those with held-out rows first, then fitted ones, and last those that are not used."""
    out = []
    for key, rows in evidence_rows().groupby("key", sort=False):
        found = studies()[str(key)]
        counts = rows["role"].value_counts()
        out.append(
            {
                "key": key,
                "citation": rows["citation"].iloc[0],
                "species": _distinct(rows["species"]),
                "disease": _distinct(rows["disease_model"]),
                "given": [PRODUCT_WORDS.get(g, g) for g in dict.fromkeys(rows["given"])],
                "roles": {r: int(counts[r]) for r in ROLES if r in counts},
                "predicted": int(rows["predicted"].notna().sum()),
                "reason": found.entry.reason,
            }
        )
    order = (*PREDICTED_AS, *(r for r in ROLES if r not in PREDICTED_AS))
    return sorted(out, key=lambda s: (min(order.index(r) for r in s["roles"]), s["key"]))


@cache
def _all_predicted() -> list[Answer]:
    """Every predicted row, held-out ones first, then by study."""
    rows = evidence_rows()
    rows = rows[rows["predicted"].notna()]
    order = list(PREDICTED_AS)
    records = [
        _predicted(str(name), row) for name, row in zip(rows.index, rows.to_dict("records"), strict=True)
    ]
    return sorted(records, key=lambda r: (order.index(r["role"]), r["key"]))


def _groups(rows: pd.DataFrame, by: str) -> list[Answer]:
    """The predicted rows in groups, the largest first and those without cells last: places among all, and coverage by role."""
    found = _parts(rows, {r["name"]: r[by] for r in _all_predicted()})
    return sorted(found, key=lambda g: g["name"] == PRODUCT_WORDS[NO_CELLS])


def _scales(rows: pd.DataFrame) -> list[Answer]:
    """The predicted rows by the axis that they share, the largest first."""
    words = {r["name"]: r["scale"] for r in _all_predicted()}
    named = {r["scale"]: r for r in _all_predicted()}
    parts = _parts(rows, words)
    return [{**p, "words": named[p["name"]]["scale_words"], "log": named[p["name"]]["log"]} for p in parts]


def _parts(rows: pd.DataFrame, part_of: Mapping[str, str]) -> list[Answer]:
    place = {r["name"]: k for k, r in enumerate(_all_predicted())}
    predicted = rows[rows["predicted"].notna()]
    parts = [
        {
            "name": name,
            "rows": sorted(place[str(n)] for n in mine.index),
            "coverage": covered(mine),
        }
        for name, mine in predicted.groupby(predicted.index.map(part_of))
    ]
    return sorted(parts, key=lambda p: (-len(p["rows"]), p["name"]))


def _distinct(column: pd.Series) -> list[str]:
    return [str(v) for v in dict.fromkeys(column) if v and v != "none"]


def _choices() -> dict[str, list[list[str]]]:
    """Values and words of each filter."""
    words: dict[str, Mapping[str, str]] = {
        "role": {r: f"{r}: {meaning}" for r, meaning in ROLES.items()},
        "product": {n: f"{n}: {p.title}" for n, p in PRODUCTS.items()} | PRODUCT_WORDS,
        "disease": {n: d.title for n, d in DISEASES.items()} | {NOBODY: "nobody simulated"},
    }
    return {f: [[v, words.get(f, {}).get(v, v)] for v in allowed_for(f)] for f in FILTERS}


# --------------------------------------------------------------------------- the channels


async def answer(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """What a view shows: places of its studies and predicted rows among all, counts, and coverage by role.

    Parameters
    ----------
    payload : mapping
        `view`: the fields of `View`, or `pairs`: names and values of an address. `everything`: whether the studies, the predicted rows
        and the choices of the filters are wanted as well.
    """
    # Reading half a thousand TOML entries takes a second, the first time.
    rows = await work(evidence_rows)
    out: Answer = {}
    if "pairs" in payload:
        view, problems = view_of(_pairs(payload["pairs"]))
        out = {"view": view.model_dump(), "address": [p.record() for p in problems]}
    else:
        view = View.model_validate(payload.get("view"))
    found = await work(filtered, view)
    names = set(found.index[found["predicted"].notna()])
    keys = set(found["key"])
    counts = found["role"].value_counts()
    out |= {
        "query": [list(p) for p in view.pairs()],
        "studies": [k for k, s in enumerate(_all_studies()) if s["key"] in keys],
        "rows": [k for k, r in enumerate(_all_predicted()) if r["name"] in names],
        "counts": {"rows": len(found), "studies": found["study_id"].nunique(), "of_rows": len(rows), "of_studies": rows["study_id"].nunique(), "predicted": len(names)},
        "roles": {r: int(counts.get(r, 0)) for r in ROLES},
        "coverage": covered(found),
        "groups": _groups(found, view.by) if view.show == "forest" else [],
        "scales": _scales(found) if view.show == "scatter" else [],
    }  # fmt: skip
    if payload.get("everything"):
        told = shipped_predictions().stamp
        out |= {
            "all_studies": _all_studies(),
            "all_rows": _all_predicted(),
            "choices": _choices(),
            "role_words": dict(ROLES),
            "predicted_as": PREDICTED_AS,
            "stamp": {k: str(v)[:12] for k, v in told.items()},
        }
    yield out


def _pairs(given: Any) -> list[tuple[str, str]]:
    fine = isinstance(given, list) and all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in given
    )
    if not fine:
        raise ValueError("pairs: Allowed: a list of names and values, both text.")
    return [(name, value) for name, value in given]


async def study(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """A study: what was done, its arms as they are simulated, its rows, and those that are predicted.

    Parameters
    ----------
    payload : mapping
        `study`: its key.
    """
    await work(evidence_rows)
    view = View.model_validate({"study": payload.get("study")})
    if not view.study:
        raise ValueError("study: given nothing. Choose one of the list.")
    found = studies()[view.study]
    rows = evidence_rows()
    rows = rows[rows["key"] == view.study]
    first = rows.iloc[0]
    identifier = str(first["doi_or_pmid"])
    patient = found.entry.patient
    yield {
        "key": view.study,
        "citation": first["citation"],
        "identifier": identifier,
        "address": address_of(identifier) or _first_address(rows),
        "table": first["table"],
        "reason": found.entry.reason,
        "assumed": list(patient.assumed) if patient else [],
        "assumed_reason": patient.assumed_reason if patient else "",
        "arms": [_arm(a) for a in found.arms.values()],
        "rows": [_row(str(n), r) for n, r in zip(rows.index, rows.to_dict("records"), strict=True)],
        "predicted": [r for r in _all_predicted() if r["key"] == view.study],
        "coverage": covered(rows),
        "held_out_because": held_out().get(found.id, ""),
        "overlaps": list(found.entry.shares_patients_with),
    }


def _first_address(rows: pd.DataFrame) -> str:
    """Where it was read, if that is an address of the web and nothing else."""
    for text in rows["source_url"]:
        if str(text).startswith(("https://", "http://")) and " " not in str(text):
            return str(text)
    return ""


def _arm(arm: Arm) -> Answer:
    """An arm in words."""
    p = arm.patient
    who = [f"{DISEASES[p.disease].title}, {p.species}", p.sex]
    if p.species == "human":
        who.append(f"{p.age:g} years")
        for value, text in ((p.egfr, "eGFR {:g}"), (p.uacr, "UACR {:g} mg/g"), (p.hba1c, "HbA1c {:g} %"), (p.sledai, "SLEDAI {:g}")):  # fmt: skip
            if value is not None:
                who.append(text.format(value))
    elif p.onset_days:
        who.append(f"first dose {format_duration(p.onset_days)} after the insult")
    drugs = [DRUGS[d].title for d in p.drugs] + [_drug(c) for c in arm.courses]
    cells = "none"
    if arm.doses:
        dose = arm.doses[0]
        unit = {"ev": "billion vesicles/kg", "medium": "medium of million cells/kg"}.get(
            PRODUCTS[dose.product].kind, "million cells/kg"
        )
        days = ", ".join(f"{d.day:g}" for d in arm.doses)
        cells = f"{dose.product} {dose.route}, {dose.amount:.3g} {unit}, day {days}"
    return {
        "name": arm.name,
        "n": arm.n,
        "who": ", ".join(who),
        "cells": cells,
        "drugs": ", ".join(drugs) or "none",
    }


def _drug(course: DrugCourse) -> str:
    """A drug of an arm; one that begins with it does so just after day 0, so that day 0 is read before it."""
    start = f" from day {0 if course.start_day < 0.1 else course.start_day:g}"
    stop = "" if course.stop_day is None else f" to day {course.stop_day:g}"
    level = "" if course.level == 1 else f", {course.level:g} times the usual dose"
    return f"{DRUGS[course.drug].title}{start}{stop}{level}"


def _row(name: str, row: Mapping[str, Any]) -> Answer:
    """A row of the tables as the page lists it."""
    spread = f" ({row['spread_type'] or 'unlabelled spread'} {row['spread']})" if row["spread"] else ""
    has = math.isfinite(row["predicted"])
    return {
        "name": name,
        "endpoint": row["endpoint"],
        "arm": row["arm"],
        "n": None if not math.isfinite(row["n"]) else int(row["n"]),
        "week": _number(row["time_week"]),
        "published": f"{row['value']:g}{spread.replace(';', ' to ')} {row['unit']}".strip(),
        "what": str(row["effect_type"]).replace("_", " "),
        "role": row["role"],
        "reason": row["reason"],
        "unscored": row["unscored"],
        "predicted": [_number(row[k]) for k in ("predicted", "low90", "high90")] if has else None,
        "compared": _number(row["observed"]) if has else None,
        "unit": _unit(row) if has else "",
        "inside90": bool(row["inside90"]) if has else None,
        "locator": row["locator"],
    }


FILE_COLUMNS = {
    "table": "table", "line": "line", "study_id": "study", "citation": "citation", "doi_or_pmid": "source",
    "species": "species_published", "disease_model": "disease_published", "kinds": "species", "simulated": "disease_simulated", "given": "product",
    "endpoint": "endpoint", "arm": "arm_published", "n": "n", "time_week": "time_week", "effect_type": "effect_type", "value": "value_published",
    "unit": "unit_published", "spread": "spread_published", "spread_type": "spread_type", "role": "role", "reason": "reason",
    "observable": "observable", "measure": "measure", "p_arm": "arm", "against": "against", "day": "day", "p_unit": "unit", "observed": "observed",
    "observed_low": "observed_q05", "observed_high": "observed_q95", "predicted": "predicted_median", "low50": "predicted_q25", "high50": "predicted_q75",
    "low90": "predicted_q05", "high90": "predicted_q95", "z": "z", "inside50": "inside50", "inside90": "inside90", "unscored": "not_compared_because",
}  # fmt: skip


async def downloads(payload: Mapping[str, Any]) -> AsyncIterator[Answer]:
    """The rows of a view as CSV, below lines that say what they were computed from.

    Parameters
    ----------
    payload : mapping
        `view`: the fields of `View`.
    """
    await work(evidence_rows)
    view = View.model_validate(payload.get("view"))
    rows = filtered(view)[list(FILE_COLUMNS)].rename(columns=FILE_COLUMNS)
    how = rows["role"].map(PREDICTED_AS).where(rows["predicted_median"].notna(), "")
    rows.insert(list(rows).index("observable"), "predicted_as", how)
    told = {**shipped_predictions().stamp, "filters": dict(view.pairs())}
    head = "".join(f"# {k}: {v}\r\n" for k, v in told.items())
    text = rows.to_csv(index=False, lineterminator="\r\n")
    yield {"file": "mscrenal-evidence.csv", "type": "text/csv", "text": f"# {DISCLAIMER}\r\n{head}{text}"}
