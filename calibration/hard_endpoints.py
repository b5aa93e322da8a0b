"""Hard endpoints as trials count them: visits, an event that a repeat confirms, death that comes before it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

__all__ = ["event_share", "expected_events", "first_confirmed_day", "person_years", "visits"]

Array = NDArray[np.float64]
DAYS_PER_YEAR = 365.25


def visits(start: float, stop: float, every: float) -> Array:
    """Equally spaced days from `start` to `stop`, about `every` days apart.

    >>> visits(0, 365, 122).round(1).tolist()
    [0.0, 121.7, 243.3, 365.0]
    """
    return np.linspace(start, stop, max(2, round((stop - start) / every) + 1))


def first_confirmed_day(
    readings: ArrayLike, repeats: ArrayLike, days: ArrayLike, decline: float, floor: float
) -> Array:
    """First visit after baseline at which a reading and its repeat are below; infinity if none.

    readings: (..., n_visits), baseline first; repeats: (..., n_visits - 1), one after each visit but the first;
    below: under `floor`, or under (1 - decline) x baseline reading where `decline` is above 0.
    >>> first_confirmed_day([[50, 28, 29]], [[40, 28]], [0, 1, 2], 0.4, 15.0).tolist()
    [2.0]
    """
    values, again = np.asarray(readings, dtype=float), np.asarray(repeats, dtype=float)
    bar = np.full(values[..., :1].shape, floor)
    if decline > 0:
        bar = np.maximum(bar, (1.0 - decline) * values[..., :1])
    confirmed = (values[..., 1:] < bar) & (again < bar)
    first = np.asarray(days, dtype=float)[1:][np.argmax(confirmed, axis=-1)]
    return np.where(confirmed.any(axis=-1), first, np.inf)


def event_share(event_days: ArrayLike, death_per_day: float, horizon: float, *, death_counts: bool) -> float:
    """Share with the event by `horizon` when death comes at a constant rate, independently.

    If death counts, the event is whichever comes first; else only the event before death does.
    >>> event_share([50.0, np.inf], 0.0, 100.0, death_counts=False)
    0.5
    """
    days = np.asarray(event_days, dtype=float)
    happened = days <= horizon
    if death_counts:
        return float(1.0 - np.mean(~happened) * math.exp(-death_per_day * horizon))
    return float(np.mean(np.where(happened, np.exp(-death_per_day * np.minimum(days, horizon)), 0.0)))


def person_years(event_days: ArrayLike, death_per_day: float, horizon: float) -> float:
    """Mean time at risk, years: until the event, death or the horizon.

    >>> person_years([DAYS_PER_YEAR, np.inf], 0.0, 2 * DAYS_PER_YEAR)
    1.5
    """
    end = np.minimum(np.asarray(event_days, dtype=float), horizon)
    days = end if death_per_day == 0 else -np.expm1(-death_per_day * end) / death_per_day
    return float(np.mean(days)) / DAYS_PER_YEAR


def expected_events(
    true: Array,
    repeats: Array,
    days: Array,
    error: Callable[[Array], Array],
    decline: float,
    floor: float,
    death: float,
    sizes: ArrayLike = (1.0,),
    weights: ArrayLike = (1.0,),
    correlation: float = 0.0,
) -> tuple[float, float]:
    """Share with the event, and events per person-year, over all readings that true courses can give.

    What `first_confirmed_day`, `event_share` and `person_years` give with ever more sets of readings: visits are
    independent of each other but for the reading at baseline, over which a Gauss rule sums, as over the sizes of people's
    errors. Each reading is correlated with its repeat.

    Parameters
    ----------
    true : ndarray (n_patients, n_visits)
        True eGFR, baseline first; the last visit is the horizon.
    repeats : ndarray (n_patients, n_visits - 1)
        True eGFR on the days of the repeats.
    days : ndarray (n_visits,)
    error : callable
        SD of a reading about a true value, in the typical person.
    decline, floor : float
        As in `first_confirmed_day`.
    death : float
        Hazard of death, 1/day.
    sizes, weights : array_like
        Sizes of people's errors relative to the typical person's, and the shares of people who have them.
    correlation : float
        Of the errors of a reading and its repeat, below 0.5 in size (an expansion in it, to the third power).

    Returns
    -------
    tuple of float
    """
    nodes, shares = np.polynomial.hermite_e.hermegauss(11)
    of_size = np.asarray(sizes, dtype=float)
    # One column for each reading at baseline by each size of errors.
    size = np.repeat(of_size, len(nodes))
    total = np.outer(np.asarray(weights, dtype=float), shares / shares.sum()).ravel()
    total /= total.sum()
    nodes = np.tile(nodes, len(of_size))
    baseline = np.maximum(true[:, :1] + error(true[:, :1]) * size * nodes, 1.0)
    bar = np.full(baseline.shape, floor)
    if decline > 0:
        bar = np.maximum(bar, (1.0 - decline) * baseline)
    alive = np.ones(baseline.shape)
    share, years = np.zeros(baseline.shape), np.zeros(baseline.shape)
    survival = np.exp(-death * days)
    lived = days if death == 0 else -np.expm1(-death * days) / death
    for k in range(1, len(days)):
        there, again = true[:, k, None], repeats[:, k - 1, None]
        both = _both_below(
            (bar - there) / (error(there) * size), (bar - again) / (error(again) * size), correlation
        )
        share += alive * both * survival[k]
        years += alive * both * lived[k]
        alive = alive * (1.0 - both)
    years += alive * lived[-1]
    happened, exposed = (float(np.mean(x @ total)) for x in (share, years / DAYS_PER_YEAR))
    return happened, happened / exposed


def _both_below(a: Array, b: Array, correlation: float) -> Array:
    """Chance that two standard normals with a small correlation lie below `a` and `b` (tetrachoric series)."""
    independent = ndtr(a) * ndtr(b)
    if correlation == 0:
        return np.asarray(independent)
    density = np.exp(-0.5 * (a * a + b * b)) / (2 * math.pi)
    series = correlation * (1 + correlation / 2 * a * b + correlation**2 / 6 * (a * a - 1) * (b * b - 1))
    return np.asarray(independent + density * series)
