"""Normal distributions cut to limits whose mean or median after the cut is given, as trials print them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

__all__ = ["truncated_quantiles"]


def truncated_quantiles(
    u: ArrayLike, centre: float, sd: float, low: float, high: float, *, mean: bool = True
) -> NDArray[np.float64]:
    """Quantiles at `u` of a normal distribution cut to (low, high).

    Parameters
    ----------
    u : array_like
        In (0, 1).
    centre : float
        Mean (or median, unless `mean`) after the cut. Where no shift of less than four SDs gives it, mean before the cut.
    sd : float
        SD before the cut.
    low, high : float
        May be infinite.

    Returns
    -------
    ndarray
        Of the shape of `u`.
    """
    location = _location(centre, sd, low, high, mean)
    below, above = ndtr((low - location) / sd), ndtr((high - location) / sd)
    inside = location + sd * ndtri(below + (above - below) * np.asarray(u, dtype=float))
    return np.asarray(np.clip(inside, low, high))


@lru_cache(maxsize=1024)
def _location(centre: float, sd: float, low: float, high: float, mean: bool) -> float:
    """Mean before the cut that puts the mean (or median) after it at `centre`."""
    from scipy.stats import truncnorm  # slow to import, needed for populations only

    def miss(location: float) -> float:
        shape: dict[str, Any] = {
            "a": (low - location) / sd,
            "b": (high - location) / sd,
            "loc": location,
            "scale": sd,
        }
        return float((truncnorm.mean(**shape) if mean else truncnorm.median(**shape)) - centre)

    reach = 4.0 * sd
    bracketed = miss(centre - reach) < 0 < miss(centre + reach)
    return float(brentq(miss, centre - reach, centre + reach)) if bracketed else centre
