"""How trials are analysed: many trials of one size at once, as arrays (n_trials, n_patients).

Each function gives, for every trial, an estimate of the treatment effect, its standard error, and a two-sided p value;
NaN where the trial has too few patients with data. They are the textbook formulas, written for many trials at a time;
the tests compare them with statsmodels and SciPy, trial by trial.
"""

from __future__ import annotations

import math
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

__all__ = [
    "Estimates",
    "ancova",
    "boundaries",
    "log_rank",
    "mixed_slopes",
    "mmrm",
    "patient_slopes",
    "proportions",
    "two_sample",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

EM_STEPS, EM_ENOUGH = 200, 1e-6
# Filters of warnings belong to the process: threads that fit at once would undo each other's.
_QUIET = threading.Lock()


@dataclass(frozen=True)
class Estimates:
    """Effects of some trials, (n_trials,) each.

    Attributes
    ----------
    effect, se : ndarray
        Treated less control, on the scale of the test (log of a ratio, log of a hazard ratio).
    p : ndarray
        Two-sided.
    n : ndarray
        Patients that counted.
    df : ndarray or None
        Degrees of freedom of the t distribution that p is from; None: the normal one.
    """

    effect: Array
    se: Array
    p: Array
    n: Array
    df: Array | None = None

    def favours(self, better: str, alpha: float) -> Mask:
        """Whether each trial is significant in the direction of a benefit; one without an estimate is not."""
        good = self.effect > 0 if better == "higher" else self.effect < 0
        with np.errstate(invalid="ignore"):
            return np.asarray(good & (self.p <= alpha))

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Ends of the confidence interval of each effect, (n_trials,) each; NaN where there is no estimate.

        Effect ± standard error, by the distribution that p is from. Where a test has a standard error of its own (pooled, of
        proportions) or none (log-rank: the score's), an interval near its edge may say otherwise than the test.
        """
        if self.df is None:
            reach = np.full(len(self.effect), stats.norm.isf((1 - level) / 2))
        else:
            reach = stats.t.isf((1 - level) / 2, np.maximum(self.df, 1.0))
        return self.effect - reach * self.se, self.effect + reach * self.se

    @property
    def z(self) -> Array:
        """The test on the scale of a normal deviate, with the sign of the effect."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sign(self.effect) * stats.norm.isf(np.clip(self.p, 1e-300, 1.0) / 2))


def _t(effect: Array, se: Array, df: Array, n: Array) -> Estimates:
    usable = np.isfinite(effect) & np.isfinite(se) & (se > 0) & (df >= 1)
    effect, se = np.where(usable, effect, np.nan), np.where(usable, se, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * stats.t.sf(np.abs(effect / se), np.where(usable, df, 1.0))
    return Estimates(effect, se, np.where(usable, p, np.nan), n, df)


def two_sample(values: Array, treated: Mask) -> Estimates:
    """Student's t test with pooled variance.

    Parameters
    ----------
    values : ndarray (n_trials, n_patients)
        NaN: not measured.
    treated : ndarray of bool, same shape
    """
    known = np.isfinite(values)
    clean = np.where(known, values, 0.0)
    parts = []
    for group in (known & treated, known & ~treated):
        n = group.sum(axis=1).astype(float)
        mean = np.divide((clean * group).sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)
        square = (np.where(group, clean - mean[:, None], 0.0) ** 2).sum(axis=1)
        parts.append((n, mean, square))
    (n1, mean1, square1), (n0, mean0, square0) = parts
    df = n1 + n0 - 2
    with np.errstate(invalid="ignore", divide="ignore"):
        se = np.sqrt((square1 + square0) / df * (1 / n1 + 1 / n0))
    return _t(mean1 - mean0, se, df, n1 + n0)


def ancova(values: Array, treated: Mask, baseline: Array) -> Estimates:
    """Least squares on arm and baseline, the common slope of the baseline estimated.

    Parameters
    ----------
    values, baseline : ndarray (n_trials, n_patients)
        NaN: not measured.
    treated : ndarray of bool, same shape
    """
    known = np.isfinite(values) & np.isfinite(baseline)
    n = known.sum(axis=1).astype(float)
    w = known.astype(float)
    y, x = np.where(known, values, 0.0), np.where(known, baseline, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Centred, so that the equations stay well-conditioned whatever the unit.
        y = w * (y - ((y * w).sum(axis=1) / n)[:, None])
        centre = (x * w).sum(axis=1) / n
        x = w * (x - centre[:, None])
        g = w * (treated - ((treated * w).sum(axis=1) / n)[:, None])
        gg, xx, gx = (g * g).sum(axis=1), (x * x).sum(axis=1), (g * x).sum(axis=1)
        gy, xy, yy = (g * y).sum(axis=1), (x * y).sum(axis=1), (y * y).sum(axis=1)
        # A baseline without spread has no slope.
        flat = xx <= 1e-12 * np.maximum(1.0, centre**2)
        gx, xy, xx = np.where(flat, 0.0, gx), np.where(flat, 0.0, xy), np.where(flat, 1.0, xx)
        det = gg * xx - gx * gx
        effect = (gy * xx - xy * gx) / det
        slope = (xy * gg - gy * gx) / det
        df = n - 3 + flat
        rest = np.maximum(yy - effect * gy - slope * xy, 0.0)
        se = np.sqrt(rest / df * xx / det)
    return _t(effect, se, df, n)


def patient_slopes(values: Array, days: Array, per: float) -> Array:
    """Least-squares slope of each patient over the visits that took place, (...,); NaN with fewer than two.

    Parameters
    ----------
    values : ndarray (..., n_visits)
        NaN: no visit.
    days : ndarray (n_visits,)
    per : float
        Days that a slope is told for.
    """
    known = np.isfinite(values)
    n = known.sum(axis=-1)
    y, x = np.where(known, values, 0.0), np.where(known, days, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(known, x - (x.sum(axis=-1) / n)[..., None], 0.0)
        slope = (x * y).sum(axis=-1) / (x * x).sum(axis=-1) * per
    return np.asarray(np.where(n >= 2, slope, np.nan))


def proportions(response: Mask, treated: Mask) -> Estimates:
    """Score test of two shares, the variance pooled under no effect; the interval's error is not.

    Parameters
    ----------
    response, treated : ndarray of bool (n_trials, n_patients)
    """
    n1, n0 = treated.sum(axis=1).astype(float), (~treated).sum(axis=1).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        p1, p0 = (response & treated).sum(axis=1) / n1, (response & ~treated).sum(axis=1) / n0
        pooled = (n1 * p1 + n0 * p0) / (n1 + n0)
        null = np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
        se = np.sqrt(p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)
        z = np.divide(p1 - p0, null, out=np.zeros_like(null), where=null > 0)
    usable = (n1 > 0) & (n0 > 0)
    return Estimates(
        np.where(usable, p1 - p0, np.nan),
        np.where(usable, se, np.nan),
        np.where(usable, 2 * stats.norm.sf(np.abs(z)), np.nan),
        n1 + n0,
    )


def log_rank(last: Array, event: Mask, treated: Mask) -> Estimates:
    """Log-rank test, with the one-step (Peto) estimate of the log hazard ratio.

    Parameters
    ----------
    last : ndarray (n_trials, n_patients)
        Time of the event or of censoring; ties count as at once.
    event, treated : ndarray of bool, same shape
    """
    excess, variance = np.zeros(len(last)), np.zeros(len(last))
    for time in np.unique(last[event]) if event.any() else ():
        at_risk, now = last >= time, event & (last == time)
        n, n1 = at_risk.sum(axis=1).astype(float), (at_risk & treated).sum(axis=1).astype(float)
        d, d1 = now.sum(axis=1).astype(float), (now & treated).sum(axis=1).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(n > 0, n1 / n, 0.0)
            spread = np.where(n > 1, d * share * (1 - share) * (n - d) / (n - 1), 0.0)
        excess += d1 - d * share
        variance += spread
    usable = variance > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = np.where(usable, excess / variance, np.nan)
        se = np.where(usable, 1 / np.sqrt(variance), np.nan)
        p = np.where(usable, 2 * stats.norm.sf(np.abs(excess) / np.sqrt(variance)), np.nan)
    return Estimates(effect, se, p, np.full(len(last), float(last.shape[1])))


# --------------------------------------------------------------------------- repeated measures


def mmrm(values: Array, treated: Mask, baseline: Array) -> Estimates:
    """Normal model of repeated measures with an unstructured covariance; the effect is that at the last visit.

    Intercept, arm and baseline have a coefficient for each visit. Maximum likelihood by EM (missing at random); the
    covariance is scaled by n / (n - 3), as least squares does, and the t distribution has n - 3 degrees of freedom.

    Parameters
    ----------
    values : ndarray (n_trials, n_patients, n_visits)
        NaN: no visit.
    treated : ndarray of bool (n_trials, n_patients)
    baseline : ndarray (n_trials, n_patients)
        NaN: the patient does not count.
    """
    n_trials, _, n_visits = values.shape
    counts = np.isfinite(baseline) & np.isfinite(values).any(axis=2)
    known = np.isfinite(values) & counts[..., None]
    n = counts.sum(axis=1).astype(float)
    weight = counts.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(counts, baseline, 0.0).sum(axis=1) / n
    x = np.stack([weight, treated * weight, np.where(counts, baseline - centre[:, None], 0.0)], axis=2)
    gram = np.einsum("tni,tnj->tij", x, x)
    solvable = (n >= n_visits + 4) & (np.linalg.cond(np.where(np.isfinite(gram), gram, 0.0)) < 1e12)
    solvable &= known[..., -1].sum(axis=1) >= 4
    effect, se = np.full(n_trials, np.nan), np.full(n_trials, np.nan)
    here = np.flatnonzero(solvable)
    if len(here):
        effect[here], se[here] = _mmrm(values[here], known[here], x[here], gram[here], n[here])
    return _t(effect, se, n - 3, n)


def _mmrm(values: Array, known: Mask, x: Array, gram: Array, n: Array) -> tuple[Array, Array]:
    n_visits = values.shape[2]
    eye = np.eye(n_visits)
    both = known[..., :, None] & known[..., None, :]
    filled = np.where(known, values, 0.0)
    inverse = np.linalg.inv(gram)
    mean = filled.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    spread = np.where(known, filled - mean[:, None], 0.0)
    variance = (spread**2).sum(axis=1) / np.maximum(known.sum(axis=1) - 1, 1)
    # Visits of one patient are alike: a start that knows it needs fewer steps.
    sigma = (
        0.5 * (np.sqrt(variance)[:, :, None] * np.sqrt(variance)[:, None, :])
        + 0.5 * variance[:, :, None] * eye
    )
    beta = inverse @ np.einsum("tni,tnv->tiv", x, np.where(known, filled, mean[:, None]))
    precision = np.zeros((*known.shape, n_visits))
    for _ in range(EM_STEPS):
        # The inverse of the covariance of what is known, zero elsewhere.
        precision = np.linalg.inv(np.where(both, sigma[:, None], eye)) * both
        fitted = np.einsum("tni,tiv->tnv", x, beta)
        rest = np.where(known, filled - fitted, 0.0)
        pull = np.einsum("tvw,tnwu->tnvu", sigma, precision)
        guess = np.where(known, filled, fitted + np.einsum("tnvw,tnw->tnv", pull, rest))
        unknown = sigma[:, None] - np.einsum("tnvw,twu->tnvu", pull, sigma)
        counts = (x[..., 0] > 0)[..., None, None]
        new_beta = inverse @ np.einsum("tni,tnv->tiv", x, guess * counts[..., 0])
        off = (guess - np.einsum("tni,tiv->tnv", x, new_beta)) * counts[..., 0]
        new = np.einsum("tnv,tnw->tvw", off, off) + (unknown * counts).sum(axis=1)
        new /= n[:, None, None]
        new += 1e-12 * np.einsum("tvv->t", new)[:, None, None] * eye
        moved = np.abs(new_beta - beta).max(axis=(1, 2)) / np.sqrt(np.einsum("tvv->t", new))
        beta, sigma = new_beta, new
        if moved.max() < EM_ENOUGH:
            break
    precision = np.linalg.inv(np.where(both, sigma[:, None] * (n / (n - 3))[:, None, None, None], eye)) * both
    information = np.einsum("tni,tnj,tnvw->tivjw", x, x, precision)
    size = 3 * n_visits
    covariance = np.linalg.inv(information.reshape(len(n), size, size))
    at = 1 * n_visits + n_visits - 1
    return beta[:, 1, -1], np.sqrt(covariance[:, at, at])


def mixed_slopes(
    values: Array, treated: Mask, days: Array, knot: float, per: float, *, chronic: bool
) -> Estimates:
    """Two-slope mixed model of all readings, by statsmodels, trial after trial.

    A straight line to the knot and another one from there, each with its own change by treatment; random intercept and
    slope of each patient.

    Parameters
    ----------
    values : ndarray (n_trials, n_patients, n_visits)
        NaN: no visit.
    treated : ndarray of bool (n_trials, n_patients)
    days : ndarray (n_visits,)
    knot : float
        Day at which the acute phase ends.
    per : float
        Days that a slope is told for.
    chronic : bool
        The effect on the slope after the knot; otherwise on the total, from day 0 to the last visit.

    Notes
    -----
    Without a visit before the knot the acute slope is none, and one line serves both.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    n_trials = len(values)
    effect, se, n = (np.full(n_trials, np.nan) for _ in range(3))
    late = np.maximum(days - knot, 0.0) / per
    bends = bool((days[days > 0] <= knot).any() and (late > 0).any())
    last = days[-1] / per
    for t in range(n_trials):
        known = np.isfinite(values[t])
        who, when = np.nonzero(known)
        n[t] = known.any(axis=1).sum()
        y, g, time = values[t][known], treated[t][who].astype(float), days[when] / per
        columns = [np.ones_like(time), time, g * time]
        if bends:
            columns += [late[when], g * late[when]]
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("ignore", UserWarning)
            try:
                fit = MixedLM(
                    y,
                    np.stack(columns, axis=1),
                    groups=who,
                    exog_re=np.stack([np.ones_like(time), time], axis=1),
                ).fit(reml=True, method=["lbfgs", "powell"])
            except (np.linalg.LinAlgError, ValueError):
                continue
        weights = np.zeros(len(columns))
        weights[2] = 1.0
        if bends:
            weights[4] = 1.0 if chronic else (last - knot / per) / last
        covariance = np.asarray(fit.cov_params())[: len(weights), : len(weights)]
        variance = float(weights @ covariance @ weights)
        if variance > 0 and math.isfinite(variance):
            effect[t], se[t] = float(weights @ np.asarray(fit.fe_params)), math.sqrt(variance)
    return _t(effect, se, np.maximum(n - 2, 1), n)


# --------------------------------------------------------------------------- several looks


def boundaries(fractions: tuple[float, ...], alpha: float) -> Array:
    """Two-sided critical values of the normal deviate at each look, (n_looks,), the last fraction being 1.

    The error is spent as Lan and DeMets (1983, doi:10.1093/biomet/70.3.659) have it for O'Brien and Fleming:
    each side has spent ``2 - 2 Phi(z / sqrt(t))`` by fraction t.

    >>> [round(float(c), 2) for c in boundaries((0.5, 1.0), 0.05)]
    [2.96, 1.97]
    """
    looks = np.asarray(fractions, dtype=float)
    spent = 4 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(looks))
    correlation = np.sqrt(np.minimum.outer(looks, looks) / np.maximum.outer(looks, looks))
    found: list[float] = []
    for k in range(len(looks)):
        if k == 0:
            found.append(float(stats.norm.isf(spent[0] / 2)))
            continue
        part = correlation[: k + 1, : k + 1]

        def outside(c: float, part: Array = part) -> float:
            """Error spent so far, with c at this look."""
            high = np.array([*found, c])
            normal = stats.multivariate_normal(
                np.zeros(len(high)), part, seed=1, abseps=1e-6, releps=1e-6, maxpts=1_000_000
            )
            inside = normal.cdf(high, lower_limit=-high)
            return float(1 - inside)

        found.append(float(brentq(lambda c, k=k: outside(c) - spent[k], 0.5, 9.0, xtol=1e-4)))
    return np.array(found)
