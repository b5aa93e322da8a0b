"""Endpoints: what a protocol reads off a trajectory, with its unit and the direction that is better.

Every function takes plain arrays: `values` (..., n_times) in the observable's unit and `days`
(n_times,), rising. NaN in a trajectory gives NaN in the endpoint, never a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mscrenal.model.declare import nearest

__all__ = [
    "CHRONIC_START_DAY",
    "DAYS_PER_YEAR",
    "ENDPOINTS",
    "ESKD_EGFR",
    "ESKD_LIMIT_YEARS",
    "Endpoint",
    "EndpointError",
    "EndpointValues",
    "change",
    "endpoint",
    "evaluate",
    "percent_change",
    "slope",
    "time_to_eskd",
    "value_at",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

DAYS_PER_YEAR = 365.25

# The acute/chronic convention of the trials' slope analyses: within the first three months drugs move
# GFR by haemodynamics, which is reversible; from then on the slope tells of nephrons lost. Total slope
# starts at baseline, chronic slope at 3 months: Inker 2019, doi:10.1681/ASN.2019010007 (and again Inker
# 2023, doi:10.1038/s41591-023-02418-0). Single trials chose otherwise (2 weeks to 4 months); a
# comparison with one of them needs that trial's own start.
CHRONIC_START_DAY = 90.0

# GFR < 15 mL/min/1.73 m2 is the GFR part of the clinical end point of the same meta-analyses (and G5
# of KDIGO). Dialysis and transplantation are decisions, which the model does not hold.
ESKD_EGFR = 15.0

# A straight line beyond the horizon is a device to rank arms; past 30 years it would only be a number.
ESKD_LIMIT_YEARS = 30.0

GFR = "mL/min/1.73 m²"
POINTS = "percentage points"

Kind = Literal["change", "percent_change", "slope_total", "slope_chronic", "time_to"]


class EndpointError(ValueError):
    """An endpoint is unknown, or cannot be read off the trajectories given."""


@dataclass(frozen=True)
class Endpoint:
    """One number per subject, read off the trajectory of one observable.

    `better` is the direction in which a patient gains. `label` is what tables and figures print.
    """

    name: str
    unit: str
    observable: str
    kind: Kind
    better: Literal["higher", "lower"]
    label: str

    @property
    def difference_unit(self) -> str:
        """Unit of the difference between two arms: that of two percentages is percentage points."""
        return POINTS if self.unit == "%" else self.unit


def _table(*rows: tuple[str, str, str, Kind, Literal["higher", "lower"], str]) -> dict[str, Endpoint]:
    return {row[0]: Endpoint(*row) for row in rows}


ENDPOINTS: dict[str, Endpoint] = _table(
    ("egfr_change", GFR, "egfr", "change", "higher", "eGFR change"),
    ("egfr_slope_total", f"{GFR}/year", "egfr", "slope_total", "higher", "eGFR total slope"),
    ("egfr_slope_chronic", f"{GFR}/year", "egfr", "slope_chronic", "higher", "eGFR chronic slope"),
    ("mgfr_change", GFR, "mgfr", "change", "higher", "Measured GFR change"),
    ("uacr_percent_change", "%", "uacr", "percent_change", "lower", "UACR change"),
    ("creatinine_change", "mg/dL", "serum_creatinine", "change", "lower", "Creatinine change"),
    ("il6_percent_change", "%", "il6_serum", "percent_change", "lower", "Serum IL-6 change"),
    ("tnfa_percent_change", "%", "tnfa_serum", "percent_change", "lower", "Serum TNF-α change"),
    # The kidney's TGF-beta1, not the blood's: in several human studies the blood's rises after MSC while
    # the kidney's falls in animals, so "lower is better" holds for the kidney's only.
    ("tgfb1_percent_change", "%", "tgfb1_kidney", "percent_change", "lower", "Kidney TGF-β1 change"),
    ("psmad_percent_change", "%", "psmad3_kidney", "percent_change", "lower", "Kidney pSmad3 change"),
    ("fibrosis_change", POINTS, "fibrosis_area", "change", "lower", "Fibrosis area change"),
    ("m1m2_ratio_change", "1", "m1m2_ratio", "change", "lower", "M1/M2 ratio change"),
    ("treg_percent_change", POINTS, "treg_percent", "change", "higher", "Treg change"),
    ("hba1c_change", POINTS, "hba1c", "change", "lower", "HbA1c change"),
    ("insulin_percent_change", "%", "insulin_dose", "percent_change", "lower", "Insulin dose change"),
    ("time_to_eskd", "years", "egfr", "time_to", "higher", "Time to eGFR < 15"),
)


@dataclass(frozen=True)
class EndpointValues:
    """Values (...) in the endpoint's unit, and how each came about.

    `extrapolated` (...): the value rests on the trajectory's continuation beyond the horizon.
    `censored` (...): the event had not come at the stated limit; the value is the limit.
    `undefined`: why the design gives no such endpoint; then every value is NaN.
    """

    values: Array
    extrapolated: Mask
    censored: Mask
    undefined: str = ""


def endpoint(name: str) -> Endpoint:
    """Look an endpoint up by name.

    Raises EndpointError, with the nearest names, if there is none.
    >>> endpoint("uacr_percent_change").better
    'lower'
    """
    if name not in ENDPOINTS:
        raise EndpointError(f"Unknown endpoint {name!r}.{nearest(name, ENDPOINTS)}")
    return ENDPOINTS[name]


def _checked(values: ArrayLike, days: ArrayLike) -> tuple[Array, Array]:
    trajectory, times = np.asarray(values, dtype=float), np.asarray(days, dtype=float)
    if times.ndim != 1 or times.size == 0 or trajectory.shape[-1:] != times.shape:
        raise EndpointError(
            f"Trajectories of shape {trajectory.shape} do not end in the {times.size} times given "
            f"(shape {times.shape}). Give values (..., n_times) and days (n_times,)."
        )
    if np.any(np.diff(times) <= 0):
        raise EndpointError("Days must rise strictly. Sort them and drop duplicates.")
    return trajectory, times


def value_at(values: ArrayLike, days: ArrayLike, day: float) -> Array:
    """The trajectories at one day, (...), linear between the times given.

    Raises EndpointError if `day` lies outside them: nothing is extrapolated here.
    >>> value_at([[50.0, 46.0]], [0, 100], 25).tolist()
    [49.0]
    """
    trajectory, times = _checked(values, days)
    if not times[0] <= day <= times[-1]:
        raise EndpointError(
            f"Day {day:g} lies outside the trajectory, which spans days {times[0]:g} to {times[-1]:g}. "
            f"Choose a day within it, or simulate for longer."
        )
    right = int(np.searchsorted(times, day))
    if times[right] == day:
        return trajectory[..., right].copy()
    weight = (day - times[right - 1]) / (times[right] - times[right - 1])
    between: Array = (1 - weight) * trajectory[..., right - 1] + weight * trajectory[..., right]
    return between


def change(values: ArrayLike, days: ArrayLike, horizon_days: float) -> Array:
    """Value at the horizon minus value at day 0, (...), in the observable's unit.

    >>> change([45.0, 43.0, 42.0], [0, 168, 336], 336).tolist()
    -3.0
    """
    return value_at(values, days, horizon_days) - value_at(values, days, 0.0)


def percent_change(values: ArrayLike, days: ArrayLike, horizon_days: float) -> Array:
    """Change at the horizon in percent of day 0, (...). NaN where day 0 is not positive.

    >>> percent_change([800.0, 600.0], [0, 336], 336).tolist()
    -25.0
    """
    start = value_at(values, days, 0.0)
    usable = np.where(start > 0, start, np.nan)
    return 100.0 * (value_at(values, days, horizon_days) - start) / usable


def slope(values: ArrayLike, days: ArrayLike, *, start: float, stop: float) -> Array:
    """Least-squares slope per year, (...), over the times from day `start` to day `stop`.

    NaN if fewer than two of the times lie there.
    >>> round(float(slope([45.0, 44.0, 43.0], [0, 365.25, 730.5], start=0, stop=800)), 9)
    -1.0
    """
    trajectory, times = _checked(values, days)
    inside = (times >= start) & (times <= stop)
    if inside.sum() < 2:
        return np.full(trajectory.shape[:-1], np.nan)
    x = times[inside] - times[inside].mean()
    per_day: Array = (trajectory[..., inside] @ x) / (x @ x)
    return per_day * DAYS_PER_YEAR


def time_to_eskd(
    values: ArrayLike,
    days: ArrayLike,
    horizon_days: float,
    chronic_slope: ArrayLike,
    *,
    threshold: float = ESKD_EGFR,
    limit_years: float = ESKD_LIMIT_YEARS,
) -> EndpointValues:
    """Years from day 0 until eGFR first falls below `threshold`, right-censored at `limit_years`.

    values: eGFR (..., n_times); chronic_slope (...), per year. A crossing within the horizon is read
    off the trajectory, linearly between its times. Without one, eGFR is drawn on from the horizon along
    the chronic slope and the value is flagged as extrapolated; censored values are the limit, so that a
    mean over subjects is the mean time restricted to the limit.
    >>> result = time_to_eskd([25.0, 20.0], [0, 365.25], 365.25, -5.0)
    >>> float(result.values), bool(result.extrapolated), bool(result.censored)
    (2.0, True, False)
    """
    trajectory, times = _checked(values, days)
    last = value_at(trajectory, times, horizon_days)
    inside = (times >= 0) & (times < horizon_days)
    grid = np.append(times[inside], horizon_days)
    seen = np.concatenate([trajectory[..., inside], last[..., np.newaxis]], axis=-1)
    below = seen < threshold
    crossed = below.any(axis=-1)
    first = below.argmax(axis=-1)
    before = np.maximum(first - 1, 0)
    high = np.take_along_axis(seen, before[..., np.newaxis], axis=-1)[..., 0]
    low = np.take_along_axis(seen, first[..., np.newaxis], axis=-1)[..., 0]
    drop = np.where(high > low, high - low, 1.0)
    share = np.where(first > 0, (high - threshold) / drop, 0.0)
    within = (grid[before] + share * (grid[first] - grid[before])) / DAYS_PER_YEAR

    loss = -np.asarray(chronic_slope, dtype=float)
    falling = loss > 0
    beyond = horizon_days / DAYS_PER_YEAR + (last - threshold) / np.where(falling, loss, 1.0)
    beyond = np.where(falling, beyond, np.where(np.isnan(loss), np.nan, np.inf))
    broken = np.isnan(seen).any(axis=-1)
    years = np.where(broken, np.nan, np.where(crossed, within, beyond))
    censored = np.isfinite(limit_years) & (years > limit_years)
    return EndpointValues(
        values=np.where(censored, limit_years, years),
        extrapolated=~crossed & ~np.isnan(years),
        censored=censored,
    )


def reached_on(
    days: ArrayLike, horizon_days: float, *, limit_years: float = ESKD_LIMIT_YEARS
) -> EndpointValues:
    """`time_to_eskd` from simulated days of crossing (...): infinity where there was none, NaN where failed."""
    years = np.asarray(days, dtype=float) / DAYS_PER_YEAR
    censored = years > limit_years
    return EndpointValues(
        values=np.where(censored, limit_years, years),
        extrapolated=(years > horizon_days / DAYS_PER_YEAR) & ~np.isnan(years),
        censored=censored,
    )


def evaluate(
    name: str,
    values: ArrayLike,
    days: ArrayLike,
    *,
    horizon_days: float | None = None,
    visits: ArrayLike | None = None,
) -> EndpointValues:
    """Compute an endpoint from trajectories of its observable, one value per subject.

    values: (..., n_times), unit of the observable; days: (n_times,). The horizon defaults to the last
    time. Slopes use the `visits` (days) where given, as a trial would, else every time: a grid that is
    finer around the doses would otherwise weigh those days more.
    Raises EndpointError for an unknown name, or a horizon outside the trajectory.
    >>> evaluate("egfr_change", [[45.0, 44.0]], [0, 336]).values.tolist()
    [-1.0]
    """
    wanted = endpoint(name)
    trajectory, times = _checked(values, days)
    horizon = float(times[-1] if horizon_days is None else horizon_days)
    if wanted.kind == "change":
        return _plain(change(trajectory, times, horizon))
    if wanted.kind == "percent_change":
        start = value_at(trajectory, times, 0.0)
        start = start[np.isfinite(start)]
        nothing = start.size > 0 and bool(np.all(start <= 0))
        reason = f"{wanted.observable} is zero at day 0" if nothing else ""
        return _plain(percent_change(trajectory, times, horizon), reason)
    sampled, at = _sampled(trajectory, times, visits, horizon)
    if wanted.kind == "slope_total":
        total = slope(sampled, at, start=0.0, stop=horizon)
        return _plain(total, "" if np.sum(at >= 0) > 1 else "fewer than two visits from day 0 to the horizon")
    chronic = slope(sampled, at, start=CHRONIC_START_DAY, stop=horizon)
    reason = f"fewer than two visits from day {CHRONIC_START_DAY:g} to the horizon (day {horizon:g})"
    undefined = "" if np.sum(at >= CHRONIC_START_DAY) > 1 else reason
    if wanted.kind == "slope_chronic":
        return _plain(chronic, undefined)
    reached = time_to_eskd(trajectory, times, horizon, chronic)
    if undefined and bool(np.all(np.isnan(reached.values))):
        return EndpointValues(
            reached.values, reached.extrapolated, reached.censored, f"no chronic slope: {undefined}"
        )
    return reached


def _plain(values: Array, undefined: str = "") -> EndpointValues:
    none = np.zeros(values.shape, dtype=bool)
    return EndpointValues(np.asarray(values), none, none.copy(), undefined)


def _sampled(values: Array, days: Array, visits: ArrayLike | None, horizon: float) -> tuple[Array, Array]:
    """The trajectories at the visits from day 0 to the horizon (all times, if no visits are given)."""
    if horizon > days[-1]:
        raise EndpointError(
            f"The horizon, day {horizon:g}, lies beyond the trajectory, which ends on day {days[-1]:g}. "
            "Simulate for longer, or choose an earlier horizon."
        )
    wanted = days if visits is None else np.unique(np.asarray(visits, dtype=float))
    wanted = wanted[(wanted >= 0) & (wanted <= horizon)]
    if wanted.size == 0:  # then there is no slope, which the caller says
        wanted = np.array([horizon])
    return np.stack([value_at(values, days, float(day)) for day in wanted], axis=-1), wanted
