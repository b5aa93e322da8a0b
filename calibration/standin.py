"""A polynomial that stands in for the simulations while NUTS runs, and the correction for what it gets wrong.

NUTS asks for some hundred thousand gradients; each takes the engine a quarter of a second for all arms. Near the
posterior the predictions are smooth, so that a polynomial of the coordinates follows them closely: all terms of degree
two, and the third and fourth powers of each coordinate. It is fitted to values and derivatives that the engine computes
at points around the mode and, in a second round, at draws of the first posterior. What error is left is weighed out by
computing the engine's own density at the draws (Pareto-smoothed importance sampling); the shape k of the weights says
whether that was possible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

__all__ = ["Design", "StandIn", "fit_standin", "smoothed_weights"]

# How strongly coefficients are drawn to zero, in units of the spread of a row's predictions: enough to make the fit
# unique where the points leave directions open.
RIDGE = 1e-4
# What a derivative weighs beside a value: both are in units of one standard deviation of the coordinate.
SLOPE_WEIGHT = 0.5


@dataclass(frozen=True)
class Design:
    """Points, and what the engine says there.

    Attributes
    ----------
    points : ndarray (n, m)
    values : ndarray (n, n_data)
    jacobians : ndarray (n, n_data, m)
    """

    points: np.ndarray
    values: np.ndarray
    jacobians: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def plus(self, other: Design) -> Design:
        """Both designs."""
        return Design(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.values, other.values]),
            np.concatenate([self.jacobians, other.jacobians]),
        )

    def usable(self) -> Design:
        """The points at which every arm could be simulated."""
        good = np.isfinite(self.values).all(axis=1) & np.isfinite(self.jacobians).all(axis=(1, 2))
        return Design(self.points[good], self.values[good], self.jacobians[good])


@dataclass(frozen=True)
class StandInValue:
    """Values (n_data,) and Jacobian (n_data, m), as `Predictions` gives them."""

    values: np.ndarray
    jacobian: np.ndarray
    failures: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class StandIn:
    """A polynomial for each row.

    Attributes
    ----------
    centre, scale : ndarray (m,)
        The polynomials' variable is ``s = (bent(x) - centre) / scale``.
    constant : ndarray (n_data,)
    linear, cubic, quartic : ndarray (n_data, m)
    quadratic : ndarray (n_data, m, m)
        Symmetric.
    halves : int ndarray
        Coordinates of half-normal parameters.
    reach : ndarray (m,)
        How far from its centre the design goes, in units of `scale`.
    """

    centre: np.ndarray
    scale: np.ndarray
    constant: np.ndarray
    linear: np.ndarray
    quadratic: np.ndarray
    cubic: np.ndarray
    quartic: np.ndarray
    halves: np.ndarray
    reach: np.ndarray

    def __call__(self, x: np.ndarray) -> StandInValue:
        x, rate = straightened(x, self.halves)
        whole = (x - self.centre) / self.scale
        s = np.clip(whole, -self.reach, self.reach)
        bent = self._bent(s)
        squared = s * s
        values = self.constant + self.linear.dot(s) + 0.5 * bent.dot(s)
        values += self.cubic.dot(squared * s) + self.quartic.dot(squared * squared)
        slopes = self.linear + bent + 3.0 * self.cubic * squared + 4.0 * self.quartic * (squared * s)
        beyond = whole - s
        if beyond.any():
            # Outside the design a polynomial runs away: it goes on as a straight line.
            values += slopes.dot(beyond)
            slopes = slopes + self._bent(beyond) * (beyond == 0.0)
        return StandInValue(values, slopes * (rate / self.scale))

    def _bent(self, s: np.ndarray) -> np.ndarray:
        return self.quadratic.reshape(-1, len(s)).dot(s).reshape(len(self.constant), len(s))

    def values(self, points: np.ndarray) -> np.ndarray:
        """Values at many points, (n, n_data)."""
        return np.array([self(x).values for x in points])


def straightened(x: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in which predictions are smooth, and their derivatives by the standardised ones, both as x (..., m).

    A half-normal parameter comes close to zero only as its standardised coordinate runs to minus infinity, where all
    predictions are flat; no polynomial is. Its value, in units of its scale, is used instead.
    """
    out, rate = np.array(x, dtype=float), np.ones(np.shape(x))
    z = out[..., halves]
    value = ndtri(0.5 * (1.0 + ndtr(z)))
    out[..., halves] = value
    rate[..., halves] = 0.5 * np.exp(0.5 * (value**2 - z**2))
    return out, rate


def fit_standin(design: Design, depends: Sequence[np.ndarray], halves: np.ndarray) -> StandIn:
    """The polynomials closest to the engine's values and derivatives.

    Parameters
    ----------
    depends : sequence of int ndarray, n_data
        The coordinates that each row depends on.
    halves : int ndarray
        Coordinates of half-normal parameters.
    """
    design = design.usable()
    points, rate = straightened(design.points, halves)
    # Median and spread of the design: what a polynomial is best at.
    centre = np.median(points, axis=0)
    scale = np.maximum(points.std(axis=0), 1e-6)
    n_data, m = design.values.shape[1], points.shape[1]
    s = (points - centre) / scale
    constant, linear = np.zeros(n_data), np.zeros((n_data, m))
    quadratic = np.zeros((n_data, m, m))
    cubic, quartic = np.zeros((n_data, m)), np.zeros((n_data, m))
    solvers: dict[bytes, _Solver] = {}
    for row in range(n_data):
        columns = np.asarray(depends[row])
        key = columns.tobytes()
        if key not in solvers:
            solvers[key] = _Solver(s[:, columns], rate[:, columns])
        slopes = design.jacobians[:, row][:, columns] * scale[columns]
        found = solvers[key].solve(design.values[:, row], slopes)
        k = len(columns)
        constant[row], linear[row, columns] = found[0], found[1 : 1 + k]
        upper = np.triu_indices(k)
        square = np.zeros((k, k))
        square[upper] = found[1 + k : 1 + k + len(upper[0])]
        quadratic[row][np.ix_(columns, columns)] = square + square.T
        cubic[row, columns], quartic[row, columns] = (
            found[-2 * k : len(found) - k],
            found[len(found) - k :],
        )
    reach = np.abs(s).max(axis=0)
    return StandIn(centre, scale, constant, linear, quadratic, cubic, quartic, halves, reach)


class _Solver:
    """Ridge regression on values and derivatives for all rows that depend on the same coordinates."""

    def __init__(self, s: np.ndarray, rate: np.ndarray) -> None:
        n, k = s.shape
        i, j = np.triu_indices(k)
        ones = np.ones((n, 1))
        features = np.hstack([ones, s, s[:, i] * s[:, j], s**3, s**4])
        blocks = [features]
        for c in range(k):
            slope = np.zeros_like(features)
            slope[:, 1 + c] = 1.0
            pair = 1 + k + np.arange(len(i))
            slope[:, pair] = (i == c) * s[:, j] + (j == c) * s[:, i]
            slope[:, 1 + k + len(i) + c] = 3 * s[:, c] ** 2
            slope[:, 1 + 2 * k + len(i) + c] = 4 * s[:, c] ** 3
            # Derivatives are known by the standardised coordinate.
            blocks.append(SLOPE_WEIGHT * slope * rate[:, [c]])
        # Far points say less of where the posterior is.
        weight = np.exp(-0.1 * np.maximum(0.0, (s**2).sum(axis=1) - 2 * k))
        self._weight = np.sqrt(weight)
        self._matrix = np.vstack([b * self._weight[:, None] for b in blocks])
        penalty = np.full(features.shape[1], RIDGE * n)
        penalty[0] = 0.0
        self._normal = np.linalg.cholesky(self._matrix.T @ self._matrix + np.diag(penalty))

    def solve(self, values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        from scipy.linalg import cho_solve

        told = np.concatenate(
            [
                values * self._weight,
                *(SLOPE_WEIGHT * slopes[:, c] * self._weight for c in range(slopes.shape[1])),
            ]
        )
        return np.asarray(cho_solve((self._normal, True), self._matrix.T @ told))


def depends_on(jacobians: np.ndarray, sigma: np.ndarray, limit: float = 1e-4) -> list[np.ndarray]:
    """The coordinates that move each row by more than `limit` of its spread somewhere in the design."""
    size = np.nanmax(np.abs(jacobians), axis=0) / sigma[:, None]
    return [np.flatnonzero(row > limit) for row in size]


def smoothed_weights(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed importance weights, summing to one, and the shape k of their tail.

    k below 0.7 means that the weighted draws can be trusted (Vehtari and others 2024, doi:10.48550/arXiv.1507.02646).
    """
    import arviz as az

    if hasattr(az, "psislw"):
        smoothed, k = az.psislw(np.asarray(log_ratio))
    else:
        # ArviZ 1 comes in parts. This one takes log likelihoods, whose negative is the ratio.
        smoothed, k = import_module("arviz_stats.base").array_stats.psislw(-np.asarray(log_ratio))
    weights = np.exp(np.asarray(smoothed) - np.max(smoothed))
    return weights / weights.sum(), float(k)


Predict = Callable[[np.ndarray], Any]


def design_at(points: np.ndarray, predict: Predict) -> Design:
    """What the engine says at some points."""
    found = [predict(x) for x in points]
    return Design(points, np.array([f.values for f in found]), np.array([f.jacobian for f in found]))


def error_of(standin: StandIn, design: Design, sigma: np.ndarray) -> Mapping[str, float]:
    """How far the stand-in is from the engine at points it was not fitted to, in units of the rows' spread."""
    design = design.usable()
    size = np.abs(standin.values(design.points) - design.values) / sigma
    return {
        "median": float(np.median(size)),
        "q95": float(np.quantile(size, 0.95)),
        "largest": float(size.max()),
    }
