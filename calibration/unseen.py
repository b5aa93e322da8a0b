"""Evidence rows of anybody's file as rows that the model can predict, or a plain reason why not.

Rows of studies that the shipped files of studies know follow their maps; a file of one's own (``--studies``) goes
before them; all others are mapped by the rules of this module, from the columns of the evidence schema alone. The rules
claim nothing that the columns do not say: where a number would have to be guessed the row is skipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mscrenal.calibration.evidence import EvidenceError
from mscrenal.calibration.observations import Datum, convert, observe_study
from mscrenal.calibration.studies import ArmEntry, MapEntry, PatientEntry, Study, StudyEntry, _arm, _matches
from mscrenal.model import COVARIATES, OBSERVABLES, PRODUCTS, ROUTES, SPECIES, PatientError
from mscrenal.model.declare import nearest
from mscrenal.model.observables import PROTEIN_HEALTHY, PROTEIN_SCALE, UACR_HEALTHY
from mscrenal.model.text import ScenarioError, format_dose, parse_dose

__all__ = [
    "COVARIATE_OF",
    "DISEASE_RULES",
    "DRUG_RULES",
    "ENDPOINT_OF",
    "AssessmentError",
    "Mapped",
    "Skipped",
    "map_rows",
]

# Who has what: pattern of `disease_model` (without case), disease of people, disease of animals; the first that fits
# counts. None: the model has no such disease for them, and the third entry of REFUSED says why.
DISEASE_RULES: tuple[tuple[str, str | None, str | None], ...] = (
    (r"^(healthy|none|normal)$", "healthy", "healthy"),
    (r"lupus|(^|_)s?le($|_)|mrl|nzb", "lupus", "lupus-model"),
    (r"2k1c|arvd|(^|_)a?ras($|_)|renovascular|renal_artery", "renovascular", "renovascular-model"),
    (r"uuo|obstruct", None, "obstruction"),
    (r"5/6|subtotal|remnant", None, "subtotal-nephrectomy"),
    (r"^db/?-?db|dbdb", None, "db-db"),
    (r"stz|streptozotocin|^t1d_(rat|mouse)", None, "stz"),
    (r"dkd|diabetic_(nephropathy|kidney)|(^|_)dn($|_)|albuminuria|t[12]d.*ckd|dm.*ckd", "diabetic", "stz"),
    (r"^(t[12]d|dm|diabetes)($|_)", "diabetic", "stz"),
    (r"ckd|nephropathy", "nondiabetic-ckd", None),
)
# What the model does not have, asked first; two insults at once are none of its models either.
REFUSED: tuple[tuple[str, str], ...] = (
    (r"aki|iri|cisplatin|sepsis", "acute kidney injury"),
    (r"transplant|allograft", "transplanted kidney"),
    (r"polycystic|adpkd|pck", "polycystic kidney disease"),
    (r"thy1|\bgn\b|glomerulonephritis|fsgs|adriamycin|alport", "glomerular disease of this kind"),
    (r"dahl|salt|angii|lnna|hypertension", "salt-sensitive or induced hypertension"),
    (r"(stz|db/db|2k1c|hfd|ob/ob|zs_obese).*(unx|nephrectom|nx|hfd|salt|ischemi|unineph)|(unx|hfd|5/6nx).*stz|stz.*5/6", "two insults at once"),
    (r"zucker|ob/ob|obes|zs_|ffc|ove26|btbr|^unilateral", "animal model of this kind"),
    (r"covid|post_mi|frail|aging|gvhd|crohn", "such disease"),
    (r"pool|mixed|meta", "single disease behind a pool"),
)  # fmt: skip
# Diabetes without a word of the kidney: kidneys as in health, until a row of week 0 says otherwise.
NORMAL_KIDNEY = {"egfr": 95.0, "uacr": 15.0}
# Endpoints under another name than the observable's. Slopes are told from values by the `statistic`, too.
ENDPOINT_OF: Mapping[str, str] = {"egfr_slope": "egfr", "mgfr_slope": "mgfr"}
# Endpoints of week 0 that place the patient, by covariate; the first found counts.
COVARIATE_OF: Mapping[str, tuple[str, ...]] = {
    "egfr": ("egfr", "mgfr"),
    "uacr": ("uacr", "urine_protein_24h"),
    "hba1c": ("hba1c",),
    "sledai": ("sledai",),
    "age": ("age",),
    "weight_kg": ("body_weight", "weight"),
    "duration_years": ("diabetes_duration", "disease_duration"),
}
DRUG_RULES: tuple[tuple[str, str], ...] = (
    (r"gliflozin|sglt2", "sglt2i"),
    (r"finerenone", "finerenone"),
    (r"glutide|glp-?1", "glp1ra"),
    (r"sartan|(^|\W)\w+pril($|\W)|ras block", "ras"),
)
UNTREATED = re.compile(
    r"control|placebo|untreated|vehicle|sham|saline|model|diabetic|diseased|all|natural|observ|cohort"
)
HEALTHY = re.compile(r"^(healthy|normal|non-?diabetic|naive)")
TREATED = re.compile(r"(?<!un)treat|\bmsc|cell|\bevs?\b|exosome")
# Where the columns say nothing: animals are dosed this long after the insult (the commonest of the shipped studies),
# people on an hour's infusion (as all shipped trials), animals at once.
ONSET = "8w"
INFUSION = {"human": "60min"}
PLAIN_STATISTICS = frozenset(
    {"", "mean", "median", "geomean", "ls_mean", "fold", "ratio", "percent", "slope_per_year"}
)


class AssessmentError(ValueError):
    """What was asked for cannot be compared."""


@dataclass(frozen=True)
class Skipped:
    """A row that is not predicted, and why."""

    row: int
    study: str
    endpoint: str
    reason: str


@dataclass(frozen=True)
class Mapped:
    """Rows that are to be predicted.

    Attributes
    ----------
    studies : dict of str to Study
    data : tuple of Datum
        Of all studies, in order.
    skipped : tuple of Skipped
    source : dict of str to str
        Of each study: 'given' (one's own file), 'shipped' or 'rules'.
    assumptions : tuple of str
        What the rules had to assume, in sentences.
    """

    studies: Mapping[str, Study]
    data: tuple[Datum, ...]
    skipped: tuple[Skipped, ...]
    source: Mapping[str, str]
    assumptions: tuple[str, ...]


def map_rows(rows: pd.DataFrame, shipped: Iterable[Study] = (), given: Iterable[Study] = ()) -> Mapped:
    """Find what each row is, and skip what the model cannot predict.

    Parameters
    ----------
    rows : DataFrame
        Of `mscrenal.calibration.evidence.read_table`.
    shipped, given : iterable of Study
        Studies that are known; those of `given` come with their rows and go before.
    """
    own = {study.id: study for study in given}
    known: dict[str, list[Study]] = {}
    for study in shipped:
        known.setdefault(study.id, []).append(study)
    studies: dict[str, Study] = {}
    source: dict[str, str] = {}
    skipped: list[Skipped] = []
    assumed: list[str] = []
    data: list[Datum] = []
    for name, group in rows.groupby("study_id", sort=False):
        key, mine = str(name), group.reset_index(drop=True)
        if key in own:
            found, source[key] = own[key], "given"
        elif key in known:
            found, source[key] = _by_shipped(known[key], mine), "shipped"
        else:
            ruled, refused, notes = _by_rules(key, mine)
            source[key] = "rules"
            assumed += notes
            skipped += refused
            if ruled is None:
                continue
            found = ruled
        study, seen, unusable = _observed(found)
        skipped += unusable
        if seen:
            studies[key] = study
            data += seen
    order = {int(line): k for k, line in enumerate(rows["line"])}
    skipped.sort(key=lambda s: order.get(s.row, len(order)))
    return Mapped(studies, tuple(data), tuple(skipped), source, tuple(assumed))


def _skip(row: Any, reason: str) -> Skipped:
    return Skipped(int(row["line"]), str(row["study_id"]), str(row["endpoint"]), reason.strip())


def _observed(study: Study) -> tuple[Study, list[Datum], list[Skipped]]:
    """The rows of a study that become numbers; each of the others with what stops it."""
    keep, skipped = [], []
    for k, entry in enumerate(study.maps):
        row = study.rows.iloc[k]
        if entry is None or entry.role != "fit":
            role = study.entry.role if entry is None else entry.role
            reason = study.entry.reason if entry is None else entry.reason
            skipped.append(_skip(row, f"{role}: {reason}"))
            continue
        one = replace(study, rows=study.rows.iloc[[k]].reset_index(drop=True), maps=(entry,))
        try:
            observe_study(one)
        except EvidenceError as error:
            skipped.append(_skip(row, str(error).split(f"study {study.id!r}: ", 1)[-1]))
        else:
            keep.append(k)
    left = replace(
        study, rows=study.rows.iloc[keep].reset_index(drop=True), maps=tuple(study.maps[k] for k in keep)
    )
    return left, observe_study(left), skipped


# --------------------------------------------------------------------------- studies that the package knows

# What makes a row of a file the row of a shipped table that a map names by its line.
SAME = ("endpoint", "arm", "unit", "time_week", "statistic", "effect_type", "dose_value")


def _by_shipped(candidates: Sequence[Study], rows: pd.DataFrame) -> Study:
    """The shipped maps on the rows of a file, which need not be those of the shipped table."""
    table = str(rows["table"].iloc[0])
    study = next((s for s in candidates if (s.rows["table"] == table).all()), candidates[0])
    maps: list[MapEntry | None] = []
    for k in range(len(rows)):
        fitting = [item for item in study.entry.map if _claims(item, rows.iloc[k], study)]
        maps.append(fitting[0] if fitting else None)
    return Study(study.entry, study.arms, rows, tuple(maps))


def _claims(item: MapEntry, row: pd.Series, study: Study) -> bool:
    where = dict(item.where)
    lines = where.pop("line", None)
    if not _matches(row, where):
        return False
    if lines is None:
        return True
    wanted = lines if isinstance(lines, list) else [lines]
    return any(
        _matches(row, {c: ("" if _missing(twin[c]) else twin[c]) for c in SAME})
        for _, twin in study.rows[study.rows["line"].isin(wanted)].iterrows()
    )


def _missing(cell: Any) -> bool:
    return isinstance(cell, float) and math.isnan(cell)


# --------------------------------------------------------------------------- studies that nobody knows


class _Refused(Exception):
    """Why a row, or all rows of a study, cannot be predicted."""


def _by_rules(name: str, rows: pd.DataFrame) -> tuple[Study | None, list[Skipped], list[str]]:
    skipped: list[Skipped] = []
    try:
        patient, notes = _patient(rows)
    except _Refused as reason:
        return None, [_skip(row, str(reason)) for _, row in rows.iterrows()], []
    arms: dict[str, ArmEntry] = {}
    maps: list[MapEntry | None] = []
    placing = _placing(rows, patient)
    for k in range(len(rows)):
        row = rows.iloc[k]
        try:
            if k in placing:
                raise _Refused(f"places the simulated patient ({placing[k]})")
            maps.append(_map(row, patient, arms, rows))
        except _Refused as reason:
            maps.append(None)
            skipped.append(_skip(row, str(reason)))
    kept = [k for k, item in enumerate(maps) if item is not None]
    kept, alone = _comparable(rows, maps, kept)
    skipped += [_skip(rows.iloc[k], reason) for k, reason in alone.items()]
    if not kept:
        return None, skipped, []
    entry = StudyEntry(
        id=name, role="excluded", reason="Mapped by rules.", patient=patient, arm=tuple(arms.values()),
        map=tuple(item for k in kept if (item := maps[k]) is not None),
    )  # fmt: skip
    try:
        built = {arm.name: _arm(entry, arm) for arm in entry.arm}
    except (EvidenceError, ScenarioError, PatientError) as error:
        return None, [*skipped, *(_skip(rows.iloc[k], str(error)) for k in kept)], []
    left = rows.iloc[kept].reset_index(drop=True)
    return Study(entry, built, left, tuple(maps[k] for k in kept)), skipped, [f"{name}: {n}" for n in notes]


def _comparable(
    rows: pd.DataFrame, maps: Sequence[MapEntry | None], kept: list[int]
) -> tuple[list[int], dict[int, str]]:
    """Levels of animals and of other scales count within a study: one alone says nothing."""
    groups: dict[str, list[int]] = {}
    for k in kept:
        item = maps[k]
        if item is not None and item.measure == "level" and item.scale == "study":
            groups.setdefault(item.observable, []).append(k)
    alone = {
        ks[0]: "a single level of an animal: the model's scale is relative, and there is no second row to compare with"
        for ks in groups.values() if len(ks) == 1
    }  # fmt: skip
    # Units differ between rows of one observable: then they cannot share a scale.
    for ks in groups.values():
        units = {str(rows["unit"].iloc[k]) for k in ks}
        if len(units) > 1:
            alone |= dict.fromkeys(
                ks, f"levels of one observable in several units ({', '.join(sorted(units))})"
            )
    return [k for k in kept if k not in alone], alone


# --------------------------------------------------------------------------- who


def disease_of(disease_model: str, species: str) -> str:
    """The model's disease for a `disease_model` of the evidence.

    Raises
    ------
    ValueError
        If the model has none, with the reason.
    """
    text = disease_model.strip().lower()
    for pattern, what in REFUSED:
        if re.search(pattern, text):
            raise ValueError(f"disease_model {disease_model!r}: the model has no {what}")
    for pattern, person, animal in DISEASE_RULES:
        if re.search(pattern, text):
            found = person if species == "human" else animal
            if found is None:
                break
            return found
    allowed = ", ".join(_examples(species))
    raise ValueError(
        f"disease_model {disease_model!r}: no rule for it in species {species!r}. Understood are such as {allowed}; "
        "others can be mapped in a --studies file"
    )


def _examples(species: str) -> tuple[str, ...]:
    if species == "human":
        return ("healthy", "T2D_DKD", "T2D", "lupus_nephritis", "ARVD", "CKD")
    return ("healthy", "STZ_rat", "db/db", "UUO", "5/6_nephrectomy", "2K1C_renovascular", "lupus_MRL")


def _patient(rows: pd.DataFrame) -> tuple[PatientEntry, list[str]]:
    """The patient or animal behind the rows, and what had to be assumed."""
    species = str(rows["species"].iloc[0])
    if rows["species"].nunique() > 1 or species not in SPECIES:
        raise _Refused(
            f"species {', '.join(map(repr, rows['species'].unique()))}: allowed is one of {', '.join(SPECIES)} a study"
        )
    models = [m for m in rows["disease_model"].unique() if m and not re.fullmatch("(?i)healthy|normal", m)]
    if not models and "healthy" not in {str(m).lower() for m in rows["disease_model"].unique()}:
        raise _Refused("no disease_model")
    given: dict[str, Any] = {"species": species}
    notes: list[str] = []
    try:
        diseases = {disease_of(model, species) for model in models or ["healthy"]}
    except ValueError as error:
        raise _Refused(str(error)) from None
    if len(diseases) > 1:
        raise _Refused(
            f"several diseases in one study ({', '.join(map(str, models))}): give each its own study_id"
        )
    given["disease"] = diseases.pop()
    if species == "human":
        given |= _covariates(rows, given["disease"], models[0] if models else "", notes)
    elif given["disease"] != "healthy":
        given["onset"] = _onset(rows, notes)
    try:
        return PatientEntry(**given), notes
    except ValueError as error:
        raise _Refused(str(error)) from None


def _onset(rows: pd.DataFrame, notes: list[str]) -> str:
    """From the insult to day 0: to the first dose or, where nobody is treated, none."""
    weeks = rows["start_week"].dropna()
    if len(weeks):
        return f"{7.0 * float(weeks.iloc[0]):g}d"
    if rows["cell_source"].isin(["", "none"]).all():
        notes.append("nobody is treated: time_week is taken from the insult on.")
        return "0d"
    notes.append(f"start_week is empty: the first dose {ONSET} after the insult.")
    return ONSET


def _covariates(rows: pd.DataFrame, disease: str, disease_model: str, notes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if disease == "healthy":
        allowed: tuple[str, ...] = ("age", "weight_kg")
    else:
        allowed = tuple(COVARIATE_OF)
    if disease == "diabetic" and re.fullmatch(r"(?i)(t[12]d|dm|diabetes)(_normal.*)?", disease_model):
        found |= NORMAL_KIDNEY
        notes.append("diabetes without kidney disease: eGFR 95, UACR 15 unless rows of week 0 say otherwise.")
    if disease != "lupus":
        allowed = tuple(a for a in allowed if a != "sledai")
    for covariate in allowed:
        value = _baseline(rows, covariate)
        if value is None:
            continue
        low, high = COVARIATES[covariate].low, COVARIATES[covariate].high
        if not low <= value <= high:
            raise _Refused(f"{covariate} = {value:g} at week 0 is outside {low:g} to {high:g}")
        found[covariate] = value
    if disease != "healthy":
        typical = [c for c in ("egfr", "uacr", "hba1c", "sledai") if c in allowed and c not in found]
        if typical:
            notes.append(f"no row of week 0 for {', '.join(typical)}: the typical patient's.")
    return found


def _is_baseline(row: pd.Series) -> bool:
    # Age and the like are often printed without a time; a value of the disease needs its week 0.
    still = row["endpoint"] in ("age", "body_weight", "weight", "diabetes_duration", "disease_duration")
    when = row["time_week"] == 0 or (still and _missing(row["time_week"]))
    plain = row["statistic"] in ("", "mean", "median", "geomean", "ls_mean")
    return bool(
        when and plain and row["effect_type"] in ("", "absolute") and not HEALTHY.match(row["arm"].lower())
    )


def _baseline_rows(rows: pd.DataFrame, covariate: str) -> list[int]:
    for endpoint in COVARIATE_OF[covariate]:
        found = [
            k for k in range(len(rows))
            if rows["endpoint"].iloc[k] == endpoint and _is_baseline(rows.iloc[k])
            and str(rows["disease_model"].iloc[k]).lower() != "healthy"
            and math.isfinite(_covariate_value(rows.iloc[k]))
        ]  # fmt: skip
        if found:
            return found
    return []


def _covariate_value(row: pd.Series) -> float:
    """A row of week 0 in the covariate's unit; NaN for a unit that is none of it."""
    value = float(row["value"])
    if row["endpoint"] not in {o.name for o in OBSERVABLES}:
        return value
    try:
        value = convert(value, row["unit"], row["endpoint"])
    except EvidenceError:
        return math.nan
    if row["endpoint"] == "urine_protein_24h":
        # The inverse of the model's own relation.
        value = UACR_HEALTHY.value + (value - PROTEIN_HEALTHY.value) / PROTEIN_SCALE.value
    return value


def _baseline(rows: pd.DataFrame, covariate: str) -> float | None:
    """Mean over arms, weighted by subjects, in the covariate's unit."""
    values, weights = [], []
    for k in _baseline_rows(rows, covariate):
        row = rows.iloc[k]
        values.append(_covariate_value(row))
        weights.append(float(row["n"]) if math.isfinite(row["n"]) and row["n"] > 0 else 1.0)
    if not values:
        return None
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _placing(rows: pd.DataFrame, patient: PatientEntry) -> dict[int, str]:
    """Rows that place the patient, and which covariate."""
    if patient.species != "human" or patient.disease == "healthy":
        return {}
    return {
        k: covariate
        for covariate in COVARIATE_OF
        if getattr(patient, covariate) is not None
        for k in _baseline_rows(rows, covariate)
    }


# --------------------------------------------------------------------------- how treated


def product_of(row: Mapping[str, Any]) -> str:
    """The model's product for a row's `cell_source` and `product`.

    Raises
    ------
    ValueError
        If the model has none, with the nearest names.
    """
    source, text = str(row["cell_source"]), str(row["product"])
    lower = text.lower()
    by_name = {name.lower(): name for name in PRODUCTS}
    engineered = source.lower().removeprefix("engineered-")
    for name in (lower, engineered if engineered != source.lower() else ""):
        if name in by_name:
            return by_name[name]
    for pattern, name in (
        (r"rexlemestrocel", "rexlemestrocel-L"), (r"orbcel", "ORBCEL-M"), (r"mir-?146a", "UC-miR146a"),
        (r"glp-?1.*fgf-?21", "AD-GLP1-FGF21"),
    ):  # fmt: skip
        if re.search(pattern, lower) or re.search(pattern, source.lower()):
            return name
    if "conditioned medium" in lower or "conditioned-medium" in lower:
        medium = f"CM-{source}"
        if medium in PRODUCTS:
            return medium
        raise ValueError(f"conditioned medium of {source!r}: the model has CM-BM and CM-UC")
    if re.search(r"modif|engineer|overexpress|transfect|knock", lower) or source.startswith("engineered-"):
        raise ValueError(f"product {text or source!r}: the model has no such modified cells")
    if source == "amnion":
        return "amnion-epithelial" if "epithel" in lower else "amnion-MSC"
    if source in PRODUCTS:
        return source
    raise ValueError(f"cell_source {source!r}, product {text!r}: no such product.{nearest(source, PRODUCTS)}")


def _arm_of(row: pd.Series, patient: PatientEntry, arms: dict[str, ArmEntry]) -> str:
    """The simulated arm of a row, made if it is the first of its kind."""
    label, source = str(row["arm"]), str(row["cell_source"])
    if HEALTHY.match(label.lower()) or str(row["disease_model"]).lower() == "healthy":
        return _healthy(patient, arms)
    drug = next((d for p, d in DRUG_RULES if re.search(p, f"{label} {row['product']}".lower())), "")
    plainly_untreated = bool(UNTREATED.search(label.lower())) and not TREATED.search(label.lower())
    if source in ("", "none") or (plainly_untreated and label.lower() != "all"):
        if source in ("", "none") and TREATED.search(label.lower()) and not UNTREATED.search(label.lower()):
            raise _Refused(f"arm {label!r}: treated, but no cell_source")
        product = str(row["product"]).lower()
        if not drug and product not in ("", "placebo", "none", "vehicle", "saline") and not plainly_untreated:
            raise _Refused(f"product {row['product']!r}: the model has no such drug or cells")
        return _untreated(patient, arms, drug)
    return _treated(row, patient, arms, drug)


def _untreated(patient: PatientEntry, arms: dict[str, ArmEntry], drug: str = "") -> str:
    name = f"untreated, {drug}" if drug else "untreated"
    arms.setdefault(name, ArmEntry(name=name, drugs=(drug,) if drug else ()))
    return name


def _healthy(patient: PatientEntry, arms: dict[str, ArmEntry]) -> str:
    if patient.disease == "healthy":
        return _untreated(patient, arms)
    arms.setdefault("healthy", ArmEntry(name="healthy", patient=PatientEntry(disease="healthy", onset="0d")))
    return "healthy"


def _treated(row: pd.Series, patient: PatientEntry, arms: dict[str, ArmEntry], drug: str) -> str:
    try:
        product = product_of(row)
    except ValueError as error:
        raise _Refused(str(error)) from None
    route = str(row["route"])
    if route not in ROUTES or route not in PRODUCTS[product].routes:
        allowed = ", ".join(PRODUCTS[product].routes)
        raise _Refused(f"route {route!r}: allowed for {product} are {allowed}" if route else "no route")
    dose, days = _dose(row, PRODUCTS[product].kind), _days(row)
    name = f"{product} {route} {dose}, days {', '.join(f'{d:g}' for d in days)}" + (
        f", {drug}" if drug else ""
    )
    arms.setdefault(
        name,
        ArmEntry(
            name=name, product=product, route=route, dose=dose, days=days, drugs=(drug,) if drug else (),
            infusion=INFUSION.get(patient.species, "bolus"),
        ),
    )  # fmt: skip
    return name


def _dose(row: pd.Series, kind: str) -> str:
    amount, unit = float(row["dose_value"]), str(row["dose_unit"])
    if not (math.isfinite(amount) and amount > 0):
        raise _Refused("no dose_value")
    text = {"cells": "", "cells/kg": "/kg", "ug EV protein": " ug", "particles": " particles"}.get(unit)
    if text is None:
        raise _Refused(f"dose_unit {unit!r}: allowed are cells, cells/kg, ug EV protein, particles")
    if (kind == "ev") != unit.startswith(("ug", "part")):
        raise _Refused(
            f"dose_unit {unit!r} for a product that is dosed as {'vesicles' if kind == 'ev' else 'cells'}"
        )
    return format_dose(parse_dose(f"{amount!r}{text}"))


def _days(row: pd.Series) -> tuple[float, ...]:
    count = int(row["n_doses"]) if math.isfinite(row["n_doses"]) else None
    days = tuple(float(d) for d in str(row["dose_days"]).split(";") if d)
    if not days and count in (None, 1):
        return (0.0,)
    if not days:
        raise _Refused(f"{count} doses without dose_days")
    if count is not None and count != len(days):
        raise _Refused(f"n_doses = {count}, but dose_days names {len(days)}")
    return days


# --------------------------------------------------------------------------- what was measured


def _map(row: pd.Series, patient: PatientEntry, arms: dict[str, ArmEntry], rows: pd.DataFrame) -> MapEntry:
    statistic, effect = str(row["statistic"]), str(row["effect_type"])
    observable = _observable(row)
    if statistic not in PLAIN_STATISTICS:
        raise _Refused(_about_statistic(statistic))
    if not math.isfinite(row["time_week"]):
        raise _Refused("no time_week")
    if row["time_week"] < 0:
        raise _Refused("time_week lies before the first dose")
    arm = _arm_of(row, patient, arms)
    kind: dict[str, Any] = {"measure": _measure(row, observable)}
    if kind["measure"] in ("difference", "fold", "smd") or (
        kind["measure"] == "slope" and effect == "difference_vs_control"
    ):
        kind["against"] = _reference(arm, patient, arms)
    if kind["measure"] == "slope":
        if row["time_week"] == 0:
            raise _Refused("a slope needs time_week, the weeks that it spans")
        kind |= {"start": 0.0, "end": 7.0 * float(row["time_week"])}
    elif kind["measure"] in ("change", "ratio") and row["time_week"] == 0:
        raise _Refused("a change at week 0")
    if (
        kind["measure"] == "ratio"
        and str(row["unit"]).startswith(("percent", "%"))
        and effect == "ratio_to_baseline"
    ):
        kind["percent"] = "of"
    if kind["measure"] == "level" and patient.species != "human":
        kind["scale"] = "study"
    return MapEntry(where={"line": int(row["line"])}, arm=arm, observable=observable, **kind)


def _about_statistic(statistic: str) -> str:
    said = {
        "p_value": "a p value is no effect",
        "proportion": "a share of patients: its rule has to be given, in a --studies file (measure = 'share')",
    }
    return said.get(statistic, f"statistic {statistic!r} is not predicted")


def _observable(row: pd.Series) -> str:
    endpoint = str(row["endpoint"])
    names = [o.name for o in OBSERVABLES]
    found = ENDPOINT_OF.get(endpoint, endpoint)
    if found not in names:
        raise _Refused(f"endpoint {endpoint!r}: the model has no such observable.{nearest(endpoint, names)}")
    return found


def _measure(row: pd.Series, observable: str) -> str:
    statistic, effect, unit = str(row["statistic"]), str(row["effect_type"]), str(row["unit"])
    percent = unit.startswith(("percent", "%"))
    own_percent = {o.name: o.unit for o in OBSERVABLES}[observable] == "percent"
    if unit.strip().upper() in ("SMD", "SD"):
        return "smd"
    if statistic == "slope_per_year" or str(row["endpoint"]).endswith("_slope"):
        if effect not in ("", "absolute", "difference_vs_control"):
            raise _Refused(f"a slope with effect_type {effect!r}")
        if percent:
            raise _Refused("a slope in percent")
        return "slope"
    if effect == "change_from_baseline":
        return "ratio" if percent and not own_percent else "change"
    if effect in ("percent_change", "ratio_to_baseline"):
        return "ratio"
    if effect == "difference_vs_control":
        return "fold" if percent and not own_percent else "difference"
    if effect in ("ratio_vs_control", "percent_vs_control"):
        return "fold"
    if statistic in ("fold", "ratio", "percent") and not own_percent:
        raise _Refused(f"statistic {statistic!r} without an effect_type that says of what")
    return "level"


def _reference(arm: str, patient: PatientEntry, arms: dict[str, ArmEntry]) -> str:
    """What an effect 'against control' is against: the untreated disease; of the untreated disease, health."""
    if arm == "healthy":
        raise _Refused("an effect against a control, of the healthy arm")
    if not arm.startswith("untreated"):
        return _untreated(patient, arms)
    if arm != "untreated":
        return _untreated(patient, arms)
    if patient.species == "human" or patient.disease == "healthy":
        raise _Refused("an effect against a control, of an arm without treatment")
    return _healthy(patient, arms)
