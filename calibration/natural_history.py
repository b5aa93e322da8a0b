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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtr, ndtri

from mscrenal.model import RANDOM_EFFECTS, DrugCourse, Patient, simulate

__all__ = [
    "COURSE",
    "DRUG_TARGETS",
    "fit_drugs",
    "fit_natural_history",
    "fit_random_effects",
    "goulooze_course",
]

YEAR = 365.25
YEARS = np.array([0.0, 1.0, 2.0, 3.0])
GRID = tuple((egfr, uacr) for egfr in (25.0, 43.0, 60.0) for uacr in (300.0, 850.0, 2000.0))
REFERENCE = Patient(hba1c=7.7, age=66.0, duration_years=16.6, drugs=("ras",))
# Where the fit starts; the answer does not depend on it (a test starts elsewhere).
COURSE = {
    "nephron_loss_rate": 2.7e-4,
    "damage_albumin": 0.2,
    "load_exponent": 0.7,
    "podocyte_loss_rate": 1.5e-5,
}


@dataclass(frozen=True)
class PlaceboArm:
    """A trial's placebo arm as a few equally likely patients, and its mean slope from day `start` on.

    eGFR is normal (mean, SD) and UACR log-normal (median, GSD), both cut to `limits`; the nodes are the
    middles of equal shares of each.
    """

    study: str
    egfr: tuple[float, float]
    uacr: tuple[float, float]
    limits: tuple[tuple[float, float], tuple[float, float]]
    start: float
    years: float
    slope: float
    base: Patient

    def patients(self, **changes: Any) -> list[Patient]:
        """The nodes, (3 x 5)."""
        egfrs = _middles(self.egfr[0], self.egfr[1], *self.limits[0], 3)
        low, high = self.limits[1]
        uacrs = np.exp(
            _middles(math.log(self.uacr[0]), math.log(self.uacr[1]), math.log(low), math.log(high), 5)
        )
        return [self.base.replace(egfr=float(e), uacr=float(u), **changes) for e in egfrs for u in uacrs]

    def mean_slope(
        self, theta: Mapping[str, float], courses: tuple[DrugCourse, ...] = (), **changes: Any
    ) -> float:
        """Mean least-squares eGFR slope, mL/min/1.73 m²/year; NaN if a patient does not solve."""
        days = np.linspace(self.start, self.years * YEAR, 7)
        runs = [simulate(p, (), courses, theta, days) for p in self.patients(**changes)]
        return float(np.mean([np.polyfit(days / YEAR, r.observable("egfr"), 1)[0] for r in runs]))


def _middles(mean: float, sd: float, low: float, high: float, n: int) -> np.ndarray:
    """Middles of `n` equal shares of a normal distribution cut to (low, high)."""
    below, above = ndtr((low - mean) / sd), ndtr((high - mean) / sd)
    return mean + sd * ndtri(below + (above - below) * (np.arange(n) + 0.5) / n)


# SDs and limits that a source does not print are those of the facts' populations (scenarios/facts_table.toml).
FLOW = PlaceboArm(
    "perkovic2024",
    (47.0, 15.2),
    (568.0, 2.66),
    ((22.0, 90.0), (30.0, 5000.0)),
    0.0,
    3.0,
    -3.36,
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
    Patient(hba1c=8.3, age=63.0, duration_years=15.8, drugs=("ras",)),
)
PLACEBO_ARMS = (FLOW, CREDENCE)
EMPA_KIDNEY = PlaceboArm(
    "empakidney_slope",
    (37.5, 14.5),
    (412.0, 4.0),
    ((20.0, 90.0), (10.0, 5000.0)),
    60.0,
    2.0,
    -2.75,
    Patient(age=64.0, drugs=("ras",)),
)
EMPA_KIDNEY_DIABETIC_SHARE = 0.46  # assumed in the facts' population too
DAPA_CKD = PlaceboArm(
    "heerspink2021a",
    (43.1, 12.0),
    (949.0, 2.77),
    ((25.0, 75.0), (200.0, 5000.0)),
    0.0,
    2.3,
    float("nan"),
    Patient(hba1c=7.8, age=62.0, drugs=("ras",)),
)


def goulooze_course(egfr: float, uacr: float, years: np.ndarray = YEARS) -> tuple[np.ndarray, np.ndarray]:
    """Typical eGFR (mL/min/1.73 m²) and UACR (mg/g) at `years` on placebo and a RAS blocker.

    The published population model with its printed constants (goulooze2022): a chronic decline that
    grows with UACR and with baseline eGFR; UACR with net growth. Left out is the fade of the decline
    near an eGFR of 16, which is where patients leave a trial for dialysis.
    """
    step = 1 / 365.25
    marks = {round(y / step) for y in years}
    e, u = egfr, uacr
    out_e, out_u = [], []
    for k in range(round(years[-1] / step) + 1):
        if k in marks:
            out_e.append(e)
            out_u.append(u)
        relative = egfr / 43.0
        decline = 3.01 * relative**0.387 * (1 + 8.59e-4 * (u - 850.0) * relative**-0.560)
        e -= decline * step
        u += u * (0.137 - 7.20e-5 * u - 0.182 * np.log(u / uacr)) * step
    return np.array(out_e), np.array(out_u)


def fit_natural_history(start: Mapping[str, float] | None = None) -> dict[str, float]:
    """Constants named in `COURSE` that best reproduce the published typical courses.

    Least squares over the 3 x 3 grid of baselines and years 1 to 3: eGFR changes weighted by 0.7
    mL/min/1.73 m² (the tolerance of the evidence digest) and log UACR of the FIDELIO-like baseline by 0.02 (other baselines 0.1: the
    published model holds UACR near each patient's own baseline by a term that is not mechanistic);
    beside them the mean slopes of two placebo arms (FLOW, CREDENCE 30 to 45), weighted by 0.1.

    Returns
    -------
    dict of str to float
    """
    x0 = np.log([(start or COURSE)[name] for name in COURSE])
    targets = [goulooze_course(*baseline) for baseline in GRID]

    def residuals(x: np.ndarray) -> np.ndarray:
        theta = dict(zip(COURSE, np.exp(x), strict=True))
        out = []
        for (egfr, uacr), (e, u) in zip(GRID, targets, strict=True):
            run = simulate(REFERENCE.replace(egfr=egfr, uacr=uacr), theta=theta, times=YEARS * YEAR)
            if run.status != "ok":
                # A corner of the box in which every nephron is lost: as bad as it gets, but finite.
                out.append(np.full(6, 100.0))
                continue
            out.append((run.observable("egfr") - e)[1:] / 0.7)
            out.append(
                np.log(run.observable("uacr") / u)[1:] / (0.02 if (egfr, uacr) == (43.0, 850.0) else 0.1)
            )
        for arm in PLACEBO_ARMS:
            out.append(np.nan_to_num([(arm.mean_slope(theta) - arm.slope) / 0.1], nan=100.0))
        return np.concatenate(out)

    best = least_squares(residuals, x0, bounds=(x0 - 1.5, x0 + 1.5), x_scale=0.2, diff_step=1e-3, max_nfev=60)
    return dict(zip(COURSE, np.exp(best.x), strict=True))


@dataclass(frozen=True)
class DrugTarget:
    """What a drug does in its trial's typical patient, and which sizes are fitted to it."""

    drug: str
    studies: tuple[str, ...]
    patient: Patient
    sizes: tuple[str, ...]
    quantity: Callable[[Patient, str, Mapping[str, float]], np.ndarray]
    values: tuple[float, ...]


# Gains in slope and their standard errors: EMPA-KIDNEY 1.38 (half of 2.75, 42 to 58 %), CREDENCE 2.61 (no
# interval printed; that of EMPA-KIDNEY scaled by patients), DAPA-CKD 0.95 (0.63 to 1.27).
SGLT2I_GAINS = np.array([1.38, 2.61, 0.95])
SGLT2I_ERRORS = np.array([0.112, 0.25, 0.163])
# UACR against placebo at week 26, trial by trial: the patient, the log ratio and its standard error.
SGLT2I_UACR = (
    ("oshima2020", Patient(egfr=56.2, uacr=927, hba1c=8.3, age=63, drugs=("ras",)), math.log(0.69), 0.034),
    ("jongs2021", Patient(egfr=43.1, uacr=949, hba1c=7.8, age=62, drugs=("ras",)), math.log(0.649), 0.035),
    ("agarwal2025", Patient(egfr=54.2, uacr=579, hba1c=7.7, age=66, drugs=("ras",)), math.log(0.71), 0.054),
)


def _pair(patient: Patient, drug: str, theta: Mapping[str, float], days: np.ndarray):
    return (
        simulate(patient, theta=theta, times=days),
        simulate(patient, (), [DrugCourse(drug)], theta, days),
    )


def _log_uacr(day: float) -> Callable[..., np.ndarray]:
    def quantity(patient: Patient, drug: str, theta: Mapping[str, float]) -> np.ndarray:
        off, on = _pair(patient, drug, theta, np.array([0.0, day]))
        return np.array([np.log(on.observable("uacr")[-1] / off.observable("uacr")[-1])])

    return quantity


def _mean_slope_gain(arm: PlaceboArm) -> Callable[..., np.ndarray]:
    def quantity(patient: Patient, drug: str, theta: Mapping[str, float]) -> np.ndarray:
        return np.array([arm.mean_slope(theta, (DrugCourse(drug, 0.01),)) - arm.mean_slope(theta)])

    return quantity


def _sglt2i_results(patient: Patient, drug: str, theta: Mapping[str, float]) -> np.ndarray:
    """Log UACR of three trials and three randomised gains in slope, each times 0.05 over its standard error.

    Chronic gain in EMPA-KIDNEY (its mix of patients), chronic gain in CREDENCE at eGFR 30 to 45, total
    gain in DAPA-CKD's diabetic patients.
    """
    course = (DrugCourse(drug, 0.01),)
    diabetic = {"hba1c": 7.7, "duration_years": 17.4}
    other = {"disease": "nondiabetic-ckd", "hba1c": 5.4, "duration_years": 8.0}
    share = EMPA_KIDNEY_DIABETIC_SHARE
    empa = sum(
        w * (EMPA_KIDNEY.mean_slope(theta, course, **kind) - EMPA_KIDNEY.mean_slope(theta, (), **kind))
        for w, kind in ((share, diabetic), (1 - share, other))
    )
    gains = [
        empa,
        *_mean_slope_gain(CREDENCE)(patient, drug, theta),
        *_mean_slope_gain(DAPA_CKD)(patient, drug, theta),
    ]
    uacr = [_log_uacr(182)(who, drug, theta)[0] * 0.05 / error for _, who, _, error in SGLT2I_UACR]
    return np.concatenate([uacr, np.array(gains) * 0.05 / SGLT2I_ERRORS])


def _log_own_uacr(day: float) -> Callable[..., np.ndarray]:
    def quantity(patient: Patient, drug: str, theta: Mapping[str, float]) -> np.ndarray:
        on = simulate(patient, (), [DrugCourse(drug)], theta, np.array([0.0, day]))
        return np.array([np.log(on.observable("uacr")[-1] / on.observable("uacr")[0])])

    return quantity


DRUG_TARGETS = (
    DrugTarget(
        "ras",
        ("brenner2001",),
        Patient(egfr=39, uacr=1250, hba1c=8.5, age=60, duration_years=15),
        ("ras_on_leak",),
        _log_uacr(YEAR),
        (np.log(0.65),),
    ),
    DrugTarget(
        # Three trials of UACR (SGLT2I_UACR), three of slope (SGLT2I_GAINS).
        "sglt2i",
        ("oshima2020", "jongs2021", "agarwal2025", "empakidney_slope", "jardine2020", "heerspink2021a"),
        Patient(egfr=43, uacr=900, hba1c=8.0, age=65, drugs=("ras",)),
        ("sglt2i_on_leak", "sglt2i_on_nephron_loss"),
        _sglt2i_results,
        (
            *(ratio * 0.05 / error for _, _, ratio, error in SGLT2I_UACR),
            *(SGLT2I_GAINS * 0.05 / SGLT2I_ERRORS),
        ),
    ),
    DrugTarget(
        "finerenone",
        ("bakris2020",),
        Patient(egfr=44, uacr=850, hba1c=7.7, age=66, drugs=("ras",)),
        ("finerenone_on_leak",),
        _log_uacr(120),
        (np.log(0.69),),
    ),
    DrugTarget(
        "glp1ra",
        ("perkovic2024",),
        Patient(),
        ("glp1ra_on_nephron_loss",),
        _mean_slope_gain(FLOW),
        (1.16,),
    ),
    DrugTarget(
        # 16 and 10 % with two doses.
        "ccr2-inhibitor",
        ("dezeeuw2015",),
        Patient(egfr=60, uacr=500, hba1c=7.5, age=63, drugs=("ras",)),
        ("ccr2_inhibitor_on_m1_recruitment",),
        _log_uacr(364),
        (float(np.mean(np.log([0.84, 0.90]))),),
    ),
    DrugTarget(
        # 57 % of patients at least halve their proteinuria by month 6: the median falls a little more.
        "immunosuppression",
        ("almsaurora_ps",),
        Patient(disease="lupus"),
        ("immunosuppression_on_autoimmunity_synthesis",),
        _log_own_uacr(182),
        (np.log(0.46),),
    ),
)


def fit_drugs(theta: Mapping[str, float] | None = None) -> dict[str, float]:
    """Sizes of the drugs' effects that reproduce their trials' typical results.

    Parameters
    ----------
    theta : mapping, optional
        Natural-history constants to use instead of the declared ones.
    """
    out: dict[str, float] = {}
    for target in DRUG_TARGETS:
        x0 = np.array([_declared(target.sizes)[n] for n in target.sizes])

        def residuals(x: np.ndarray, target: DrugTarget = target) -> np.ndarray:
            values = dict(theta or {}) | dict(zip(target.sizes, x, strict=True))
            return (target.quantity(target.patient, target.drug, values) - np.array(target.values)) / 0.05

        best = least_squares(residuals, x0, x_scale=0.1, diff_step=1e-3, max_nfev=30)
        out |= dict(zip(target.sizes, best.x, strict=True))
    return out


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
    if "eta_nephron" in names:
        return _declared(tuple(n for n in names if n != "eta_nephron")) | {
            "eta_nephron": RANDOM_EFFECTS["eta_nephron"].sd
        }
    return {name: (sampled[name] if name in sampled else model().parameters[name]).value for name in names}


def main() -> None:
    """Print the fitted numbers beside the declared ones."""
    fitted = fit_natural_history()
    fitted |= fit_drugs(fitted)
    constants = dict(fitted)
    fitted |= fit_random_effects(constants)
    declared = _declared(tuple(fitted))
    for name, value in fitted.items():
        print(f"{name:45s} declared {declared[name]:12.6g}   fitted {value:12.6g}")
    for egfr, uacr in GRID:
        e, u = goulooze_course(egfr, uacr)
        run = simulate(REFERENCE.replace(egfr=egfr, uacr=uacr), theta=constants, times=YEARS * YEAR)
        print(
            f"eGFR {egfr:.0f}, UACR {uacr:.0f}: published {np.round(e, 1)} {np.round(u)}  ours "
            f"{np.round(run.observable('egfr'), 1)} {np.round(run.observable('uacr'))}"
        )


if __name__ == "__main__":
    main()
