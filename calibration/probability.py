"""The probability model: what the evidence says about the parameters, with everything that is not the parameters.

In words. Each row is the model's prediction, plus the study's own level, plus a small-study effect where the row is a
treated animal, plus what improves without the cells where a series of patients has no control; it is spread by its standard error and by what studies of that kind differ
beyond it, with heavy tails, so that one outlying study cannot pull the rest. Cells act more strongly in one study than
in another, and one product differs from the next; both spreads are estimated. Parameters have the priors of their
declarations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mscrenal.calibration.course import JointPrior
from mscrenal.calibration.observations import CLASSES, Datum
from mscrenal.calibration.predictions import POTENCY, study_potency
from mscrenal.calibration.studies import Study
from mscrenal.model import sampled_parameters

# The models here are small: PyTensor without a BLAS of its own loses nothing.
warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")

try:
    import pymc as pm
    import pytensor.tensor as pt
except ImportError as error:
    raise ImportError(
        f"the calibration needs PyMC, which is not there ({error}). "
        'Install the extra that brings it: pip install "mscrenal[calibrate]".'
    ) from error

__all__ = [
    "HYPER",
    "TAIL",
    "Hyper",
    "Problem",
    "build",
    "coordinates",
    "hyper_values",
    "level_of",
    "log_likelihood",
    "row_distributions",
    "student_log",
]

# Degrees of freedom of the residuals: heavy tails, a finite variance. Assumed, the usual choice of robust regression.
TAIL = 4.0


@dataclass(frozen=True)
class Hyper:
    """A parameter of the probability model itself: log-normal, by median and SD of the logarithm."""

    name: str
    median: float
    sigma: float
    meaning: str


# Judgements (assumed): wide enough for the data to move them, away from zero so that the geometry stays kind.
HYPER: dict[str, Hyper] = {
    h.name: h
    for h in (
        Hyper("between_studies", 0.4, 0.3, "SD between studies of the logarithm of the half-effective dose"),
        Hyper(
            "between_products", 1.0, 0.35, "spread between products, relative to the declared class priors"
        ),
        Hyper("small_study_effect", 0.7, 0.7, "shift of a treated animal's row, in standard errors"),
        Hyper(
            "uncontrolled_gain",
            0.4,
            0.6,
            "improvement in series without a control arm that is not the cells' (regression to the mean, care), in SDs "
            "between subjects",
        ),
        *(
            Hyper(
                f"residual, {c.name}", 0.7 * c.residual, 0.5, f"SD of studies beyond their errors: {c.name}"
            )
            for c in CLASSES.values()
        ),
        *(
            Hyper(
                f"between subjects, {c.name}", c.between, 0.35, f"SD between subjects of a change: {c.name}"
            )
            for c in CLASSES.values()
        ),
    )
}


@dataclass(frozen=True)
class Problem:
    """What is fitted to what.

    Attributes
    ----------
    data : tuple of Datum
    studies : mapping of str to Study
    names : tuple of str
        Calibrated parameters, of `sampled_parameters`.
    offset : ndarray (n_data,)
        Mean over the virtual population less the typical patient, on the scale of each row.
    joint : JointPrior, optional
        Of the standardised parameters; those that it does not name, or all without it, are standard normal.
    """

    data: tuple[Datum, ...]
    studies: Mapping[str, Study]
    names: tuple[str, ...]
    offset: np.ndarray = field(default_factory=lambda: np.zeros(0))
    joint: JointPrior | None = None

    @cached_property
    def prior(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the standardised parameters: mean (n,), and lower triangle (n, n) whose product with its transpose is their covariance."""
        n = len(self.names)
        return (np.zeros(n), np.eye(n)) if self.joint is None else self.joint.of(self.names)

    @cached_property
    def _hyper_prior(self) -> tuple[np.ndarray, np.ndarray]:
        table = [HYPER[name] for name in self.hyper]
        return np.array([h.median for h in table]), np.array([h.sigma for h in table])

    @cached_property
    def _place(self) -> _Layout:
        return _Layout(self)

    @cached_property
    def potent(self) -> tuple[str, ...]:
        """Studies with a treated row, each with a potency of its own."""
        return tuple(dict.fromkeys(d.study for d in self.data if d.treated))

    @cached_property
    def levels(self) -> tuple[tuple[str, str, str], ...]:
        """(study, observable, measure) with a level of their own."""
        return tuple(dict.fromkeys(level_of(d) for d in self.data if d.own_level > 0))

    @cached_property
    def vector(self) -> tuple[str, ...]:
        """Coordinates of the predictions: calibrated parameters, then the studies' potencies."""
        return (*self.names, *(study_potency(s) for s in self.potent))

    @cached_property
    def hyper(self) -> tuple[str, ...]:
        """Names of the hyper-parameters that some row needs."""
        kinds = tuple(dict.fromkeys(d.kind.name for d in self.data))
        cut = tuple(dict.fromkeys(d.kind.name for d in self.data if d.measure in ("smd", "share")))
        out = [h for h, wanted in (
            ("between_studies", bool(self.potent)),
            ("between_products", any(_is_secretion(n) for n in self.names)),
            ("small_study_effect", bool(_biased(self.data).any())),
            ("uncontrolled_gain", bool(_uncontrolled(self.data, self.studies).any())),
        ) if wanted]  # fmt: skip
        out += [f"residual, {k}" for k in kinds] + [f"between subjects, {k}" for k in cut]
        return tuple(out)


def level_of(datum: Datum) -> tuple[str, str, str]:
    """Which level a row shares."""
    return datum.study, datum.observable, datum.measure


def _is_secretion(name: str) -> bool:
    return name.startswith("product.") and name.endswith(".secretion")


def _biased(data: Sequence[Datum]) -> np.ndarray:
    """Which rows a small-study effect may shift: treated animals."""
    return np.array([d.treated and d.species != "human" and d.benefit != 0 for d in data], dtype=bool)


def build(problem: Problem, predict: Callable[[Any], Any], *, observed: Any = None) -> pm.Model:
    """The PyMC model.

    Parameters
    ----------
    predict : callable
        Of a PyTensor vector in the order of `Problem.vector`, standardised: the predictions (n_data,), as
        ``lambda x: PredictionOp(predictions)(x)[0]``.
    observed : ndarray or shared variable (n_data,), optional
        Instead of the evidence's values (simulated data).

    Returns
    -------
    pymc.Model
        Free variables: ``z`` (calibrated parameters, standardised, and made independent where their prior is joint),
        ``study`` (deviations of the studies' potencies), ``level`` (the studies' levels) and ``hyper`` (logarithms of
        the hyper-parameters), all standard normal, so that draws of the prior need no sampler.
    """
    data = problem.data
    value = np.array([d.value for d in data]) if observed is None else observed
    place = problem._place
    with pm.Model() as model:
        z = pm.Normal("z", shape=len(problem.names))
        study = pm.Normal("study", shape=max(1, len(problem.potent)))
        level = pm.Normal("level", shape=max(1, len(problem.levels)))
        hyper = pm.Normal("hyper", shape=len(problem.hyper))
        size = _sizes(problem, hyper, pt)
        prediction = predict(_coordinates(problem, place, z, study, size, pt))
        mean, sigma = _distributions(problem, place, prediction, level, size, pt)
        pm.StudentT("rows", nu=TAIL, mu=mean, sigma=sigma, observed=value)
    return model


def _uncontrolled(data: Sequence[Datum], studies: Mapping[str, Study]) -> np.ndarray:
    """Which rows come after treatment in people of a study without an untreated arm."""

    def alone(datum: Datum) -> bool:
        arms = {t.arm for d in data if d.study == datum.study for t in d.terms}
        return all(studies[datum.study].arms[a].doses for a in arms)

    return np.array(
        [d.treated and d.species == "human" and d.day > 0 and d.benefit != 0 and alone(d) for d in data],
        dtype=bool,
    )


# The same formulas serve PyTensor (one point) and NumPy (many draws, one a row): `xp` is the one or the other.


def _sizes(problem: Problem, hyper: Any, xp: Any) -> Any:
    median, sigma = problem._hyper_prior
    return median * xp.exp(sigma * hyper)


class _Layout:
    """Where each row finds what it needs, as index arrays; what a row does not need is a constant."""

    def __init__(self, problem: Problem) -> None:
        data = problem.data
        self.hyper = {name: k for k, name in enumerate(problem.hyper)}
        self.secretion = np.array([_is_secretion(n) for n in problem.names], dtype=bool)
        where = {pair: k for k, pair in enumerate(problem.levels)}
        self.level = np.array([where.get(level_of(d), 0) for d in data])
        self.own_level = np.array([d.own_level for d in data])
        self.smd = np.array([d.measure == "smd" for d in data])
        self.share = np.array([d.measure == "share" for d in data])
        self.residual = np.array([self.hyper[f"residual, {d.kind.name}"] for d in data])
        # The last entry stands for 1, for rows that need no spread between subjects.
        one = len(problem.hyper)
        self.between = np.array([self.hyper.get(f"between subjects, {d.kind.name}", one) for d in data])
        self.between[~(self.smd | self.share)] = one
        self.shift = np.array([d.benefit * d.bias_scale for d in data]) * _biased(data)
        gain = np.array([d.benefit * d.kind.between * d.residual_scale for d in data])
        self.gain = gain * _uncontrolled(data, problem.studies)
        self.limit = np.array([0.0 if d.limit is None else d.limit for d in data])
        self.sign = np.array([-1.0 if d.above else 1.0 for d in data])
        self.scale = np.array([d.residual_scale for d in data])
        self.spread = np.array([d.spread for d in data])
        self.error = np.array([0.0 if math.isnan(d.error) else d.error for d in data])
        prior = sampled_parameters()[POTENCY].prior
        self.potency_sigma = float(getattr(prior, "sigma"))  # noqa: B009 (declared log-normal)
        self.potency = problem.names.index(POTENCY) if POTENCY in problem.names else None
        self.joint = None if problem.joint is None else problem.prior


def _coordinates(problem: Problem, place: _Layout, z: Any, study: Any, size: Any, xp: Any) -> Any:
    if place.joint is not None:
        mean, factor = place.joint
        z = mean + xp.dot(z, factor.T)
    head = z
    if place.secretion.any():
        spread = size[..., place.hyper["between_products"]]
        head = z * (1.0 + (spread[..., None] - 1.0) * place.secretion)
    if not problem.potent:
        return head
    centre = z[..., place.potency][..., None] if place.potency is not None else 0.0
    tail = centre + size[..., place.hyper["between_studies"]][..., None] / place.potency_sigma * study
    return xp.concatenate([head, tail], axis=-1)


def _distributions(
    problem: Problem, place: _Layout, prediction: Any, level: Any, size: Any, xp: Any
) -> tuple[Any, Any]:
    mean = prediction
    if len(problem.offset):
        mean = mean + problem.offset
    if problem.levels:
        mean = mean + place.own_level * level[..., place.level]
    if place.gain.any():
        mean = mean + size[..., place.hyper["uncontrolled_gain"]][..., None] * place.gain
    sizes = xp.concatenate([size, xp.ones_like(size[..., :1])], axis=-1)
    between = xp.sqrt(sizes[..., place.between] ** 2 + place.spread**2)
    # The logistic distribution with the same SD instead of the normal: its tails do not run away.
    cut = place.sign * (place.limit - mean) / between * (math.pi / math.sqrt(3.0))
    mean = xp.where(place.share, cut, mean / between)
    if place.shift.any():
        mean = mean + size[..., place.hyper["small_study_effect"]][..., None] * place.shift
    # Standardised differences and shares differ between studies in units of the spread between subjects.
    return mean, xp.sqrt(place.error**2 + (place.scale * sizes[..., place.residual] / between) ** 2)


def hyper_values(problem: Problem, hyper: np.ndarray) -> np.ndarray:
    """Hyper-parameters from their standard normal coordinates, (..., n_hyper)."""
    return np.asarray(_sizes(problem, hyper, np))


def coordinates(problem: Problem, free: np.ndarray, blocks: Mapping[str, slice]) -> np.ndarray:
    """Standardised coordinates of the predictions, in the order of `Problem.vector`.

    Parameters
    ----------
    free : ndarray (..., n_free)
        Free variables.
    blocks : mapping of str to slice
        Where each of them stands.
    """
    size = hyper_values(problem, free[..., blocks["hyper"]])
    place = problem._place
    return np.asarray(
        _coordinates(problem, place, free[..., blocks["z"]], free[..., blocks["study"]], size, np)
    )


def row_distributions(
    problem: Problem, free: np.ndarray, prediction: np.ndarray, blocks: Mapping[str, slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of the residuals' distribution (Student's t with `TAIL`) of each row.

    Parameters
    ----------
    free : ndarray (..., n_free)
    prediction : ndarray (..., n_data)
        Of the model, without what this adds.

    Returns
    -------
    location, scale : ndarray (..., n_data)
        On the scale of the rows' values; of shares the logit.
    """
    size = hyper_values(problem, free[..., blocks["hyper"]])
    mean, sigma = _distributions(problem, problem._place, prediction, free[..., blocks["level"]], size, np)
    return np.asarray(mean), np.asarray(sigma)


def log_likelihood(
    problem: Problem, free: np.ndarray, prediction: np.ndarray, blocks: Mapping[str, slice]
) -> np.ndarray:
    """Log density of each row, (..., n_data); arguments as of `row_distributions`."""
    mean, sigma = row_distributions(problem, free, prediction, blocks)
    value = np.array([d.value for d in problem.data])
    return student_log(value, mean, sigma)


def student_log(value: np.ndarray, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Log density of Student's t with `TAIL` degrees of freedom."""
    z = (value - mean) / sigma
    constant = math.lgamma((TAIL + 1) / 2) - math.lgamma(TAIL / 2) - 0.5 * math.log(TAIL * math.pi)
    return np.asarray(constant - np.log(sigma) - (TAIL + 1) / 2 * np.log1p(z**2 / TAIL))
