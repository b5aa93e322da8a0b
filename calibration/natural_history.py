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

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from mscrenal.model import DrugCourse, Patient, simulate

__all__ = ["COURSE", "DRUG_TARGETS", "fit_drugs", "fit_natural_history", "goulooze_course"]

YEAR = 365.25
YEARS = np.array([0.0, 1.0, 2.0, 3.0])
GRID = tuple((egfr, uacr) for egfr in (25.0, 43.0, 60.0) for uacr in (300.0, 850.0, 2000.0))
REFERENCE = {"hba1c": 7.7, "age": 66.0, "duration_years": 16.6, "drugs": ("ras",)}
# Where the fit starts; the answer does not depend on it (a test starts elsewhere).
COURSE = {"nephron_loss_rate": 2.7e-4, "damage_albumin": 0.2, "load_exponent": 0.7, "podocyte_loss_rate": 1.5e-5}


def goulooze_course(egfr: float, uacr: float, years: np.ndarray = YEARS) -> tuple[np.ndarray, np.ndarray]:
    """Typical eGFR (mL/min/1.73 m²) and UACR (mg/g) at `years` on placebo and a RAS blocker.

    The published population model with its printed constants (goulooze2022): a chronic decline that
    grows with UACR and with baseline eGFR and fades near an eGFR of 16; UACR with net growth.
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
        fade = 1 / (1 + np.exp((np.log(e) - 2.78) / -0.300))
        decline = 3.01 * relative**0.387 * (1 + 8.59e-4 * (u - 850.0) * relative**-0.560) * fade
        e -= decline * step
        u += u * (0.137 - 7.20e-5 * u - 0.182 * np.log(u / uacr)) * step
    return np.array(out_e), np.array(out_u)


def fit_natural_history(start: Mapping[str, float] | None = None) -> dict[str, float]:
    """Constants named in `COURSE` that best reproduce the published typical courses.

    Least squares over the 3 x 3 grid of baselines and years 1 to 3: eGFR changes weighted by 0.5
    mL/min/1.73 m² and log UACR of the FIDELIO-like baseline by 0.02 (other baselines 0.1: the
    published model holds UACR near each patient's own baseline by a term that is not mechanistic).

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
            run = simulate(Patient(egfr=egfr, uacr=uacr, **REFERENCE), theta=theta, times=YEARS * YEAR)
            if run.status != "ok":
                # A corner of the box in which every nephron is lost: as bad as it gets, but finite.
                out.append(np.full(6, 100.0))
                continue
            out.append((run.observable("egfr") - e)[1:] / 0.5)
            out.append(np.log(run.observable("uacr") / u)[1:] / (0.02 if (egfr, uacr) == (43.0, 850.0) else 0.1))
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


def _log_uacr_and_chronic_ratio(day: float, start: float, years: float) -> Callable[..., np.ndarray]:
    def quantity(patient: Patient, drug: str, theta: Mapping[str, float]) -> np.ndarray:
        days = np.array([0.0, start, day, years * YEAR])
        off, on = _pair(patient, drug, theta, days)
        slopes = [(r.observable("egfr")[-1] - r.observable("egfr")[1]) for r in (on, off)]
        return np.array([np.log(on.observable("uacr")[2] / off.observable("uacr")[2]), slopes[0] / slopes[1]])

    return quantity


def _total_slope_gain(years: float) -> Callable[..., np.ndarray]:
    def quantity(patient: Patient, drug: str, theta: Mapping[str, float]) -> np.ndarray:
        off, on = _pair(patient, drug, theta, np.linspace(0, years * YEAR, 9))
        t = on.times / YEAR
        return np.array([np.polyfit(t, on.observable("egfr"), 1)[0] - np.polyfit(t, off.observable("egfr"), 1)[0]])

    return quantity


def _log_own_uacr(day: float) -> Callable[..., np.ndarray]:
    def quantity(patient: Patient, drug: str, theta: Mapping[str, float]) -> np.ndarray:
        on = simulate(patient, (), [DrugCourse(drug)], theta, np.array([0.0, day]))
        return np.array([np.log(on.observable("uacr")[-1] / on.observable("uacr")[0])])

    return quantity


DRUG_TARGETS = (
    DrugTarget(
        "ras", ("brenner2001",), Patient(egfr=39, uacr=1250, hba1c=8.5, age=60, duration_years=15),
        ("ras_on_leak",), _log_uacr(YEAR), (np.log(0.65),),
    ),
    DrugTarget(
        # UACR: mean log ratio of canagliflozin (oshima2020), dapagliflozin in T2D (jongs2021) and
        # empagliflozin (agarwal2025); slope: the halving in EMPA-KIDNEY.
        "sglt2i", ("oshima2020", "jongs2021", "agarwal2025", "empakidney_slope"),
        Patient(egfr=43, uacr=900, hba1c=8.0, age=65, drugs=("ras",)),
        ("sglt2i_on_leak", "sglt2i_on_nephron_loss"), _log_uacr_and_chronic_ratio(182, 60, 2.0),
        (float(np.mean(np.log([0.69, 0.649, 0.71]))), 0.5),
    ),
    DrugTarget(
        "finerenone", ("bakris2020",), Patient(egfr=44, uacr=850, hba1c=7.7, age=66, drugs=("ras",)),
        ("finerenone_on_leak",), _log_uacr(120), (np.log(0.69),),
    ),
    DrugTarget(
        "glp1ra", ("perkovic2024",), Patient(egfr=47, uacr=568, hba1c=7.8, age=67, duration_years=17.4, drugs=("ras",)),
        ("glp1ra_on_nephron_loss",), _total_slope_gain(3.0), (1.16,),
    ),
    DrugTarget(
        # 57 % of patients at least halve their proteinuria by month 6: the median falls a little more.
        "immunosuppression", ("almsaurora_ps",), Patient(disease="lupus"),
        ("immunosuppression_on_autoimmunity_synthesis",), _log_own_uacr(182), (np.log(0.46),),
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


def _declared(names: tuple[str, ...]) -> dict[str, float]:
    from mscrenal.model import model

    return {name: model().parameters[name].value for name in names}


def main() -> None:
    """Print the fitted numbers beside the declared ones."""
    fitted = fit_natural_history()
    fitted |= fit_drugs(fitted)
    declared = _declared(tuple(fitted))
    for name, value in fitted.items():
        print(f"{name:45s} declared {declared[name]:12.6g}   fitted {value:12.6g}")
    for egfr, uacr in GRID:
        e, u = goulooze_course(egfr, uacr)
        run = simulate(Patient(egfr=egfr, uacr=uacr, **REFERENCE), theta=fitted, times=YEARS * YEAR)
        print(f"eGFR {egfr:.0f}, UACR {uacr:.0f}: published {np.round(e, 1)} {np.round(u)}  ours "
              f"{np.round(run.observable('egfr'), 1)} {np.round(run.observable('uacr'))}")


if __name__ == "__main__":
    main()
