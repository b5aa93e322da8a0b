"""Means over patients where a study reports means: the virtual population behind each arm.

A trial reports the mean over unlike patients, and the model is not a straight line. For each row, what the mean over a
virtual population adds to the typical patient is computed at the mode of the posterior, and added to every prediction. `nonlinearity` shows how much it is, and how little it moves when the parameters do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from mscrenal.calibration.observations import Datum
from mscrenal.calibration.studies import Arm, Study
from mscrenal.calibration.truncated import truncated_quantiles
from mscrenal.model import COVARIATES, RANDOM_EFFECTS, Patient, PatientError
from mscrenal.model.population import simulate_cohort

__all__ = ["PATIENTS", "nonlinearity", "population_offset", "virtual_patients"]

PATIENTS = 256
SEED = 20261122
RTOL, ATOL = 1e-5, 1e-8


def virtual_patients(study: Study, arm: Arm, n: int = PATIENTS) -> list[Patient]:
    """Patients around an arm's typical one: covariates with the printed spreads, random effects on top.

    Covariates are independent, normal (``egfr = 12.0``) or log-normal (``uacr_gsd = 2.5``), cut to the study's limits
    or to the ranges of `COVARIATES`, with the arm's value as mean (median) after the cut; patient j is the same in all arms of the study but for the arm's own covariates.
    """
    spreads: dict[str, tuple[float, bool]] = {}
    for name, size in study.entry.sd.items():
        covariate = name.removesuffix("_gsd")
        if covariate in COVARIATES and getattr(arm.patient, covariate) is not None:
            spreads[covariate] = size, name.endswith("_gsd")
    names = (*spreads, *RANDOM_EFFECTS)
    # Quasi-random: some effects are log-normal with a wide spread, and a plain sample of this size would not hold
    # their mean.
    points = qmc.Sobol(len(names), rng=SEED).random(n)
    z = dict(zip(names, ndtri(np.clip(points, 1e-9, 1 - 1e-9)).T, strict=True))
    covariates = {}
    for name, (size, geometric) in spreads.items():
        centre = float(getattr(arm.patient, name))
        whole = COVARIATES[name].low, COVARIATES[name].high
        low, high = study.entry.limits.get(name, whole)
        u = ndtr(z[name])
        if geometric:
            values = np.exp(truncated_quantiles(u, *np.log([centre, size, low, high]).tolist(), mean=False))
        else:
            values = truncated_quantiles(u, centre, size, low, high)
        covariates[name] = np.clip(values, *whole)
    out = []
    for j in range(n):
        changed = {name: float(values[j]) for name, values in covariates.items()}
        eta = {name: effect.sd * float(z[name][j]) for name, effect in RANDOM_EFFECTS.items()}
        try:
            out.append(arm.patient.replace(**changed, eta=eta))
        except PatientError:
            out.append(arm.patient.replace(eta=eta))
    return out


def population_offset(
    data: Sequence[Datum],
    studies: Mapping[str, Study],
    theta: Mapping[str, float] | None = None,
    *,
    n: int = PATIENTS,
) -> np.ndarray:
    """Mean over the virtual population less the typical patient, for each row and on its scale, (n_data,).

    Zero for animals, whose studies are of one strain and print no covariates, and where a population cannot be
    simulated for at least half of its patients.

    Parameters
    ----------
    theta : mapping, optional
        Parameters; the medians of the priors by default.
    """
    out = np.zeros(len(data))
    for study in {d.study: None for d in data if d.species == "human"}:
        rows = [k for k, d in enumerate(data) if d.study == study]
        means, typical = _study_means([data[k] for k in rows], studies[study], dict(theta or {}), n)
        out[rows] = np.nan_to_num(means - typical)
    return out


def _study_means(
    data: Sequence[Datum], study: Study, theta: Mapping[str, float], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over patients and value of the typical patient, of each row."""
    values: dict[str, tuple[np.ndarray, dict[tuple[float, str], int]]] = {}
    for name in {t.arm for d in data for t in d.terms}:
        arm = study.arms[name]
        wanted = sorted({(t.day, t.observable) for d in data for t in d.terms if t.arm == name})
        days, names = sorted({day for day, _ in wanted}), sorted({o for _, o in wanted})
        people = [arm.patient, *virtual_patients(study, arm, n)]
        regimen = (arm.doses, arm.courses)
        cohort = simulate_cohort(
            people,
            [theta] * len(people),
            [(regimen,)] * len(people),
            np.array(days),
            names,
            rtol=RTOL,
            atol=ATOL,
        )
        found = cohort.values[:, 0]
        at = {(day, o): (days.index(day), names.index(o)) for day, o in wanted}
        table = np.stack([found[:, i, j] for i, j in at.values()], axis=1)
        values[name] = table, {key: k for k, key in enumerate(at)}
    means, typical = np.zeros(len(data)), np.zeros(len(data))
    for k, datum in enumerate(data):
        each = np.zeros(n + 1)
        for term in datum.terms:
            table, where = values[term.arm]
            column = table[:, where[term.day, term.observable]]
            with np.errstate(divide="ignore", invalid="ignore"):
                each = each + term.weight * (np.log(column) if term.log else column)
        good = np.isfinite(each[1:])
        means[k] = each[1:][good].mean() if good.mean() >= 0.5 else np.nan
        typical[k] = each[0]
    return means, typical


def nonlinearity(
    data: Sequence[Datum], studies: Mapping[str, Study], thetas: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """The offset of each human row under several sets of parameters, beside what the row can resolve.

    Parameters
    ----------
    thetas : mapping of str to mapping
        Such as ``{"prior": {}, "posterior": posterior.median()}``.

    Returns
    -------
    DataFrame
        study, row, resolution (standard error and typical residual together), and a column for each set.
    """
    human = [d for d in data if d.species == "human"]
    table = pd.DataFrame(
        {
            "study": [d.study for d in human],
            "row": [d.label for d in human],
            "resolution": [
                math.hypot(0.0 if math.isnan(d.error) else d.error, d.kind.residual) for d in human
            ],
        }
    )
    for name, theta in thetas.items():
        table[name] = population_offset(human, studies, theta)
    return table
