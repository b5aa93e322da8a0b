"""Evidence rows as numbers to be predicted: their scale, standard error and the functional of the model behind each.

Every prediction is a weighted sum of values, or of logarithms of values, that some arms have on some days: a change, a
ratio to baseline, a slope, an effect against a control. So its derivatives follow from those of the values.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import pint

from mscrenal.calibration.evidence import EvidenceError
from mscrenal.calibration.studies import SLOPE_NODES, Arm, MapEntry, Study
from mscrenal.model import OBSERVABLES, PRODUCTS
from mscrenal.model.units import UnitError, parse, registry

__all__ = [
    "CLASSES",
    "Datum",
    "ObservableClass",
    "Term",
    "convert",
    "observe",
    "observe_study",
    "products_in",
]

DAYS_PER_YEAR = 365.25
# Between-subject coefficient of variation where a spread is asked for and none is printed: that of the labelled
# rodent rows is 0.2 to 0.5 (SCHEMA.md: unlabelled spreads are not to be used).
TYPICAL_CV = 0.35


@dataclass(frozen=True)
class ObservableClass:
    """How a kind of observable is compared.

    Attributes
    ----------
    log : bool
        Compared on the logarithmic scale.
    residual : float
        Prior scale of what a study's mean differs by beyond its standard error (half-normal), on that scale.
    intercept : float
        SD of a study's own level where the model's absolute scale is meant to hold.
    between : float
        Prior median of the SD between subjects of a change on that scale, for standardised differences and shares.
    """

    name: str
    log: bool
    residual: float
    intercept: float
    between: float


# Scales are judgements of what trial means differ by (assumed): the data decide within them.
CLASSES: dict[str, ObservableClass] = {
    c.name: c
    for c in (
        ObservableClass("gfr", False, 1.5, 2.0, 8.0),
        ObservableClass("slope", False, 0.5, 0.0, 3.0),
        ObservableClass("gfr ratio", True, 0.05, 0.05, 0.15),
        ObservableClass("albuminuria", True, 0.15, 0.25, 0.8),
        ObservableClass("creatinine", True, 0.10, 0.15, 0.25),
        ObservableClass("glycaemia", False, 0.4, 0.5, 1.0),
        ObservableClass("glucose", True, 0.15, 0.2, 0.3),
        ObservableClass("lupus activity", False, 1.5, 1.5, 4.0),
        ObservableClass("complement", True, 0.15, 0.2, 0.3),
        ObservableClass("cells and cytokines", True, 0.4, 0.5, 0.5),
        ObservableClass("animal kidney function", True, 0.25, 0.3, 0.25),
        ObservableClass("animal albuminuria", True, 0.5, 1.0, 0.6),
        ObservableClass("animal tissue", True, 0.4, 0.5, 0.5),
    )
}

_HUMAN_CLASS = {
    "egfr": "gfr",
    "mgfr": "gfr",
    "uacr": "albuminuria",
    "urine_protein_24h": "albuminuria",
    "serum_creatinine": "creatinine",
    "bun": "creatinine",
    "hba1c": "glycaemia",
    "fasting_glucose": "glucose",
    "insulin_dose": "glucose",
    "sledai": "lupus activity",
    "c3": "complement",
}
_ANIMAL_CLASS = {
    "egfr": "animal kidney function",
    "mgfr": "animal kidney function",
    "serum_creatinine": "animal kidney function",
    "bun": "animal kidney function",
    "uacr": "animal albuminuria",
    "urine_protein_24h": "animal albuminuria",
    "fasting_glucose": "glucose",
    "hba1c": "glucose",
}
# SD of a study's own level where only contrasts within the study count: of the logarithm, or in residuals of the class.
# As wide as any number that a study could print (assumed).
FREE_INTERCEPT, FREE_RESIDUALS = 3.0, 20.0


def free_level(kind: ObservableClass) -> float:
    """SD of a study's own level where only contrasts within the study count."""
    return FREE_INTERCEPT if kind.log else FREE_RESIDUALS * kind.residual


# What a difference or a change of an observable that is compared on the logarithmic scale is measured against: the
# level at which its relative residual becomes an absolute one. Active lupus and diabetic kidney disease (assumed).
REFERENCE_LEVEL = {"c3": 60.0, "urine_protein_24h": 2.0, "uacr": 800.0, "serum_creatinine": 1.5, "bun": 25.0}


def class_of(observable: str, species: str, *, slope: bool = False, ratio: bool = False) -> ObservableClass:
    """The class of an observable in a species, for a slope or a ratio of it where these have their own."""
    if slope:
        return CLASSES["slope"]
    if species == "human":
        found = CLASSES[_HUMAN_CLASS.get(observable, "cells and cytokines")]
        return CLASSES["gfr ratio"] if ratio and found.name == "gfr" else found
    return CLASSES[_ANIMAL_CLASS.get(observable, "animal tissue")]


# --------------------------------------------------------------------------- units

# Molar masses for units of amount, g/mol; urea counts its nitrogen alone. Textbook chemistry.
MOLAR_MASS = {"serum_creatinine": 113.12, "fasting_glucose": 180.16, "bun": 28.014}
_SPELLING = (
    (re.compile(r"\s*(\(.*\)|over \d.*)$"), ""),
    (re.compile(r"^%$"), "percent"),
    (re.compile(r"24h\b|\bd\b"), "day"),
    (re.compile(r"\byr\b"), "year"),
    (re.compile(r"^1e6 cells"), "Mcell"),
    (re.compile(r"umol"), "micromol"),
    (re.compile(r"^(score|grade|fold.*)$"), "1"),
)


def convert(value: float, unit: str, observable: str) -> float:
    """A number of the evidence in the unit of an observable.

    Raises
    ------
    EvidenceError
        If the unit cannot be read or has another dimension.

    Examples
    --------
    >>> round(convert(88.4, "umol/L", "serum_creatinine"), 3)
    1.0
    >>> convert(1500, "mg/24h", "urine_protein_24h")
    1.5
    """
    target = {o.name: o.unit for o in OBSERVABLES}[observable]
    return value * _factor(unit, target, observable)


@cache
def _factor(unit: str, target: str, observable: str) -> float:
    text = unit
    for pattern, plain in _SPELLING:
        text = pattern.sub(plain, text)
    if text == target:
        return 1.0
    try:
        if observable == "hba1c":
            # The IFCC's mmol/mol has another zero: percent = 0.0915 times it + 2.15.
            raise UnitError("only percent (NGSP) is on its scale.")
        given, wanted = (1 * parse(t) for t in (text, target))
        if given.check("[substance]/[volume]") and observable in MOLAR_MASS:
            given = given * MOLAR_MASS[observable] * registry().Unit("g/mol")
        return float(given.to(wanted).magnitude)
    except (UnitError, pint.errors.PintError) as error:
        mend = "map the row with scale = 'study' if only contrasts within the study count"
        raise EvidenceError(
            f"unit {unit!r} is not one of {observable} ({target}): {error} Or {mend}."
        ) from None


# --------------------------------------------------------------------------- one row


@dataclass(frozen=True)
class Term:
    """A weight times the value, or its logarithm, of an observable of an arm on a day."""

    arm: str
    day: float
    observable: str
    log: bool
    weight: float


@dataclass(frozen=True)
class Datum:
    """One evidence row as a number to be predicted.

    Attributes
    ----------
    study, table, line
        Where it stands.
    kind : ObservableClass
    observable, measure, arm, against : str
    species : str
    value : float
        On the scale of `kind` (logarithms for ratios and levels of log classes; logit for shares).
    error : float
        Standard error on that scale; NaN where the source does not say.
    terms : tuple of Term
        Whose sum is the prediction (for shares: the mean whose distribution is cut at `limit`).
    limit : float or None
        For shares: where the distribution over subjects is cut; above the limit if `above`.
    own_level : float
        SD of the study's own additive level for this observable, shared by its rows of one measure; 0: none.
    treated : bool
        Whether the row shows an effect of a product: one of its arms got it.
    benefit : int
        +1 or -1: which sign of the row an effective product gives; 0 where neither is better.
    n : float
        Subjects, NaN where not said.
    day : float
    residual_scale : float
        What the residual of the class is multiplied by: a level, for differences of what is compared by logarithms.
    spread : float
        For shares of a level: SD between subjects at baseline, beside that of changes.
    """

    study: str
    table: str
    line: int
    endpoint: str
    kind: ObservableClass
    observable: str
    measure: str
    arm: str
    against: str
    species: str
    value: float
    error: float
    terms: tuple[Term, ...]
    limit: float | None
    above: bool
    own_level: float
    treated: bool
    benefit: int
    n: float
    day: float
    residual_scale: float = 1.0
    spread: float = 0.0

    @property
    def log(self) -> bool:
        """Whether values are logarithms of ratios or levels."""
        return bool(self.terms and self.terms[0].log) and self.measure not in ("smd", "share")

    @property
    def only_contrasts(self) -> bool:
        """Whether the study's level is free, so that only contrasts within the study count."""
        return self.measure == "level" and self.own_level == free_level(self.kind)

    @property
    def places(self) -> bool:
        """Whether this is a level of patients on day 0, at which the simulated patient is placed: no prediction."""
        return self.measure == "level" and self.species == "human" and self.day == 0

    @property
    def label(self) -> str:
        """Short text for figures and messages."""
        when = f", day {self.day:g}" if self.measure not in ("slope",) else ""
        versus = f" vs {self.against}" if self.against else ""
        return f"{self.study}: {self.observable} {self.measure}, {self.arm}{versus}{when}"

    @property
    def bias_scale(self) -> float:
        """Standard error that a small-study effect grows with; a typical one where none is printed."""
        if math.isfinite(self.error):
            return self.error
        n = self.n if math.isfinite(self.n) and self.n > 1 else 8.0
        return TYPICAL_CV * math.sqrt((2 if self.against else 1) / n)


def observe_study(study: Study) -> list[Datum]:
    """The rows of a study that are to be predicted.

    Raises
    ------
    EvidenceError
        Naming table, line and study, if a row cannot be turned into a number.
    """
    out = []
    for k, entry in enumerate(study.maps):
        if entry is None or entry.role != "fit":
            continue
        row = study.rows.iloc[k]
        try:
            out.append(_datum(study, row, entry))
        except EvidenceError as error:
            raise EvidenceError(
                f"{row['table']}.csv:{int(row['line'])}: study {study.id!r}: {error}"
            ) from None
    return _with_shared_deviations(out)


def observe(given: Iterable[Study]) -> list[Datum]:
    """The rows of several studies, in order."""
    return [datum for study in given for datum in observe_study(study)]


def _with_shared_deviations(data: list[Datum]) -> list[Datum]:
    """Several rows of one study, observable and measure are not independent: what sets the study apart shifts all of
    them. A single row needs no such level, as its residual says the same.
    """
    count = Counter((d.observable, d.measure) for d in data if not d.own_level)
    return [
        replace(d, own_level=d.kind.residual * d.residual_scale)
        if count[d.observable, d.measure] > 1 and not d.own_level and d.measure not in ("smd", "share")
        else d
        for d in data
    ]


def _datum(study: Study, row: pd.Series, entry: MapEntry) -> Datum:
    arm = study.arms[entry.arm]
    against = study.arms[entry.against] if entry.against else None
    species = arm.patient.species
    ratio = entry.measure in ("ratio", "fold") or (entry.measure == "share" and entry.of == "ratio")
    kind = class_of(entry.observable, species, slope=entry.measure == "slope", ratio=ratio)
    day = _day(row, entry)
    if entry.measure == "smd":
        value = float(row["value"])
        error = _standard_error(row, _count(row, arm), log=False, factor=1.0, value=value)
    elif entry.measure == "share":
        value, error = _logit(row, _count(row, arm))
    else:
        value, error = _number(row, _count(row, arm), entry, kind)
    terms = _terms(arm, against, entry, kind, day)
    better = {o.name: o.better for o in OBSERVABLES}[entry.observable]
    benefit = {"higher": 1, "lower": -1}.get(better, 0)
    swapped = against is not None and bool(against.doses) and not arm.doses
    if swapped:
        benefit = -benefit
    own = 0.0
    if entry.measure == "level":
        own = free_level(kind) if entry.scale == "study" else kind.intercept
    limit = entry.below if entry.below is not None else entry.above
    if limit is not None and _is_log(entry, kind):
        limit = math.log(limit)
    return Datum(
        study.id, str(row["table"]), int(row["line"]), str(row["endpoint"]), kind, entry.observable, entry.measure,
        entry.arm, entry.against, species, value, error, terms, limit, entry.above is not None, own,
        bool(arm.doses) or swapped, benefit, _count(row, arm), day, _residual_scale(entry, kind),
        _baseline_spread(study, entry) if entry.measure == "share" and entry.of == "level" else 0.0,
    )  # fmt: skip


def _residual_scale(entry: MapEntry, kind: ObservableClass) -> float:
    natural = kind.log and entry.measure in ("change", "difference")
    return REFERENCE_LEVEL.get(entry.observable, 1.0) if natural else 1.0


def _baseline_spread(study: Study, entry: MapEntry) -> float:
    """Printed SD between subjects of the covariate behind an observable, on the scale of the comparison."""
    covariate = {"urine_protein_24h": "uacr", "mgfr": "egfr"}.get(entry.observable, entry.observable)
    geometric = study.entry.sd.get(f"{covariate}_gsd")
    return math.log(geometric) if geometric else float(study.entry.sd.get(covariate, 0.0))


def _count(row: pd.Series, arm: Arm) -> float:
    return float(row["n"]) if math.isfinite(row["n"]) else float(arm.n or math.nan)


def _day(row: pd.Series, entry: MapEntry) -> float:
    if entry.measure == "slope":
        return float(entry.end or 0.0)
    if entry.day is not None:
        return entry.day
    if not math.isfinite(row["time_week"]):
        raise EvidenceError("the row has no time_week; give the map a day.")
    if row["time_week"] < 0:
        raise EvidenceError(
            f"time_week = {row['time_week']:g} lies before the first dose; give the map a day."
        )
    return 7.0 * float(row["time_week"])


def _is_log(entry: MapEntry, kind: ObservableClass) -> bool:
    if entry.measure in ("ratio", "fold"):
        return True
    if entry.measure == "share":
        return entry.of == "ratio" or (entry.of == "level" and kind.log)
    return kind.log and entry.measure in ("level", "smd")


def _terms(
    arm: Arm, against: Arm | None, entry: MapEntry, kind: ObservableClass, day: float
) -> tuple[Term, ...]:
    log, name = _is_log(entry, kind), entry.observable
    measure = entry.of if entry.measure == "share" else entry.measure

    def of(who: Arm, sign: float) -> list[Term]:
        if measure in ("level", "difference", "fold", "smd"):
            return [Term(who.name, day, name, log, sign)]
        if measure in ("change", "ratio"):
            start = float(entry.start or 0.0)
            return [Term(who.name, day, name, log, sign), Term(who.name, start, name, log, -sign)]
        first, last = float(entry.start or 0.0), float(entry.end or 0.0)
        chronic_from = first if entry.knot is None else entry.knot
        days = np.linspace(chronic_from, last, SLOPE_NODES)
        centred = (days - days.mean()) / DAYS_PER_YEAR
        # Of two slopes with a knot the total is their mean, weighted by time: the change to the knot over all the years,
        # and the chronic slope for the rest of them.
        weights = centred / (centred**2).sum() * (last - chronic_from) / (last - first)
        acute = [(chronic_from, 1.0), (first, -1.0)] if entry.knot is not None else []
        years = (last - first) / DAYS_PER_YEAR
        return [
            *(Term(who.name, d, name, log, sign * w / years) for d, w in acute),
            *(
                Term(who.name, float(d), name, log, sign * float(w))
                for d, w in zip(days, weights, strict=True)
            ),
        ]

    return tuple(of(arm, 1.0) + (of(against, -1.0) if against is not None else []))


def _logit(row: pd.Series, n: float) -> tuple[float, float]:
    """Logit of a share of n and its standard error, half a subject added to both sides."""
    if not (math.isfinite(n) and n >= 1):
        raise EvidenceError("a share needs n, the number of subjects.")
    share = float(row["value"])
    if "patients of" in row["unit"]:
        share /= n
    elif row["unit"] in ("percent", "%"):
        share /= 100.0
    if not 0 <= share <= 1:
        raise EvidenceError(f"a share of {share:g} lies outside 0 to 1.")
    yes, no = share * n + 0.5, (1 - share) * n + 0.5
    return math.log(yes / no), math.sqrt(1 / yes + 1 / no)


def _number(row: pd.Series, n: float, entry: MapEntry, kind: ObservableClass) -> tuple[float, float]:
    """Value and standard error on the scale of the comparison."""
    value = float(row["value"])
    ratio = entry.measure in ("ratio", "fold")
    log = _is_log(entry, kind)
    if ratio:
        value, factor, shift = _as_ratio(row, entry)
    elif entry.measure == "slope":
        factor, shift = 1.0, 0.0
        if entry.observable not in ("egfr", "mgfr"):
            raise EvidenceError("measure = 'slope' is for egfr and mgfr.")
    elif entry.scale == "study" and entry.measure == "level":
        factor, shift = 1.0, 0.0
    else:
        factor, shift = convert(1.0, row["unit"], entry.observable), 0.0
    number = value if ratio else value * factor
    if log and not number > 0:
        raise EvidenceError(f"{number:g} has no logarithm; use measure = 'change' or exclude the row.")
    error = _standard_error(row, n, log=log, factor=factor, value=number, shift=shift)
    return (math.log(number) if log else number), error


def _as_ratio(row: pd.Series, entry: MapEntry) -> tuple[float, float, float]:
    """A ratio, and the factor and shift that make ratios of the numbers of the row."""
    value = float(row["value"])
    percent = row["unit"].startswith(("percent", "%")) or row["effect_type"] in (
        "percent_change",
        "percent_vs_control",
    )
    if not percent:
        return value, 1.0, 0.0
    shift = 1.0 if entry.percent == "change" else 0.0
    return shift + value / 100.0, 0.01, shift


def _standard_error(
    row: pd.Series, n: float, *, log: bool, factor: float, value: float, shift: float = 0.0
) -> float:
    """Standard error of a mean on the scale of the comparison; NaN where the source does not say enough."""
    kind = row["spread_type"]
    one = float(row["spread_value"]) * factor
    low, high = (shift + float(row[k]) * factor for k in ("spread_low", "spread_high"))
    if kind in ("CI95", "IQR", "range"):
        if not (math.isfinite(low) and math.isfinite(high) and high > low):
            return math.nan
        if log:
            if low <= 0:
                return math.nan
            low, high = math.log(low), math.log(high)
        if kind == "CI95":
            return (high - low) / (2 * 1.959964)
        if not (math.isfinite(n) and n > 1):
            return math.nan
        # The median's standard error is 1.25 times the mean's; a range of n normal values spans about
        # 2 sqrt(2 ln n) SDs.
        sd = (high - low) / (1.349 if kind == "IQR" else 2 * math.sqrt(2 * math.log(max(n, 3.0))))
        return 1.2533 * sd / math.sqrt(n)
    if not (math.isfinite(one) and one > 0):
        return math.nan
    if kind == "GSD" and log and n > 0 and row["spread_value"] > 1:
        return math.log(float(row["spread_value"])) / math.sqrt(n)
    if kind == "SE":
        return one / abs(value) if log else one
    if kind == "SD" and math.isfinite(n) and n > 0:
        return math.sqrt(math.log1p((one / value) ** 2) / n) if log else one / math.sqrt(n)
    return math.nan


def products_in(data: Sequence[Datum], studies: Mapping[str, Study]) -> tuple[str, ...]:
    """Products that some row speaks of, in the order of `PRODUCTS`."""
    given = {studies[d.study].arms[t.arm].product for d in data for t in d.terms}
    return tuple(name for name in PRODUCTS if name in given)
