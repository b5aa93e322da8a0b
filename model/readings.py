"""How a reading departs from the true value: by how much, how that differs between people, and for how long."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscrenal.model.declare import Observable

__all__ = ["error_correlation", "error_sd", "error_sizes", "read"]

Array = NDArray[np.float64]
LEAST = {"egfr": 1.0}  # what a laboratory still prints, in the unit of the observable


def error_sd(observable: Observable, true: Any) -> Array:
    """SD of the error of a reading by the typical person, in the unit of `true`.

    Parameters
    ----------
    observable : Observable
        With its declared residual; none gives zeros.
    true : array_like
        True values, in the observable's unit.

    Returns
    -------
    ndarray
        Of the shape of `true`.
    """
    proportional, additive = (observable.residual.get(kind, 0.0) for kind in ("proportional", "additive"))
    return np.asarray(np.hypot(proportional * np.asarray(true, dtype=float), additive))


def error_sizes(observable: Observable, z: Any) -> Array:
    """Size of people's errors relative to the typical person's: 1 where `z` (standard normal) is 0.

    The logarithm of the size is a normal variable, skewed by a Box-Cox transformation of its exponential.
    """
    sd, skew = observable.residual_iiv
    return np.asarray(np.exp(np.expm1(skew * sd * np.asarray(z, dtype=float)) / skew))


def error_correlation(observable: Observable, days: Any) -> Array:
    """Correlation of the errors of one person's readings, (n, n), on `days` (n,).

    It falls exponentially with the time between them: what makes a reading wrong (hydration, diet, drugs) lasts.
    """
    t = np.asarray(days, dtype=float)
    apart = np.abs(t[:, None] - t)
    if observable.residual_memory <= 0:
        return np.asarray((apart == 0).astype(float))
    return np.asarray(np.exp(-apart / observable.residual_memory))


def read(observable: Observable, true: Any, days: Any, z: Any, z_size: Any) -> Array:
    """Readings of true values.

    Parameters
    ----------
    observable : Observable
        With its declared residual; without one the readings are the true values. Purely proportional errors are log-normal.
    true : array_like (..., n_days)
        In the observable's unit.
    days : array_like (n_days,)
        Of the readings, in any order.
    z : array_like (..., n_days)
        Independent standard normal numbers, one for each reading.
    z_size : array_like
        Standard normal numbers, one for each person: the size of their errors. Of the shape of `true` without its last axis.

    Returns
    -------
    ndarray
        Of the shape of `z`.
    """
    true, z = np.asarray(true, dtype=float), np.asarray(z, dtype=float)
    if not observable.residual:
        return np.asarray(np.broadcast_to(true, np.broadcast_shapes(true.shape, z.shape)))
    if observable.residual_memory > 0:
        # Readings of one day have one error: the smallest of independent parts keeps the matrix regular.
        z = z @ np.linalg.cholesky(error_correlation(observable, days) + 1e-9 * np.eye(z.shape[-1])).T
    if observable.residual_iiv[0] > 0:
        z = z * error_sizes(observable, z_size)[..., None]
    if not observable.residual.get("additive", 0.0):
        return np.asarray(true * np.exp(observable.residual["proportional"] * z))
    return np.asarray(np.maximum(true + error_sd(observable, true) * z, LEAST.get(observable.name, 0.0)))
