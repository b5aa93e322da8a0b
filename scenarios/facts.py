"""The published facts that the model must reproduce: data in, prediction beside target out.

The facts themselves stand in ``facts_table.toml``: what the source says, for whom, with what tolerance,
and what is computed. Here is the machinery: virtual trial populations, small pure statistics, and the
evaluation. What a fact needs is simulated once per population, all its arms and times together.

How uncertainty is told. `predicted` is at the medians of the parameters: for a typical patient that one
patient, for a population all of its patients. `ci90` is over parameter draws: for a typical patient each
draw is simulated as it is; for a population a small set of patients meets the medians and (half of) the
draws, and the change of the statistic from medians to draw, in those same patients, is laid around the
prediction. That is a control variate: it costs a tenth of simulating everybody under every draw.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from scipy.special import ndtri

from mscrenal.calibration import evidence
from mscrenal.calibration.hard_endpoints import event_share, first_confirmed_day, person_years, visits
from mscrenal.calibration.natural_history import (
    EGFR,
    LOG_UACR_VARIANCE,
    drop_chance,
    egfr_correlation,
    true_egfr_sd,
    true_uacr_gsd,
)
from mscrenal.calibration.truncated import truncated_quantiles
from mscrenal.model.declare import nearest
from mscrenal.model.readings import read
from mscrenal.scenarios.endpoints import DAYS_PER_YEAR, ESKD_EGFR, slope, value_at
from mscrenal.scenarios.executor import Executor, executor_for
from mscrenal.scenarios.results import Result, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mscrenal.scenarios.sources import Source

__all__ = [
    "FACTS_FILE",
    "STATISTICS",
    "Fact",
    "FactArm",
    "FactCheck",
    "FactError",
    "FactPopulation",
    "FactTable",
    "FactsResult",
    "ModelSimulator",
    "Sample",
    "VirtualPatients",
    "concordance",
    "facts",
    "first_confirmed_day",
    "geometric_mean_ratio",
    "load_facts",
    "nonlinear_probability",
    "rank_correlation",
    "reference_change_value",
    "virtual_patients",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Theta = Mapping[str, float]

BATCH = 16  # patients that are simulated together
FACTS_FILE = Path(__file__).with_name("facts_table.toml")
OBSERVABLES = ("egfr", "uacr", "serum_creatinine", "urine_protein_24h", "fibrosis_area")
REPLICATES = 40  # sets of noisy readings per patient: the noise of shares falls below that of patients
DRAW_PATIENTS = 16  # patients of a population that meet the draws
MOST_FAILED = 0.05  # a check over more failed subjects than this cannot pass
TYPICAL_EGFR, REFERENCE_EGFR = (
    43.4,
    43.0,
)  # goulooze2022: typical true baseline, at a reading of the reference
STRICT = ConfigDict(extra="forbid")


class FactError(ValueError):
    """The table of facts contradicts itself, or a fact cannot be evaluated."""


# =========================================================================== the facts as data


@dataclass(frozen=True, config=STRICT)
class Value:
    """A number and where it comes from."""

    value: float
    source: str = ""
    derived: str = ""
    assumed: str = ""


@dataclass(frozen=True, config=STRICT)
class Covariate:
    """How a covariate varies: centre (mean, or median for UACR) after truncation, SD (or geometric SD).

    Spreads of eGFR and UACR are those of baseline readings, from which the error of a reading is taken, unless `true`.
    """

    centre: float
    spread: float | None = None
    true: bool = False
    low: float = -math.inf
    high: float = math.inf
    source: str = ""
    derived: str = ""
    assumed: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.centre < self.high:
            raise ValueError(
                f"centre {self.centre:g} must lie between low {self.low:g} and high {self.high:g}"
            )
        if self.spread is not None and self.spread <= 0:
            raise ValueError(f"spread must be above 0, got {self.spread:g}; leave it out for a constant")

    def at(self, u: Array, name: str = "") -> Array:
        """Quantiles at `u` (n,) in (0, 1) of the covariate called `name`: UACR is log-normal."""
        if self.spread is None:
            return np.full(u.shape, self.centre)
        if name == "uacr":
            low = math.log(self.low) if self.low > 0 else -math.inf
            sd = math.log(self.spread if self.true else true_uacr_gsd(self.spread))
            return np.exp(
                truncated_quantiles(u, math.log(self.centre), sd, low, math.log(self.high), mean=False)
            )
        as_read = name == "egfr" and not self.true
        sd = true_egfr_sd(self.centre, self.spread) if as_read else self.spread
        return truncated_quantiles(u, self.centre, sd, self.low, self.high)


@dataclass(frozen=True, config=STRICT)
class FactPopulation:
    """Who a fact is about. A ``typical`` one is a single patient at the centres, without random effects.

    `random_effects` limits the random effects to those named (default: all). `regression`: eGFR was a single
    reading, by which patients were chosen; true eGFR is 43.4 (reading/43)^regression.
    """

    name: str
    title: str
    age: Covariate
    hba1c: Covariate
    duration_years: Covariate
    egfr: Covariate
    uacr: Covariate
    male_share: Value
    other_hba1c: Value
    kind: Literal["typical", "population"] = "population"
    disease: str = "diabetic"
    diabetic_share: Value | None = None
    other_disease: str = ""
    drugs: tuple[str, ...] = ()
    drug_shares: dict[str, float] = field(default_factory=dict)
    sledai: Value | None = None
    regression: Value | None = None
    relative_size: float = 1.0
    size: int = 1
    random_effects: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.diabetic_share is None) != (self.other_disease == ""):
            raise ValueError("diabetic_share and other_disease go together")

    @property
    def covariates(self) -> dict[str, Covariate]:
        """The covariates that are drawn, by name."""
        return {name: getattr(self, name) for name in ("age", "hba1c", "duration_years", "egfr", "uacr")}


@dataclass(frozen=True, config=STRICT)
class Addition:
    """A drug that an arm adds, by default just after the visit of day 0, so that baseline is untreated."""

    drug: str
    start_day: float = 0.01
    stop_day: float | None = None
    level: float = 1.0


@dataclass(frozen=True, config=STRICT)
class FactArm:
    """What is added to a population's own drugs."""

    name: str
    add: tuple[Addition, ...] = ()
    note: str = ""


@dataclass(frozen=True, config=STRICT)
class Attrition:
    """A share of people that a source saw leave (die, stop) within some weeks, as a constant hazard."""

    percent: float
    weeks: float
    source: str

    @property
    def per_day(self) -> float:
        """The hazard, 1/day."""
        return -math.log1p(-self.percent / 100.0) / (7.0 * self.weeks)


@dataclass(frozen=True, config=STRICT)
class HardEndpoint:
    """An event: eGFR sustained below a share of baseline or below a level; death competes, or counts."""

    name: str
    title: str
    horizon_days: float
    death: Attrition
    decline: float = 0.0
    eskd_egfr: float = ESKD_EGFR
    death_counts: bool = False
    visit_days: float = 122.0
    confirm_days: float = 30.0
    note: str = ""


@dataclass(frozen=True, config=STRICT)
class Response:
    """A responder's rule at one visit: protein (g/d), its relative fall, eGFR kept."""

    name: str
    title: str
    day: float
    protein_max: float = math.inf
    protein_fall: float = 0.0
    egfr_kept_share: float = 0.0
    egfr_floor: float = math.inf
    completion: Attrition | None = None
    assumed: str = ""

    @property
    def completing(self) -> float:
        """Share of patients who are still there at the visit. `completion` says how many stay, not leave."""
        if self.completion is None:
            return 1.0
        leavers = Attrition(100.0 - self.completion.percent, self.completion.weeks, self.completion.source)
        return math.exp(-leavers.per_day * self.day)


@dataclass(frozen=True, config=STRICT)
class FactCheck:
    """One number to reproduce. `tolerance`, `within` and `within_percent` are three ways to say the same."""

    id: str
    population: str
    statistic: str
    unit: str
    arm: str = "placebo"
    versus: str = ""
    arms: tuple[str, ...] = ()
    observable: str = "egfr"
    subset: Literal["", "diabetic", "not diabetic"] = ""
    from_day: float = 0.0
    day: float | None = None
    every_days: float | None = None
    threshold: float | None = None
    endpoint: str = ""
    response: str = ""
    target: float | None = None
    tolerance: tuple[float, float] | None = None
    within: float | None = None
    within_percent: float | None = None
    source: str = ""
    derived: str = ""
    note: str = ""
    not_modelled: str = ""
    headline: bool = False

    def __post_init__(self) -> None:
        given = [way for way in (self.tolerance, self.within, self.within_percent) if way is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of tolerance, within, within_percent")
        if self.tolerance is None and self.target is None:
            raise ValueError("within and within_percent need a target")
        low, high = self.bounds
        if not low < high or (self.target is not None and not low <= self.target <= high):
            raise ValueError(f"tolerance {low:g} to {high:g} must rise and hold the target {self.target}")
        if (self.statistic == "not_modelled") != bool(self.not_modelled):
            raise ValueError("statistic 'not_modelled' goes with a not_modelled note, and only it")

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest prediction that passes."""
        if self.tolerance is not None:
            return self.tolerance
        assert self.target is not None  # checked when the check was made
        half = (
            self.within
            if self.within is not None
            else abs(self.target) * (self.within_percent or 0.0) / 100.0
        )
        return (self.target - half, self.target + half)

    @property
    def at(self) -> float:
        """`day`, for the statistics that need one."""
        if self.day is None:
            raise FactError(f"Check {self.id!r}: statistic {self.statistic!r} needs a day.")
        return self.day

    @property
    def all_arms(self) -> tuple[str, ...]:
        """Every arm the check reads."""
        return self.arms or tuple(arm for arm in (self.arm, self.versus) if arm)


@dataclass(frozen=True, config=STRICT)
class Fact:
    """A published fact: sources, what is computed, and its checks. It passes if all of them do."""

    number: int
    id: str
    title: str
    source: tuple[str, ...]
    basis: Literal["used to set priors", "independent"]
    computed: str
    check: tuple[FactCheck, ...]

    @property
    def headline(self) -> FactCheck:
        """The check that stands for the fact in a one-line table."""
        return next((check for check in self.check if check.headline), self.check[0])


@plain_dataclass(frozen=True)
class FactTable:
    """Everything that ``facts_table.toml`` says, cross-checked."""

    facts: tuple[Fact, ...]
    populations: Mapping[str, FactPopulation]
    arms: Mapping[str, FactArm]
    endpoints: Mapping[str, HardEndpoint]
    responses: Mapping[str, Response]

    def checks_of(self, population: str) -> list[FactCheck]:
        """The checks on one population, those that nobody can compute left out."""
        return [c for f in self.facts for c in f.check if c.population == population and not c.not_modelled]


def load_facts(path: str | Path = FACTS_FILE) -> FactTable:
    """Read a table of facts. Raises FactError: file, entry, what was given, what is allowed."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise FactError(f"{path.name}: {error}.") from error
    sections = {"defaults", "population", "arm", "endpoint", "response", "fact"}
    for section in data:
        if section not in sections:
            raise FactError(f"{path.name}: unknown section {section!r}.{nearest(section, sections)}")
    defaults = data.get("defaults", {})
    people = {name: {**defaults, **entry} for name, entry in data.get("population", {}).items()}
    table = FactTable(
        facts=tuple(
            _parsed(Fact, entry, path, f"fact {entry.get('id', '?')!r}") for entry in data.get("fact", [])
        ),
        populations=_named(FactPopulation, people, path, "population"),
        arms=_named(FactArm, data.get("arm", {}), path, "arm"),
        endpoints=_named(HardEndpoint, data.get("endpoint", {}), path, "endpoint"),
        responses=_named(Response, data.get("response", {}), path, "response"),
    )
    _cross_check(table, path)
    return table


def _parsed(kind: type[Any], entry: Mapping[str, Any], path: Path, what: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FactError(f"{path.name}: {what}, {where or 'entry'}: {first['msg']}.") from error


def _named(kind: type[Any], entries: Mapping[str, Any], path: Path, what: str) -> dict[str, Any]:
    return {
        name: _parsed(kind, {"name": name, **entry}, path, f"{what} {name!r}")
        for name, entry in entries.items()
    }


def _cross_check(table: FactTable, path: Path) -> None:
    """Every name that a check uses exists, and it holds what its statistic needs."""
    numbers = [fact.number for fact in table.facts]
    if len(set(numbers)) != len(numbers):
        raise FactError(f"{path.name}: fact numbers repeat: {numbers}.")
    for fact in table.facts:
        for check in fact.check:
            where = f"{path.name}: fact {fact.id!r}, check {check.id!r}"
            lookups: list[tuple[str, Iterable[str], str]] = [
                (check.population, table.populations, "population"),
                (check.statistic, STATISTICS, "statistic"),
                (check.observable, OBSERVABLES, "observable"),
                *((arm, table.arms, "arm") for arm in check.all_arms),
            ]
            lookups += [(check.endpoint, table.endpoints, "endpoint")] if check.endpoint else []
            lookups += [(check.response, table.responses, "response")] if check.response else []
            for name, known, what in lookups:
                if name not in known:
                    raise FactError(f"{where}: unknown {what} {name!r}.{nearest(name, known)}")
            for needed in STATISTICS[check.statistic].needs:
                if getattr(check, needed) in (None, "", ()):
                    raise FactError(f"{where}: statistic {check.statistic!r} needs {needed!r}. Add it.")


# =========================================================================== who is simulated


def _stream(seed: int, *names: str) -> np.random.Generator:
    """A random stream of its own for each purpose: what else is drawn does not move it."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.default_rng([seed, *words])


@plain_dataclass(frozen=True)
class VirtualPatients:
    """The covariates of a population's patients, each (n,), and their random effects on request."""

    population: FactPopulation
    seed: int
    age: Array
    hba1c: Array
    duration_years: Array
    egfr: Array
    uacr: Array
    male: Mask
    diabetic: Mask
    drugs: tuple[tuple[str, ...], ...]
    reading: Array | None = None

    def __len__(self) -> int:
        return self.population.size

    def eta(self, name: str, sd: float) -> Array:
        """Normal random effects (n,), the same for a name whatever other effects there are."""
        chosen = self.population.random_effects
        if self.population.kind == "typical" or (chosen is not None and name not in chosen):
            return np.zeros(len(self))
        return sd * self.normal(f"eta {name}")

    def normal(self, dimension: str) -> Array:
        """Standard normal numbers (n,), one for each patient, the same for a name."""
        return np.asarray(ndtri(_stratified(self.population, self.seed, dimension)))


def _stratified(population: FactPopulation, seed: int, dimension: str) -> Array:
    """Latin hypercube: n equally likely strata of (0, 1), each hit at its middle, in an order of its own.

    Quasi-random on purpose: means over 100 patients then vary as those over thousands of random ones.
    """
    n = population.size
    if population.kind == "typical":
        return np.full(n, 0.5)
    order = _stream(seed, population.name, dimension).permutation(n)
    return (order + 0.5) / n


def virtual_patients(population: FactPopulation, seed: int) -> VirtualPatients:
    """The `population.size` patients of a population; the same for the same seed."""

    def u(dimension: str) -> Array:
        return _stratified(population, seed, dimension)

    drawn = {
        name: np.full(population.size, covariate.centre)
        if population.kind == "typical"
        else covariate.at(u(name), name)
        for name, covariate in population.covariates.items()
    }
    reading = None
    if population.regression is not None:
        reading = drawn["egfr"]
        # The published model's regression of a patient's true baseline on the reading (goulooze2022, table S2).
        drawn["egfr"] = TYPICAL_EGFR * (reading / REFERENCE_EGFR) ** population.regression.value
    share = 1.0 if population.diabetic_share is None else population.diabetic_share.value
    diabetic = (u("disease") < share) & (population.disease == "diabetic")
    if population.other_disease:
        drawn["hba1c"] = np.where(diabetic, drawn["hba1c"], population.other_hba1c.value)
    extra = {drug: u(f"drug {drug}") < part for drug, part in population.drug_shares.items()}
    drugs = tuple(
        population.drugs + tuple(drug for drug, taken in extra.items() if taken[i])
        for i in range(population.size)
    )
    male = u("sex") < population.male_share.value
    return VirtualPatients(
        population, seed, male=male, diabetic=diabetic, drugs=drugs, reading=reading, **drawn
    )


class Simulator(Protocol):
    """What simulates: returns arm -> observable -> (n_draws, n_patients, n_times), NaN where it failed.

    population: with `size` set; its patients are those of `virtual_patients(population, seed)`. times:
    days, rising from 0. theta_draws: one set of parameters per draw.
    """

    def __call__(
        self,
        population: FactPopulation,
        arms: Sequence[FactArm],
        times: Array,
        theta_draws: Sequence[Theta],
        seed: int,
    ) -> Mapping[str, Mapping[str, Array]]: ...


# =========================================================================== pure statistics


def geometric_mean_ratio(above: ArrayLike, below: ArrayLike) -> float:
    """Geometric mean over patients (n,) of a ratio.

    >>> round(geometric_mean_ratio([400.0, 100.0], [200.0, 200.0]), 12)
    1.0
    """
    return float(np.exp(np.mean(np.log(np.asarray(above, dtype=float) / np.asarray(below, dtype=float)))))


def reference_change_value(
    creatinine: ArrayLike, kappa: ArrayLike, exponents: tuple[ArrayLike, float], cv_percent: Sequence[float]
) -> Array:
    """Percent (n,) by which two eGFR readings may differ with nothing having changed (two-sided 95 %).

    creatinine, kappa (n,), mg/dL; exponents of the equation below and above kappa; cv_percent: the
    independent sources of variation of creatinine. First order: CV(eGFR) = |exponent| CV(creatinine).
    >>> reference_change_value([2.0], [0.9], (-0.3, -1.0), [3.0, 4.0]).round(2).tolist()
    [13.86]
    """
    above = np.asarray(creatinine, dtype=float) >= np.asarray(kappa, dtype=float)
    exponent = np.where(above, exponents[1], exponents[0])
    return np.asarray(1.96 * math.sqrt(2.0) * np.abs(exponent) * math.hypot(*cv_percent))


def nonlinear_probability(days: ArrayLike, readings: ArrayLike) -> Array:
    """Posterior probability (...) that a path is a parabola rather than a straight line.

    readings: (..., n_visits), at least 4 visits. Even prior odds; Bayes factor by BIC:
    1 / (1 + exp((BIC_parabola - BIC_line) / 2)), BIC = n ln(RSS/n) + p ln n.
    """
    at, values = np.asarray(days, dtype=float), np.asarray(readings, dtype=float)
    scaled, n = (at - at.mean()) / (at.max() - at.min()), at.size
    residual = []
    for degree in (1, 2):
        basis, _ = np.linalg.qr(np.vander(scaled, degree + 1))
        rest = values - (values @ basis) @ basis.T
        residual.append(np.maximum((rest**2).sum(axis=-1), np.finfo(float).tiny))
    difference = n * (np.log(residual[1]) - np.log(residual[0])) + math.log(n)
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(difference / 2.0, -700.0, 700.0))))


def rank_correlation(x: ArrayLike, y: ArrayLike) -> Array:
    """Spearman correlation along the last axis, (...); NaN if one of them is constant.

    >>> rank_correlation([1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 9.0, 16.0]).round(12).item()
    1.0
    """
    from scipy.stats import rankdata  # slow to import

    ranks = [np.asarray(rankdata(values, axis=-1), dtype=float) for values in (x, y)]
    a, b = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.asarray(np.where(scale > 0, (a * b).sum(axis=-1) / np.where(scale > 0, scale, 1.0), np.nan))


def concordance(marker: ArrayLike, event_probability: ArrayLike) -> float:
    """Area under the curve of a marker (n,) for an event that each subject has with a probability (n,).

    The chance that of two subjects, one with and one without the event, the one with it has the higher
    marker (ties count half). NaN if nobody, or everybody, has the event.
    >>> concordance([1.0, 2.0, 3.0], [0.0, 0.0, 1.0])
    1.0
    """
    x, p = np.asarray(marker, dtype=float), np.asarray(event_probability, dtype=float)
    weight = p[:, None] * (1.0 - p[None, :])
    np.fill_diagonal(weight, 0.0)
    higher = (x[:, None] > x[None, :]) + 0.5 * (x[:, None] == x[None, :])
    return float((weight * higher).sum() / weight.sum()) if weight.sum() > 0 else math.nan


def line_r2(x: ArrayLike, y: ArrayLike) -> float:
    """R2 of the straight line of y on x; NaN with fewer than 3 finite points or without spread.

    >>> line_r2([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    1.0
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    kept = np.isfinite(a) & np.isfinite(b)
    if kept.sum() < 3 or np.ptp(a[kept]) == 0 or np.ptp(b[kept]) == 0:
        return math.nan
    return float(np.corrcoef(a[kept], b[kept])[0, 1] ** 2)


# =========================================================================== a simulated population


@lru_cache(maxsize=1)
def _measurement() -> dict[str, float]:
    """Errors and constants of creatinine that a reference change value needs, from the evidence tables."""

    def number(study: str, endpoint: str) -> float:
        return float(evidence.find(study, endpoint)["value"].iloc[0])

    return {
        "creatinine_cv": number("frontmed2022_crvar", "creatinine_within_person_cv"),
        "creatinine_assay_cv": 1.1,  # percent, in the note of frontmed2022_crvar, egfr_reference_change_value
        "kappa_male": number("ckdepi2021", "ckdepi_kappa_male"),
        "kappa_female": number("ckdepi2021", "ckdepi_kappa_female"),
        "alpha_male": number("ckdepi2021", "ckdepi_alpha_male"),
        "alpha_female": number("ckdepi2021", "ckdepi_alpha_female"),
        "exponent_high": number("ckdepi2021", "ckdepi_exponent_high"),
    }


@plain_dataclass(frozen=True)
class Sample:
    """One population under one set of parameters: who they are and how they went, arm by arm.

    paths: arm -> observable -> (n_patients, n_times). Only patients who succeeded in every arm.
    """

    patients: VirtualPatients
    kept: Mask
    times: Array
    paths: Mapping[str, Mapping[str, Array]]

    def __len__(self) -> int:
        return int(self.kept.sum())

    def at(self, arm: str, observable: str, day: float) -> Array:
        """True values on a day, (n_patients,)."""
        return value_at(self.paths[arm][observable][self.kept], self.times, day)

    def baseline(self, arm: str, observable: str) -> Array:
        """Values at day 0, (n_patients,): true ones, but eGFR as read where people were chosen by that reading."""
        if observable == "egfr" and self.patients.reading is not None:
            return self.patients.reading[self.kept]
        return self.at(arm, observable, 0.0)

    def path(self, arm: str, observable: str, days: Array) -> Array:
        """True values on several days, (n_patients, n_days)."""
        return np.stack([self.at(arm, observable, float(day)) for day in days], axis=-1)

    def noise(self, what: str, n: int) -> Array:
        """Standard normal errors (REPLICATES, n_patients, n): the same in every arm and draw."""
        shape = (REPLICATES, len(self.patients), n)
        stream = _stream(self.patients.seed, self.patients.population.name, f"readings of {what}", str(n))
        return stream.standard_normal(shape)[:, self.kept]

    def egfr_readings(self, arm: str, days: Array) -> Array:
        """Measured eGFR, (REPLICATES, n_patients, n_days)."""
        true = self.path(arm, "egfr", days)
        sizes = self.patients.normal("size of errors of egfr")[self.kept]
        return read(EGFR, true, days, self.noise("egfr", len(days)), sizes)

    def log_readings(self, arm: str, observable: str, days: Array) -> Array:
        """Measured UACR or urine protein, (REPLICATES, n_patients, n_days)."""
        factor = np.exp(math.sqrt(LOG_UACR_VARIANCE) * self.noise(observable, len(days)))
        return self.path(arm, observable, days) * factor

    def only(self, subset: str) -> Sample:
        """The diabetic patients, or the others; everybody for ''."""
        if not subset:
            return self
        inside = self.patients.diabetic if subset == "diabetic" else ~self.patients.diabetic
        return replace(self, kept=self.kept & inside)


# =========================================================================== the statistics of checks

Compute = Callable[[Sample, FactCheck, FactTable], float]
Days = Callable[[FactCheck, FactTable], Iterable[float]]


@plain_dataclass(frozen=True)
class Statistic:
    """How a check is computed, on which days, what it must say, and between what it must lie."""

    compute: Compute
    days: Days
    needs: tuple[str, ...] = ("day",)
    limits: tuple[float, float] = (-math.inf, math.inf)


def _ends(check: FactCheck, _: FactTable) -> Iterable[float]:
    return (check.from_day, check.at)


def _grid(check: FactCheck, _: FactTable) -> Array:
    return visits(check.from_day, check.at, check.every_days or 91.0)


def _endpoint_days(check: FactCheck, table: FactTable) -> Array:
    wanted = table.endpoints[check.endpoint]
    planned = visits(0.0, wanted.horizon_days, wanted.visit_days)
    return np.concatenate([planned, planned[1:] + wanted.confirm_days])


def _against(check: FactCheck, of_arm: Callable[[str], float]) -> float:
    """The arm's number, minus that of the arm it is compared with."""
    return of_arm(check.arm) - (of_arm(check.versus) if check.versus else 0.0)


def _mean_at(sample: Sample, check: FactCheck, table: FactTable) -> float:
    return _against(check, lambda arm: float(np.mean(sample.at(arm, check.observable, check.at))))


def _mean_change(sample: Sample, check: FactCheck, table: FactTable) -> float:
    def changed(arm: str) -> float:
        after, before = (sample.at(arm, check.observable, day) for day in (check.at, check.from_day))
        return float(np.mean(after - before))

    return _against(check, changed)


def _arm_slopes(sample: Sample, check: FactCheck, table: FactTable, arm: str) -> Array:
    days = _grid(check, table)
    return slope(sample.path(arm, check.observable, days), days, start=days[0], stop=days[-1])


def _slope(sample: Sample, check: FactCheck, table: FactTable) -> float:
    return _against(check, lambda arm: float(np.mean(_arm_slopes(sample, check, table, arm))))


def _total_slope(sample: Sample, check: FactCheck, table: FactTable) -> float:
    """Two-slope total: change to the knot (`from_day`) and the straight line from there on, over the whole time."""

    def total(arm: str) -> float:
        acute = sample.at(arm, check.observable, check.from_day) - sample.baseline(arm, check.observable)
        chronic = _arm_slopes(sample, check, table, arm) * (check.at - check.from_day)
        return float(np.mean(acute * DAYS_PER_YEAR + chronic)) / check.at

    return _against(check, total)


def _slope_sd(sample: Sample, check: FactCheck, table: FactTable) -> float:
    slopes = _arm_slopes(sample, check, table, check.arm)
    return float(np.std(slopes, ddof=1)) if slopes.size > 1 else math.nan


def _geomean_ratio(sample: Sample, check: FactCheck, table: FactTable) -> float:
    def ratio(arm: str) -> float:
        after, before = (sample.at(arm, check.observable, day) for day in (check.at, check.from_day))
        return geometric_mean_ratio(after, before)

    return ratio(check.arm) / (ratio(check.versus) if check.versus else 1.0)


def _geomean_percent(sample: Sample, check: FactCheck, table: FactTable) -> float:
    return 100.0 * (_geomean_ratio(sample, check, table) - 1.0)


def _pooled_percent(sample: Sample, check: FactCheck, table: FactTable) -> float:
    """Percent change against `versus`, geometric mean over patients and over all visits after the first day."""
    days = _grid(check, table)[1:]
    on, off = (sample.path(arm, check.observable, days) for arm in (check.arm, check.versus))
    return 100.0 * (geometric_mean_ratio(on.ravel(), off.ravel()) - 1.0)


def _multiplicativity(sample: Sample, check: FactCheck, table: FactTable) -> float:
    """Ratio to baseline of the combination over the product of its parts'; 1 if they multiply."""
    both, *single = (_geomean_ratio(sample, replace(check, arm=arm), table) for arm in check.arms)
    return both / math.prod(single)


def _share_drop(sample: Sample, check: FactCheck, table: FactTable) -> float:
    before, after = (sample.at(check.arm, "egfr", day) for day in (check.from_day, check.at))
    correlation = egfr_correlation(check.at - check.from_day)
    return 100.0 * float(np.mean(drop_chance(before, after, 1.0 - (check.threshold or 0.0), correlation)))


def _reference_change(sample: Sample, check: FactCheck, table: FactTable) -> float:
    errors, male = _measurement(), sample.patients.male[sample.kept]
    kappa = np.where(male, errors["kappa_male"], errors["kappa_female"])
    alpha = np.where(male, errors["alpha_male"], errors["alpha_female"])
    creatinine = sample.at(check.arm, "serum_creatinine", check.at)
    variation = (errors["creatinine_cv"], errors["creatinine_assay_cv"])
    return float(
        np.mean(reference_change_value(creatinine, kappa, (alpha, errors["exponent_high"]), variation))
    )


def _nonlinear(sample: Sample, check: FactCheck, table: FactTable) -> float:
    days = _grid(check, table)
    return float(np.median(nonlinear_probability(days, sample.egfr_readings(check.arm, days))))


def _event_days(sample: Sample, endpoint: HardEndpoint, days: Array, arm: str) -> Array:
    """Days of the event, (REPLICATES, n_patients); `days` as from `_endpoint_days`."""
    n = (len(days) + 1) // 2
    readings = sample.egfr_readings(arm, days)
    return first_confirmed_day(
        readings[..., :n], readings[..., n:], days[:n], endpoint.decline, endpoint.eskd_egfr
    )


def _event_share(sample: Sample, check: FactCheck, table: FactTable, arm: str) -> float:
    endpoint, days = table.endpoints[check.endpoint], _endpoint_days(check, table)
    at = _event_days(sample, endpoint, days, arm)
    return event_share(at, endpoint.death.per_day, endpoint.horizon_days, death_counts=endpoint.death_counts)


def _event_rate(sample: Sample, check: FactCheck, table: FactTable, arm: str) -> float:
    """Events per 1000 person-years."""
    endpoint, days = table.endpoints[check.endpoint], _endpoint_days(check, table)
    exposure = person_years(
        _event_days(sample, endpoint, days, arm), endpoint.death.per_day, endpoint.horizon_days
    )
    return 1000.0 * _event_share(sample, check, table, arm) / exposure


def _endpoint_percent(sample: Sample, check: FactCheck, table: FactTable) -> float:
    return _against(check, lambda arm: 100.0 * _event_share(sample, check, table, arm))


def _endpoint_rate(sample: Sample, check: FactCheck, table: FactTable) -> float:
    return _against(check, lambda arm: _event_rate(sample, check, table, arm))


def _rate_ratio(sample: Sample, check: FactCheck, table: FactTable, arm: str, reference: str) -> float:
    below = _event_rate(sample, check, table, reference)
    return _event_rate(sample, check, table, arm) / below if below > 0 else math.nan


def _endpoint_rate_ratio(sample: Sample, check: FactCheck, table: FactTable) -> float:
    return _rate_ratio(sample, check, table, check.arm, check.versus)


def _surrogacy(sample: Sample, check: FactCheck, table: FactTable) -> tuple[Array, Array]:
    """Slope gain and rate ratio of each arm against the first one."""
    reference, *arms = check.arms
    base = float(np.mean(_arm_slopes(sample, check, table, reference)))
    gains = [float(np.mean(_arm_slopes(sample, check, table, arm))) - base for arm in arms]
    ratios = [_rate_ratio(sample, check, table, arm, reference) for arm in arms]
    return np.array(gains), np.array(ratios)


def _log_ratios(ratios: Array) -> Array:
    """Logarithms, NaN for an arm without events: its ratio is unknown, not zero."""
    return np.log(np.where(ratios > 0, ratios, np.nan))


def _surrogacy_r2(sample: Sample, check: FactCheck, table: FactTable) -> float:
    gains, ratios = _surrogacy(sample, check, table)
    return line_r2(gains, _log_ratios(ratios))


def _surrogacy_rate_ratio(sample: Sample, check: FactCheck, table: FactTable) -> float:
    gains, ratios = _surrogacy(sample, check, table)
    logs = _log_ratios(ratios)
    kept = np.isfinite(logs)
    if not kept.any() or not (gains[kept] ** 2).sum():
        return math.nan
    per_unit = float((gains[kept] * logs[kept]).sum() / (gains[kept] ** 2).sum())
    return math.exp(per_unit * (check.threshold or 0.0))


def _surrogacy_worst(sample: Sample, check: FactCheck, table: FactTable) -> float:
    gains, ratios = _surrogacy(sample, check, table)
    passing = ratios[(gains >= (check.threshold or 0.0)) & np.isfinite(ratios)]
    return float(passing.max()) if passing.size else math.nan


def _responder_percent(sample: Sample, check: FactCheck, table: FactTable) -> float:
    rule = table.responses[check.response]
    days = np.array([0.0, rule.day])
    protein = sample.log_readings(check.arm, "urine_protein_24h", days)
    egfr = sample.egfr_readings(check.arm, days)
    now, then = protein[..., 1], protein[..., 0]
    responds = (now <= rule.protein_max) & (now <= (1.0 - rule.protein_fall) * then)
    kept = (egfr[..., 1] >= rule.egfr_kept_share * egfr[..., 0]) | (egfr[..., 1] >= rule.egfr_floor)
    return 100.0 * rule.completing * float(np.mean(responds & kept))


def _slope_correlation(sample: Sample, check: FactCheck, table: FactTable) -> float:
    days = _grid(check, table)
    slopes = slope(sample.egfr_readings(check.arm, days), days, start=days[0], stop=days[-1])
    if check.observable == "uacr":
        marker = sample.log_readings(check.arm, "uacr", days[:1])[..., 0]
    else:
        marker = np.broadcast_to(sample.at(check.arm, check.observable, days[0]), slopes.shape)
    return float(np.mean(rank_correlation(marker, slopes)))


def _endpoint_auc(sample: Sample, check: FactCheck, table: FactTable) -> float:
    endpoint, days = table.endpoints[check.endpoint], _endpoint_days(check, table)
    happened = _event_days(sample, endpoint, days, check.arm) <= endpoint.horizon_days
    return concordance(sample.at(check.arm, check.observable, 0.0), happened.mean(axis=0))


def _not_modelled(sample: Sample, check: FactCheck, table: FactTable) -> float:
    return math.nan


def _surrogacy_days(check: FactCheck, table: FactTable) -> Array:
    return np.concatenate([_grid(check, table), _endpoint_days(check, table)])


_SURROGACY_NEEDS = ("arms", "endpoint", "day", "every_days")
STATISTICS: Mapping[str, Statistic] = {
    "mean_at": Statistic(_mean_at, lambda check, _: (check.at,)),
    "mean_change": Statistic(_mean_change, _ends),
    "slope": Statistic(_slope, _grid, ("day", "every_days")),
    "total_slope": Statistic(
        _total_slope, lambda check, table: (0.0, *_grid(check, table)), ("day", "every_days", "from_day")
    ),
    "slope_sd": Statistic(_slope_sd, _grid, ("day", "every_days"), (0.0, math.inf)),
    "geomean_ratio": Statistic(_geomean_ratio, _ends, limits=(0.0, math.inf)),
    "geomean_percent_change": Statistic(_geomean_percent, _ends, limits=(-100.0, math.inf)),
    "pooled_percent_change": Statistic(
        _pooled_percent, _grid, ("day", "every_days", "versus"), limits=(-100.0, math.inf)
    ),
    "multiplicativity": Statistic(_multiplicativity, _ends, ("day", "arms"), (0.0, math.inf)),
    "share_drop": Statistic(_share_drop, _ends, ("day", "threshold"), (0.0, 100.0)),
    "reference_change_value": Statistic(
        _reference_change, lambda check, _: (check.at,), limits=(0.0, math.inf)
    ),
    "nonlinear_probability": Statistic(_nonlinear, _grid, ("day", "every_days"), (0.0, 1.0)),
    "endpoint_percent": Statistic(_endpoint_percent, _endpoint_days, ("endpoint",), (-100.0, 100.0)),
    "endpoint_rate": Statistic(_endpoint_rate, _endpoint_days, ("endpoint",)),
    "endpoint_rate_ratio": Statistic(
        _endpoint_rate_ratio, _endpoint_days, ("endpoint", "versus"), (0.0, math.inf)
    ),
    "endpoint_auc": Statistic(_endpoint_auc, _endpoint_days, ("endpoint",), (0.0, 1.0)),
    "surrogacy_r2": Statistic(_surrogacy_r2, _surrogacy_days, _SURROGACY_NEEDS, (0.0, 1.0)),
    "surrogacy_rate_ratio": Statistic(
        _surrogacy_rate_ratio, _surrogacy_days, (*_SURROGACY_NEEDS, "threshold"), (0.0, math.inf)
    ),
    "surrogacy_worst_above_threshold": Statistic(
        _surrogacy_worst, _surrogacy_days, (*_SURROGACY_NEEDS, "threshold"), (0.0, math.inf)
    ),
    "responder_percent": Statistic(
        _responder_percent,
        lambda check, table: (0.0, table.responses[check.response].day),
        ("response",),
        (0.0, 100.0),
    ),
    "slope_correlation": Statistic(_slope_correlation, _grid, ("day", "every_days"), (-1.0, 1.0)),
    "not_modelled": Statistic(_not_modelled, lambda check, _: (), ()),
}


# =========================================================================== the evaluation


@plain_dataclass(frozen=True)
class CheckResult:
    """A check with its prediction. `passed` is None where nothing can be computed."""

    fact: Fact
    check: FactCheck
    predicted: float
    draws: Array
    subjects: int
    failed: int

    @property
    def ci90(self) -> tuple[float, float]:
        """5 and 95 % quantiles over parameter draws; NaN without draws."""
        finite = self.draws[np.isfinite(self.draws)]
        return (math.nan, math.nan) if finite.size == 0 else tuple(np.quantile(finite, (0.05, 0.95)).tolist())

    @property
    def passed(self) -> bool | None:
        """Whether the prediction lies inside the tolerance, nearly all subjects having succeeded."""
        if self.check.not_modelled:
            return None
        low, high = self.check.bounds
        enough = self.failed <= MOST_FAILED * self.subjects
        return bool(enough and low <= self.predicted <= high)


@plain_dataclass(frozen=True)
class _Need:
    """What one population has to be simulated for."""

    population: FactPopulation
    checks: tuple[FactCheck, ...]
    arms: tuple[FactArm, ...]
    times: Array


def _needs(table: FactTable) -> list[_Need]:
    needs = []
    for name, population in table.populations.items():
        checks = tuple(table.checks_of(name))
        if not checks:
            continue
        arms = dict.fromkeys(arm for check in checks for arm in check.all_arms)
        days = [0.0, *(float(d) for c in checks for d in STATISTICS[c.statistic].days(c, table))]
        needs.append(_Need(population, checks, tuple(table.arms[a] for a in arms), np.unique(days)))
    return needs


def _samples(
    need: _Need, size: int, thetas: Sequence[Theta], seed: int, simulate: Simulator
) -> tuple[list[Sample], list[int]]:
    """One sample per draw, and how many of its subjects failed."""
    population = replace(need.population, size=size)
    patients = virtual_patients(population, seed)
    result = simulate(population, need.arms, need.times, thetas, seed)
    samples, failed = [], []
    for draw in range(len(thetas)):
        paths = {arm: {name: values[draw] for name, values in seen.items()} for arm, seen in result.items()}
        broken = [np.isnan(values).any(axis=-1) for seen in paths.values() for values in seen.values()]
        kept = ~np.any(broken, axis=0)
        samples.append(Sample(patients, kept, need.times, paths))
        failed.append(int((~kept).sum()))
    return samples, failed


def _number(sample: Sample, check: FactCheck, table: FactTable) -> float:
    people = sample.only(check.subset)
    return STATISTICS[check.statistic].compute(people, check, table) if len(people) else math.nan


def _evaluate(
    need: _Need, table: FactTable, thetas: Sequence[Theta], patients: int, seed: int, simulate: Simulator
) -> dict[int, tuple[float, Array, int, int]]:
    """Per check (by identity): prediction, draws, subjects, failed subjects."""
    median, draws = thetas[0], list(thetas[1:])
    if need.population.kind == "typical":
        samples, failed = _samples(need, 1, thetas, seed, simulate)
        subjects, lost, whole, around = 1, failed[0], samples[0], samples
    else:
        size = max(2, round(patients * need.population.relative_size))
        (whole,), (lost,) = _samples(need, size, [median], seed, simulate)
        few = draws[: (len(draws) + 1) // 2]
        around, _ = (
            _samples(need, min(size, DRAW_PATIENTS), [median, *few], seed, simulate) if few else ([], [])
        )
        subjects = size
    results = {}
    for check in need.checks:
        predicted = _number(whole, check, table)
        moved = [predicted + _moved(check, table, around[0], sample) for sample in around[1:]]
        limits = STATISTICS[check.statistic].limits
        results[id(check)] = (predicted, np.clip(np.array(moved), *limits), subjects, lost)
    return results


def _moved(check: FactCheck, table: FactTable, median: Sample, draw: Sample) -> float:
    """Change of a check's number from the medians to a draw, in the patients who succeeded in both."""
    both = median.kept & draw.kept
    before, after = (_number(replace(sample, kept=both), check, table) for sample in (median, draw))
    return after - before


def facts(
    *,
    draws: int = 20,
    seed: int = 1,
    source: Source = "posterior",
    patients: int = 1024,
    workers: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    only: Sequence[int] | None = None,
    simulate_population: Simulator | None = None,
    theta_draws: Sequence[Theta] | None = None,
    table: FactTable | None = None,
) -> FactsResult:
    """Set every published fact beside the model's prediction.

    draws: parameter draws behind `ci90` (0: none). source: where they and the medians come from: the posterior that
    ships ('posterior'), the priors ('prior'), a file or a posterior of one's own. patients: size of a virtual population; some take
    half of it. workers: threads, by default one per processor. progress: called
    with populations done, all of them, and the next one's title. only: numbers of the facts wanted.

    Other: simulate_population replaces the model (see `Simulator`); theta_draws gives the parameters,
    medians first, instead of draws of `source`; table another table of facts.
    Raises FactError for sizes that make no sense or unknown fact numbers.
    """
    for name, size, least in (("draws", draws, 0), ("patients", patients, 2)):
        if isinstance(size, bool) or not isinstance(size, int) or size < least:
            raise FactError(f"{name} must be a whole number of {least} or more, got {size!r}.")
    whole = table or load_facts()
    wanted = _only(whole, only)
    parameters: dict[str, Any] = {"origin": "given"}
    if theta_draws is None:
        theta_draws, parameters = _parameters(draws, seed, source)
    from mscrenal.scenarios.sources import release

    needs, computed = _needs(wanted), {}
    failures: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if simulate_population is None:
            simulate_population = stack.enter_context(closing(ModelSimulator(workers, failures)))
        for done, need in enumerate(needs):
            if progress is not None:
                progress(done, len(needs), need.population.title)
            computed.update(_evaluate(need, wanted, theta_draws, patients, seed, simulate_population))
        if progress is not None:
            progress(len(needs), len(needs), "")
    nothing = (math.nan, np.array([]), 0, 0)
    results = tuple(
        CheckResult(fact, check, *computed.get(id(check), nothing))
        for fact in wanted.facts
        for check in fact.check
    )
    return FactsResult(
        command="facts",
        title="Published facts beside the model's prediction",
        question="Does the model reproduce what is known of untreated and drug-treated kidney disease?",
        provenance={
            "package": "mscrenal",
            "version": release(),
            **parameters,
            "draws": len(theta_draws) - 1,
            "seed": seed,
            "patients": patients,
            "evidence_hash": evidence.evidence_hash(),
            "assumptions": _assumptions(wanted),
        },
        results=results,
        failed=tuple(failures),
    )


def _only(table: FactTable, numbers: Sequence[int] | None) -> FactTable:
    if numbers is None:
        return table
    known = {fact.number: fact for fact in table.facts}
    for number in numbers:
        if number not in known:
            raise FactError(f"There is no fact {number!r}. Allowed: {', '.join(map(str, sorted(known)))}.")
    return replace(table, facts=tuple(fact for fact in table.facts if fact.number in numbers))


def _parameters(draws: int, seed: int, source: Source) -> tuple[list[Theta], dict[str, Any]]:
    """Parameter sets, medians first, and where they come from."""
    from mscrenal.scenarios.run import origin_of  # heavy: builds the model
    from mscrenal.scenarios.sources import draws_of

    drawn = draws_of(max(draws, 1), seed, source)
    each = [{name: float(values[i]) for name, values in drawn.values.items()} for i in range(draws)]
    return [drawn.median(), *each], {**origin_of(drawn), "draws_hash": drawn.hash}


def _assumptions(table: FactTable) -> list[str]:
    """What nobody printed and these populations take for granted, in sentences."""
    used = {check.population for fact in table.facts for check in fact.check}
    sentences = [
        "Predictions are at the parameters' medians; 90 % intervals over draws.",
        "Covariates of a virtual population are independent of each other.",
    ]
    for name in table.populations:
        if name not in used:
            continue
        population = table.populations[name]
        parts = {
            **population.covariates,
            "share of men": population.male_share,
            "diabetic share": population.diabetic_share,
        }
        said = [
            f"{what}: {part.assumed}" for what, part in parts.items() if part is not None and part.assumed
        ]
        sentences += [f"{population.title}: {'; '.join(said)}."] if said else []
    return sentences


# =========================================================================== simulation by the model


@plain_dataclass(frozen=True)
class _Batch:
    """Some patients under one draw."""

    patients: tuple[Mapping[str, Any], ...]
    arms: tuple[FactArm, ...]
    theta: Theta
    times: Array


def _simulate_batch(batch: _Batch) -> list[tuple[Array, list[tuple[str, str]]]]:
    """Each patient through every arm: (n_arms, n_observables, n_times), and (status, message) per arm."""
    from mscrenal.model import DrugCourse, Patient
    from mscrenal.model.population import simulate_cohort

    regimens = tuple(
        ((), tuple(DrugCourse(add.drug, add.start_day, add.stop_day, add.level) for add in arm.add))
        for arm in batch.arms
    )
    n = len(batch.patients)
    people = [Patient(**patient) for patient in batch.patients]
    cohort = simulate_cohort(people, [batch.theta] * n, [regimens] * n, batch.times, OBSERVABLES)
    return [
        (
            np.moveaxis(cohort.values[j], -1, 1),
            [(str(s), cohort.messages.get((j, a), "")) for a, s in enumerate(cohort.status[j])],
        )
        for j in range(n)
    ]


@plain_dataclass
class ModelSimulator:
    """The `Simulator` that asks the model, patient by patient, over `workers` threads.

    `failures` collects every subject that did not come through: population, arm, draw, patient, status,
    message. Close it when done.
    """

    workers: int | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    _executor: Executor | None = None

    def __call__(
        self,
        population: FactPopulation,
        arms: Sequence[FactArm],
        times: Array,
        theta_draws: Sequence[Theta],
        seed: int,
    ) -> dict[str, dict[str, Array]]:
        """Simulate; arguments and result as in `Simulator`."""
        people = self._people(virtual_patients(population, seed))
        tasks = [
            _Batch(tuple(people[k : k + BATCH]), tuple(arms), theta, times)
            for theta in theta_draws
            for k in range(0, len(people), BATCH)
        ]
        shape = (len(arms), len(OBSERVABLES), len(theta_draws), len(people), times.size)
        values = np.full(shape, np.nan)
        for index, (seen, statuses) in enumerate(self._map(tasks)):
            draw, patient = divmod(index, len(people))
            values[:, :, draw, patient] = seen
            for arm, (status, message) in zip(arms, statuses, strict=True):
                if status != "ok":
                    where = {"population": population.name, "arm": arm.name, "draw": draw, "patient": patient}
                    self.failures.append({**where, "status": status, "message": message})
        return {a.name: dict(zip(OBSERVABLES, values[i], strict=True)) for i, a in enumerate(arms)}

    def close(self) -> None:
        """Let the workers go."""
        if self._executor is not None:
            self._executor.__exit__(None, None, None)
            self._executor = None

    def _people(self, patients: VirtualPatients) -> list[dict[str, Any]]:
        from mscrenal.model import RANDOM_EFFECTS

        population = patients.population
        etas = {name: patients.eta(name, effect.sd) for name, effect in RANDOM_EFFECTS.items()}
        other = population.other_disease or population.disease
        return [
            {
                "species": "human",
                "disease": population.disease if patients.diabetic[i] else other,
                "age": float(patients.age[i]),
                "sex": "male" if patients.male[i] else "female",
                "egfr": float(patients.egfr[i]),
                "uacr": float(patients.uacr[i]),
                "hba1c": float(patients.hba1c[i]),
                "duration_years": float(patients.duration_years[i]),
                "drugs": patients.drugs[i],
                "sledai": None if population.sledai is None else population.sledai.value,
                "eta": {name: float(eta[i]) for name, eta in etas.items()},
            }
            for i in range(len(patients))
        ]

    def _map(self, tasks: Sequence[_Batch]) -> Iterable[tuple[Array, list[tuple[str, str]]]]:
        if self._executor is None:
            self._executor = executor_for(self.workers)
            self._executor.warm()
        for results in self._executor.map(_simulate_batch, tasks):
            yield from results


# =========================================================================== the result


@plain_dataclass(frozen=True, kw_only=True, eq=False)
class FactsResult(Result):
    """Every fact beside the prediction."""

    results: tuple[CheckResult, ...]
    failed: tuple[Mapping[str, Any], ...] = ()

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Failed subjects: population, arm, draw, patient, status, message."""
        return self.failed

    @cached_property
    def by_fact(self) -> dict[int, list[CheckResult]]:
        """The checks of each fact, by its number."""
        grouped: dict[int, list[CheckResult]] = {}
        for result in self.results:
            grouped.setdefault(result.fact.number, []).append(result)
        return grouped

    @property
    def passed(self) -> dict[int, bool]:
        """Whether each fact passes: all of its checks that can be computed do."""
        return {
            number: all(result.passed for result in group if result.passed is not None)
            for number, group in self.by_fact.items()
        }

    @property
    def table(self) -> pd.DataFrame:
        """One row a check."""
        rows = []
        for result in self.results:
            fact, check = result.fact, result.check
            low, high = check.bounds
            rows.append(
                {
                    "fact": fact.number,
                    "id": fact.id,
                    "check": check.id,
                    "population": check.population,
                    "arm": check.arm if not check.arms else " | ".join(check.arms),
                    "versus": check.versus,
                    "statistic": check.statistic,
                    "unit": check.unit,
                    "target": math.nan if check.target is None else check.target,
                    "low": low,
                    "high": high,
                    "predicted": result.predicted,
                    "ci90_low": result.ci90[0],
                    "ci90_high": result.ci90[1],
                    "pass": {True: "yes", False: "no", None: "not modelled"}[result.passed],
                    "subjects": result.subjects,
                    "failed": result.failed,
                    "draws": int(np.isfinite(result.draws).sum()),
                    "basis": fact.basis,
                    "source": check.source or ", ".join(fact.source),
                    "note": check.not_modelled
                    or "; ".join(part for part in (check.derived, check.note) if part),
                }
            )
        return pd.DataFrame(rows)

    @property
    def summary(self) -> pd.DataFrame:
        """One row a fact: its headline, and how many of its checks pass."""
        return pd.DataFrame(
            [
                {
                    "fact": record["number"],
                    "title": record["title"],
                    "basis": record["basis"],
                    "target": record["target"],
                    "predicted": record["predicted"],
                    "unit": record["unit"],
                    "checks_passed": f"{record['checks_passed']} of {record['checks_counted']}",
                    "pass": "yes" if record["pass"] else "no",
                }
                for record in self._records()
            ]
        )

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Checks and facts."""
        return {"facts": self.table, "facts_summary": self.summary}

    @property
    def data(self) -> xr.Dataset:
        """Predictions, tolerances and draws, by check ("number/id")."""
        names = [f"{result.fact.number}/{result.check.id}" for result in self.results]
        most = max((result.draws.size for result in self.results), default=0)
        drawn = np.full((len(names), most), np.nan)
        for row, result in zip(drawn, self.results, strict=True):
            row[: result.draws.size] = result.draws
        bounds = np.array([result.check.bounds for result in self.results]).reshape(-1, 2)
        return xr.Dataset(
            {
                "predicted": ("check", [result.predicted for result in self.results]),
                "low": ("check", bounds[:, 0]),
                "high": ("check", bounds[:, 1]),
                "draws": (("check", "draw"), drawn),
            },
            coords={"check": names, "unit": ("check", [result.check.unit for result in self.results])},
        )

    def _records(self) -> list[dict[str, Any]]:
        records = []
        for number, group in self.by_fact.items():
            fact = group[0].fact
            head = next(result for result in group if result.check is fact.headline)
            counted = [result for result in group if result.passed is not None]
            records.append(
                {
                    "id": fact.id,
                    "number": number,
                    "title": fact.title,
                    "source": list(fact.source),
                    "basis": fact.basis,
                    "computed": fact.computed,
                    **_numbers(head),
                    "pass": self.passed[number],
                    "headline": head.check.id,
                    "checks_passed": sum(bool(result.passed) for result in counted),
                    "checks_counted": len(counted),
                    "checks": [_check_record(result) for result in group],
                }
            )
        return records

    def to_json(self) -> dict[str, Any]:
        """`facts[]` (numbers of the headline check, `checks[]` with all), `passed` and `of`."""
        document = {"facts": self._records(), "passed": sum(self.passed.values()), "of": len(self.passed)}
        converted: dict[str, Any] = plain({**self._document(), **document})
        return converted

    def plot(self) -> dict[str, Figure]:
        """Every prediction against its tolerance, which is drawn as the same width for all."""
        from mscrenal.scenarios.facts_figure import figures_of  # matplotlib: only when a figure is asked for
        from mscrenal.scenarios.style import house_style

        with house_style():
            return figures_of(self)


def _numbers(result: CheckResult) -> dict[str, Any]:
    return {
        "target": result.check.target,
        "tolerance": list(result.check.bounds),
        "unit": result.check.unit,
        "predicted": result.predicted,
        "ci90": list(result.ci90),
    }


def _check_record(result: CheckResult) -> dict[str, Any]:
    check = result.check
    return {
        "id": check.id,
        "source": check.source or ", ".join(result.fact.source),
        "population": check.population,
        "arms": list(check.all_arms),
        "statistic": check.statistic,
        **_numbers(result),
        "pass": result.passed,
        "subjects": result.subjects,
        "failed": result.failed,
        "draws": int(np.isfinite(result.draws).sum()),
        "derived": check.derived,
        "note": check.note,
        "not_modelled": check.not_modelled,
    }


# =========================================================================== the figure
