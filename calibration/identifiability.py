"""Which calibrated parameters the evidence can tell apart: by the structure of the model, and by the data there are.

1. Structure: could noise-free, dense observations of what was fitted, in the arms that were fitted, fix the parameters
   near a point? The rank of the scaled sensitivity matrix at several random points says so, and the collinearity index
   which sets nearly compensate each other (Brun 2001, doi:10.1029/2000WR900350; the rank test by singular values:
   Stigter and Molenaar 2015, doi:10.1016/j.automatica.2015.05.004).
2. Practice: the information in the rows as they are, with their errors, levels and biases, at the posterior's median:
   which combinations of parameters it narrows.
3. What became of it: contraction and verdict of the posterior.
4. Profiles: the log density along each parameter, the others following by the normal approximation, beside the marginal
   interval of the posterior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mscrenal.calibration.inference import Density, Tangent
from mscrenal.calibration.posterior import Posterior, PosteriorError
from mscrenal.calibration.predictions import POTENCY, Coordinates
from mscrenal.calibration.probability import HYPER, TAIL, Problem, row_distributions
from mscrenal.calibration.sampling import stream
from mscrenal.calibration.simulated import Simulated, Simulations
from mscrenal.model import sampled_parameters

if TYPE_CHECKING:
    from mscrenal.calibration.calibrate import Prepared

__all__ = ["Identifiability", "Practice", "Structure", "identifiability", "practice", "structure"]

DENSE = 24  # days an arm is observed on
POINTS = 5  # random points of the prior
SPREAD = 0.7  # of these points, in SDs of the prior: far apart, and few arms that cannot be simulated
TIGHT = (1e-8, 1e-10)  # tolerances of the solver: what is left of its error must not count as a direction
# Singular values of unit columns below this share of the largest are zero: a hundred times the error of derivatives at
# these tolerances.
ZERO = 1e-5
# Collinearity above which a set cannot be told apart in practice (Brun 2001: 10 to 15).
COLLINEAR = 15.0
PROFILE_DROP = 1.3527  # half the 90 % quantile of chi-square with one degree of freedom
GRID = np.linspace(-3.5, 3.5, 57)  # SDs
NAMED = 4  # parameters named of a combination


# --------------------------------------------------------------------------- structure


@dataclass(frozen=True)
class Structure:
    """Local structural identifiability.

    Attributes
    ----------
    names : tuple of str
    ranks : tuple of int
        At each random point that could be simulated.
    singular_values : ndarray (n_points, n_names)
        Of the sensitivity matrix with columns of length one, the largest first.
    collinearity : float
        Largest over the points of Brun's index of all parameters together; infinite for a deficient rank.
    pairs : DataFrame
        first, second, collinearity: pairs above 5, the largest first; the smallest index over the points, since a pair
        that can be told apart anywhere can.
    blind : dict of str to float
        Share of each parameter in the directions that nothing moves, largest over the points; zero if identifiable.
    unseen : tuple of str
        Parameters that move no observation at any point.
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    singular_values: np.ndarray
    collinearity: float
    pairs: pd.DataFrame
    blind: Mapping[str, float]
    unseen: tuple[str, ...]

    @property
    def full(self) -> bool:
        """Whether the rank is full at some point: generically, then, it is."""
        return max(self.ranks) == len(self.names)


def structure(problem: Problem, *, seed: int = 1, workers: int | None = None) -> Structure:
    """The rank test for the calibrated parameters, all fitted observables observed densely and without noise.

    Raises
    ------
    ValueError
        If no random point can be simulated.
    """
    names = problem.names
    dense = Simulations(_dense_arms(problem), names, workers=workers, rtol=TIGHT[0], atol=TIGHT[1])
    coordinates, columns = Coordinates(names), []
    for point in range(3 * POINTS):
        z = SPREAD * stream(seed, "identifiability", point).standard_normal(len(names))
        matrix = _scaled(dense, coordinates, z)
        if matrix is not None:
            columns.append(matrix)
        if len(columns) == POINTS:
            break
    if not columns:
        raise ValueError("no random point of the prior could be simulated. Give another seed.")
    return _structure(names, columns)


def _dense_arms(problem: Problem) -> list[Simulated]:
    """Every fitted arm, its fitted observables on many days up to its last."""
    wanted: dict[tuple[str, str], tuple[set[float], set[str]]] = {}
    for datum in problem.data:
        for term in datum.terms:
            days, observables = wanted.setdefault((datum.study, term.arm), (set(), set()))
            days.add(float(term.day))
            observables.add(term.observable)
    out = []
    for (study, name), (days, observables) in wanted.items():
        arm, last = problem.studies[study].arms[name], max(*days, 1.0)
        grid = np.unique(np.concatenate([np.linspace(0.0, last, DENSE), sorted(days)]))
        out.append(
            Simulated(
                arm.patient,
                arm.doses,
                arm.courses,
                tuple(grid),
                tuple(sorted(observables)),
                name=f"{study}: {name}",
            )
        )
    return out


def _scaled(dense: Simulations, coordinates: Coordinates, z: np.ndarray) -> np.ndarray | None:
    """Derivatives by standardised parameters, each row relative to its value; None if an arm fails."""
    found = dense(coordinates.values(z))
    if any(status != "ok" for status in found.status):
        return None
    # Relative to the value, or to the typical size of what stands near zero.
    typical = np.abs(found.values).mean()
    size = np.maximum(np.abs(found.values), 1e-6 * typical)
    return np.asarray(found.jacobian * coordinates.slopes(z) / size[:, None])


def _structure(names: Sequence[str], matrices: Sequence[np.ndarray]) -> Structure:
    lengths = np.array([np.linalg.norm(m, axis=0) for m in matrices])
    seen = (lengths > ZERO * lengths.max(axis=1, keepdims=True)).any(axis=0)
    ranks, values, blind, pairs = [], [], np.zeros(len(names)), []
    for matrix, length in zip(matrices, lengths, strict=True):
        unit = matrix / np.where(length > 0, length, 1.0)
        _, singular, right = np.linalg.svd(unit, full_matrices=False)
        rank = int((singular > ZERO * singular[0]).sum())
        ranks.append(rank)
        values.append(singular)
        if rank < len(names):
            blind = np.maximum(blind, (right[rank:] ** 2).sum(axis=0))
        pairs.append(unit.T @ unit)
    least = min(v[-1] for v in values)
    return Structure(
        tuple(names),
        tuple(ranks),
        np.array(values),
        float(1.0 / least) if max(ranks) == len(names) and least > 0 else float("inf"),
        _pairs(names, np.array(pairs)),
        dict(zip(names, np.where(max(ranks) == len(names), 0.0, blind).tolist(), strict=True)),
        tuple(n for n, s in zip(names, seen, strict=True) if not s),
    )


def _pairs(names: Sequence[str], cosines: np.ndarray) -> pd.DataFrame:
    """Brun's index of two unit columns: 1 / sqrt(1 - |cosine|)."""
    rows = []
    for i, j in combinations(range(len(names)), 2):
        index = 1.0 / np.sqrt(np.maximum(1.0 - np.abs(cosines[:, i, j]), 1e-16))
        if index.min() > 5:
            rows.append((names[i], names[j], float(index.min())))
    table = pd.DataFrame(rows, columns=["first", "second", "collinearity"])
    return table.sort_values("collinearity", ascending=False, ignore_index=True)


# --------------------------------------------------------------------------- practice


@dataclass(frozen=True)
class Practice:
    """What the rows as they are can tell, at one point.

    Attributes
    ----------
    covariance : ndarray (n_names, n_names)
        Of the standardised parameters, prior and rows together, everything else of the probability model free.
    conditional : ndarray (n_names,)
        SD of each parameter if all others were known.
    directions : DataFrame
        sd (1: as the prior), combination (in words) of the eigenvectors of the covariance, the best known first.
    """

    covariance: np.ndarray
    conditional: np.ndarray
    directions: pd.DataFrame

    @property
    def sd(self) -> np.ndarray:
        """SD of each parameter, the prior's being 1."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def informed(self) -> float:
        """How many parameters' worth of the prior's variance the rows take away."""
        return float(len(self.sd) - np.trace(self.covariance))


def practice(problem: Problem, tangent: Tangent, u: np.ndarray, density: Density) -> Practice:
    """Expected information of the rows about the parameters at a point of the free variables.

    Parameters
    ----------
    u : ndarray (n_free,)
    density : Density
        Whose blocks say where the variables stand.

    Notes
    -----
    Of Student's t with nu degrees of freedom, a row of scale s holds (nu + 1) / (nu + 3) / s^2 on its location and
    2 nu / (nu + 3) on the logarithm of its scale. The prior of every free variable is standard normal.
    """
    precision = np.eye(len(u)) + _information(problem, tangent, u, density)
    at = np.arange(len(u))[density.blocks["z"]]
    to_z = problem.prior[1]
    covariance = to_z @ np.linalg.inv(precision)[np.ix_(at, at)] @ to_z.T
    from_z = np.linalg.inv(to_z)
    conditional = 1.0 / np.sqrt(np.diag(from_z.T @ precision[np.ix_(at, at)] @ from_z))
    values, vectors = np.linalg.eigh(covariance)
    rows = [
        (float(np.sqrt(v)), _words(problem.names, vector))
        for v, vector in zip(values, vectors.T, strict=True)
    ]
    return Practice(covariance, conditional, pd.DataFrame(rows, columns=["sd", "combination"]))


def _information(problem: Problem, tangent: Tangent, u: np.ndarray, density: Density) -> np.ndarray:
    def rows(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prediction = tangent.values + (density.coordinates(v) - tangent.at) @ tangent.jacobian.T
        mean, sigma = row_distributions(problem, v, prediction, density.blocks)
        return mean, np.log(sigma)

    step = 1e-5
    moved = np.concatenate([u + step * np.eye(len(u)), u - step * np.eye(len(u))])
    (mean, log_sigma), (_, here) = rows(moved), rows(u[None])
    n = len(u)
    by_mean = (mean[:n] - mean[n:]).T / (2 * step) / np.exp(here[0])[:, None]
    by_scale = (log_sigma[:n] - log_sigma[n:]).T / (2 * step)
    found = (TAIL + 1) / (TAIL + 3) * by_mean.T @ by_mean + 2 * TAIL / (TAIL + 3) * by_scale.T @ by_scale
    return np.asarray(found)


def _words(names: Sequence[str], vector: np.ndarray) -> str:
    """A combination by its largest parts, the first one positive: '0.9 leak_slit - 0.3 leak_pressure'."""
    order = np.argsort(-np.abs(vector))
    signed = vector * np.sign(vector[order[0]])
    kept = [k for k in order[:NAMED] if abs(signed[k]) > 0.2]
    parts = [f"{'-' if signed[k] < 0 else '+'} {abs(signed[k]):.2f} {names[k]}" for k in kept]
    return " ".join(parts).removeprefix("+ ")


# --------------------------------------------------------------------------- together


@dataclass(frozen=True)
class Identifiability:
    """All four, by parameter.

    Attributes
    ----------
    table : DataFrame
        parameter, structural (in words), blind (share in directions that nothing moves), sd_from_rows, sd_if_alone
        (all others known), contraction, verdict, low and high (posterior, 90 %), profile_low and profile_high, all in
        SDs of the prior.
    structure : Structure
    practice : Practice
    """

    table: pd.DataFrame
    structure: Structure
    practice: Practice


def identifiability(
    posterior: Posterior, ready: Prepared, *, seed: int = 1, workers: int | None = None
) -> Identifiability:
    """What of the calibrated parameters can be told, by structure, by the rows, and by the posterior.

    Parameters
    ----------
    posterior : Posterior
        Of the problem of `ready`.

    Raises
    ------
    PosteriorError
        If the posterior's parameters are others than the problem's.
    """
    problem = ready.problem
    if posterior.parameters != problem.names or posterior.hyper_names != problem.hyper:
        raise PosteriorError(
            "the posterior was fitted to other evidence than that which is prepared: its parameters differ. Give the "
            "posterior of these tables, or calibrate anew."
        )
    ready = ready.with_offset(posterior.data["offset"].values)
    problem = ready.problem
    density = Density(problem)
    u = _median_point(problem, posterior, density)
    x = density.coordinates(u)
    found = ready.predictions(workers)(x)
    tangent = Tangent(x, found.values, found.jacobian)
    structural, practical = (
        structure(problem, seed=seed, workers=workers),
        practice(problem, tangent, u, density),
    )
    profiles = _profiles(density, tangent, u)
    verdicts, z = posterior.provenance.get("verdicts", {}), posterior.flat("z")
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(problem.names):
        low, high = np.quantile(z[:, k], [0.05, 0.95])
        told = verdicts.get(name, {})
        rows.append(
            {
                "parameter": name,
                "structural": _structural_words(structural, name),
                "blind": structural.blind[name],
                "sd_from_rows": practical.sd[k],
                "sd_if_alone": practical.conditional[k],
                "contraction": told.get("contraction", 1.0 - z[:, k].std()),
                "verdict": told.get("verdict", "not judged"),
                "low": low,
                "high": high,
                "profile_low": profiles[k][0],
                "profile_high": profiles[k][1],
            }
        )
    return Identifiability(pd.DataFrame(rows), structural, practical)


def _structural_words(found: Structure, name: str) -> str:
    if name in found.unseen:
        return "moves nothing observed"
    return "identifiable" if found.blind[name] < 1e-3 else "only in combination"


def _median_point(problem: Problem, posterior: Posterior, density: Density) -> np.ndarray:
    """Free variables at the posterior's medians."""
    u = np.zeros(density.size)
    sizes = np.median(posterior.flat("hyper"), axis=0)
    declared = [HYPER[name] for name in problem.hyper]
    u[density.blocks["hyper"]] = [
        np.log(s / h.median) / h.sigma for s, h in zip(sizes, declared, strict=True)
    ]
    size = dict(zip(problem.hyper, sizes, strict=True))
    z = np.median(posterior.flat("z"), axis=0)
    for k, name in enumerate(problem.names):
        if name.startswith("product.") and name.endswith(".secretion"):
            z[k] /= size["between_products"]
    mean, factor = problem.prior
    u[density.blocks["z"]] = np.linalg.solve(factor, z - mean)
    if problem.potent:
        centre = z[problem.names.index(POTENCY)] if POTENCY in problem.names else 0.0
        sigma = float(getattr(sampled_parameters()[POTENCY].prior, "sigma"))  # noqa: B009 (declared log-normal)
        own = np.median(posterior.flat("study"), axis=0)
        u[density.blocks["study"]] = (own - centre) * sigma / size["between_studies"]
    u[density.blocks["level"]] = np.median(posterior.flat("level"), axis=0)
    return u


def _profiles(density: Density, tangent: Tangent, u: np.ndarray) -> list[tuple[float, float]]:
    """For each parameter where the profile of the log density has fallen by `PROFILE_DROP`.

    The predictions are their tangent, the other variables follow by conditioning the normal approximation; density and
    heavy tails are those of the model, so that a profile may be skewed or flat where the normal is not.
    """
    from scipy.optimize import minimize

    from mscrenal.calibration.inference import laplace

    density.put(tangent)
    found = minimize(
        lambda v: tuple(-part for part in density.linear(v)),
        u,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500},
    )
    around = laplace(density, found.x)
    covariance = around.factor @ around.factor.T
    mean, factor = density.problem.prior
    mode = mean + factor @ around.mode[density.blocks["z"]]
    out = []
    for k, row in enumerate(factor):
        # How all free variables go with the parameter.
        along = covariance[:, density.blocks["z"]] @ row
        variance = row @ along[density.blocks["z"]]
        path = around.mode + np.outer(GRID * np.sqrt(variance), along / variance)
        fall = around.log_density - np.array([density.linear(v)[0] for v in path])
        out.append(_crossings(mode[k] + GRID * np.sqrt(variance), fall))
    return out


def _crossings(at: np.ndarray, fall: np.ndarray) -> tuple[float, float]:
    """Where a fall first passes `PROFILE_DROP` on each side of the middle; the end of the grid if it does not."""
    middle = len(at) // 2

    def side(order: range) -> float:
        for a, b in pairwise(order):
            if fall[b] >= PROFILE_DROP:
                share = (PROFILE_DROP - fall[a]) / (fall[b] - fall[a])
                return float(at[a] + share * (at[b] - at[a]))
        return float(at[order[-1]])

    return side(range(middle, -1, -1)), side(range(middle, len(at)))
