"""Choosing under uncertainty: expected value and regret of options, Pareto fronts, and what it would be worth to know more.

Plain arrays: `utility` (n_draws, n_options) is what each option gives under each draw of the unknowns, all options under
the same draws; larger is better. Every value is in the unit of the utility.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline
from scipy.special import ndtri

from mscrenal.calibration import stream

__all__ = [
    "FEWEST_DRAWS",
    "Information",
    "expected_losses",
    "informed",
    "pareto_front",
    "prob_best",
    "value_of_groups",
    "value_of_parameters",
    "value_of_perfect",
    "value_of_study",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Below, five coefficients per regression explain too much by chance to say anything.
FEWEST_DRAWS = 40
# Columns of the regression with its constant: enough for a value that rises, bends and falls.
COLUMNS = 5
# Enough for the tail: the largest of some hundred parameters is compared with 95 % of what chance gives the largest.
PERMUTATIONS = 10_000
GROUP_PERMUTATIONS = 200
DRAWS_PER_COLUMN = 8
RESAMPLES = 100
MOST_RESAMPLED = 20  # standard errors are those of the foremost; the others are noise
LEVEL = 0.95
MOST_WEIGHTED = 1000  # draws of a study: each is weighed against every other
QUADRATURE = 21  # nodes for the noise of a study
# Options that differ by less, relative to the largest utility, are the same to the tolerance of the solver.
TIE = 1e-9


# --------------------------------------------------------------------------- options


def pareto_front(gain: ArrayLike, *costs: ArrayLike) -> Mask:
    """Which options (n,) no other one beats: none gains as much at no higher cost, and one of them strictly better.

    Options without a finite gain are never on the front; of options that are equal in everything all are.
    >>> pareto_front([1.0, 2.0, 2.0], [1.0, 2.0, 3.0]).tolist()
    [True, True, False]
    """
    table = np.column_stack([-np.asarray(gain, dtype=float), *(np.asarray(c, dtype=float) for c in costs)])
    usable = np.isfinite(table).all(axis=1)
    front = usable.copy()
    for i in np.flatnonzero(usable):
        others = table[usable]
        no_worse = (others <= table[i]).all(axis=1)
        front[i] = not (no_worse & (others < table[i]).any(axis=1)).any()
    return front


def prob_best(utility: ArrayLike) -> Array:
    """Share of the draws in which each option is the best, (n_options,); options that tie share the draw."""
    values = np.asarray(utility, dtype=float)
    top = values.max(axis=1, keepdims=True)
    best = values >= top - TIE * max(1.0, float(np.max(np.abs(values))))
    share: Array = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return share


def expected_losses(utility: ArrayLike) -> Array:
    """What choosing each option loses on average against the best of each draw, (n_options,). Its least is the EVPI."""
    values = np.asarray(utility, dtype=float)
    loss: Array = (values.max(axis=1, keepdims=True) - values).mean(axis=0)
    return loss


# --------------------------------------------------------------------------- perfect information


@dataclass(frozen=True)
class Information:
    """What knowing something would be worth.

    Attributes
    ----------
    value : float
        Expected gain from choosing after knowing, noise taken off; never below 0, never above perfect information.
    raw : float
        As estimated, chance included.
    noise : float
        Mean estimate if the same thing had nothing to do with the options (permutations).
    se : float
        Standard error of `raw` by bootstrap over draws; NaN where it was not computed.
    p_value : float
        Share of the permutations that reach `raw`.
    beyond_noise : bool
        Above what the largest of all things asked about reaches by chance in 95 of 100 cases.
    prob_change : float
        Share of draws in which knowing it would change the choice.
    """

    value: float
    raw: float
    noise: float
    se: float
    p_value: float
    beyond_noise: bool
    prob_change: float


def value_of_perfect(utility: ArrayLike) -> tuple[float, float]:
    """Expected value of perfect information, and its standard error over draws.

    >>> value_of_perfect([[0.0, 1.0], [0.0, -1.0]])[0]
    0.5
    """
    values = np.asarray(utility, dtype=float)
    beside = values.max(axis=1) - values[:, _choice(values)]
    spread = float(np.std(beside, ddof=1)) if len(beside) > 1 else float("nan")
    return float(beside.mean()), spread / float(np.sqrt(len(beside)))


def _choice(values: Array) -> int:
    return int(np.argmax(values.mean(axis=0)))


# --------------------------------------------------------------------------- parameters


def value_of_parameters(
    utility: ArrayLike, parameters: Mapping[str, ArrayLike], *, seed: int
) -> dict[str, Information]:
    """Expected value of knowing each parameter exactly (EVPPI), the largest first.

    The utility of each option, as its difference from the best choice of today, is regressed on the parameter over the
    draws (Strong 2014, doi:10.1177/0272989X13505910), here by a cubic spline in the parameter's rank, which no outlier
    can pull. Chance alone gives such a regression a value above 0: permuted draws tell how much, and that is taken off.

    Parameters
    ----------
    utility : array-like (n_draws, n_options)
    parameters : mapping of str to array-like (n_draws,)
        One that does not vary is worth nothing.
    seed : int

    Returns
    -------
    dict of str to Information
        Empty with fewer than `FEWEST_DRAWS` draws.
    """
    values = np.asarray(utility, dtype=float)
    n = len(values)
    if n < FEWEST_DRAWS:
        return {}
    beside = values - values[:, [_choice(values)]]
    most, _ = value_of_perfect(values)
    columns = {name: np.asarray(given, dtype=float) for name, given in parameters.items()}
    columns = {name: given for name, given in columns.items() if np.ptp(given) > 0}
    design = _splines(n)
    null = _by_chance(design, beside, seed, PERMUTATIONS)
    limit = float(np.quantile(null, LEVEL ** (1 / max(len(columns), 1)), method="higher"))
    noise = float(null.mean())
    found = {}
    for name, given in columns.items():
        fitted = _fitted(design[_ranks(given)], beside)
        raw = float(fitted.max(axis=1).mean())
        p = float((1 + np.sum(null >= raw)) / (1 + len(null)))
        changed = float(np.mean(fitted.max(axis=1) > TIE * max(1.0, float(np.abs(values).max()))))
        real = raw > limit and raw > TIE
        found[name] = Information(
            float(np.clip(raw - noise, 0.0, most)), raw, noise, float("nan"), p, bool(real), changed
        )
    order = sorted(found, key=lambda name: (-found[name].raw, name))
    for name in order[:MOST_RESAMPLED]:
        se = _standard_error(design[_ranks(columns[name])], values, stream(seed, "evppi", "bootstrap"))
        found[name] = Information(**(vars(found[name]) | {"se": se}))
    return {name: found[name] for name in order}


def value_of_groups(
    utility: ArrayLike, groups: Mapping[str, Sequence[ArrayLike]], *, seed: int
) -> dict[str, Information]:
    """Expected value of knowing all parameters of a group at once, the largest first.

    As `value_of_parameters`, by least squares on each parameter's normal score and its square. A group of too many
    parameters for that (a column for each eight draws) goes by the scores alone; of one too large for that as well
    nothing is said: it is missing from what is returned.

    Parameters
    ----------
    utility : array-like (n_draws, n_options)
    groups : mapping of str to sequence of array-like (n_draws,)
    seed : int
    """
    values = np.asarray(utility, dtype=float)
    n = len(values)
    if n < FEWEST_DRAWS:
        return {}
    beside = values - values[:, [_choice(values)]]
    most, _ = value_of_perfect(values)
    found = {}
    for name, members in groups.items():
        given = [column for m in members if np.ptp(column := np.asarray(m, dtype=float)) > 0]
        z = np.array([ndtri((_ranks(column) + 0.5) / n) for column in given]).reshape(len(given), n).T
        room = n // DRAWS_PER_COLUMN - 1
        if not given or len(given) > room:
            continue
        columns = [np.ones((n, 1)), z, *([z**2] if 2 * len(given) <= room else [])]
        design = np.hstack(columns)
        raw = float(_fitted(design, beside).max(axis=1).mean())
        null = _by_chance(design, beside, seed, GROUP_PERMUTATIONS)
        noise, limit = (
            float(null.mean()),
            float(np.quantile(null, LEVEL ** (1 / len(groups)), method="higher")),
        )
        changed = float(
            np.mean(_fitted(design, beside).max(axis=1) > TIE * max(1.0, float(np.abs(values).max())))
        )
        found[name] = Information(
            float(np.clip(raw - noise, 0.0, most)), raw, noise,
            _standard_error(design, values, stream(seed, "evppi", "bootstrap")),
            float((1 + np.sum(null >= raw)) / (1 + len(null))), bool(raw > limit and raw > TIE), changed,
        )  # fmt: skip
    return {name: found[name] for name in sorted(found, key=lambda name: (-found[name].value, name))}


def _ranks(given: Array) -> NDArray[np.intp]:
    """Rank of each draw, from 0; equal ones in their order."""
    ranks = np.empty(len(given), dtype=np.intp)
    ranks[np.argsort(given, kind="stable")] = np.arange(len(given))
    return ranks


def _splines(n: int) -> Array:
    """Cubic B-splines at the ranks 0 to n - 1, (n, COLUMNS); their sum is the constant."""
    inner = np.linspace(0.0, 1.0, COLUMNS - 2)
    knots = np.concatenate([[0.0] * 3, inner, [1.0] * 3])
    at = (np.arange(n) + 0.5) / n
    return np.asarray(BSpline.design_matrix(at, knots, 3).toarray(), dtype=float)


def _product(subscripts: str, *arrays: NDArray[Any]) -> Array:
    """A small matrix product without BLAS, whose threads wait for each other longer than such products take."""
    return np.asarray(np.einsum(subscripts, *arrays))


def _fitted(design: Array, beside: Array) -> Array:
    """Least-squares fits (n_draws, n_options)."""
    q = np.linalg.qr(design)[0]
    return _product("nc,ck->nk", q, _product("nc,nk->ck", q, beside))


def _by_chance(design: Array, beside: Array, seed: int, times: int) -> Array:
    """Values that a parameter without any say gets, (times,): ranks alone matter, so that all parameters share them."""
    q = np.ascontiguousarray(np.linalg.qr(design)[0])
    rng = stream(seed, "evppi", "permutations")
    out = np.empty(times)
    for i in range(times):
        loads = _product("nc,nk->ck", q, beside[rng.permutation(len(beside))])
        out[i] = _product("nc,ck->nk", q, loads).max(axis=1).mean()
    return out


def _standard_error(design: Array, values: Array, rng: np.random.Generator) -> float:
    """SD of the estimate over resampled draws, as weights: how often each draw was taken."""
    n, found = len(values), []
    ridge = 1e-9 * np.eye(design.shape[1])  # a resample may lack what a column stands on
    for _ in range(RESAMPLES):
        weight = np.bincount(rng.integers(0, n, n), minlength=n) / n
        beside = values - values[:, [int(np.argmax(_product("n,nk->k", weight, values)))]]
        weighted = design * weight[:, np.newaxis]
        gram = _product("nc,nd->cd", weighted, design)
        slopes = np.linalg.solve(gram + ridge, _product("nc,nk->ck", weighted, beside))
        best = _product("nc,ck->nk", design, slopes).max(axis=1)
        found.append(float(_product("n,n->", weight, best)))
    return float(np.std(found, ddof=1))


# --------------------------------------------------------------------------- studies


def informed(utility: ArrayLike, truth: ArrayLike, seen: ArrayLike, se: float) -> Array:
    """Expected utility of each option after a study, (n_seen, n_options).

    Each draw is weighted by how likely it makes what was seen: a normal deviate of its `truth` with standard error `se`.
    """
    values, centre = np.asarray(utility, dtype=float), np.asarray(truth, dtype=float)
    z = (np.asarray(seen, dtype=float)[:, np.newaxis] - centre) / se
    log = -0.5 * z**2
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    after: Array = (weight / weight.sum(axis=1, keepdims=True)) @ values
    return after


def value_of_study(utility: ArrayLike, truth: ArrayLike, se: float) -> float:
    """Expected value of a study (EVSI) that measures `truth` (n_draws,) with a normal error of SD `se`.

    Exact, but for quadrature over the error, for the distribution that the draws are (of more than 1000, those evenly
    between): what the study would show is taken from each draw in turn, and the draws are weighted anew.
    """
    if not se > 0:
        raise ValueError(f"se must be above 0, got {se!r}.")
    step = -(-len(np.asarray(truth)) // MOST_WEIGHTED)
    values, centre = np.asarray(utility, dtype=float)[::step], np.asarray(truth, dtype=float)[::step]
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
    weights = weights / weights.sum()
    best = sum(
        w * informed(values, centre, centre + se * x, se).max(axis=1).mean()
        for x, w in zip(nodes, weights, strict=True)
    )
    most, _ = value_of_perfect(values)
    return float(np.clip(best - values.mean(axis=0).max(), 0.0, most))
