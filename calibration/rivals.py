"""Two simpler accounts of the same evidence, to be beaten: cells do nothing, and cells do what the average trial says.

Both are fitted to the rows of the likelihood and to no others. *No effect*: the model with every dose taken away; its
parameters, levels, residuals, small-study effect and uncontrolled gain are fitted anew. *Pooled effect*: treated rows are
those predictions plus one random-effects mean for each class of observable, in units of the spread between subjects, as
a meta-analysis pools them (DerSimonian and Laird 1986, doi:10.1016/0197-2456(86)90046-2).

Their posteriors are normal approximations around the mode, with predictions replaced by their tangent, renewed at the
mode `RENEWALS` times: without cells the model is close to a straight line over its posterior, and a rival needs no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mscrenal.calibration.assess import (
    DRAWS,
    Belief,
    RowDistributions,
    fitted_distributions,
    fitted_rows,
    new_study_distributions,
)
from mscrenal.calibration.observations import Datum
from mscrenal.calibration.population import population_offset
from mscrenal.calibration.posterior import Posterior
from mscrenal.calibration.predictions import Predictions
from mscrenal.calibration.probability import (
    HYPER,
    Problem,
    level_of,
    log_likelihood,
    student_log,
)
from mscrenal.calibration.sampling import prior_draws, stream
from mscrenal.calibration.studies import Study
from mscrenal.model import sampled_parameters

__all__ = [
    "Loo",
    "Pooled",
    "Rivals",
    "compare_loo",
    "der_simonian_laird",
    "fit_rivals",
    "loo",
    "pool_effects",
    "without_cells",
]

RENEWALS = 2
# Pareto k above which an importance-sampled number is not to be trusted (Vehtari 2024, arXiv:1507.02646).
MOST_K = 0.7
# Subjects in an arm where the source does not say: as for the small-study effect.
TYPICAL_N = 8.0


def without_cells(given: Mapping[str, Study]) -> dict[str, Study]:
    """The same studies with no cells in any arm; drugs stay."""
    return {
        name: replace(study, arms={key: replace(arm, doses=()) for key, arm in study.arms.items()})
        for name, study in given.items()
    }


# --------------------------------------------------------------------------- pooling


@dataclass(frozen=True)
class Pooled:
    """A random-effects mean: estimate, standard error, SD between studies, studies."""

    mean: float
    error: float
    tau: float
    n: int


def der_simonian_laird(effects: Sequence[float], variances: Sequence[float]) -> Pooled:
    """The random-effects mean of some effects with known variances.

    Raises
    ------
    ValueError
        For no effect, or a variance that is not above zero.

    Examples
    --------
    >>> der_simonian_laird([1.0, 1.0], [0.5, 0.5])
    Pooled(mean=1.0, error=0.5, tau=0.0, n=2)
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(variances, dtype=float)
    if not len(y) or not (v > 0).all():
        raise ValueError(f"effects to pool need variances above zero, got {v.tolist()}.")
    w = 1.0 / v
    fixed = (w * y).sum() / w.sum()
    heterogeneity = (w * (y - fixed) ** 2).sum()
    scale = w.sum() - (w**2).sum() / w.sum()
    tau2 = max(0.0, (heterogeneity - (len(y) - 1)) / scale) if len(y) > 1 else 0.0
    w = 1.0 / (v + tau2)
    return Pooled(
        float((w * y).sum() / w.sum()), float(1 / math.sqrt(w.sum())), float(math.sqrt(tau2)), len(y)
    )


def _reach(datum: Datum) -> float:
    """What an effect of one SD between subjects, in the direction of benefit, adds to the sum of a row's terms."""
    if not (datum.treated and datum.benefit and datum.day > 0):
        return 0.0
    return datum.benefit * datum.kind.between * datum.residual_scale


def pool_effects(data: Sequence[Datum], base: np.ndarray) -> dict[str, Pooled]:
    """Pool the effects of treated rows by class of observable, each study counting once.

    Parameters
    ----------
    base : ndarray (n_data,)
        Predictions without cells, on the scale of the rows' terms.

    Returns
    -------
    dict of str to Pooled
        In units of the class's SD between subjects, benefit positive. The entry ``""`` pools all classes: it serves
        those without a treated row. A class with one study takes the spread between studies of all.
    """
    collected: dict[str, dict[str, list[tuple[float, float]]]] = {}
    anchors = _anchors(data, base)
    for k, d in enumerate(data):
        reach, anchor = _reach(d), anchors.get(level_of(d), 0.0 if not d.only_contrasts else math.nan)
        if not reach or d.measure == "share" or not math.isfinite(anchor):
            continue
        if d.measure == "smd":
            effect, error = d.benefit * (d.value - base[k] / d.kind.between), d.error
        else:
            effect, error = (d.value - base[k] - anchor) / reach, d.error / abs(reach)
        n = d.n if math.isfinite(d.n) and d.n > 0 else TYPICAL_N
        variance = error**2 if math.isfinite(error) and error > 0 else (2 if d.against else 1) / n
        collected.setdefault(d.kind.name, {}).setdefault(d.study, []).append((effect, variance))
    # Rows of one study share its subjects: their mean counts as one, with the mean of their variances.
    single = {
        kind: [tuple(np.mean(rows, axis=0)) for rows in by_study.values()]
        for kind, by_study in collected.items()
    }
    every = [pair for pairs in single.values() for pair in pairs]
    if not every:
        return {"": Pooled(0.0, 1.0, 0.0, 0)}
    out = {"": der_simonian_laird(*zip(*every, strict=True))}
    for kind, pairs in single.items():
        found = der_simonian_laird(*zip(*pairs, strict=True))
        if found.n == 1:
            tau = out[""].tau
            found = replace(found, tau=tau, error=math.hypot(found.error, tau))
        out[kind] = found
    return out


def _anchors(data: Sequence[Datum], base: np.ndarray) -> dict[tuple[str, str, str], float]:
    """For levels: how far the study's untreated rows, or those of day 0, lie from the prediction."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for k, d in enumerate(data):
        if d.measure == "level" and not _reach(d):
            found.setdefault(level_of(d), []).append(d.value - base[k])
    return {key: float(np.mean(values)) for key, values in found.items()}


# --------------------------------------------------------------------------- fitting


@dataclass(frozen=True)
class Fitted:
    """Draws of a rival: free variables, and what it says of the rows that it was fitted to.

    Attributes
    ----------
    coordinates : ndarray (n, n_names)
    hyper : dict of str to ndarray (n,)
    log_likelihood : ndarray (n, n_data)
    """

    names: tuple[str, ...]
    coordinates: np.ndarray
    hyper: Mapping[str, np.ndarray]
    log_likelihood: np.ndarray

    def belief(self, parameters: Sequence[str], seed: int) -> Belief:
        """What it says of a new study."""
        n = len(self.coordinates)
        values = dict(prior_draws(n, seed).values)
        known, middle = sampled_parameters(), {}
        for k, name in enumerate(self.names):
            if name in parameters:
                column = self.coordinates[:, k]
                values[name] = np.array([known[name].at(float(x)) for x in column])
                middle[name] = known[name].at(float(np.median(column)))
        return Belief(values, self.hyper, None, middle)


def _fit(problem: Problem, tangent: Any, n: int, seed: int) -> tuple[Fitted, np.ndarray]:
    """Draws around the mode of a problem whose predictions are a straight line, and the mode's coordinates."""
    from mscrenal.calibration.inference import Density, find_mode

    density = Density(problem)
    around = find_mode(density, tangent)
    u = around.sample(n, seed)
    coordinates = np.array([density.coordinates(row) for row in u])
    prediction = np.array([tangent(x).values for x in coordinates])
    logs = log_likelihood(problem, u, prediction, density.blocks)
    hyper = np.array([density.hyper(row) for row in u])
    named = {name: hyper[:, k] for k, name in enumerate(problem.hyper) if name in HYPER}
    fitted = Fitted(problem.names, coordinates[:, : len(problem.names)], named, logs)
    return fitted, density.coordinates(around.mode)


@dataclass(frozen=True)
class Rivals:
    """Both rivals, fitted; they predict the rows of any studies.

    Attributes
    ----------
    data : tuple of Datum
        The rows that they were fitted to.
    parameters : tuple of str
        Parameters of the model that were fitted.
    nothing, pooled : Fitted
    effects : dict of str to Pooled
        Of `pool_effects`.
    """

    data: tuple[Datum, ...]
    parameters: tuple[str, ...]
    nothing: Fitted
    pooled: Fitted
    effects: Mapping[str, Pooled]
    seed: int

    @cached_property
    def beliefs(self) -> tuple[Belief, Belief]:
        """What the two say of a new study."""
        return (
            self.nothing.belief(self.parameters, self.seed),
            self.pooled.belief(self.parameters, self.seed),
        )

    def predict(
        self, data: Sequence[Datum], given: Mapping[str, Study], *, workers: int | None = None
    ) -> dict[str, RowDistributions]:
        """``no_effect`` and ``pooled``: the distributions of some rows."""
        bare, (nothing, pooled) = without_cells(given), self.beliefs
        known: dict[str, Any] = {"simulated": bare, "seed": self.seed, "workers": workers}
        shift = np.stack([self._shift(d, len(pooled)) for d in data], axis=1) if data else None
        return {
            "no_effect": new_study_distributions(data, given, nothing, **known),
            "pooled": new_study_distributions(_unbiased(data), given, pooled, shift=shift, **known),
        }

    def _shift(self, datum: Datum, n: int) -> np.ndarray:
        """What the pooled effect adds to a row of a new study, draw by draw."""
        effect = self.effects.get(datum.kind.name, self.effects[""])
        z = stream(self.seed, "pooled effect", datum.kind.name).standard_normal(n)
        own = stream(self.seed, "pooled effect", datum.kind.name, datum.study).standard_normal(n)
        return _reach(datum) * (effect.mean + effect.error * z + effect.tau * own)


def _unbiased(data: Sequence[Datum]) -> tuple[Datum, ...]:
    """The rows without small-study effect and uncontrolled gain: a pooled mean holds both."""
    return tuple(replace(d, benefit=0) for d in data)


def fit_rivals(posterior: Posterior, *, n: int = DRAWS, seed: int = 1, workers: int | None = None) -> Rivals:
    """Fit both rivals to the rows behind a posterior, with the same calibrated parameters.

    Needs the extra ``calibrate`` (PyTensor). Takes some evaluations of the model's gradient.

    Raises
    ------
    PosteriorError
        If the posterior was fitted to other rows than the package holds.
    mscrenal.calibration.inference.ModeError
        If no mode is found.
    """
    from mscrenal.calibration.inference import Tangent

    data, given = fitted_rows(posterior)
    bare, names = without_cells(given), posterior.parameters
    predictions = Predictions(data, bare, names, workers=workers)
    offset = population_offset(data, bare, posterior.median())
    problem = Problem(data, given, names, offset)
    at = np.median(posterior.flat("z"), axis=0)
    for _ in range(RENEWALS):
        found = predictions(at)
        # Without cells a study's potency moves nothing.
        wide = np.hstack([found.jacobian, np.zeros((len(data), len(problem.vector) - len(names)))])
        tangent = Tangent(np.concatenate([at, np.zeros(len(problem.vector) - len(at))]), found.values, wide)
        nothing, mode = _fit(problem, tangent, n, seed)
        at = mode[: len(names)]
    effects = pool_effects(data, tangent(mode).values + offset)
    pooled = _fit_pooled(problem, tangent, effects, n, seed)
    return Rivals(data, names, nothing, pooled, effects, seed)


def _fit_pooled(problem: Problem, tangent: Any, effects: Mapping[str, Pooled], n: int, seed: int) -> Fitted:
    """The second rival: the pooled means fixed, each study's own deviation from them a coordinate."""
    from mscrenal.calibration.inference import Tangent

    data = problem.data
    reach = np.array([_reach(d) for d in data])
    of = [effects.get(d.kind.name, effects[""]) for d in data]
    own = list(dict.fromkeys((d.kind.name, d.study) for d, r in zip(data, reach, strict=True) if r))
    columns = np.array(
        [
            [r * e.tau * ((d.kind.name, d.study) == pair) for pair in own]
            for d, r, e in zip(data, reach, of, strict=True)
        ]
    ).reshape(len(data), len(own))
    k = len(problem.names)
    deviations = tuple(f"pooled effect, {kind}, {study}" for kind, study in own)
    widened = replace(problem, data=_unbiased(data), names=(*problem.names, *deviations))
    values = tangent.values + reach * np.array([e.mean for e in of])
    line = Tangent(
        np.concatenate([tangent.at[:k], np.zeros(len(own)), tangent.at[k:]]),
        values,
        np.hstack([tangent.jacobian[:, :k], columns, tangent.jacobian[:, k:]]),
    )
    return _fit(widened, line, n, seed)[0]


# --------------------------------------------------------------------------- leave one out


@dataclass(frozen=True)
class Loo:
    """Expected log predictive density, leaving one row out (PSIS-LOO).

    Attributes
    ----------
    elpd, error : float
        Sum over rows, and its standard error.
    pointwise, k : ndarray (n_data,)
        Of each row: log predictive density, and the shape of the importance weights' tail.
    """

    elpd: float
    error: float
    pointwise: np.ndarray
    k: np.ndarray

    @property
    def share_of_bad_k(self) -> float:
        """Share of rows whose k is above `MOST_K`."""
        return float(np.mean(self.k > MOST_K))


def loo(log_likelihood: np.ndarray) -> Loo:
    """PSIS-LOO by ArviZ, of either generation (0.23, or 1).

    Parameters
    ----------
    log_likelihood : ndarray (n_chains, n_draws, n_data)
    """
    import arviz as az

    # ArviZ asks for a posterior to work out effective sample sizes from.
    posterior, likelihood = {"total": log_likelihood.sum(axis=-1)}, {"rows": log_likelihood}
    old = int(az.__version__.split(".")[0]) < 1
    made: Any = (
        az.from_dict(posterior=posterior, log_likelihood=likelihood)
        if old
        else az.from_dict({"posterior": posterior, "log_likelihood": likelihood})
    )
    found: Any = az.loo(made, pointwise=True)
    total, each = ("elpd_loo", "loo_i") if old else ("elpd", "elpd_i")
    return Loo(
        float(getattr(found, total)),
        float(found.se),
        np.asarray(getattr(found, each)),
        np.asarray(found.pareto_k),
    )


def compare_loo(posterior: Posterior, rivals: Rivals) -> pd.DataFrame:
    """PSIS-LOO of the model and of both rivals on the rows that were fitted.

    Returns
    -------
    DataFrame
        model, elpd, error, difference (model less rival, positive: the model is better), difference_error,
        bad_k (share of rows whose Pareto k is above `MOST_K`), largest_k.
    """
    data, given = fitted_rows(posterior)
    location, scale = fitted_distributions(posterior, data, given)
    value = np.array([d.value for d in data])
    logs = student_log(value, location, scale)
    shape = (posterior.data.sizes["chain"], posterior.data.sizes["draw"], len(data))
    found = {
        "mechanistic model": loo(logs.reshape(shape)),
        "no MSC effect": loo(rivals.nothing.log_likelihood[None]),
        "pooled meta-analytic effect": loo(rivals.pooled.log_likelihood[None]),
    }
    ours = found["mechanistic model"].pointwise
    rows = []
    for name, item in found.items():
        gap = ours - item.pointwise
        rows.append(
            {
                "model": name, "elpd": item.elpd, "error": item.error, "difference": float(gap.sum()),
                "difference_error": float(math.sqrt(len(gap) * gap.var())), "bad_k": item.share_of_bad_k,
                "largest_k": float(item.k.max()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
