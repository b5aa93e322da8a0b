"""Find the mode, look around it, and sample: the density of the probability model and what is done with it.

The density is compiled once with the predictions replaced by their tangent at a point that can be moved; where the
point is the argument itself, value and gradient are those of the full model. So one compiled function serves the search
for the mode (a sequence of linear problems), the quick look (Laplace), simulated data, and NUTS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytensor
import pytensor.tensor as pt
from scipy.optimize import minimize

from mscrenal.calibration.probability import Problem, build, coordinates, hyper_values

__all__ = ["Density", "Laplace", "ModeError", "Tangent", "find_mode", "laplace"]

Progress = Callable[[str], None]
GAIN = 1e-3  # of the log density: less than this between two linear problems ends the search


class ModeError(RuntimeError):
    """No mode was found."""


class Predicts(Protocol):
    """A function of the coordinates with `values`, `jacobian` and `failures`."""

    def __call__(self, x: np.ndarray, /) -> Any: ...


@dataclass(frozen=True)
class Tangent:
    """Predictions and their Jacobian at a point of the coordinates."""

    at: np.ndarray
    values: np.ndarray
    jacobian: np.ndarray

    def __call__(self, x: np.ndarray) -> Tangent:
        """The straight line through the point, as a prediction."""
        return Tangent(x, self.values + self.jacobian @ (x - self.at), self.jacobian)

    @property
    def failures(self) -> tuple[tuple[str, str, str], ...]:
        """A straight line never fails."""
        return ()


class Density:
    """Log density of the free variables and its gradient, the predictions given.

    Parameters
    ----------
    problem : Problem
    observed : ndarray (n_data,), optional
        Simulated data instead of the evidence.

    Attributes
    ----------
    names : tuple of str
        Of the free variables, one an entry.
    blocks : dict of str to slice
        Where ``z``, ``study``, ``level`` and ``hyper`` stand.
    """

    def __init__(self, problem: Problem, observed: np.ndarray | None = None) -> None:
        self.problem = problem
        n, m = len(problem.data), len(problem.vector)
        value = np.array([d.value for d in problem.data]) if observed is None else observed
        self._at = pytensor.shared(np.zeros(m), "at")
        self._values = pytensor.shared(np.zeros(n), "values")
        self._jacobian = pytensor.shared(np.zeros((n, m)), "jacobian")
        self._observed = pytensor.shared(np.asarray(value, dtype=float), "observed")
        model = build(
            problem, lambda x: self._values + pt.dot(self._jacobian, x - self._at), observed=self._observed
        )
        self._function = model.logp_dlogp_function(ravel_inputs=True)
        self._function.set_extra_values({})
        sizes = {v.name: int(np.prod(model.initial_point()[v.name].shape)) for v in model.free_RVs}
        order = [v.name for v in self._function._grad_vars]
        ends = np.cumsum([sizes[name] for name in order])
        self.blocks = {name: slice(int(e) - sizes[name], int(e)) for name, e in zip(order, ends, strict=True)}
        self.size = int(ends[-1])

    def observe(self, observed: np.ndarray) -> None:
        """Put other data in the place of the evidence."""
        self._observed.set_value(np.asarray(observed, dtype=float))

    def coordinates(self, u: np.ndarray) -> np.ndarray:
        """What the predictions depend on, from the free variables."""
        return coordinates(self.problem, u, self.blocks)

    def hyper(self, u: np.ndarray) -> np.ndarray:
        """Hyper-parameters, in the order of `Problem.hyper`."""
        return hyper_values(self.problem, u[..., self.blocks["hyper"]])

    def put(self, tangent: Tangent) -> None:
        """Use these predictions from now on."""
        self._at.set_value(tangent.at)
        self._values.set_value(tangent.values)
        self._jacobian.set_value(tangent.jacobian)

    def linear(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density and gradient with the tangent last put."""
        value, slope = self._function(u)
        return float(value), np.asarray(slope)

    def exact(self, u: np.ndarray, predict: Predicts) -> tuple[float, np.ndarray]:
        """Log density and gradient of the full model; NaN and zeros where an arm cannot be simulated."""
        x = self.coordinates(u)
        found = predict(x)
        if not np.isfinite(found.values).all() or not np.isfinite(found.jacobian).all():
            return float("nan"), np.zeros(self.size)
        self.put(Tangent(x, found.values, found.jacobian))
        return self.linear(u)


@dataclass(frozen=True)
class Laplace:
    """A normal approximation around the mode.

    Attributes
    ----------
    mode : ndarray (n,)
        Free variables.
    factor : ndarray (n, n)
        Lower triangle whose product with its transpose is the covariance.
    log_density : float
        At the mode.
    tangent : Tangent
        Of the predictions at the mode.
    """

    mode: np.ndarray
    factor: np.ndarray
    log_density: float
    tangent: Tangent

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draws (n, n_free)."""
        z = np.random.default_rng(seed).standard_normal((n, len(self.mode)))
        return self.mode + z @ self.factor.T


def find_mode(
    density: Density,
    predict: Predicts,
    *,
    start: np.ndarray | None = None,
    most: int = 40,
    progress: Progress | None = None,
) -> Laplace:
    """The mode of the posterior, by a sequence of linear problems, and the curvature there.

    Each problem replaces the predictions by their tangent and is solved by L-BFGS; a step that does not pay in the full
    model, or that an arm cannot follow, is halved.

    Raises
    ------
    ModeError
        If the start cannot be simulated (it says which arm), or nothing converges.
    """
    u = np.zeros(density.size) if start is None else np.array(start, dtype=float)
    best, _ = density.exact(u, predict)
    if not np.isfinite(best):
        failed = predict(density.coordinates(u)).failures
        raise ModeError(f"the start cannot be simulated: {'; '.join(' '.join(f) for f in failed[:3])}")
    for turn in range(most):
        found = minimize(
            lambda v: tuple(-part for part in density.linear(v)), u, jac=True, method="L-BFGS-B",
            options={"maxiter": 500, "maxcor": 30},
        )  # fmt: skip
        aim, gained = found.x, -np.inf
        for _ in range(12):
            gained, _ = density.exact(aim, predict)
            if np.isfinite(gained) and gained > best:
                break
            aim = u + 0.5 * (aim - u)
        if progress is not None:
            progress(f"mode, step {turn + 1}: log density {gained:.3f}")
        if not gained > best:
            density.exact(u, predict)
            break
        u, gain, best = aim, gained - best, gained
        if gain < GAIN:
            break
    else:
        raise ModeError(f"no mode after {most} linear problems; the last gained {gain:.3g}.")
    return laplace(density, u)


def laplace(density: Density, u: np.ndarray) -> Laplace:
    """The normal approximation at `u`, whose tangent the density must hold.

    The curvature is that of the linear problem (Gauss and Newton's), by central differences of its gradient; directions
    in which the heavy tails make it flatter than the prior are held at half the prior's curvature.
    """
    n, step = len(u), 1e-4
    hessian = np.empty((n, n))
    for k in range(n):
        forth, back = u.copy(), u.copy()
        forth[k] += step
        back[k] -= step
        hessian[k] = (density.linear(back)[1] - density.linear(forth)[1]) / (2 * step)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    covariance = (vectors / np.maximum(values, 0.5)) @ vectors.T
    tangent = Tangent(density._at.get_value(), density._values.get_value(), density._jacobian.get_value())
    return Laplace(u, np.linalg.cholesky(covariance), density.linear(u)[0], tangent)
