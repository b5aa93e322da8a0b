"""Sobol indices of any function of many independent parameters: a screen, the indices of the foremost, a tornado.

Nothing here knows a model: `study` takes a function of parameter values and the distribution of each parameter. Sampling
designs and estimators of first-order and total indices are SALib's (Herman 2017, doi:10.21105/joss.00097).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mscrenal.calibration import Draws, stream
from mscrenal.model import sampled_parameters
from mscrenal.model.declare import Parameter
from mscrenal.scenarios.run import RunError

__all__ = [
    "Evaluate",
    "Indices",
    "Marginal",
    "Study",
    "Tornado",
    "joined",
    "marginals",
    "rows_needed",
    "study",
]

Array = NDArray[np.float64]
# Stage and values (n,) by parameter; a parameter that is not named takes its median. Gives (n, n_patients), NaN where
# a simulation failed.
Evaluate = Callable[[str, Mapping[str, Array]], Array]

FEWEST_SAMPLES, MOST_SAMPLES = 16, 16_384  # beyond, the bootstrap fills the memory
MOST_SCREENED = 32
RESAMPLES = 1000
LEVEL = 0.9
TAIL = (0.05, 0.95)  # where the tornado puts a parameter
# Half the distance of the points of the sequence (30 bits): neither 0 nor 1, whose quantiles may be infinite.
EDGE = 2.0**-31
# A total index below this is what rounding leaves of nothing.
NOTHING = 1e-12
# A spread below this, relative to the larger of 1 and the value, is the solver's tolerance.
FLAT = 1e-6


# --------------------------------------------------------------------------- distributions


@dataclass(frozen=True)
class Marginal:
    """The distribution of one parameter by itself.

    Parameters
    ----------
    quantile : callable
        Values (n,) at probabilities (n,), each above 0 and below 1.
    """

    quantile: Callable[[Array], Array]

    def at(self, probabilities: Array) -> Array:
        """Quantiles (n,). Each probability is computed once: designs repeat the same few."""
        unique, place = np.unique(probabilities, return_inverse=True)
        return np.asarray(self.quantile(unique), dtype=float)[place.ravel()]

    @property
    def median(self) -> float:
        """The value at probability one half."""
        return float(self.quantile(np.array([0.5]))[0])


def marginals(draws: Draws) -> dict[str, Marginal]:
    """The distribution of each parameter by itself, by name.

    Exact for the prior, whatever the number of draws; empirical, linear between the sorted draws, for a posterior,
    whose correlations are lost: Sobol indices are those of independent parameters.
    """
    if draws.origin == "prior":
        known = sampled_parameters()
        return {name: Marginal(_exact(known[name])) for name in draws.values}
    return {name: Marginal(_empirical(values)) for name, values in draws.values.items()}


def _exact(parameter: Parameter) -> Callable[[Array], Array]:
    return lambda u: np.array([parameter.at(float(z)) for z in ndtri(u)])


def _empirical(values: np.ndarray) -> Callable[[Array], Array]:
    ordered = np.sort(np.asarray(values, dtype=float))
    return lambda u: np.asarray(np.quantile(ordered, u))


def joined(draws: Draws, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Names that are one random number, by the first of them.

    A product that borrows a number from another shares its draws to the last bit: where one scenario gives both, they
    are one parameter, not two independent ones.
    """
    found: dict[bytes, list[str]] = {}
    for name in sorted(names):
        found.setdefault(np.ascontiguousarray(draws.values[name]).tobytes(), []).append(name)
    # One draw can be the same by chance; two hardly ever.
    groups = found.values() if len(draws) > 1 else [[name] for name in sorted(names)]
    return {group[0]: tuple(group) for group in groups}


# --------------------------------------------------------------------------- what comes out


@dataclass(frozen=True)
class Indices:
    """First-order and total indices (k,), each with its bootstrap interval (k, 2), and what they come from.

    `values` (n_blocks, k + 2): the function over the design's complete blocks; `dropped`: incomplete ones.
    """

    first: Array
    total: Array
    first_ci: Array
    total_ci: Array
    values: Array
    dropped: int

    @property
    def sd(self) -> float:
        """Standard deviation of the function over the independent rows of the design."""
        return float(np.std(self.values[:, [0, -1]], ddof=1))


@dataclass(frozen=True)
class Tornado:
    """The function with one parameter at its 5 % and its 95 % quantile, the others at their medians.

    base : the function at all medians; `low`, `high` (k,): the parameter's quantiles; `at_low`, `at_high` (k,): the
    function there.
    """

    base: float
    low: Array
    high: Array
    at_low: Array
    at_high: Array


@dataclass(frozen=True)
class Study:
    """Where the variance of a function comes from.

    Attributes
    ----------
    names : tuple of str (k,)
        The parameters kept, the largest total index first.
    indices : Indices
        Of these, all others at their medians.
    tornado : Tornado
    screen : dict of str to float
        Total index of every parameter, roughly: what the choice rests on.
    left_out : float
        Share of the variance with all parameters free that is lost by fixing those not kept: their total index as a
        group. `left_out_ci`: its bootstrap interval.
    sd_all : float
        Standard deviation of the function, all parameters free.
    dropped : dict of stage to (blocks dropped, blocks)
    """

    names: tuple[str, ...]
    indices: Indices
    tornado: Tornado
    screen: Mapping[str, float]
    left_out: float
    left_out_ci: tuple[float, float]
    sd_all: float
    dropped: Mapping[str, tuple[int, int]]


# --------------------------------------------------------------------------- the study


def study(
    evaluate: Evaluate, parameters: Mapping[str, Marginal], *, keep: int, samples: int, seed: int
) -> Study:
    """Screen all parameters, take the foremost, and find their indices.

    The screen is radial (Campolongo 2011, doi:10.1016/j.cpc.2010.12.039): from each of up to 32 points of a Sobol
    sequence every parameter is moved once, and the mean of half the squared changes ranks the parameters by their
    total index. What fixing the others leaves out is then measured apart, with all parameters free. The kept
    parameters get Saltelli's design.

    Parameters
    ----------
    evaluate : callable
        See `Evaluate`.
    parameters : mapping of str to Marginal
    keep : int
        How many to keep, 1 to all of them. Those that do nothing in the screen are never kept.
    samples : int
        Blocks of the design: a power of two from 16 to 16,384.
    seed : int

    Raises
    ------
    RunError
        For numbers out of range, a function that does not vary, or too few simulations that succeed.
    """
    _check(keep, samples, parameters)
    screen = _screened(evaluate, parameters, samples, seed)
    kept = _foremost(screen, keep)
    left, sd_all, of_left = _left_out(evaluate, parameters, kept, samples, seed)
    tornado = _tornado(evaluate, parameters, kept)
    u = _design(len(kept), samples, _seed(seed, "sobol"))
    found = _indices(_reduced(evaluate("sobol", _at(parameters, kept, u)), samples), kept, seed)
    order = np.argsort(-found.total, kind="stable")
    return Study(
        tuple(kept[i] for i in order),
        Indices(
            found.first[order], found.total[order], found.first_ci[order], found.total_ci[order],
            found.values[:, [0, *(order + 1), -1]], found.dropped,
        ),
        Tornado(
            tornado.base, tornado.low[order], tornado.high[order], tornado.at_low[order], tornado.at_high[order]
        ),
        screen,
        left[0],
        (left[1], left[2]),
        sd_all,
        {"sobol": (found.dropped, samples)} | of_left,
    )  # fmt: skip


def rows_needed(n_parameters: int, keep: int, samples: int) -> int:
    """Points at which `study` evaluates its function, at most."""
    screen, group = _screen_points(samples) * (n_parameters + 2), 4 * _group_points(samples)
    return screen + group + 2 * keep + 1 + samples * (keep + 2)


def _check(keep: int, samples: int, parameters: Mapping[str, Marginal]) -> None:
    if (
        isinstance(samples, bool)
        or not isinstance(samples, int)
        or not FEWEST_SAMPLES <= samples <= MOST_SAMPLES
        or samples & (samples - 1)
    ):
        near = ""
        if isinstance(samples, int) and FEWEST_SAMPLES < samples < MOST_SAMPLES:
            low = 1 << (samples.bit_length() - 1)
            near = f" The nearest are {low} and {2 * low}."
        raise RunError(
            f"samples must be a power of two from {FEWEST_SAMPLES} to {MOST_SAMPLES:,}, got {samples!r}: a Sobol "
            f"sequence is even at these lengths only.{near}"
        )
    if isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= len(parameters):
        raise RunError(
            f"parameters must be a whole number from 1 to {len(parameters)}, as many as can matter here, got {keep!r}."
        )


def _screen_points(samples: int) -> int:
    return min(MOST_SCREENED, max(8, samples // 32))


def _group_points(samples: int) -> int:
    return max(FEWEST_SAMPLES, samples // 2)


def _seed(seed: int, stage: str) -> int:
    # SALib takes 0 for no seed at all.
    return int(stream(seed, "sensitivity", stage).integers(1, 2**31 - 1))


def _problem(names: Sequence[str], groups: Sequence[str] | None = None) -> dict[str, Any]:
    problem = {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}
    return problem | ({"groups": list(groups)} if groups else {})


def _design(n: int, blocks: int, seed: int, groups: Sequence[str] | None = None) -> Array:
    """Saltelli's design in probabilities, (blocks, rows, n): base point, each column (or group) exchanged, other point."""
    from SALib.sample import sobol

    problem = _problem([str(i) for i in range(n)], groups)
    points = sobol.sample(problem, blocks, calc_second_order=False, seed=seed)
    return np.clip(points.reshape(blocks, -1, n), EDGE, 1 - EDGE)


def _at(parameters: Mapping[str, Marginal], names: Sequence[str], u: Array) -> dict[str, Array]:
    """Values (n_rows,) by name at the probabilities (blocks, rows, k)."""
    flat = u.reshape(-1, len(names))
    return {name: parameters[name].at(flat[:, j]) for j, name in enumerate(names)}


def _screened(
    evaluate: Evaluate, parameters: Mapping[str, Marginal], samples: int, seed: int
) -> dict[str, float]:
    """Total index of every parameter from few points, the largest first; NaN if every pair failed."""
    names, blocks = list(parameters), _screen_points(samples)
    u = _design(len(names), blocks, _seed(seed, "screen"))
    y = evaluate("screen", _at(parameters, names, u)).reshape(blocks, len(names) + 2, -1)
    ends = _mean(y[:, [0, -1]], axis=-1)
    spread = _spread(ends[np.isfinite(ends)])
    # Pair by pair: with so many rows in a block, one that fails must not take the others along.
    change = _mean(y[:, :1] - y[:, 1:-1], axis=-1)
    total = _mean(0.5 * change**2, axis=0) / spread**2
    order = np.argsort(-np.nan_to_num(total, nan=-1.0), kind="stable")
    return {names[i]: float(total[i]) for i in order}


def _foremost(screen: Mapping[str, float], keep: int) -> list[str]:
    moving = [name for name, total in screen.items() if total > NOTHING]
    if not moving:
        raise RunError("the endpoint does not vary with any parameter: there is nothing to attribute.")
    return moving[:keep]


def _left_out(
    evaluate: Evaluate,
    parameters: Mapping[str, Marginal],
    kept: Sequence[str],
    samples: int,
    seed: int,
) -> tuple[tuple[float, float, float], float, dict[str, tuple[int, int]]]:
    """Total index (with interval) of all that is not kept, as one group; the SD with all free; blocks dropped."""
    others = [name for name in parameters if name not in set(kept)]
    names, blocks = [*kept, *others], _group_points(samples)
    groups = ["kept"] * len(kept) + ["others"] * len(others)
    u = _design(len(names), blocks, _seed(seed, "all"), groups)
    y = evaluate("all", _at(parameters, names, u))
    found = _indices(_reduced(y, blocks), list(dict.fromkeys(groups)), seed)
    share = (0.0, 0.0, 0.0)
    if others:
        share = (float(found.total[1]), float(found.total_ci[1, 0]), float(found.total_ci[1, 1]))
    return share, found.sd, {"all": (found.dropped, blocks)}


def _tornado(evaluate: Evaluate, parameters: Mapping[str, Marginal], kept: Sequence[str]) -> Tornado:
    k = len(kept)
    ends = np.array([parameters[name].at(np.array(TAIL)) for name in kept])
    rows = {name: np.full(2 * k + 1, parameters[name].median) for name in kept}
    for j, name in enumerate(kept):
        rows[name][1 + 2 * j : 3 + 2 * j] = ends[j]
    y = evaluate("tornado", rows)
    # The same patients in every row, as far as there are any who came through all.
    everywhere = np.isfinite(y).all(axis=0)
    mean = _mean(y[:, everywhere] if everywhere.any() else y, axis=-1)
    return Tornado(float(mean[0]), ends[:, 0], ends[:, 1], mean[1::2], mean[2::2])


# --------------------------------------------------------------------------- statistics


def _mean(values: Array, axis: int) -> Array:
    """Mean of the finite entries along an axis; NaN where there is none."""
    finite = np.isfinite(values)
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _spread(values: Array) -> float:
    """Standard deviation, refused where there is none."""
    if values.size < 4:
        raise RunError(
            f"only {values.size} points could be simulated: too few for indices. `mscrenal simulate` with a few draws "
            "lists what fails; another patient or horizon may help."
        )
    spread = float(np.std(values, ddof=1))
    if spread <= FLAT * max(1.0, float(np.max(np.abs(values)))):
        raise RunError(
            f"the endpoint does not vary: it is {float(np.mean(values)):.6g} whatever the parameters, within the "
            "tolerance of the solver. Choose another endpoint or arm, or --absolute."
        )
    return spread


def _reduced(y: Array, blocks: int) -> tuple[Array, int]:
    """Mean over the patients who came through a whole block, (n_complete, rows), and how many blocks have none."""
    per_block = y.reshape(blocks, -1, y.shape[-1])
    whole = np.isfinite(per_block).all(axis=1, keepdims=True)
    mean = _mean(np.where(whole, per_block, np.nan), axis=-1)
    complete = np.isfinite(mean).all(axis=1)
    return mean[complete], int(blocks - complete.sum())


def _indices(reduced: tuple[Array, int], names: Sequence[str], seed: int) -> Indices:
    """SALib's estimators (Saltelli 2010, doi:10.1016/j.cpc.2009.09.018), with percentile bootstrap over blocks."""
    from SALib.analyze import sobol

    values, dropped = reduced
    _spread(values[:, [0, -1]].ravel())
    found = sobol.analyze(
        _problem(names),
        values.ravel(),
        calc_second_order=False,
        num_resamples=RESAMPLES,
        conf_level=LEVEL,
        keep_resamples=True,
        seed=_seed(seed, "bootstrap"),
    )
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]

    def interval(resampled: Array) -> Array:
        return np.asarray(np.quantile(resampled, tails, axis=0).T)

    return Indices(
        np.array(found["S1"], dtype=float),
        np.array(found["ST"], dtype=float),
        interval(found["S1_conf_all"]),
        interval(found["ST_conf_all"]),
        values,
        dropped,
    )
