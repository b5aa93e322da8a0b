"""A trial as its protocol has it: who is admitted, which arms in which ratio, what is measured, how it is analysed.

Checked once, when it is made, like everything in `mscrenal.scenarios.scenario`; the table ``[trial]`` of a scenario
file becomes one.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from mscrenal.model import COVARIATES, OBSERVABLES
from mscrenal.model.declare import nearest
from mscrenal.model.text import ScenarioError
from mscrenal.scenarios.endpoints import CHRONIC_START_DAY, ENDPOINTS, ESKD_EGFR, endpoint

if TYPE_CHECKING:
    from mscrenal.scenarios.scenario import PatientSpec, PopulationSpec, Scenario

__all__ = [
    "ANALYSES",
    "MOST_PER_ARM",
    "TRIAL_ENDPOINTS",
    "Rate",
    "TrialEndpoint",
    "TrialError",
    "TrialSpec",
    "population_around",
    "population_of",
    "trial_endpoint",
]

MOST_PER_ARM = 20_000
MOST_LOOKS = 5

Kind = Literal["change", "log_ratio", "slope", "responder", "event"]


class TrialError(ScenarioError):
    """A trial that cannot be run as designed."""


@dataclass(frozen=True)
class TrialEndpoint:
    """What a trial tests.

    Attributes
    ----------
    name, label : str
    kind : str
        'change' from baseline; 'log_ratio' to baseline, whose effect is a ratio of geometric means; 'slope' per year;
        'responder', a share of patients; 'event', the time to the first of some events.
    observables : tuple of str
        What has to be measured; the first is the main one.
    unit : str
        Of the effect.
    better : str
        'higher' or 'lower': the sign of a benefit.
    estimand : str
        What is estimated, in words.
    analyses : tuple of str
        Allowed; the first is the default.
    """

    name: str
    label: str
    kind: Kind
    observables: tuple[str, ...]
    unit: str
    better: Literal["higher", "lower"]
    estimand: str
    analyses: tuple[str, ...]

    @property
    def as_ratio(self) -> bool:
        """Whether effects are printed as ratios, which the test has as logarithms."""
        return self.kind in ("log_ratio", "event")

    def printed(self, effect: float) -> float:
        """An effect of the test's scale as it is printed."""
        return math.exp(effect) if self.as_ratio else effect


# What each analysis is, in words for a protocol.
ANALYSES: Mapping[str, str] = {
    "ancova": "linear regression of the value at the last visit, as change or log ratio, on arm and baseline; patients with that visit",
    "t-test": "two-sample t test with pooled variance of the change at the last visit; patients with that visit",
    "mmrm": "normal model for repeated measures: all visits, unstructured covariance, arm by visit, baseline by visit; "
    "maximum likelihood under missingness at random, t with the patients less two degrees of freedom",
    "slopes": "each patient's least-squares slope over the visits that took place, then a two-sample t test (two stages)",
    "mixed": "linear mixed model of all readings with a knot at the end of the acute phase, random intercept and slope (statsmodels)",
    "proportions": "score test of two proportions with pooled variance; who leaves is no responder",
    "log-rank": "log-rank test of the time to the first event; who leaves is censored at the last visit",
}

_ALIVE = "in randomised patients, whatever else they take, had nobody left the trial early or died (hypothetical strategy for both)"


def _measured(name: str) -> TrialEndpoint:
    """The trial's version of an endpoint of `mscrenal.scenarios.endpoints`."""
    found = ENDPOINTS[name]
    if found.kind == "percent_change":
        estimand = (
            f"ratio between the arms of the geometric mean of {found.observable} at the last visit over baseline, "
            f"{_ALIVE}"
        )
        return TrialEndpoint(name, found.label, "log_ratio", (found.observable,), "ratio", found.better, estimand,
                             ("ancova", "t-test", "mmrm"))  # fmt: skip
    if found.kind == "change":
        estimand = f"difference between the arms in mean change of {found.observable} from baseline to the last visit, {_ALIVE}"
        return TrialEndpoint(name, found.label, "change", (found.observable,), found.difference_unit, found.better,
                             estimand, ("ancova", "t-test", "mmrm"))  # fmt: skip
    span = "the whole trial" if found.kind == "slope_total" else f"the time from day {CHRONIC_START_DAY:g} on"
    estimand = f"difference between the arms in mean slope of eGFR over {span}, {_ALIVE}"
    return TrialEndpoint(
        name,
        found.label,
        "slope",
        (found.observable,),
        found.unit,
        found.better,
        estimand,
        ("slopes", "mixed"),
    )


def _events(percent: int, relative: float) -> TrialEndpoint:
    estimand = (
        f"hazard ratio of the first of: eGFR {percent} % below baseline at a visit and again at its repeat, eGFR below "
        f"{ESKD_EGFR:g} likewise, death; in randomised patients, whatever else they take, had nobody left early"
    )
    return TrialEndpoint(
        f"kidney_composite_{percent}",
        f"eGFR -{percent} %, eGFR <{ESKD_EGFR:g} or death",
        "event",
        ("egfr",),
        "hazard ratio",
        "lower",
        estimand,
        ("log-rank",),
    )


_SHARE = "difference between the arms in the share of randomised patients {what}; who leaves early or dies is no responder (composite strategy)"

TRIAL_ENDPOINTS: Mapping[str, TrialEndpoint] = {
    e.name: e
    for e in (
        *(
            _measured(name)
            for name, e in ENDPOINTS.items()
            if e.kind != "time_to" and {o.name: o for o in OBSERVABLES}[e.observable].residual
        ),
        TrialEndpoint(
            "uacr_responder", "UACR fall by 30 %", "responder", ("uacr",), "share of patients", "higher",
            _SHARE.format(what="whose UACR reads 30 % or more below baseline at the last visit"), ("proportions",),
        ),
        TrialEndpoint(
            "hba1c_insulin_responder", "HbA1c <7 % with half the insulin", "responder", ("hba1c", "insulin_dose"),
            "share of patients", "higher",
            _SHARE.format(what="with HbA1c below 7 % and at most half the insulin of baseline at the last visit (zang2022)"),
            ("proportions",),
        ),
        # 40 %: the surrogate that regulators took up; 57 %: a doubling of serum creatinine (Levey 2014,
        # doi:10.1053/j.ajkd.2014.07.030).
        _events(40, 0.40),
        _events(57, 0.57),
    )
}  # fmt: skip


def trial_endpoint(name: str) -> TrialEndpoint:
    """Look up an endpoint of trials.

    Raises
    ------
    TrialError
        With the nearest names; an endpoint that the model has but no trial can measure says so.
    """
    if name in TRIAL_ENDPOINTS:
        return TRIAL_ENDPOINTS[name]
    if name in ENDPOINTS:
        found = endpoint(name)
        why = (
            "it is drawn on beyond the horizon; a trial counts events: kidney_composite_40 or kidney_composite_57"
            if found.kind == "time_to"
            else f"{found.observable} has no measurement in people with an error"
        )
        raise TrialError(
            f"endpoint {name!r} cannot be the endpoint of a trial: {why}. Allowed: {', '.join(TRIAL_ENDPOINTS)}.",
            key=("endpoint",),
        )
    raise TrialError(
        f"unknown endpoint of a trial {name!r}.{nearest(name, TRIAL_ENDPOINTS)}", key=("endpoint",)
    )


@dataclass(frozen=True)
class Rate:
    """A constant rate, told as the share that it has reached by a time.

    >>> round(Rate(0.5, 365.25).per_day * 365.25, 4)
    0.6931
    """

    share: float
    by_days: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.share) and 0.0 <= self.share < 1.0):
            raise TrialError(
                f"share: given {self.share!r}. Allowed: 0 up to, not including, 1.", key=("share",)
            )
        if not (math.isfinite(self.by_days) and self.by_days > 0):
            raise TrialError(f"by: given {self.by_days!r} days. Allowed: above zero.", key=("by",))

    @property
    def per_day(self) -> float:
        """The hazard."""
        return -math.log1p(-self.share) / self.by_days


# Over a year; no source prints the dropout of a cell trial. The discontinuation for adverse events of the large trials
# (5 to 7 %: kerendia_label) is its lower end.
DROPOUT = Rate(0.07, 365.25)
# 5.7 % of CREDENCE-like patients in 125 weeks (heerspink2021b): in diabetic kidney disease, whatever the treatment.
DEATH = {"diabetic": Rate(0.057, 875.0)}
MISSED = 0.03  # assumed: of visits, for no reason that matters


@dataclass(frozen=True)
class TrialSpec:
    """The design of a parallel-group trial.

    Parameters
    ----------
    arms : tuple of str
        Randomised arms of the scenario, the reference among them; empty: all that carry an `n`, and the reference.
    sizes : tuple of int
        Patients of each of `arms`; empty: those of the arms.
    endpoint, analysis : str
        Empty: the scenario's first endpoint that a trial can test, and that endpoint's first analysis.
    alpha : float
        Two-sided, for each comparison with the reference.
    block : int
        Length of the randomised blocks, a multiple of the sum of the allocation ratio; 0: the smallest multiple of at least 4.
    missed : float
        Share of visits (not baseline) that are missed.
    dropout, death : Rate
        Who leaves has no further visits; who dies neither, and has an event where death counts as one.
    looks : tuple of float
        Interim analyses, as fractions of the patients, rising, below 1.
    population : PopulationSpec, optional
        Who is admitted. None: the scenario's population, or one around its patient (`population_around`).
    at_days : float
        The visit at which the endpoint is read; 0: the scenario's horizon.
    """

    arms: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    endpoint: str = ""
    analysis: str = ""
    alpha: float = 0.05
    block: int = 0
    missed: float = MISSED
    dropout: Rate = DROPOUT
    death: Rate | None = None
    looks: tuple[float, ...] = ()
    population: PopulationSpec | None = None
    at_days: float = 0.0

    def __post_init__(self) -> None:
        for name in ("arms", "sizes", "looks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.endpoint:
            chosen = trial_endpoint(self.endpoint)
            if self.analysis and self.analysis not in chosen.analyses:
                raise TrialError(
                    f"analysis: given {self.analysis!r} for {self.endpoint}. Allowed for it: {', '.join(chosen.analyses)}.",
                    key=("analysis",),
                )
        elif self.analysis and self.analysis not in ANALYSES:
            raise TrialError(
                f"unknown analysis {self.analysis!r}.{nearest(self.analysis, ANALYSES)}", key=("analysis",)
            )
        if not (math.isfinite(self.alpha) and 0.0 < self.alpha < 0.5):
            raise TrialError(
                f"alpha: given {self.alpha!r}. Allowed: above 0, below 0.5 (two-sided).", key=("alpha",)
            )
        if not (math.isfinite(self.missed) and 0.0 <= self.missed < 1.0):
            raise TrialError(
                f"missed: given {self.missed!r}. Allowed: 0 up to, not including, 1.", key=("missed",)
            )
        if isinstance(self.block, bool) or not isinstance(self.block, int) or self.block < 0:
            raise TrialError(
                f"block: given {self.block!r}. Allowed: a whole number, 0 for the default.", key=("block",)
            )
        if len(self.looks) > MOST_LOOKS - 1 or any(
            not (math.isfinite(f) and 0.0 < f < 1.0) for f in self.looks
        ):
            raise TrialError(
                f"looks: given {list(self.looks)}. Allowed: up to {MOST_LOOKS - 1} fractions between 0 and 1; the end "
                "is always looked at.",
                key=("looks",),
            )
        if any(b <= a for a, b in zip(self.looks, self.looks[1:], strict=False)):
            raise TrialError(f"looks: given {list(self.looks)}. They must rise.", key=("looks",))
        for size in self.sizes:
            if isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= MOST_PER_ARM:
                raise TrialError(
                    f"n: given {size!r} patients in an arm. Allowed: 2 to {MOST_PER_ARM:,}; with fewer than 2 there is "
                    "no spread to test against.",
                    key=("n",),
                )
        if self.sizes and len(self.sizes) != len(self.arms):
            raise TrialError(
                f"n: given {len(self.sizes)} numbers for {len(self.arms)} arms. Give one for each.",
                key=("n",),
            )

    def replace(self, **changes: Any) -> TrialSpec:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    def read_at(self, scenario: Scenario) -> Scenario:
        """The scenario up to the visit at which the endpoint is read.

        Raises
        ------
        TrialError
            If that is no visit, or lies beyond the horizon.
        """
        if not self.at_days:
            return scenario
        days = ", ".join(f"{v:g}" for v in scenario.visits)
        if self.at_days > scenario.horizon_days:
            raise TrialError(
                f"at: given day {self.at_days:g}, beyond the horizon, day {scenario.horizon_days:g}. Move the horizon, or "
                f"choose one of the visits: {days}.",
                key=("at",),
            )
        if self.at_days not in scenario.visits or self.at_days <= 0:
            raise TrialError(
                f"at: given day {self.at_days:g}, where this design measures nothing. Allowed: its visits after day 0: {days}.",
                key=("at",),
            )
        return scenario.replace(
            horizon_days=self.at_days, visits=tuple(v for v in scenario.visits if v <= self.at_days)
        )

    def of(self, scenario: Scenario) -> TrialSpec:
        """The design with everything filled in from the scenario.

        Raises
        ------
        TrialError
            An arm that the scenario does not have, no size, an endpoint that the visits cannot show, animals.
        """
        if scenario.subject.species != "human":
            raise TrialError(
                f"scenario {scenario.name!r} is of a {scenario.subject.species}; virtual trials are of people, whose "
                "covariates vary. Allowed: a scenario of people."
            )
        arms = self._arms_of(scenario)
        sizes = self.sizes or tuple(int(scenario.arm(a).n or 0) for a in arms)
        if any(s == 0 for s in sizes):
            # An arm without a size, such as a control that a series lacked, is as large as the smallest that has one.
            given = [s for s in sizes if s]
            if not given:
                raise TrialError(
                    f"no arm of {scenario.name!r} says how many patients it has. Give --n, or n in [[arm]].",
                    key=("n",),
                )
            sizes = tuple(s or min(given) for s in sizes)
        name = self.endpoint or next((e for e in scenario.endpoints if e in TRIAL_ENDPOINTS), "")
        if not name:
            raise TrialError(
                f"none of the endpoints of {scenario.name!r} can be tested in a trial. Give --endpoint, one of: "
                f"{', '.join(TRIAL_ENDPOINTS)}.",
                key=("endpoint",),
            )
        chosen = trial_endpoint(name)
        death = self.death or DEATH.get(scenario.subject.disease) or Rate(0.0, 365.25)
        full = dataclasses.replace(
            self,
            arms=arms,
            sizes=sizes,
            endpoint=name,
            analysis=self.analysis or chosen.analyses[0],
            death=death,
            population=self.population or population_of(scenario),
        )
        _check_visits(chosen, scenario)
        if "insulin_dose" in chosen.observables and not scenario.subject.insulin_share:
            raise TrialError(
                f"{name} needs patients on insulin, of which half can be spared; those of {scenario.name!r} take none. Give "
                "insulin_share, or test hba1c_change.",
                key=("endpoint",),
            )
        ratio = full.ratio
        if full.block % sum(ratio):
            raise TrialError(
                f"block: given {full.block} for the ratio {':'.join(map(str, ratio))}. Allowed: a multiple of {sum(ratio)}.",
                key=("block",),
            )
        return full

    def _arms_of(self, scenario: Scenario) -> tuple[str, ...]:
        names = [a.name for a in scenario.arms]
        wanted = list(self.arms) or [
            a.name for a in scenario.arms if a.n is not None or a.name == scenario.reference
        ]
        for name in wanted:
            if name not in names:
                raise TrialError(f"unknown arm {name!r}.{nearest(name, names)}", key=("arms",))
            if wanted.count(name) > 1:
                raise TrialError(f"arms: {name!r} stands twice.", key=("arms",))
        if self.sizes and scenario.reference not in wanted:
            raise TrialError(
                f"arms: given {wanted}. The reference, {scenario.reference!r}, must be one of them.",
                key=("arms",),
            )
        if scenario.reference not in wanted:
            wanted.insert(0, scenario.reference)
        if len(wanted) < 2:
            raise TrialError(
                f"a trial compares arms, and {scenario.name!r} names {len(wanted)}. Give --arm for each, or n in [[arm]].",
                key=("arms",),
            )
        return tuple(wanted)

    @property
    def ratio(self) -> tuple[int, ...]:
        """Allocation ratio: sizes over their greatest common divisor, or about it where that makes blocks too long."""
        whole = math.gcd(*self.sizes)
        exact = tuple(s // whole for s in self.sizes)
        if sum(exact) <= 12:
            return exact
        least = min(self.sizes)
        return tuple(max(1, round(s / least)) for s in self.sizes)

    @property
    def block_length(self) -> int:
        """Length of the randomised blocks."""
        unit = sum(self.ratio)
        return self.block or unit * max(1, math.ceil(4 / unit))


def _check_visits(chosen: TrialEndpoint, scenario: Scenario) -> None:
    days = scenario.visits
    after = [d for d in days if d > 0]
    if not days or days[0] != 0:
        raise TrialError(
            f"visits of {scenario.name!r} start on day {days[0] if days else float('nan'):g}; without a visit on day 0 there is no baseline. "
            "Add one.",
            key=("visits",),
        )
    if not after or after[-1] != scenario.horizon_days:
        raise TrialError(
            f"{chosen.name} is read at the horizon (day {scenario.horizon_days:g}), where this design measures nothing: its last "
            f"visit is on day {days[-1]:g}. Add a visit there, or move the horizon.",
            key=("visits",),
        )
    if chosen.name == "egfr_slope_chronic" and sum(d >= CHRONIC_START_DAY for d in days) < 2:
        raise TrialError(
            f"a chronic slope starts on day {CHRONIC_START_DAY:g}, and this design has fewer than two visits from there to "
            f"the horizon (day {scenario.horizon_days:g}). Measure later, or test egfr_slope_total or egfr_change.",
            key=("visits",),
        )


# --------------------------------------------------------------------------- who is admitted


def population_of(scenario: Scenario) -> PopulationSpec:
    """The scenario's population, or one around its patient."""
    if scenario.population is not None:
        return scenario.population
    assert scenario.patient is not None
    return population_around(scenario.patient)


@cache
def _spreads() -> Mapping[str, Any]:
    text = (files("mscrenal.scenarios") / "trial_populations.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def population_around(patient: PatientSpec) -> PopulationSpec:
    """Patients around a typical one: its covariates in the middle, spreads, limits and correlations of its disease.

    Spreads, with their sources, stand in ``trial_populations.toml``; from those of eGFR and UACR, which are printed for
    readings, the error of a reading is taken. The centre is that of the uncut distribution; limits that would exclude it
    are moved to let it in.
    """
    from mscrenal.calibration.natural_history import true_egfr_sd, true_uacr_gsd
    from mscrenal.scenarios.scenario import Correlation, Distribution, PopulationSpec

    table = _spreads()
    entry = table["disease"].get(patient.disease, table["disease"]["other"])
    covariates: dict[str, Distribution] = {}
    for name in COVARIATES:
        centre = getattr(patient, name)
        if centre is None:
            continue
        row = entry.get(name) or table["any"].get(name)
        if row is None:
            covariates[name] = Distribution("normal", centre, 0.0)
            continue
        log = "gsd" in row
        spread = row["gsd" if log else "sd"]
        if name == "egfr":
            spread = true_egfr_sd(row["of_mean"], spread)
        elif name == "uacr":
            spread = true_uacr_gsd(spread)
        whole = COVARIATES[name]
        low, high = (max(row.get("min", -math.inf), whole.low), min(row.get("max", math.inf), whole.high))
        covariates[name] = Distribution(
            "lognormal" if log else "normal",
            centre,
            spread,
            min(low, centre),
            max(high, centre),
        )
    pairs = [*entry.get("correlations", ()), *table["any"].get("correlations", ())]
    kept = [
        Correlation(p["between"][0], p["between"][1], p["value"])
        for p in pairs
        if all(n in covariates and not covariates[n].constant for n in p["between"])
    ]
    male = float(entry.get("male_share", {}).get("value", 0.5))
    return PopulationSpec(
        covariates, disease=patient.disease, male_share=male, drugs=patient.drugs, correlations=tuple(kept)
    )
