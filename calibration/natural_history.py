"""Prior medians of natural history and background drugs, fitted to published population estimates.

The best description of untreated diabetic kidney disease in the evidence is the model of eGFR and UACR
that was fitted to FIDELIO-DKD (goulooze2022). This module computes that model's typical courses over a
grid of baseline eGFR and UACR, and finds the constants of ours that come closest; then, drug by drug,
the effects that reproduce the published change of UACR and of slope. Run it to see the numbers that
the declarations carry::

    python -m mscrenal.calibration.natural_history

A test runs the fit again and compares it with the declarations, so that neither can drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit, ndtr, ndtri
from scipy.stats.qmc import Sobol

from mscrenal.calibration.hard_endpoints import expected_events, visits
from mscrenal.calibration.truncated import truncated_quantiles
from mscrenal.model import OBSERVABLES, RANDOM_EFFECTS, DrugCourse, Patient, simulate
from mscrenal.model.population import simulate_cohort
from mscrenal.model.readings import error_sd, error_sizes

__all__ = [
    "COURSE",
    "DRUG_TARGETS",
    "LOG_UACR_VARIANCE",
    "drop_chance",
    "egfr_correlation",
    "egfr_error",
    "fit_drugs",
    "fit_error_memory",
    "fit_immunosuppression",
    "fit_natural_history",
    "fit_primary_injury",
    "fit_random_effects",
    "goulooze_baseline",
    "goulooze_course",
    "true_egfr_sd",
    "true_uacr_gsd",
]

YEAR = 365.25
YEARS = np.array([0.0, 1.0, 2.0, 3.0])
GRID = tuple((egfr, uacr) for egfr in (25.0, 43.0, 60.0) for uacr in (300.0, 850.0, 2000.0))
REFERENCE = Patient(hba1c=7.7, age=66.0, duration_years=16.6, drugs=("ras",))
PEOPLE = 128  # of a trial; a power of two fills the space evenly
# Events are rarer: with 512 people the ratio of FIDELIO's composite on finerenone to that on placebo is off by 0.04.
EVENT_PEOPLE = 2048
CONFIRM_DAYS = 30.0  # from a reading to its repeat, as the facts have it
# SD of trials' slopes about what eGFR and UACR explain (DerSimonian and Laird, of the three arms below: misses of 0.2,
# 0.05 and 0.4 with errors of 0.11, 0.25 and 0.2 give 0.3). Gains in slope on SGLT2 inhibitors differ as much: misses of 0.13,
# 0.65 and 0.22 with errors of 0.112, 0.25 and 0.163 give 0.33.
BETWEEN_TRIALS = 0.3
HBA1C_SD = 1.36  # bakris2020
RESPONDING = ("eta_response", "eta_haemodynamic")  # what differs between patients in the response to a drug
VARYING = ("eta_nephron", "eta_podocyte", "eta_haemodynamic", "eta_response")
# Where the fit starts; the answer does not depend on it (a test starts elsewhere).
COURSE = {
    "nephron_loss_rate": 6e-4,
    "damage_albumin": 0.045,
    "load_exponent": 1.1,
    "podocyte_loss_rate": 1.9e-5,
    "podocyte_hardiness": 2.0,
    "susceptibility": 0.9,
}


EGFR = next(o for o in OBSERVABLES if o.name == "egfr")
LOG_UACR_VARIANCE = 0.141  # of a reading (goulooze2022)
# Sizes of patients' errors of eGFR relative to the typical patient's, and the shares of patients that they stand for.
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(9)
ERROR_SIZES, ERROR_SHARES = error_sizes(EGFR, _NODES), _SHARES / _SHARES.sum()


def egfr_error(egfr: Any) -> Any:
    """SD of the typical patient's reading of eGFR about the true value, both in mL/min/1.73 m²."""
    return error_sd(EGFR, egfr)


def egfr_correlation(days: float, memory: float | None = None) -> float:
    """Correlation of the errors of two readings of eGFR that lie `days` apart; `memory` in place of the declared one."""
    return math.exp(-days / (EGFR.residual_memory if memory is None else memory))


def drop_chance(before: Any, after: Any, kept: float, correlation: float) -> np.ndarray:
    """Chance that a reading of `after` lies below the share `kept` of one of `before`.

    Parameters
    ----------
    before, after : array_like
        True eGFR, mL/min/1.73 m²; of one shape, which the result has.
    kept : float
        0.9: a fall of more than 10 %.
    correlation : float
        Of the two errors.
    """
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    first, second = egfr_error(before), egfr_error(after)
    sd = np.sqrt(second**2 + (kept * first) ** 2 - 2 * correlation * kept * first * second)
    return ndtr((kept * before - after)[..., None] / (sd[..., None] * ERROR_SIZES)) @ ERROR_SHARES


def true_egfr_sd(mean: float, sd: float) -> float:
    """SD over patients of true eGFR, from that of their baseline readings, mL/min/1.73 m².

    Raises
    ------
    ValueError
        If readings of one patient alone spread more than that.
    """
    error = float(egfr_error(mean)) * math.sqrt(float(ERROR_SHARES @ ERROR_SIZES**2))
    rest = sd**2 - error**2
    if rest <= 0:
        raise ValueError(
            f"an SD of {sd:g} at a mean eGFR of {mean:g} is below that of one patient's readings, {error:.1f}"
        )
    return math.sqrt(rest)


def true_uacr_gsd(gsd: float) -> float:
    """Geometric SD over patients of true UACR, from that of their baseline readings.

    Raises
    ------
    ValueError
        If readings of one patient alone spread more than that.
    """
    rest = math.log(gsd) ** 2 - LOG_UACR_VARIANCE
    if rest <= 0:
        raise ValueError(f"a geometric SD of {gsd:g} is below that of one patient's readings, 1.46")
    return math.exp(math.sqrt(rest))


@dataclass(frozen=True)
class PlaceboArm:
    """A trial as a small virtual population, and the mean slope of its placebo arm from day `start` on.

    eGFR is normal and UACR log-normal, both cut to `limits`, with a mean and a median after the cut. Their spreads are
    those of baseline readings, from which the error of a reading is taken; where `true_spread`, the SD of eGFR is that of true
    values. Covariates and random effects fill their space evenly (Sobol), so that means over `PEOPLE` patients are those of
    many.
    """

    study: str
    egfr: tuple[float, float]
    uacr: tuple[float, float]
    limits: tuple[tuple[float, float], tuple[float, float]]
    start: float
    years: float
    slope: float
    error: float
    base: Patient
    true_spread: bool = False

    def patients(self, people: int = PEOPLE, **changes: Any) -> list[Patient]:
        """The people; `changes` are the same for all."""
        u = Sobol(3 + len(VARYING), seed=1).random(people).T
        low, high = self.limits[1]
        mean, sd = self.egfr
        egfrs = truncated_quantiles(
            u[0], mean, sd if self.true_spread else true_egfr_sd(mean, sd), *self.limits[0]
        )
        median, gsd = self.uacr
        logs = truncated_quantiles(u[1], *np.log([median, true_uacr_gsd(gsd), low, high]), mean=False)
        base = self.base.replace(**changes)
        centre = float(base.hba1c or 0.0)
        diabetic = base.disease == "diabetic"
        hba1c = (
            truncated_quantiles(u[2], centre, HBA1C_SD, 5.6, 11.0) if diabetic else np.full(people, centre)
        )
        etas = [RANDOM_EFFECTS[name].sd * ndtri(q) for name, q in zip(VARYING, u[3:], strict=True)]
        return [
            base.replace(
                egfr=float(egfrs[i]),
                uacr=float(np.exp(logs[i])),
                hba1c=float(hba1c[i]),
                eta={name: float(eta[i]) for name, eta in zip(VARYING, etas, strict=True)},
            )
            for i in range(people)
        ]

    def courses(
        self,
        theta: Mapping[str, float],
        days: Sequence[float] | np.ndarray,
        *arms: Sequence[DrugCourse],
        size: int = PEOPLE,
        **changes: Any,
    ) -> np.ndarray:
        """True eGFR and log UACR of everybody in each arm, (size, arms, days, 2); NaN where one does not solve."""
        people = self.patients(size, **changes)
        regimens = tuple(((), tuple(arm)) for arm in arms)
        n = len(people)
        seen = simulate_cohort(people, [theta] * n, [regimens] * n, np.asarray(days), ("egfr", "uacr")).values
        seen[..., 1] = np.log(seen[..., 1])
        return seen

    @property
    def days(self) -> np.ndarray:
        """Visits between which slopes are read."""
        return np.linspace(self.start, self.years * YEAR, 7)

    def mean_slope(self, theta: Mapping[str, float], **changes: Any) -> float:
        """Mean least-squares eGFR slope on placebo, mL/min/1.73 m²/year; NaN if a patient does not solve."""
        return self.slopes(theta, (), **changes)[0]

    def slopes(self, theta: Mapping[str, float], *arms: Sequence[DrugCourse], **changes: Any) -> list[float]:
        """Mean least-squares eGFR slope of each arm, mL/min/1.73 m²/year."""
        seen = self.courses(theta, np.unique([0.0, *self.days]), *arms, **changes)
        paths = seen[:, :, -len(self.days) :, 0].mean(axis=0)
        return [float(np.polyfit(self.days / YEAR, path, 1)[0]) for path in paths]


# SDs and limits that a source does not print are those of the facts' populations (scenarios/facts_table.toml).
FLOW = PlaceboArm(
    "perkovic2024",
    (47.0, 15.2),
    (568.0, 2.66),
    ((22.0, 90.0), (30.0, 5000.0)),
    0.0,
    3.4,
    -3.36,
    0.11,  # the interval of the difference, 0.86 to 1.47, is that of two arms
    Patient(hba1c=7.8, age=66.6, duration_years=17.4, drugs=("ras",)),
)
CREDENCE = PlaceboArm(
    "jardine2020",
    (37.7, 5.0),
    (927.0, 2.66),
    ((30.0, 45.0), (300.0, 5000.0)),
    21.0,
    2.5,
    -4.33,
    0.25,  # none printed: that of FLOW for the smaller stratum
    Patient(hba1c=8.3, age=63.0, duration_years=15.8, drugs=("ras",)),
    true_spread=True,
)
PREDIAN = PlaceboArm(
    "navarro2015",
    (37.0, 12.0),
    (760.0, 2.1),
    ((15.0, 60.0), (30.0, 6000.0)),
    0.0,
    2.0,
    -3.25,  # 6.5 in two years
    0.2,
    Patient(hba1c=7.69, age=66.6, duration_years=17.4, drugs=("ras",)),
)
PLACEBO_ARMS = (FLOW, CREDENCE, PREDIAN)
EMPA_KIDNEY = PlaceboArm(
    "empakidney_slope",
    (37.5, 14.5),
    (330.0, 10.0),
    ((20.0, 90.0), (3.0, 5000.0)),
    60.0,
    2.0,
    -2.75,
    0.1,
    Patient(hba1c=7.69, age=64.0, duration_years=17.4, drugs=("ras",)),
)
EMPA_KIDNEY_DIABETIC_SHARE = 0.46  # assumed in the facts' population too
NOT_DIABETIC: Mapping[str, Any] = {"disease": "nondiabetic-ckd", "hba1c": 5.4, "duration_years": 17.4}
DAPA_CKD_DIABETIC_SHARE = 0.675  # heerspink2021a
UNKNOWN = float("nan")
DAPA_CKD = PlaceboArm(
    "heerspink2021a",
    (43.1, 12.4),
    (949.0, 2.77),
    ((25.0, 75.0), (200.0, 5000.0)),
    0.0,
    2.3,
    UNKNOWN,
    UNKNOWN,
    Patient(hba1c=7.8, age=66.6, duration_years=17.4, drugs=("ras",)),
)
CREDENCE_ALL = PlaceboArm(
    "oshima2020",
    (56.2, 18.5),
    (927.0, 2.66),
    ((30.0, 90.0), (300.0, 5000.0)),
    0.0,
    2.6,
    UNKNOWN,
    UNKNOWN,
    CREDENCE.base,
    true_spread=True,  # 28 % read 30 to <45; see scenarios/facts_table.toml
)
FIDELIO = PlaceboArm(
    "bakris2020",
    (44.3, 12.6),
    (852.0, 2.66),
    ((25.0, 75.0), (30.0, 5000.0)),
    0.0,
    2.6,
    UNKNOWN,
    UNKNOWN,
    PREDIAN.base,
)
RENAAL = PlaceboArm(
    "brenner2001",
    (39.9, 12.0),
    (1265.0, 2.5),
    ((18.0, 75.0), (200.0, 8000.0)),
    0.0,
    3.4,
    UNKNOWN,
    UNKNOWN,
    Patient(hba1c=7.69, age=60.0, duration_years=17.4, drugs=()),
)
CONFIDENCE = PlaceboArm(
    "agarwal2025",
    (54.2, 17.0),
    (578.0, 2.4),
    ((30.0, 90.0), (100.0, 5000.0)),
    0.0,
    0.5,
    UNKNOWN,
    UNKNOWN,
    PREDIAN.base,
)
PIRFENIDONE = PlaceboArm(
    "sharma2011",
    (45.0, 15.0),
    (850.0, 2.66),
    ((20.0, 75.0), (30.0, 5000.0)),
    0.0,
    1.0,
    UNKNOWN,
    UNKNOWN,
    PREDIAN.base,
)


def goulooze_baseline(egfr: float, uacr: float) -> tuple[float, float]:
    """True eGFR (mL/min/1.73 m²) and UACR (mg/g) of the typical patient who reads `egfr` and `uacr` at baseline.

    Readings scatter, so that whoever reads low is on average not quite as low (goulooze2022, tables S1 and S2).
    """
    relative = egfr / 43.0
    return 43.4 * relative**0.882, 866.0 * (uacr / 850.0) ** 0.877 * relative**-0.124


def goulooze_course(egfr: float, uacr: float, years: np.ndarray = YEARS) -> tuple[np.ndarray, np.ndarray]:
    """Typical true eGFR (mL/min/1.73 m²) and UACR (mg/g) at `years` on placebo and a RAS blocker.

    The published population model with its printed constants (goulooze2022): a chronic decline that grows with UACR and
    with baseline eGFR and stops near an eGFR of 16.1; UACR with net growth, slower where baseline eGFR is higher.

    Parameters
    ----------
    egfr, uacr : float
        Readings at baseline; the course starts from `goulooze_baseline`.
    """
    step = 1 / 365.25
    marks = {round(y / step) for y in years}
    relative = egfr / 43.0
    e, u = goulooze_baseline(egfr, uacr)
    start = u
    pace = 3.01 * relative**0.387
    out_e, out_u = [], []
    for k in range(round(years[-1] / step) + 1):
        if k in marks:
            out_e.append(e)
            out_u.append(u)
        by_albumin = 8.59e-4 * (u - 850.0) * relative**-0.560
        e -= pace * (1 + by_albumin - np.exp(-0.300 * (e - 16.1))) * step
        u += u * (0.137 - 0.00257 * (egfr - 43.0) - 7.20e-5 * u - 0.182 * np.log(u / start)) * step
    return np.array(out_e), np.array(out_u)


def _robust(z: np.ndarray) -> np.ndarray:
    """Misses whose square is that of Student's t with four degrees of freedom, which one outlying trial pulls less."""
    return np.sign(z) * np.sqrt(5 * np.log1p(z**2 / 4))


def fit_natural_history(start: Mapping[str, float] | None = None) -> dict[str, float]:
    """Constants named in `COURSE` that best reproduce the published typical courses.

    Least squares over the 3 x 3 grid of baselines and years 1 to 3: eGFR weighted by 0.7 mL/min/1.73 m² (the tolerance
    of the evidence digest) and log UACR of the FIDELIO-like baseline by 0.04 (half of its tolerance; other baselines 0.1:
    the published model holds UACR near each patient's own baseline by a term that is not mechanistic). Beside them stand the mean slopes of
    the placebo arms, weighted by their errors and `BETWEEN_TRIALS`, the growth of albuminuria in one of them (PREDIAN's
    control, 5.7 %, -0.3 to 11.1 % in two years) and the hard endpoints of three trials, with heavy tails.

    Returns
    -------
    dict of str to float
    """
    x0 = np.log([(start or COURSE)[name] for name in COURSE])
    targets = [goulooze_course(*baseline) for baseline in GRID]

    def fitted(y: np.ndarray) -> dict[str, float]:
        return dict(zip(COURSE, np.exp(x0 + y - 1), strict=True))

    def residuals(y: np.ndarray) -> np.ndarray:
        theta = fitted(y)
        out = []
        for (egfr, uacr), (e, u) in zip(GRID, targets, strict=True):
            run = simulate(REFERENCE.replace(egfr=e[0], uacr=u[0]), theta=theta, times=YEARS * YEAR)
            if run.status != "ok":
                # A corner of the box in which every nephron is lost: as bad as it gets, but finite.
                out.append(np.full(6, 100.0))
                continue
            reference = (egfr, uacr) == (43.0, 850.0)
            out.append((run.observable("egfr") - e)[1:] / 0.7)
            out.append(np.log(run.observable("uacr") / u)[1:] / (0.04 if reference else 0.1))
        for arm in PLACEBO_ARMS:
            out.append(
                np.nan_to_num(
                    [(arm.mean_slope(theta) - arm.slope) / math.hypot(arm.error, BETWEEN_TRIALS)], nan=100.0
                )
            )
        counted = np.array(EVENTS)
        out.append(_robust(np.nan_to_num((_events(theta) - counted) / (EVENT_ERROR * counted), nan=100.0)))
        days = np.array([0.0, 2 * YEAR])
        log_uacr = PREDIAN.courses(theta, days, ())[:, 0, :, 1].mean(axis=0)
        out.append(np.nan_to_num((np.diff(log_uacr) - math.log(1.057)) / 0.027, nan=100.0))
        # The courses leave a valley between these; an exponent of 1 is the plain proportion, of podocytes an exponential
        # distribution of frailty (widths assumed: loose).
        exponents = [(theta["load_exponent"] - 1) / 0.2, (theta["susceptibility"] - 1) / 0.3]
        out.append(np.array([*exponents, math.log(theta["podocyte_hardiness"])]))
        return np.concatenate(out)

    # Around 1, so that steps of differences are alike.
    best = least_squares(
        residuals,
        np.ones(len(x0)),
        bounds=(-0.5, 2.5),
        x_scale=0.2,
        diff_step=1e-3,
        ftol=1e-7,
        xtol=1e-5,
    )
    return fitted(best.x)


@dataclass(frozen=True)
class DrugTarget:
    """What drugs do in their trials' patients, and which sizes are fitted to it.

    `predicted` gives, under some parameters, what was published as `values` with the standard errors `errors`.
    """

    drug: str
    studies: tuple[str, ...]
    sizes: tuple[str, ...]
    predicted: Callable[[Mapping[str, float]], np.ndarray]
    values: tuple[float, ...]
    errors: tuple[float, ...]


def _log_uacr(patient: Patient, drug: str, day: float) -> Callable[..., np.ndarray]:
    """Log ratio of one patient's UACR, on the drug over off it."""

    def quantity(theta: Mapping[str, float]) -> np.ndarray:
        off = simulate(patient, theta=theta, times=[0.0, day])
        on = simulate(patient, (), [DrugCourse(drug)], theta, [0.0, day])
        return np.array([np.log(on.observable("uacr")[-1] / off.observable("uacr")[-1])])

    return quantity


def _on(drug: str) -> tuple[DrugCourse, ...]:
    """A course that starts just after the visit of day 0."""
    return (DrugCourse(drug, 0.01),)


def _uacr_against_placebo(
    arm: PlaceboArm, days: Sequence[float] | np.ndarray, theta: Mapping[str, float], drug: str, **changes: Any
) -> float:
    """Mean log ratio of UACR on the drug to that on placebo, over people and days."""
    seen = arm.courses(theta, [0.0, *days], (), _on(drug), **changes)[:, :, 1:, 1]
    return float(np.mean(seen[:, 1] - seen[:, 0]))


def _change(arm: PlaceboArm, day: float, theta: Mapping[str, float], drug: str, **changes: Any) -> float:
    """Mean change of eGFR on the drug minus that on placebo, mL/min/1.73 m²."""
    seen = arm.courses(theta, [0.0, day], (), _on(drug), **changes)[:, :, 1, 0]
    return float(np.mean(seen[:, 1] - seen[:, 0]))


def _gain(arm: PlaceboArm, drug: str, theta: Mapping[str, float], **changes: Any) -> float:
    """Gain in mean slope, mL/min/1.73 m²/year."""
    off, on = arm.slopes(theta, (), _on(drug), **changes)
    return on - off


def _total_gain(arm: PlaceboArm, drug: str, theta: Mapping[str, float], knot: float, **changes: Any) -> float:
    """Gain in the two-slope total: change to the knot, and the chronic slope for the rest of the time."""
    acute = _change(arm, knot, theta, drug, **changes)
    chronic = _gain(replace(arm, start=knot), drug, theta, **changes)
    return acute / arm.years + chronic * (1 - knot / YEAR / arm.years)


@dataclass(frozen=True)
class HardEndpoint:
    """An event of a trial: eGFR confirmed below a share of its baseline or below a level, before death.

    `death` is the hazard of death, 1/day; visits come every four months, each confirmed after `CONFIRM_DAYS`.
    """

    arm: PlaceboArm
    fall: float
    level: float
    horizon: float
    death: float

    def events(
        self, theta: Mapping[str, float], *arms: Sequence[DrugCourse]
    ) -> tuple[list[float], list[float]]:
        """Percent with the event by the horizon, and events per 1000 person-years, by arm."""
        planned = visits(0.0, self.horizon, 122.0)
        days = np.concatenate([planned, planned[1:] + CONFIRM_DAYS])
        order = np.argsort(days)
        seen = self.arm.courses(theta, days[order], *arms, size=EVENT_PEOPLE)[:, :, np.argsort(order), 0]
        n = len(planned)
        found = [
            expected_events(
                x[:, :n],
                x[:, n:],
                planned,
                egfr_error,
                self.fall,
                self.level,
                self.death,
                ERROR_SIZES,
                ERROR_SHARES,
                egfr_correlation(CONFIRM_DAYS),
            )
            for x in np.moveaxis(seen, 1, 0)
        ]
        shares, rates = zip(*found, strict=True)
        return [100 * share for share in shares], [1000 * rate for rate in rates]


# As the facts count them (scenarios/facts_table.toml); deaths of heerspink2021b and fried2013.
RENAAL_ESKD = HardEndpoint(RENAAL, 0.0, 10.0, 1239.0, -math.log1p(-0.083) / (7 * 114))
FIDELIO_COMPOSITE = HardEndpoint(FIDELIO, 0.40, 15.0, 952.0, -math.log1p(-0.057) / (7 * 125))
CREDENCE_COMPOSITE = HardEndpoint(CREDENCE_ALL, 0.565, 15.0, 957.0, -math.log1p(-0.057) / (7 * 125))
# Percent on placebo and on losartan (brenner2001), on placebo (bakris2020); events per 1000 person-years (perkovic2019).
EVENTS = (25.5, 19.6, 21.1, 40.4)
EVENT_ERROR = 0.075  # half of the digest's tolerance: what a trial counts is not quite what the model counts


def _events(theta: Mapping[str, float]) -> np.ndarray:
    """In the order of `EVENTS`."""
    renaal, _ = RENAAL_ESKD.events(theta, (), _on("ras"))
    (fidelio,), _ = FIDELIO_COMPOSITE.events(theta, ())
    _, (credence,) = CREDENCE_COMPOSITE.events(theta, ())
    return np.array([*renaal, fidelio, credence])


def _mixed(of_kind: Callable[..., float], share: float = EMPA_KIDNEY_DIABETIC_SHARE) -> float:
    """The mean over a trial's patients with and without diabetes."""
    return share * of_kind() + (1 - share) * of_kind(**NOT_DIABETIC)


def _confidence(theta: Mapping[str, float]) -> list[float]:
    """Mean log UACR on day 180 over baseline, then 30 days after stopping over day 180; three arms each."""
    arms = [
        [DrugCourse(drug, 0.01, 180.01) for drug in drugs]
        for drugs in (("finerenone",), ("sglt2i",), ("finerenone", "sglt2i"))
    ]
    log = CONFIDENCE.courses(theta, [0.0, 180.0, 210.0], *arms)[..., 1].mean(axis=0)
    return [*(log[:, 1] - log[:, 0]), *(log[:, 2] - log[:, 1])]


def _typical() -> Patient:
    """Who reads an eGFR of 43 and a UACR of 850."""
    egfr, uacr = goulooze_baseline(43.0, 850.0)
    return REFERENCE.replace(egfr=egfr, uacr=uacr)


def _log_event_ratio(endpoint: HardEndpoint, drug: str, theta: Mapping[str, float]) -> float:
    """Log ratio of the rates of events, on the drug over placebo."""
    _, (off, on) = endpoint.events(theta, (), _on(drug))
    return math.log(on / off)


def _after_the_dip(theta: Mapping[str, float]) -> float:
    """Mean change of eGFR in three years, from the fourth week on an SGLT2 inhibitor on.

    In typical patients whose responses to the drug differ: the published effect is one number for all who took it.
    """
    z = ndtri(Sobol(2, seed=3).random(PEOPLE))
    sds = [RANDOM_EFFECTS[name].sd for name in RESPONDING]
    people = [
        _typical().replace(
            eta={name: float(sd * x) for name, sd, x in zip(RESPONDING, sds, row, strict=True)}
        )
        for row in z
    ]
    days = np.array([28.0, 28.0 + 3 * YEAR])
    n = len(people)
    seen = simulate_cohort(people, [theta] * n, [(((), _on("sglt2i")),)] * n, days, ("egfr",)).values
    return float(np.mean(np.diff(seen[:, 0, :, 0])))


def _drops(theta: Mapping[str, float]) -> list[float]:
    """Percent of CREDENCE's patients whose eGFR reads more than 10, and 30 %, lower three weeks into canagliflozin."""
    seen = CREDENCE_ALL.courses(theta, [0.0, 21.0], _on("sglt2i"))[:, 0, :, 0]
    return _drop_shares(seen, egfr_correlation(21.0))


def _drop_shares(seen: np.ndarray, correlation: float) -> list[float]:
    """Percent of patients, whose true eGFR is `seen` (n, 2), that reads more than 10, and 30 %, lower the second time."""
    return [
        100 * float(np.mean(drop_chance(seen[:, 0], seen[:, 1], kept, correlation))) for kept in (0.9, 0.7)
    ]


def fit_error_memory(theta: Mapping[str, float] | None = None) -> float:
    """Days over which errors of eGFR resemble one another, from CREDENCE's placebo arm.

    After three weeks 21 % of its patients read more than 10 %, and 2 % more than 30 % lower; both weighted by half of the
    digest's tolerance.
    """
    seen = CREDENCE_ALL.courses(dict(theta or {}), [0.0, 21.0], ())[:, 0, :, 0]

    def residuals(x: np.ndarray) -> np.ndarray:
        ten, thirty = _drop_shares(seen, egfr_correlation(21.0, math.exp(x[0])))
        return np.array([(ten - 21.0) / 2.0, (thirty - 2.0) / 0.5])

    return math.exp(least_squares(residuals, [math.log(20.0)]).x[0])


def _sglt2i_and_finerenone(theta: Mapping[str, float]) -> np.ndarray:
    """In the order of `COMBINED`."""
    return np.array(
        [
            _uacr_against_placebo(CREDENCE_ALL, [182.0], theta, "sglt2i"),
            _uacr_against_placebo(DAPA_CKD, np.arange(1, 8) * 120.0, theta, "sglt2i"),
            _uacr_against_placebo(DAPA_CKD, np.arange(1, 8) * 120.0, theta, "sglt2i", **NOT_DIABETIC),
            _uacr_against_placebo(FIDELIO, [119.0], theta, "finerenone"),
            *_confidence(theta),
            _mixed(lambda **kind: _change(EMPA_KIDNEY, 61.0, theta, "sglt2i", **kind)),
            _change(DAPA_CKD, 14.0, theta, "sglt2i"),
            _change(CREDENCE, 21.0, theta, "sglt2i"),
            *_drops(theta),
            _mixed(lambda **kind: _gain(EMPA_KIDNEY, "sglt2i", theta, **kind)),
            _gain(CREDENCE, "sglt2i", theta),
            _mixed(
                lambda **kind: _total_gain(DAPA_CKD, "sglt2i", theta, 14.0, **kind), DAPA_CKD_DIABETIC_SHARE
            ),
            _after_the_dip(theta),
            _log_event_ratio(FIDELIO_COMPOSITE, "finerenone", theta),
            _log_event_ratio(CREDENCE_COMPOSITE, "sglt2i", theta),
        ]
    )


# Published value and standard error (a quarter of the 95 % interval) of each; UACR on the log scale.
COMBINED = (
    (math.log(0.69), 0.034),  # canagliflozin, week 26 (oshima2020)
    (math.log(0.649), 0.035),  # dapagliflozin in diabetes, all visits, to 2.3 years (jongs2021)
    (math.log(0.852), 0.051),  # the same without diabetes
    (math.log(0.69), 0.034),  # finerenone, month 4 (bakris2020); no interval: that of canagliflozin
    (math.log(0.68), 0.056),  # CONFIDENCE, day 180: finerenone (agarwal2025)
    (math.log(0.71), 0.054),  # empagliflozin
    (math.log(0.48), 0.052),  # both
    (math.log(1.45), 0.047),  # 30 days after stopping: finerenone
    (math.log(1.44), 0.046),  # empagliflozin
    (math.log(1.63), 0.045),  # both
    (-2.12, 0.148),  # dip at month 2 (empakidney_slope)
    (-2.61, 0.230),  # dip at week 2, diabetes (heerspink2021a)
    (-2.03, 0.25),  # dip at week 3 (jardine2020); no interval: half of the fact's tolerance
    (
        45.0,
        2.0,
    ),  # percent of patients on canagliflozin whose reading falls by more than 10 % to week 3 (oshima2020)
    (
        4.0,
        0.5,
    ),  # by more than 30 %; errors half of the tolerances: the noise alone misses placebo's by as much
    # Gain in chronic slope: half of 2.75, 42 to 58 % (empakidney_slope).
    (1.38, math.hypot(0.112, BETWEEN_TRIALS)),
    # The same at eGFR 30 to 45 (jardine2020); no interval: scaled by patients from the one above.
    (2.61, math.hypot(0.25, BETWEEN_TRIALS)),
    # Gain in total slope, of two slopes with a knot at week 2 (heerspink2021a).
    (0.95, math.hypot(0.163, BETWEEN_TRIALS)),
    (-4.3, 0.41),  # three years after the dip: slope x 0.543 (SE 0.052), UACR x exp(-0.212) (goulooze2022)
    (math.log(17.8 / 21.1), 0.054),  # composite of FIDELIO-DKD (bakris2020); binomial
    (math.log(0.66), 0.108),  # renal composite of CREDENCE, 0.53 to 0.81 (perkovic2019)
)


def _pentoxifylline(theta: Mapping[str, float]) -> np.ndarray:
    """Change of eGFR, its difference from control, and log ratio of albuminuria, after two years."""
    seen = PREDIAN.courses(theta, [0.0, 2 * YEAR], (), _on("pentoxifylline")).mean(axis=0)
    control, treated = seen[:, 1] - seen[:, 0]
    return np.array([treated[0], treated[0] - control[0], treated[1] - control[1]])


DRUG_TARGETS = (
    DrugTarget(
        "ras",
        ("brenner2001",),
        ("ras_on_leak",),
        _log_uacr(Patient(egfr=39, uacr=1250, hba1c=8.5, age=60, duration_years=15), "ras", YEAR),
        (np.log(0.65),),
        (0.05,),
    ),
    DrugTarget(
        "sglt2i",
        (
            "oshima2020",
            "jongs2021",
            "bakris2020",
            "agarwal2025",
            "empakidney_slope",
            "heerspink2021a",
            "jardine2020",
            "goulooze2022",
            "perkovic2019",
        ),
        (
            "reabsorption_exponent",
            "glycaemic_half",
            "sglt2_dip_spread",
            "sglt2i_on_pressure",
            "sglt2i_on_leak",
            "sglt2i_on_slit_synthesis",
            "sglt2i_on_nephron_loss",
            "finerenone_on_leak",
            "finerenone_on_slit_synthesis",
            "finerenone_on_nephron_loss",
        ),
        _sglt2i_and_finerenone,
        tuple(value for value, _ in COMBINED),
        tuple(error for _, error in COMBINED),
    ),
    DrugTarget(
        "glp1ra",
        ("perkovic2024",),
        ("glp1ra_on_nephron_loss",),
        lambda theta: np.array([_gain(FLOW, "glp1ra", theta)]),
        (1.16,),
        (0.156,),
    ),
    DrugTarget(
        # 16 and 10 % with two doses.
        "ccr2-inhibitor",
        ("dezeeuw2015",),
        ("ccr2_inhibitor_on_m1_recruitment",),
        _log_uacr(Patient(egfr=60, uacr=500, hba1c=7.5, age=63, drugs=("ras",)), "ccr2-inhibitor", 364),
        (float(np.mean(np.log([0.84, 0.90]))),),
        (0.05,),
    ),
    DrugTarget(
        "pentoxifylline",
        ("navarro2015",),
        ("pentoxifylline_on_tnf_kidney_synthesis", "pentoxifylline_on_nephron_loss"),
        _pentoxifylline,
        (-2.1, 4.3, math.log(0.851 / 1.057)),
        (0.4, 0.61, 0.043),
    ),
    DrugTarget(
        # 1200 and 2400 mg against placebo: the model has one dose. Errors from the printed SDs and the completers.
        "pirfenidone",
        ("sharma2011",),
        ("pirfenidone_on_nephron_loss",),
        lambda theta: np.repeat(_change(PIRFENIDONE, 364.0, theta, "pirfenidone"), 2),
        (5.5, 0.3),
        (2.3, 2.1),
    ),
)


# Fitted by their logarithm, which a normal of SD 1 keeps near that of a value (assumed: glucose a third above health).
POSITIVE = {"glycaemic_half": 0.3}


def _sizes(target: DrugTarget, x: np.ndarray) -> dict[str, float]:
    """The sizes at a point of the fit."""
    return {n: math.exp(v) if n in POSITIVE else float(v) for n, v in zip(target.sizes, x, strict=True)}


def fit_drugs(theta: Mapping[str, float] | None = None) -> dict[str, float]:
    """Sizes of the drugs' effects that reproduce their trials' results, each weighted by its standard error.

    Parameters
    ----------
    theta : mapping, optional
        Natural-history constants to use instead of the declared ones.
    """
    out: dict[str, float] = {}
    for target in DRUG_TARGETS:
        declared = _declared(target.sizes)
        x0 = np.array([math.log(declared[n]) if n in POSITIVE else declared[n] for n in target.sizes])
        known = dict(theta or {}) | out

        def residuals(
            x: np.ndarray, target: DrugTarget = target, known: dict[str, float] = known
        ) -> np.ndarray:
            values = known | _sizes(target, x)
            misses = (target.predicted(values) - np.array(target.values)) / np.array(target.errors)
            wide = [x[k] - math.log(POSITIVE[n]) for k, n in enumerate(target.sizes) if n in POSITIVE]
            return np.concatenate([misses, wide])

        best = least_squares(residuals, x0, x_scale=0.1, diff_step=1e-3, ftol=1e-4, xtol=1e-3)
        out |= _sizes(target, best.x)
    return out


def fit_primary_injury(theta: Mapping[str, float] | None = None) -> dict[str, float]:
    """Injury of kidney disease without diabetes that comes closest to EMPA-KIDNEY's placebo slope, in its mix of patients.

    The slope tells little of it; what keeps it off its bounds is a wide normal on the logit.
    """
    name = "insult.nondiabetic-ckd.primary_injury"

    def residuals(x: np.ndarray) -> np.ndarray:
        values = dict(theta or {}) | {name: float(expit(x[0]))}
        slope = _mixed(lambda **kind: EMPA_KIDNEY.mean_slope(values, **kind))
        return np.array([(slope - EMPA_KIDNEY.slope) / EMPA_KIDNEY.error, x[0] / 1.5])

    return {name: float(expit(least_squares(residuals, [0.0], diff_step=1e-2).x[0]))}


@dataclass(frozen=True)
class Responders:
    """Lupus patients on standard therapy (a population), and who of them responds."""

    base: Patient
    egfr: tuple[float, float, float, float]  # mean, SD of readings, limits
    uacr: tuple[float, float, float, float]  # median, GSD of readings, limits

    def shares(self, theta: Mapping[str, float], sd: float) -> dict[str, float]:
        """Percent with each response; `sd` of the log of the response to immunosuppression."""
        names = ("eta_immunosuppression", "eta_nephron", "eta_podocyte")
        u = Sobol(2 + len(names), seed=2).random(2 * PEOPLE).T
        (mean, width, *cuts), (median, gsd, *ends) = self.egfr, self.uacr
        egfrs = truncated_quantiles(u[0], mean, true_egfr_sd(mean, width), *cuts)
        logs = truncated_quantiles(u[1], *np.log([median, true_uacr_gsd(gsd), *ends]), mean=False)
        sds = (sd, RANDOM_EFFECTS["eta_nephron"].sd, RANDOM_EFFECTS["eta_podocyte"].sd)
        people = [
            self.base.replace(
                egfr=float(egfrs[i]),
                uacr=float(np.exp(logs[i])),
                eta={name: float(s * ndtri(q[i])) for name, s, q in zip(names, sds, u[2:], strict=True)},
            )
            for i in range(len(egfrs))
        ]
        n, regimens = len(people), (((), (DrugCourse("immunosuppression", 0.01),)),)
        days = np.array([0.0, 182.0, 728.0])
        seen = simulate_cohort(
            people, [theta] * n, [regimens] * n, days, ("egfr", "urine_protein_24h")
        ).values
        return _response_shares(*np.moveaxis(seen[:, 0], -1, 0))


def _response_shares(egfr: np.ndarray, protein: np.ndarray) -> dict[str, float]:
    """Percent of people whose readings respond; true eGFR and protein (people, 3) on days 0, 182 and 728.

    Readings carry the residual errors of goulooze2022; 86.1 % of patients complete 156 weeks (saxena2023).
    """
    noise = np.random.default_rng(1).standard_normal((2, 40, *egfr.shape))
    sizes = error_sizes(EGFR, np.random.default_rng(2).standard_normal((40, len(egfr), 1)))
    e = egfr + egfr_error(egfr) * sizes * noise[0]  # visits lie further apart than errors last
    p = protein * np.exp(math.sqrt(LOG_UACR_VARIANCE) * noise[1])
    completing = 0.861 ** (104 / 156)
    kept20 = (e[..., 2] >= 0.8 * e[..., 0]) | (e[..., 2] >= 60.0)
    kept10 = (e[..., 2] >= 0.9 * e[..., 0]) | (e[..., 2] >= 90.0)
    return {
        "half": 100 * float(np.mean(p[..., 1] <= 0.5 * p[..., 0])),
        "at-most-half": 100 * float(np.mean(p[..., 1] <= 0.5)),
        "perr": 100 * completing * float(np.mean((p[..., 2] <= 0.7) & kept20)),
        "crr": 100 * completing * float(np.mean((p[..., 2] <= 0.5) & kept10)),
    }


# BLISS-LN's two strata, as in scenarios/facts_table.toml.
LUPUS = Patient(disease="lupus", age=33.0, sex="female", hba1c=5.4, duration_years=0.15, sledai=12.2)
NEW = Responders(LUPUS, (86.0, 30.0, 30.0, 112.0), (1645.0, 2.42, 300.0, 8000.0))
RELAPSED = Responders(
    LUPUS.replace(age=33.3, duration_years=6.0), (78.0, 30.0, 30.0, 110.0), (1849.0, 2.10, 300.0, 8000.0)
)
# Percent and binomial standard error: almsaurora_ps (two arms, 179), anders2023 (148 newly diagnosed, 75 relapsed).
RESPONSES = (
    (NEW, "half", 57.0, 3.7),
    (NEW, "at-most-half", 23.0, 3.2),
    (NEW, "perr", 37.2, 4.0),
    (NEW, "crr", 24.3, 3.5),
    (RELAPSED, "perr", 22.7, 4.8),
    (RELAPSED, "crr", 10.7, 3.6),
)


def fit_immunosuppression(theta: Mapping[str, float] | None = None) -> dict[str, float]:
    """Size of immunosuppression's effect, and its spread over patients (SD of the log), from shares of responders."""
    size, spread = "immunosuppression_on_autoimmunity_synthesis", "eta_immunosuppression"

    def residuals(x: np.ndarray) -> np.ndarray:
        values = dict(theta or {}) | {size: -math.exp(x[0])}
        seen = {id(who): who.shares(values, math.exp(x[1])) for who in (NEW, RELAPSED)}
        return np.array([(seen[id(who)][what] - share) / error for who, what, share, error in RESPONSES])

    best = least_squares(residuals, np.log([0.3, 0.9]), x_scale=0.2, diff_step=0.05, ftol=1e-4, xtol=1e-3)
    return {size: -math.exp(best.x[0]), spread: math.exp(best.x[1])}


def fit_random_effects(theta: Mapping[str, float] | None = None) -> dict[str, float]:
    """SD of a patient's own drift of nephrons that spreads slopes by the published SD, 2.94 a year."""
    days = np.linspace(0, 3 * YEAR, 7)

    def slope(eta: float) -> float:
        patient = Patient(
            egfr=43.4,
            uacr=866,
            hba1c=7.7,
            age=66.6,
            duration_years=17.4,
            drugs=("ras",),
            eta={"eta_nephron": eta},
        )
        run = simulate(patient, theta=dict(theta or {}), times=days)
        return float(np.polyfit(days / YEAR, run.observable("egfr"), 1)[0])

    trial = 2e-4
    return {"eta_nephron": trial * 2 * np.sqrt(8.62) / (slope(-trial) - slope(trial))}


def _declared(names: tuple[str, ...]) -> dict[str, float]:
    from mscrenal.model import model, sampled_parameters

    sampled = sampled_parameters()
    return {
        name: RANDOM_EFFECTS[name].sd
        if name in RANDOM_EFFECTS
        else (sampled[name] if name in sampled else model().parameters[name]).value
        for name in names
    }


def main() -> None:
    """Print the fitted numbers beside the declared ones."""
    fitted = fit_natural_history()
    fitted |= fit_primary_injury(fitted)
    fitted |= fit_drugs(fitted)
    fitted |= fit_immunosuppression(fitted)
    constants = dict(fitted)
    fitted |= fit_random_effects(constants)
    declared = _declared(tuple(fitted))
    for name, value in fitted.items():
        print(f"{name:45s} declared {declared[name]:12.6g}   fitted {value:12.6g}")
    memory = fit_error_memory(constants)
    print(
        f"{'days that errors of eGFR last':45s} declared {EGFR.residual_memory:12.6g}   fitted {memory:12.6g}"
    )
    for egfr, uacr in GRID:
        e, u = goulooze_course(egfr, uacr)
        run = simulate(REFERENCE.replace(egfr=e[0], uacr=u[0]), theta=constants, times=YEARS * YEAR)
        print(
            f"read eGFR {egfr:.0f}, UACR {uacr:.0f}: published {np.round(e, 1)} {np.round(u)}  ours "
            f"{np.round(run.observable('egfr'), 1)} {np.round(run.observable('uacr'))}"
        )


if __name__ == "__main__":
    main()
