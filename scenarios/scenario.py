"""Scenarios as frozen values: who is treated, with what, when, and what is read out.

Checked once, when they are made; `replace` makes a changed copy. Files are read by
`mscrenal.scenarios.gallery.load_scenario`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, ndtr, ndtri
from scipy.stats import qmc

from mscrenal.model import (
    COVARIATES,
    DISEASES,
    DRUGS,
    PRODUCTS,
    RANDOM_EFFECTS,
    ROUTES,
    SPECIES,
    Dose,
    DrugCourse,
    Patient,
    PatientError,
)
from mscrenal.model.declare import nearest
from mscrenal.model.text import (
    DoseAmount,
    DoseKind,
    ScenarioError,
    format_duration,
    parse_dose,
    parse_duration,
)
from mscrenal.scenarios.endpoints import ENDPOINTS
from mscrenal.scenarios.trial_spec import TrialSpec

__all__ = [
    "ENDPOINT_NAMES",
    "Arm",
    "Correlation",
    "Course",
    "Distribution",
    "PatientSpec",
    "PopulationSpec",
    "Scenario",
    "ScenarioError",
    "Target",
    "Tilt",
    "product_kind",
    "regular_visits",
    "tilt_to",
]

ENDPOINT_NAMES = tuple(ENDPOINTS)
LONGEST_HORIZON = 50 * 365.25  # days; no kidney trial and no animal study comes near

MOST_DOSES = 1000  # of one course; a dose each day for almost three years

# Above these (in the model's units: 1e6 cells/kg, 1e9 particles/kg) a dose is a slip, as a rule a total
# written as per kg. The largest human dose of the evidence is 3e8 cells, about 4e6/kg; mice get up to
# 5e6 cells, about 2e8/kg.
LARGEST_AMOUNT: Mapping[DoseKind, float] = {"cells": 1e3, "medium": 1e3, "ev": 1e6}
LARGEST_HUMAN_AMOUNT: Mapping[DoseKind, float] = {"cells": 50.0, "medium": 1e3, "ev": 1e6}


def product_kind(product: str) -> DoseKind:
    """Whether a product is dosed as ``cells``, ``ev`` or ``medium``."""
    return PRODUCTS[product].kind


def known(name: object, allowed: Iterable[str], what: str, key: tuple[str | int, ...] = ()) -> None:
    """Raise ScenarioError, with the nearest names, unless `name` is one of `allowed`."""
    names = tuple(allowed)
    if name not in names:
        raise ScenarioError(f"unknown {what} {name!r}.{nearest(str(name), names)}", key=key)


@contextmanager
def inside(*key: str | int) -> Iterator[None]:
    """Complaints raised within belong to the entry `key`."""
    try:
        yield
    except ScenarioError as error:
        raise error.under(*key) from None


# ------------------------------------------------------------------------------- regimens


@dataclass(frozen=True)
class Course:
    """One product given by one route, in equal doses, on given days.

    Parameters
    ----------
    product, route
        Names of `mscrenal.model.PRODUCTS` and `ROUTES`.
    dose
        Each dose as text, such as ``1e6/kg``.
    days
        Days of the doses, rising, the first at 0 or later.
    infusion_days
        Length of each infusion in days; 0 is a bolus.
    steady_state, steady_interval
        With 1 or 2 the one dose is the last of an endless row, one each `steady_interval` days, whose steady
        state replaces the exposure that is there (1) or is added to it (2); with an interval of 0 it is a constant
        infusion of a dose each `infusion_days`, which ends on the day: see `mscrenal.model.events`.

    Raises
    ------
    ScenarioError
        Unknown names, a unit or route that the product cannot have, days that do not rise, or an
        infusion longer than its interval.
    """

    product: str
    route: str
    dose: str
    days: tuple[float, ...]
    infusion_days: float = 0.0
    steady_state: int = 0
    steady_interval: float = 0.0

    def __post_init__(self) -> None:
        known(self.product, PRODUCTS, "product", ("product",))
        known(self.route, ROUTES, "route", ("route",))
        possible = PRODUCTS[self.product].routes
        if self.route not in possible:
            raise ScenarioError(
                f"route: given {self.route!r} for {self.product!r}. Allowed for this product: "
                f"{', '.join(possible)}.",
                key=("route",),
            )
        with inside("dose"):
            self.amount.check_kind(self.kind, self.product)
        object.__setattr__(self, "days", tuple(float(day) for day in self.days))
        self._check_days()
        self._check_infusion()
        self._check_steady_state()

    def _check_days(self) -> None:
        days = self.days
        if not days:
            raise ScenarioError(
                "days: given an empty list. Allowed: at least one day, such as days = [0].", key=("days",)
            )
        if not all(math.isfinite(day) and day >= 0 for day in days):
            raise ScenarioError(
                f"days: given {_listed(days)}. Allowed: finite numbers, zero or later.", key=("days",)
            )
        repeated = sorted(day for day, count in Counter(days).items() if count > 1)
        if repeated:
            raise ScenarioError(
                f"days: given {_listed(days)}, where {_listed(repeated)} stands twice. Name each day once; "
                "raise the dose to give more on one day.",
                key=("days",),
            )
        if list(days) != sorted(days):
            raise ScenarioError(
                f'days must rise, got {_listed(days)}. Sort them, or write every = "1w" and n_doses = '
                f"{len(days)}.",
                key=("days",),
            )

    def _check_infusion(self) -> None:
        length = self.infusion_days
        if not (math.isfinite(length) and length >= 0):
            raise ScenarioError(
                f"infusion: given {length!r} days. Allowed: zero (a bolus) or more.", key=("infusion",)
            )
        gaps = [b - a for a, b in pairwise(self.days)]
        if gaps and length > min(gaps):
            raise ScenarioError(
                f"infusion: given {format_duration(length)}, longer than the interval of "
                f"{format_duration(min(gaps))} "
                "between two doses. Shorten the infusion or widen the interval.",
                key=("infusion",),
            )

    def _check_steady_state(self) -> None:
        if self.steady_state not in (0, 1, 2):
            raise ScenarioError(
                f"steady_state: given {self.steady_state!r}. Allowed: 0, 1 (replaces) or 2 (adds).",
                key=("ss",),
            )
        interval = self.steady_interval
        if not (math.isfinite(interval) and interval >= 0) or (interval and not self.steady_state):
            raise ScenarioError(
                f"steady_interval: given {interval!r} days with steady_state {self.steady_state}. Allowed: zero or more, and "
                "only with a steady state.",
                key=("ii",),
            )
        if self.steady_state and not (interval or self.infusion_days):
            raise ScenarioError(
                "steady_interval: given 0 without an infusion. Allowed: the days between doses, above zero.",
                key=("ii",),
            )
        if self.steady_state and len(self.days) > 1:
            raise ScenarioError(
                f"steady_state: given {self.steady_state} for {len(self.days)} days. Allowed: one day; write the doses "
                "that follow as a course of their own.",
                key=("ss",),
            )

    @property
    def constant(self) -> bool:
        """Whether this is the steady state of a constant infusion, of which nothing follows."""
        return bool(self.steady_state and not self.steady_interval)

    @classmethod
    def every(
        cls,
        product: str,
        route: str,
        dose: str,
        *,
        every: str,
        n_doses: int,
        start: str = "0d",
        infusion: str = "0min",
    ) -> Course:
        """`n_doses` equal doses, one each `every`; durations as text."""
        if isinstance(n_doses, bool) or not isinstance(n_doses, int) or not 1 <= n_doses <= MOST_DOSES:
            raise ScenarioError(
                f"n_doses: given {n_doses!r}. Allowed: a whole number from 1 to {MOST_DOSES}.",
                key=("n_doses",),
            )
        with inside("every"):
            interval = parse_duration(every, what="every")
        with inside("start"):
            first = parse_duration(start, what="start", zero=True)
        days = tuple(first + index * interval for index in range(n_doses))
        return cls(product, route, dose, days, parse_duration(infusion, what="infusion", zero=True))

    def replace(self, **changes: Any) -> Course:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    @cached_property
    def amount(self) -> DoseAmount:
        """The dose, read."""
        return parse_dose(self.dose)

    @property
    def kind(self) -> DoseKind:
        return product_kind(self.product)

    @property
    def n_doses(self) -> int:
        return len(self.days)

    @property
    def end_day(self) -> float:
        """Day on which the last infusion ends."""
        return self.days[-1] + (0.0 if self.constant else self.infusion_days)

    def doses(self, weight_kg: float) -> tuple[Dose, ...]:
        """The doses as the model takes them, for a body weight in kg."""
        amount = self.amount.model_amount(self.kind, weight_kg)
        return tuple(
            Dose(
                day,
                amount,
                self.product,
                self.route,
                self.infusion_days,
                self.steady_state,
                self.steady_interval,
            )
            for day in self.days
        )

    def check_amount(self, subject: PatientSpec) -> None:
        """Raise ScenarioError if a dose is far beyond anything that such a subject was ever given."""
        weight_kg = cast(float, subject.weight_kg)
        amount = self.amount.model_amount(self.kind, weight_kg)
        limit = (LARGEST_HUMAN_AMOUNT if subject.species == "human" else LARGEST_AMOUNT)[self.kind]
        if amount > limit:
            unit, scale = ("particles", 1e9) if self.kind == "ev" else ("cells", 1e6)
            raise ScenarioError(
                f"dose: given {self.dose!r}, that is {amount * scale:.3g} {unit}/kg for a "
                f"{subject.species} of "
                f"{weight_kg:g} kg. Allowed: up to {limit * scale:.3g} {unit}/kg. A total is written "
                "without '/kg'.",
                key=("dose",),
            )

    def total_cells_per_kg(self, weight_kg: float) -> float:
        """Cells/kg over the whole course; 0 for EVs and conditioned medium, which bring no cells."""
        if self.kind != "cells" or self.constant:
            return 0.0
        return self.amount.per_kilogram(weight_kg) * self.n_doses


@dataclass(frozen=True)
class Arm:
    """What one group receives on top of background therapy: courses of products and added drugs.

    `n` is the number of patients in a trial of this design (None: not a trial arm proper). On each of the days
    `resets` the patient is again as on day 0, disease and memory of earlier doses included; infusions in progress end,
    and doses of that day come after it.
    """

    name: str
    courses: tuple[Course, ...] = ()
    drugs_added: tuple[DrugCourse, ...] = ()
    n: int | None = None
    resets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ScenarioError(f"arm name: given {self.name!r}. Allowed: some text.", key=("name",))
        object.__setattr__(self, "courses", tuple(self.courses))
        object.__setattr__(self, "drugs_added", tuple(self.drugs_added))
        if self.n is not None and (isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1):
            raise ScenarioError(
                f"n: given {self.n!r} patients. Allowed: a whole number, one or more.", key=("n",)
            )
        object.__setattr__(self, "resets", tuple(float(day) for day in self.resets))
        days = self.resets
        if not all(math.isfinite(day) and day >= 0 for day in days) or any(b <= a for a, b in pairwise(days)):
            raise ScenarioError(
                f"resets: given {_listed(days)}. Allowed: days that rise, the first at 0 or later.",
                key=("resets",),
            )
        replaced = Counter(course.days[0] for course in self.courses if course.steady_state == 1)
        for day, count in replaced.items():
            if count > 1:
                raise ScenarioError(
                    f"steady_state: given 1 to {count} courses on day {day:g}, of which each would replace the others. "
                    "Allowed: one; give the others 2, which adds.",
                    key=("course",),
                )

    def replace(self, **changes: Any) -> Arm:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    @property
    def products(self) -> tuple[str, ...]:
        """Products in the order in which they are first given."""
        return tuple(dict.fromkeys(course.product for course in self._by_start()))

    @property
    def product(self) -> str:
        """A label: ``UC``, ``UC then UCB``, ``UC + UCB`` where their courses overlap, ``none``."""
        courses = self._by_start()
        names = self.products
        one_after_another = len(courses) == len(names) and all(
            a.end_day < b.days[0] for a, b in pairwise(courses)
        )
        return (" then " if one_after_another else " + ").join(names) or "none"

    @property
    def route(self) -> str:
        """Routes in order of use, joined by ``+``; ``none`` without doses."""
        return " + ".join(dict.fromkeys(course.route for course in self._by_start())) or "none"

    @property
    def dose(self) -> str:
        """Doses as written, in order of use, joined by ``+``; ``none`` without doses."""
        return " + ".join(dict.fromkeys(course.dose for course in self._by_start())) or "none"

    @property
    def n_doses(self) -> int:
        return sum(course.n_doses for course in self.courses)

    @property
    def dose_days(self) -> tuple[float, ...]:
        """Days with a dose, each once, rising."""
        return tuple(sorted({day for course in self.courses for day in course.days}))

    @property
    def interval_days(self) -> float | None:
        """Days between doses; None for fewer than two dose days or an irregular schedule."""
        days = self.dose_days
        gaps = [b - a for a, b in pairwise(days)]
        # Calendar months are no exact binary numbers: regular gaps may differ in the last bits.
        return gaps[0] if gaps and all(math.isclose(gap, gaps[0], rel_tol=1e-9) for gap in gaps) else None

    @property
    def end_day(self) -> float:
        """Day on which the last infusion ends; 0 without doses."""
        return max((course.end_day for course in self.courses), default=0.0)

    def doses(self, weight_kg: float) -> tuple[Dose, ...]:
        """All doses for a body weight in kg, in order of time."""
        return tuple(
            sorted(
                (dose for course in self.courses for dose in course.doses(weight_kg)),
                key=lambda dose: (
                    dose.day,
                    dose.product,
                    dose.route,
                    dose.amount,
                    dose.duration_days,
                    dose.steady_state,
                    dose.interval_days,
                ),
            )
        )

    def total_cells_per_kg(self, weight_kg: float) -> float:
        """Living cells/kg over all courses at a body weight in kg (matters where a dose is a total)."""
        return math.fsum(course.total_cells_per_kg(weight_kg) for course in self.courses)

    def _by_start(self) -> list[Course]:
        return sorted(self.courses, key=lambda course: course.days[0])


# ------------------------------------------------------------------------------- subjects


_ANIMAL_WEIGHT_KG: Mapping[str, tuple[float, float]] = {
    "rat": (0.05, 1.2),
    "mouse": (0.008, 0.1),
    "pig": (3.0, 350.0),
}
_SEXES = ("female", "male")


def check_subject(species: str, disease: str, drugs: Iterable[str]) -> None:
    """Raise ScenarioError unless the species can have the disease and every drug is known and named once."""
    known(species, SPECIES, "species", ("species",))
    known(disease, DISEASES, "disease", ("disease",))
    possible = tuple(name for name, entry in DISEASES.items() if species in entry.species)
    if disease not in possible:
        raise ScenarioError(
            f"disease: given {disease!r} for species {species!r}. Allowed for it: "
            f"{', '.join(sorted(possible))}.",
            key=("disease",),
        )
    names = tuple(drugs)
    for drug in names:
        known(drug, DRUGS, "drug", ("drugs",))
        if names.count(drug) > 1:
            raise ScenarioError(f"drugs: {drug!r} stands twice. Name each drug once.", key=("drugs",))


@dataclass(frozen=True)
class PatientSpec:
    """One subject at day 0, the day of the first possible dose.

    People are given by covariates (`mscrenal.model.patient.COVARIATES`); one that is not given is that of
    the model's typical patient with the disease. Animals start healthy, meet their insult, and are first
    dosed `start_week` weeks later: what is a covariate of a patient is an outcome for them, so that only
    their weight (kg) and sex are given.
    """

    species: str = "human"
    disease: str = "diabetic"
    age: float | None = None
    sex: str = "male"
    weight_kg: float | None = None
    egfr: float | None = None
    uacr: float | None = None
    hba1c: float | None = None
    duration_years: float | None = None
    sledai: float | None = None
    insulin_share: float | None = None
    drugs: tuple[str, ...] = ()
    start_week: float | None = None
    eta: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drugs", tuple(self.drugs))
        object.__setattr__(self, "eta", dict(self.eta))
        check_subject(self.species, self.disease, self.drugs)
        if self.sex not in _SEXES:
            raise ScenarioError(f"sex: given {self.sex!r}. Allowed: 'female' or 'male'.", key=("sex",))
        for name, value in self.eta.items():
            known(name, RANDOM_EFFECTS, "random effect", ("eta",))
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ScenarioError(
                    f"eta {name!r}: given {value!r}. Allowed: a finite number.", key=("eta", name)
                )
        if self.species != "human":
            self._check_animal()
        elif self.start_week is not None:
            raise ScenarioError(
                "start_week: only animals have one (weeks from the insult to the first dose). For a patient "
                "give duration_years.",
                key=("start_week",),
            )
        patient = self.patient()
        for name in COVARIATES if self.species == "human" else ("weight_kg",):
            object.__setattr__(self, name, getattr(patient, name))
        if self.duration_years is not None and self.age is not None and self.duration_years >= self.age:
            raise ScenarioError(
                f"duration_years: given {self.duration_years:g}, but the patient is {self.age:g} years old.",
                key=("duration_years",),
            )

    def _check_animal(self) -> None:
        given = [name for name in COVARIATES if name != "weight_kg" and getattr(self, name) is not None]
        if given:
            raise ScenarioError(
                f"{given[0]}: given for a {self.species}. Animals start healthy, so that it is an outcome; "
                "leave it out and give start_week (weeks from the insult to day 0).",
                key=(given[0],),
            )
        low, high = _ANIMAL_WEIGHT_KG.get(self.species, (0.005, 400.0))
        if self.weight_kg is not None and not low <= self.weight_kg <= high:
            raise ScenarioError(
                f"weight_kg: given {self.weight_kg!r} for a {self.species}. Allowed: {low:g} to {high:g} kg.",
                key=("weight_kg",),
            )
        if self.start_week is None or not 0 <= self.start_week <= 200:
            raise ScenarioError(
                f"start_week: given {self.start_week!r}. Allowed: 0 to 200 weeks from the insult to day 0.",
                key=("start_week",),
            )

    @property
    def onset_days(self) -> float:
        """Days from the insult to day 0 (animals); 0 for patients, whose past is found from covariates."""
        return 7.0 * self.start_week if self.start_week is not None else 0.0

    def replace(self, **changes: Any) -> PatientSpec:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    def patient(self) -> Patient:
        """The subject as the model takes it.

        Raises ScenarioError for a covariate out of its range, or one that the disease does not have.
        """
        covariates = {name: getattr(self, name) for name in COVARIATES if getattr(self, name) is not None}
        fields: dict[str, Any] = {**covariates, "onset_days": self.onset_days, "eta": dict(self.eta)}
        try:
            return Patient(self.species, self.disease, sex=self.sex, drugs=self.drugs, **fields)
        except PatientError as error:
            first = str(error).split(maxsplit=1)[0]  # the model's messages begin with the covariate
            raise ScenarioError(str(error), key=(first,) if first in fields else ()) from None


@dataclass(frozen=True)
class Distribution:
    """How a covariate varies between subjects, cut to what a trial admits.

    ``normal`` (`centre` mean, `spread` SD) or ``lognormal`` (`centre` median, `spread` geometric SD);
    a `spread` of 0 (normal) or 1 (log-normal) is a constant. `low` and `high` are eligibility limits.
    """

    kind: str
    centre: float
    spread: float
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        known(self.kind, ("lognormal", "normal"), "kind of distribution", ("kind",))
        name = ("mean", "sd") if self.kind == "normal" else ("median", "gsd")
        smallest = 0.0 if self.kind == "normal" else 1.0
        if not (math.isfinite(self.spread) and self.spread >= smallest):
            raise ScenarioError(
                f"{name[1]}: given {self.spread!r}. Allowed: a finite number, {smallest:g} or more.",
                key=(name[1],),
            )
        if not math.isfinite(self.centre) or (self.kind == "lognormal" and self.centre <= 0):
            raise ScenarioError(
                f"{name[0]}: given {self.centre!r}. Allowed: a finite number above zero.", key=(name[0],)
            )
        if not self.low < self.high:
            raise ScenarioError(
                f"min and max: given {self.low:g} and {self.high:g}. The smallest admitted lies below the "
                "largest.",
                key=("min",),
            )
        if self.constant and not self.low <= self.centre <= self.high:
            raise ScenarioError(
                f"{name[0]}: given {self.centre:g} without spread, outside {self.low:g} to {self.high:g}: "
                "nobody "
                "qualifies. Widen the limits or give a spread.",
                key=(name[0],),
            )

    @property
    def constant(self) -> bool:
        return self.spread == (0.0 if self.kind == "normal" else 1.0)

    def at(self, z: float) -> float:
        """The value `z` standard normal deviations from the centre."""
        if self.kind == "normal":
            return self.centre + self.spread * z
        return self.centre * self.spread**z

    def share_below(self, value: float) -> float:
        """Share of the uncut distribution below `value`; it has to vary."""
        if self.kind == "normal":
            return float(ndtr((value - self.centre) / self.spread))
        return float(ndtr(math.log(value / self.centre) / math.log(self.spread))) if value > 0 else 0.0

    def admits(self, value: float) -> bool:
        """Whether a subject with this value qualifies."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Correlation:
    """The correlation of two covariates, on the scale where they are normal."""

    first: str
    second: str
    value: float


@dataclass(frozen=True)
class Target:
    """What a covariate of the admitted has to be: ``normal``, mean and SD, or ``lognormal``, median and geometric SD.

    `spread` may be None where a baseline table prints none.
    """

    kind: str
    centre: float
    spread: float | None = None

    def __post_init__(self) -> None:
        known(self.kind, ("lognormal", "normal"), "kind of target", ("kind",))
        log = self.kind == "lognormal"
        if not math.isfinite(self.centre) or (log and self.centre <= 0):
            raise ScenarioError(
                f"match: given {self.centre!r}. Allowed: a finite number, above zero for a median."
            )
        least = 1.0 if log else 0.0
        if self.spread is not None and not (math.isfinite(self.spread) and self.spread > least):
            raise ScenarioError(f"match: given a spread of {self.spread!r}. Allowed: above {least:g}.")

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values on the scale of the target, (n,)."""
        return np.log(values) if self.kind == "lognormal" else np.asarray(values, dtype=float)

    @property
    def moments(self) -> tuple[float, ...]:
        """Mean, and mean square if a spread is given, on that scale."""
        log = self.kind == "lognormal"
        mean = math.log(self.centre) if log else self.centre
        if self.spread is None:
            return (mean,)
        sd = math.log(self.spread) if log else self.spread
        return mean, mean**2 + sd**2


@dataclass(frozen=True)
class Tilt:
    """Weights that match targets: ``exp(slopes · features - most)``, at most 1 but for a few, who count as 1.

    Attributes
    ----------
    shifts, scales, slopes : ndarray (n_features,)
        Features are standardised before they are weighted.
    most : float
        Logarithm of the largest weight, a quantile of 99.5 % of those of the whole population.
    effective : float
        Share of the population that the weights leave, as an effective sample size.
    """

    targets: Mapping[str, Target]
    shifts: np.ndarray
    scales: np.ndarray
    slopes: np.ndarray
    most: float
    effective: float

    def accepts(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Probability with which subjects of these covariates (n,) are enrolled, (n,)."""
        features = (_features(self.targets, values) - self.shifts) / self.scales
        # One column after the other: a matrix product rounds by the place that a row has in it.
        log = sum(features[:, k] * self.slopes[k] for k in range(len(self.slopes))) - self.most
        return np.exp(np.minimum(log, 0.0))


def _features(targets: Mapping[str, Target], values: Mapping[str, np.ndarray]) -> np.ndarray:
    columns = []
    for name, target in targets.items():
        x = target.scaled(np.asarray(values[name], dtype=float))
        columns += [x] if target.spread is None else [x, x**2]
    return np.stack(columns, axis=1)


LEAST_EFFECTIVE = 0.02  # of a population, below which another population is meant
TILT_SAMPLE = 1 << 14


def tilt_to(targets: Mapping[str, Target], values: Mapping[str, np.ndarray]) -> Tilt:
    """The weights nearest to equal ones (in entropy) under which a population has the targets.

    Parameters
    ----------
    targets : mapping of str to Target
    values : mapping of str to ndarray (n,)
        Covariates of a large sample of the population.

    Raises
    ------
    ScenarioError
        If no weights do, or so few subjects carry them that another population is meant.

    Notes
    -----
    Entropy balancing (Hainmueller 2012, doi:10.1093/pan/mpr025): the dual problem is convex and has as many unknowns
    as there are moments.
    """
    raw = _features(targets, values)
    shifts, scales = raw.mean(axis=0), raw.std(axis=0)
    wanted = np.array([m for t in targets.values() for m in t.moments])
    if not np.all(scales > 0):
        raise ScenarioError(
            "match: a covariate that is the same for all has no other mean. Give it a spread."
        )
    features, aims = (raw - shifts) / scales, (wanted - shifts) / scales

    def dual(slopes: np.ndarray) -> tuple[float, np.ndarray]:
        log = features @ slopes
        total = logsumexp(log)
        weights = np.exp(log - total)
        return float(total - slopes @ aims), weights @ features - aims

    found = minimize(
        dual, np.zeros(features.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 500}
    )
    log = features @ found.x
    weights = np.exp(log - logsumexp(log))
    missed = np.abs(weights @ features - aims).max()
    effective = 1.0 / float((weights**2).sum()) / len(weights)
    if not missed < 1e-3 or effective < LEAST_EFFECTIVE:
        said = ", ".join(
            f"{name} {t.centre:g} (population: {np.mean(values[name]) if t.kind == 'normal' else np.median(values[name]):.4g})"
            for name, t in targets.items()
        )
        raise ScenarioError(
            f"match: no weighting of this population gives {said}: fewer than {LEAST_EFFECTIVE:.0%} of it would carry "
            "the weight. Move its distributions nearer, widen the limits, or ask for less.",
            key=("match",),
        )
    return Tilt(dict(targets), shifts, scales, found.x, float(np.quantile(log, 0.995)), effective)


@dataclass(frozen=True)
class PopulationSpec:
    """Subjects that differ: distributions of the covariates, eligibility limits, correlations.

    `targets` is a baseline table to match: subjects are enrolled with a probability that gives those who are the means and
    spreads asked for. `covariates` maps the names of `COVARIATES` to distributions; one that is not named is the same for
    all, that of the model's typical patient. Patients are human; animals of one strain are one `PatientSpec`.
    """

    covariates: Mapping[str, Distribution]
    n: int = 1
    disease: str = "diabetic"
    male_share: float = 0.5
    drugs: tuple[str, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    species: str = "human"
    targets: Mapping[str, Target] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drugs", tuple(self.drugs))
        object.__setattr__(self, "correlations", tuple(self.correlations))
        object.__setattr__(self, "targets", dict(self.targets))
        if self.species != "human":
            raise ScenarioError(
                f"species: given {self.species!r} in a population. Populations are human; describe animals "
                "in "
                "[patient].",
                key=("species",),
            )
        check_subject(self.species, self.disease, self.drugs)
        if isinstance(self.n, bool) or not isinstance(self.n, int) or not 1 <= self.n <= 1_000_000:
            raise ScenarioError(f"n: given {self.n!r} patients. Allowed: 1 to 1000000.", key=("n",))
        if not 0 <= self.male_share <= 1:
            raise ScenarioError(
                f"male_share: given {self.male_share!r}. Allowed: 0 to 1.", key=("male_share",)
            )
        object.__setattr__(self, "covariates", dict(self.covariates))
        for name, distribution in self.covariates.items():
            known(name, COVARIATES, "covariate", (name,))
            PatientSpec(
                disease=self.disease, **cast(Any, {name: distribution.centre})
            )  # in range, and known of it
        self._check_correlations()
        for name in self.targets:
            known(name, self.covariates, "covariate of this population", ("match", name))
        if self.targets:
            self.tilt  # noqa: B018 (whether the targets can be met)

    @cached_property
    def tilt(self) -> Tilt | None:
        """How subjects are enrolled so that the targets are met; None without targets."""
        if not self.targets:
            return None
        names = list(self.covariates)
        z = ndtri(qmc.Sobol(len(names), seed=1).random(TILT_SAMPLE).clip(1e-9, 1 - 1e-9))
        mixed = z @ np.linalg.cholesky(self.correlation_matrix).T
        values = {
            name: np.array([self.covariates[name].at(x) for x in mixed[:, k]]) for k, name in enumerate(names)
        }
        inside_ = np.all([[self._admits(name, v) for v in values[name]] for name in names], axis=0)
        if inside_.sum() < 100:
            raise ScenarioError(
                f"match: of {TILT_SAMPLE} drawn subjects only {int(inside_.sum())} qualify, too few to weigh. Widen the limits.",
                key=("match",),
            )
        with inside("match"):
            return tilt_to(self.targets, {name: v[inside_] for name, v in values.items()})

    def _check_correlations(self) -> None:
        names = tuple(self.covariates)
        for index, pair in enumerate(self.correlations):
            with inside("correlations", index):
                for name in (pair.first, pair.second):
                    known(name, names, "covariate of this population")
                if pair.first == pair.second or not -1 < pair.value < 1:
                    raise ScenarioError(
                        f"correlation of {pair.first} and {pair.second}: given {pair.value!r}. Allowed: "
                        "two different "
                        "covariates, above -1 and below 1."
                    )
        if np.linalg.eigvalsh(self.correlation_matrix).min() <= 1e-9:
            raise ScenarioError(
                "correlations: no population can have all of them at once (the matrix is not positive "
                "definite). "
                "Weaken one.",
                key=("correlations",),
            )

    @property
    def correlation_matrix(self) -> np.ndarray:
        """Correlations, (n_covariates, n_covariates), in the order of `covariates`."""
        names = list(self.covariates)
        matrix = np.eye(len(names) or 1)
        for pair in self.correlations:
            i, j = names.index(pair.first), names.index(pair.second)
            matrix[i, j] = matrix[j, i] = pair.value
        return matrix

    def replace(self, **changes: Any) -> PopulationSpec:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    def patients(self, seed: int) -> tuple[PatientSpec, ...]:
        """Draw the `n` subjects.

        Each has streams of its own, so that subject 7 is the same whatever `n` is. Values outside the
        eligibility limits, or outside the ranges of `COVARIATES`, are drawn again.

        Raises
        ------
        ScenarioError
            (Almost) nobody qualifies; the message says which limit excludes whom.
        """
        factor = np.linalg.cholesky(self.correlation_matrix)
        return tuple(self._draw(index, seed, factor) for index in range(self.n))

    def _draw(self, index: int, seed: int, factor: np.ndarray) -> PatientSpec:
        streams = np.random.SeedSequence(entropy=seed, spawn_key=(index,)).spawn(2)
        covariates, sexes = (np.random.default_rng(stream) for stream in streams)
        names = list(self.covariates)
        excluded = dict.fromkeys(names, 0)
        tries = 10_000
        for _ in range(tries):
            z = factor @ covariates.standard_normal(len(names) or 1)
            values = {name: self.covariates[name].at(float(z[i])) for i, name in enumerate(names)}
            outside = [name for name in names if not self._admits(name, values[name])]
            chosen = (
                self.tilt is None
                or covariates.random() < self.tilt.accepts({n: np.array([v]) for n, v in values.items()})[0]
            )
            if not outside and chosen and _older_than_disease(values, self.disease):
                sex = "male" if sexes.random() < self.male_share else "female"
                return PatientSpec(disease=self.disease, sex=sex, drugs=self.drugs, **cast(Any, values))
            for name in outside:
                excluded[name] += 1
        shares = ", ".join(
            f"{name} excludes {count / tries:.1%}" for name, count in excluded.items() if count
        )
        raise ScenarioError(
            f"population: of {tries} drawn subjects nobody qualifies "
            f"({shares or 'disease longer than life'}). "
            "Widen the limits or move the distributions."
        )

    def _admits(self, name: str, value: float) -> bool:
        covariate = COVARIATES[name]
        return self.covariates[name].admits(value) and covariate.low <= value <= covariate.high

    def typical(self) -> PatientSpec:
        """The subject at the centre of every distribution (the eligible centre, if the limits cut it off)."""
        values = {name: _eligible_centre(item) for name, item in self.covariates.items()}
        sex = "male" if self.male_share >= 0.5 else "female"
        return PatientSpec(disease=self.disease, sex=sex, drugs=self.drugs, **cast(Any, values))


def _older_than_disease(values: Mapping[str, float], disease: str) -> bool:
    typical = Patient(disease=disease)
    years = values.get("duration_years", typical.duration_years)
    return years is None or years < values.get("age", typical.age)


def _eligible_centre(item: Distribution) -> float:
    """The median of the distribution cut to its limits."""
    if item.constant:
        return item.centre
    middle = float(ndtri((item.share_below(item.low) + item.share_below(item.high)) / 2))
    return item.at(middle) if math.isfinite(middle) else min(max(item.centre, item.low), item.high)


# ------------------------------------------------------------------------------- the scenario


@dataclass(frozen=True)
class Scenario:
    """A question put to the model: a patient or a population, arms, visits and endpoints.

    `reference` names the arm against which the others are read. `notes` are what a reader of the file
    should hear about it (an event table's ignored rows). `trial` is the design of a virtual trial of it, None for the
    default one. Exactly one of `patient` and `population`.
    """

    name: str
    title: str
    horizon_days: float
    arms: tuple[Arm, ...]
    reference: str
    patient: PatientSpec | None = None
    population: PopulationSpec | None = None
    visits: tuple[float, ...] = ()
    endpoints: tuple[str, ...] = ENDPOINT_NAMES
    source: str = ""
    question: str = ""
    notes: tuple[str, ...] = ()
    trial: TrialSpec | None = None

    def __post_init__(self) -> None:
        for name in ("arms", "visits", "endpoints", "notes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if (self.patient is None) == (self.population is None):
            raise ScenarioError(
                "give either [patient] or [population], one of them and not both.", key=("patient",)
            )
        if not (math.isfinite(self.horizon_days) and 0 < self.horizon_days <= LONGEST_HORIZON):
            raise ScenarioError(
                f"horizon: given {self.horizon_days!r} days. Allowed: above zero, up to "
                f"{format_duration(LONGEST_HORIZON)}.",
                key=("horizon",),
            )
        self._check_arms()
        self._check_readout()
        if not self.visits:
            object.__setattr__(self, "visits", four_weekly(self.horizon_days))

    def _check_arms(self) -> None:
        if not self.arms:
            raise ScenarioError("arm: given none. Write at least one [[arm]] with a name.", key=("arm",))
        names = [arm.name for arm in self.arms]
        background = self.subject.drugs
        for index, arm in enumerate(self.arms):
            with inside("arm", index):
                if names.index(arm.name) != index:
                    raise ScenarioError(
                        f"arm name {arm.name!r} stands twice. Each arm has a name of its own.", key=("name",)
                    )
                self._check_arm(arm, background)
        if self.reference not in names:
            raise ScenarioError(
                f"reference: given {self.reference!r}, which is no arm.{nearest(self.reference, names)}",
                key=("reference",),
            )

    def _check_arm(self, arm: Arm, background: tuple[str, ...]) -> None:
        if arm.end_day >= self.horizon_days:
            raise ScenarioError(
                f"horizon: given {format_duration(self.horizon_days)}, but arm {arm.name!r} receives its "
                "last dose until "
                f"day {arm.end_day:g}. Move the horizon behind the last dose.",
                key=("days",),
            )
        if arm.resets and self.subject.species != "human":
            raise ScenarioError(
                f"resets: given {_listed(arm.resets)} for a {self.subject.species}. Allowed: none. An animal starts in "
                "health, and a reset would put it back there; give what follows an arm of its own.",
                key=("resets",),
            )
        if arm.resets and arm.resets[-1] >= self.horizon_days:
            raise ScenarioError(
                f"resets: given {_listed(arm.resets)}, not before the horizon of {format_duration(self.horizon_days)}. "
                "Move the horizon behind them, or leave the last out.",
                key=("resets",),
            )
        for index, course in enumerate(arm.drugs_added):
            if course.drug in background:
                raise ScenarioError(
                    f"drugs_added: {course.drug!r} is background therapy already and would count twice. "
                    "Take it out of "
                    "one of the two.",
                    key=("drugs_added", index),
                )
            if course.start_day >= self.horizon_days:
                raise ScenarioError(
                    f"drugs_added: {course.drug!r} starts on day {course.start_day:g}, not before the "
                    "horizon of "
                    f"{format_duration(self.horizon_days)}.",
                    key=("drugs_added", index),
                )
        for index, given in enumerate(arm.courses):
            with inside("course", index):
                given.check_amount(self.subject)

    def _check_readout(self) -> None:
        for index, endpoint in enumerate(self.endpoints):
            known(endpoint, ENDPOINT_NAMES, "endpoint", ("endpoints", index))
            if self.endpoints.index(endpoint) != index:
                raise ScenarioError(f"endpoints: {endpoint!r} stands twice.", key=("endpoints",))
        if not self.endpoints:
            raise ScenarioError(
                f"endpoints: given none. Leave it out for all, or choose of: {', '.join(ENDPOINT_NAMES)}.",
                key=("endpoints",),
            )
        visits = self.visits
        if any(not math.isfinite(day) or day < 0 or day > self.horizon_days for day in visits):
            raise ScenarioError(
                f"visits: given {_listed(visits)}. Allowed: day 0 to the horizon of "
                f"{format_duration(self.horizon_days)}.",
                key=("visits",),
            )
        if any(b <= a for a, b in pairwise(visits)):
            raise ScenarioError(
                f"visits must rise, got {_listed(visits)}. Sort them and name each once.", key=("visits",)
            )

    def replace(self, **changes: Any) -> Scenario:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    @property
    def subject(self) -> PatientSpec:
        """The patient, or the population's typical patient."""
        if self.patient is not None:
            return self.patient
        assert self.population is not None  # __post_init__ saw to it
        return self.population.typical()

    @property
    def weight_kg(self) -> float:
        """Body weight (kg) at which totals are told per kg in tables."""
        return cast(float, self.subject.weight_kg)

    def patients(self, seed: int) -> tuple[PatientSpec, ...]:
        """The patient alone, or the population's patients."""
        return (
            (self.patient,)
            if self.patient is not None
            else cast(PopulationSpec, self.population).patients(seed)
        )

    def arm(self, name: str) -> Arm:
        """The arm of that name (ScenarioError with the nearest names if there is none)."""
        known(name, (arm.name for arm in self.arms), "arm")
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def reference_arm(self) -> Arm:
        return self.arm(self.reference)


def four_weekly(horizon_days: float) -> tuple[float, ...]:
    """Visits at day 0, each four weeks (a multiple of it beyond 200 visits), and at the horizon."""
    step = 28.0 * max(1, math.ceil(horizon_days / 28.0 / 200))
    days = [step * index for index in range(math.ceil(horizon_days / step))]
    return (*days, horizon_days)


def regular_visits(every: float, horizon_days: float) -> tuple[float, ...]:
    """Visits at day 0, each `every` days, and at the horizon.

    >>> regular_visits(28.0, 70.0)
    (0.0, 28.0, 56.0, 70.0)
    """
    days = [index * every for index in range(int(horizon_days / every) + 1)]
    return tuple(days if days[-1] == horizon_days else [*days, horizon_days])


def _listed(days: Iterable[float]) -> str:
    return "[" + ", ".join(f"{day:g}" for day in days) + "]"
