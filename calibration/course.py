"""What the published course of FIDELIO-DKD says of the parameters together, before any row is fitted.

The best description of untreated diabetic kidney disease is another group's population model (goulooze2022). Its numbers
are estimates, not observations, so that they stand in no likelihood; the medians of the priors are fitted to its typical
courses (`mscrenal.calibration.natural_history`). Each of those priors by itself is wide, for no single constant is
known well. What the course does tell is which of them go together: this module turns it into a joint normal prior of all
calibrated parameters, in their standardised coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mscrenal.calibration.natural_history import GRID, REFERENCE, YEAR, goulooze_baseline
from mscrenal.calibration.predictions import Coordinates
from mscrenal.calibration.simulated import Simulated, Simulations

__all__ = ["STUDY", "JointPrior", "course_prior"]

STUDY = "goulooze2022"
YEARS = 3.0
# The evidence digest's tolerances of the typical course. Over the nine courses together they leave the mean decline
# uncertain by 0.08 mL/min/1.73 m² a year and the growth of UACR by 0.9 %; the printed standard errors are 0.055 and 1.25 %.
EGFR_ERROR = 0.7  # mL/min/1.73 m²
LOG_UACR_ERROR = 0.08


@dataclass(frozen=True)
class JointPrior:
    """A normal prior of standardised coordinates.

    Attributes
    ----------
    names : tuple of str
    mean : ndarray (n,)
    covariance : ndarray (n, n)
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    @cached_property
    def information(self) -> np.ndarray:
        """What was learnt of each parameter beyond a standard normal, all others known, (n,)."""
        return np.asarray(np.diag(np.linalg.inv(self.covariance)) - 1.0)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}

    def of(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and lower triangle (m, m), times its transpose the covariance, of other coordinates.

        Those that are not in `names` are standard normal, each by itself.
        """
        mean, covariance = np.zeros(len(names)), np.eye(len(names))
        here = [k for k, name in enumerate(names) if name in self._index]
        there = [self._index[names[k]] for k in here]
        mean[here] = self.mean[there]
        covariance[np.ix_(here, here)] = self.covariance[np.ix_(there, there)]
        return mean, np.linalg.cholesky(covariance)


def course_prior(names: Sequence[str], *, workers: int | None = None) -> JointPrior:
    """The declared priors of some parameters, given the published course.

    Parameters
    ----------
    names : sequence of str
        Of `sampled_parameters`.

    Returns
    -------
    JointPrior
        The parameters that move a typical course; the rest keep the declared prior.

    Raises
    ------
    RuntimeError
        If a typical patient cannot be simulated at the medians.

    Notes
    -----
    Linear, by derivatives at the medians of the priors. These are the best compromise between the courses and what trials
    counted beside them (hard endpoints go on where the published decline stops), so that the courses say what goes
    together and leave the centre where it is. Only the third year counts, as the years of one course are one piece of
    information.
    """
    coordinates = Coordinates(tuple(names))
    centre = np.zeros(len(names))
    arms = [
        Simulated(
            REFERENCE.replace(egfr=egfr, uacr=uacr),
            times=(0.0, YEARS * YEAR),
            observables=("egfr", "uacr"),
            name=f"eGFR {egfr:.3g}, UACR {uacr:.4g}",
        )
        for egfr, uacr in (goulooze_baseline(*readings) for readings in GRID)
    ]
    simulations = Simulations(arms, coordinates.names, workers=workers)
    found = simulations(coordinates.values(centre))
    for arm, status, message in zip(simulations.arm_names, found.status, found.messages, strict=True):
        if status != "ok":
            raise RuntimeError(f"the typical course of {arm} ended as {status}: {message}")
    slopes = []
    by_z = found.jacobian * coordinates.slopes(centre)
    for name in simulations.arm_names:
        rows = simulations.rows(name)
        uacr_then = found.values[rows].reshape(2, 2)[1, 1]
        _, by_then = by_z[rows].reshape(2, 2, -1)
        slopes += [by_then[0] / EGFR_ERROR, by_then[1] / uacr_then / LOG_UACR_ERROR]
    jacobian = np.array(slopes)
    kept = np.flatnonzero(np.abs(jacobian).max(axis=0) > 1e-6)
    jacobian = jacobian[:, kept]
    covariance = np.linalg.inv(np.eye(len(kept)) + jacobian.T @ jacobian)
    return JointPrior(tuple(coordinates.names[k] for k in kept), np.zeros(len(kept)), covariance)
