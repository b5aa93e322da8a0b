"""Does the calibration find what it is given? Simulation-based calibration, and recovery from the engine's own predictions.

Parameters are drawn from the prior, data are simulated from them with the whole probability model, and the model is
fitted to the data. If density, gradient and sampler are right, the rank of each true value among the draws of its
posterior is uniform, whatever the data (Talts 2018, doi:10.48550/arXiv.1804.06788). Reduced but faithful: rows, levels,
hyper-parameters and heavy tails are those of the calibration; the engine's predictions are replaced by their tangent at
one point, as a thousand fits with the engine would take weeks. `reduced` takes fewer studies, so that it takes minutes.

    python -m mscrenal.calibration.sbc --simulations 1000 --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import binom, chisquare

from mscrenal.calibration.inference import Density, Tangent, find_mode, laplace
from mscrenal.calibration.predictions import POTENCY
from mscrenal.calibration.probability import TAIL, Problem, hyper_values, row_distributions, student_log
from mscrenal.calibration.sampling import stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mscrenal.calibration.calibrate import Prepared

__all__ = [
    "SbcError",
    "Settings",
    "ecdf_band",
    "ecdf_p",
    "problem_of",
    "rank_figure",
    "recovery",
    "reduced",
    "run",
    "uniformity",
]

LEVELS_FOLLOWED, STUDIES_FOLLOWED = 5, 4
BINS = 20
POINTS = 50  # at which the distribution functions of ranks are compared
FAMILY = 1e-3  # of rejecting a right model, all quantities and both tests together


class SbcError(ValueError):
    """A simulation-based calibration that cannot go on."""


@dataclass(frozen=True)
class Settings:
    """How each data set is made and fitted.

    Attributes
    ----------
    tune, draws, thin : int
        Of NUTS; every `thin`-th draw counts, so that those that are left are nearly independent.
    target_accept : float
    seed : int
    noise : float
        What the residuals of the simulated data are multiplied by: 1, or the model that is fitted is wrong.
    """

    tune: int = 200
    draws: int = 297
    thin: int = 3
    target_accept: float = 0.85
    seed: int = 1
    noise: float = 1.0

    @property
    def ranks(self) -> int:
        """Number of possible ranks."""
        return self.draws // self.thin + 1


# --------------------------------------------------------------------------- one simulation


def ranked(problem: Problem) -> tuple[str, ...]:
    """What is ranked, in order."""
    return (
        *(f"parameter: {n}" for n in problem.names),
        *(f"hyper: {n}" for n in problem.hyper),
        *(f"level: {' | '.join(n)}" for n in problem.levels[:LEVELS_FOLLOWED]),
        *(f"study: {n}" for n in problem.potent[:STUDIES_FOLLOWED]),
        "log likelihood",
    )


class Fitter:
    """Simulates from the prior and fits, on the tangent."""

    def __init__(self, problem: Problem, tangent: Tangent, settings: Settings) -> None:
        self.problem, self.tangent, self.settings = problem, tangent, settings
        self.density = Density(problem)

    def simulate(self, simulation: int) -> tuple[np.ndarray, np.ndarray]:
        """Free variables from their prior, (n_free,), and data from them, (n_data,)."""
        generator = stream(self.settings.seed, "sbc", simulation)
        u = generator.standard_normal(self.density.size)
        mean, sigma = self._rows(u)
        return u, mean + self.settings.noise * sigma * generator.standard_t(TAIL, size=len(mean))

    def _rows(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = self.tangent
        prediction = t.values + (self.density.coordinates(u) - t.at) @ t.jacobian.T
        return row_distributions(self.problem, u, prediction, self.density.blocks)

    def quantities(self, u: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """What is ranked, of free variables (n, n_free): (n, n_names)."""
        p, blocks = self.problem, self.density.blocks
        coordinates = self.density.coordinates(u)
        levels = u[:, blocks["level"]][:, : min(LEVELS_FOLLOWED, len(p.levels))]
        studies = coordinates[:, len(p.names) :][:, :STUDIES_FOLLOWED]
        mean, sigma = self._rows(u)
        total = student_log(observed, mean, sigma).sum(axis=1, keepdims=True)
        return np.hstack(
            [coordinates[:, : len(p.names)], hyper_values(p, u[:, blocks["hyper"]]), levels, studies, total]
        )

    def fit(self, observed: np.ndarray, simulation: int) -> tuple[np.ndarray, int]:
        """Draws (n, n_free) of the posterior, thinned, and how many of all diverged."""
        import nutpie
        from nutpie.compiled_pyfunc import from_pyfunc

        density, settings = self.density, self.settings
        density.observe(observed)
        density.put(self.tangent)
        found = minimize(
            lambda v: tuple(-part for part in density.linear(v)), np.zeros(density.size), jac=True, method="L-BFGS-B",
            options={"maxiter": 500, "maxcor": 30},
        )  # fmt: skip
        around = laplace(density, found.x)

        def log_density(w: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = density.linear(around.mode + around.factor @ w)
            return value, around.factor.T @ slope

        n = density.size
        model = from_pyfunc(
            n, lambda: log_density, lambda *_: lambda w: {"w": np.asarray(w)}, [np.dtype("float64")], [(n,)], ["w"],
            make_initial_point_fn=lambda given: 0.5 * np.random.default_rng(given).standard_normal(n),
        )  # fmt: skip
        trace = nutpie.sample(
            model, draws=settings.draws, tune=settings.tune, chains=1, cores=1,
            seed=int(stream(settings.seed, "sbc chain", simulation).integers(2**31)), progress_bar=False,
            target_accept=settings.target_accept,
        )  # fmt: skip
        w = np.asarray(trace.posterior["w"])[0][settings.thin - 1 :: settings.thin]
        return around.mode + w @ around.factor.T, int(np.asarray(trace.sample_stats["diverging"]).sum())

    def ranks(self, simulation: int) -> tuple[np.ndarray, int]:
        """Rank of each true value among its draws, 0 to their number; and the divergences."""
        truth, observed = self.simulate(simulation)
        draws, divergences = self.fit(observed, simulation)
        before = self.quantities(truth[None], observed)
        return (self.quantities(draws, observed) < before).sum(axis=0), divergences


# --------------------------------------------------------------------------- many simulations


def run(
    problem: Problem,
    tangent: Tangent,
    simulations: int,
    *,
    settings: Settings | None = None,
    folder: str | os.PathLike[str] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Ranks of many simulations.

    Parameters
    ----------
    problem, tangent
        Of `problem_of` or `reduced`.
    simulations : int
    folder : path, optional
        Where ``ranks.csv`` is kept: simulations that are in it are not run again.
    workers : int
        Processes; the ranks do not depend on it.
    progress : callable, optional
        Called with simulations done and all.

    Returns
    -------
    DataFrame
        simulation, divergences, and a column for each quantity.

    Raises
    ------
    SbcError
        If the folder's ranks are of another problem or with other settings.
    """
    settings = settings or Settings()
    fitter = Fitter(problem, tangent, settings) if workers == 1 else None
    columns = ("simulation", "divergences", *ranked(problem))
    store = _Store(folder, fingerprint(problem, tangent, settings), columns)
    missing = [s for s in range(simulations) if s not in store.rows]
    if progress is not None:
        progress(simulations - len(missing), simulations)
    done = (
        _one_by_one(fitter, missing)
        if fitter
        else _in_processes(problem, tangent, settings, missing, workers)
    )
    for count, (simulation, found, divergences) in enumerate(done, start=simulations - len(missing) + 1):
        store.add(simulation, divergences, found)
        if progress is not None:
            progress(count, simulations)
    return store.table(range(simulations))


def _one_by_one(fitter: Fitter, missing: Sequence[int]) -> Iterator[tuple[int, np.ndarray, int]]:
    for simulation in missing:
        yield simulation, *fitter.ranks(simulation)


_here: dict[str, Fitter] = {}


def _begin(problem: Problem, tangent: Tangent, settings: Settings) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _here["fitter"] = Fitter(problem, tangent, settings)


def _one(simulation: int) -> tuple[int, np.ndarray, int]:
    return simulation, *_here["fitter"].ranks(simulation)


def _in_processes(
    problem: Problem, tangent: Tangent, settings: Settings, missing: Sequence[int], workers: int
) -> Iterator[tuple[int, np.ndarray, int]]:
    if not missing:
        return
    # One thread each: linear algebra of this size is slower on several that wait for each other.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(problem, tangent, settings)
    )
    try:
        for future in as_completed([pool.submit(_one, s) for s in missing]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def fingerprint(problem: Problem, tangent: Tangent, settings: Settings) -> str:
    """SHA-256 of everything that ranks depend on."""
    told = [
        problem.vector,
        problem.hyper,
        [(d.table, d.line, d.error) for d in problem.data],
        asdict(settings),
    ]
    digest = hashlib.sha256(json.dumps(told).encode())
    for array in (tangent.at, tangent.values, tangent.jacobian, problem.offset):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class _Store:
    """Ranks by simulation, in memory and, if there is a folder, appended to a file line by line."""

    def __init__(self, folder: str | os.PathLike[str] | None, mark: str, header: tuple[str, ...]) -> None:
        self.header = header
        self.rows: dict[int, list[int]] = {}
        self.path = None if folder is None else Path(folder) / "ranks.csv"
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._read(mark)
        else:
            with self.path.open("w", newline="", encoding="utf-8") as file:
                file.write(f"# {mark}\n")
                csv.writer(file).writerow(header)

    def _read(self, mark: str) -> None:
        assert self.path is not None
        text = self.path.read_text(encoding="utf-8")
        # A line that a kill cut short is dropped.
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self.path.write_text(whole, encoding="utf-8")
        lines = whole.splitlines()
        if not lines or lines[0] != f"# {mark}":
            raise SbcError(
                f"{self.path} holds ranks of another problem, or made with other settings. Give another --out."
            )
        for line in csv.reader(lines[2:]):
            numbers = [int(x) for x in line]
            self.rows[numbers[0]] = numbers

    def add(self, simulation: int, divergences: int, ranks: np.ndarray) -> None:
        self.rows[simulation] = [simulation, divergences, *(int(r) for r in ranks)]
        if self.path is not None:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(self.rows[simulation])

    def table(self, simulations: Sequence[int]) -> pd.DataFrame:
        return pd.DataFrame([self.rows[s] for s in simulations], columns=list(self.header))


# --------------------------------------------------------------------------- are ranks uniform


def _allowed(n: int, points: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest count at each point whose two-sided binomial probability is above gamma."""
    low, high = np.zeros(len(points), dtype=int), np.full(len(points), n)
    counts = np.arange(n + 1)
    for i, p in enumerate(points):
        both = 2 * np.minimum(binom.cdf(counts, n, p), binom.sf(counts - 1, n, p))
        inside = np.flatnonzero(both > gamma)
        low[i], high[i] = (inside[0], inside[-1]) if len(inside) else (1, 0)
    return low, high


def _coverage(n: int, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Probability that the counts of n uniform numbers below each point stay between two bounds.

    Counts at rising points are a Markov chain of binomial steps (Saeilynoja 2022, section 2.3).
    """
    reached, mass, before = np.array([0]), np.array([1.0]), 0.0
    for p, a, b in zip(points, low, high, strict=True):
        if a > b:
            return 0.0
        now = np.arange(a, b + 1)
        step = (p - before) / (1.0 - before)
        mass = mass @ binom.pmf(now[None, :] - reached[:, None], n - reached[:, None], step)
        reached, before = now, p
    return float(mass.sum())


def _points(levels: int) -> np.ndarray:
    """Places between ranks at which counts are compared: shares of the ranks below them."""
    cuts = np.unique(np.linspace(1, levels - 1, min(POINTS, levels - 1)).round().astype(int))
    return cuts / levels


def ecdf_p(ranks: np.ndarray, levels: int) -> float:
    """Probability that uniform ranks stray as far from uniform, at the place where these stray most.

    Simultaneous over all places: exact, Saeilynoja, Buerkner and Vehtari 2022, doi:10.1007/s11222-022-10090-6.

    Parameters
    ----------
    ranks : ndarray of int (n,)
        0 to ``levels - 1``.

    Examples
    --------
    >>> ecdf_p(np.arange(100), 100) > 0.99
    True
    >>> ecdf_p(np.zeros(100, dtype=int), 100) < 1e-6
    True
    """
    n, points = len(ranks), _points(levels)
    counts = (np.asarray(ranks)[:, None] < np.round(points * levels)[None, :]).sum(axis=0)
    both = 2 * np.minimum(binom.cdf(counts, n, points), binom.sf(counts - 1, n, points))
    gamma = float(both.min())
    return max(0.0, 1.0 - _coverage(n, points, *_allowed(n, points, gamma)))


def ecdf_band(n: int, levels: int, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, and the band within which the distribution function of n uniform ranks stays with 1 - alpha.

    Returns
    -------
    points, low, high : ndarray
        Of shares.
    """
    points = _points(levels)
    least, most = 1e-9, alpha
    for _ in range(30):
        gamma = math.sqrt(least * most)
        inside = _coverage(n, points, *_allowed(n, points, gamma)) >= 1 - alpha
        least, most = (gamma, most) if inside else (least, gamma)
    low, high = _allowed(n, points, least)
    return points, low / n, high / n


def uniformity(table: pd.DataFrame, levels: int) -> pd.DataFrame:
    """For each ranked quantity the p-values of two tests of uniformity, and whether the family rejects it.

    Parameters
    ----------
    table : DataFrame
        Of `run`.
    levels : int
        Number of possible ranks.

    Returns
    -------
    DataFrame
        quantity, n, chi2_p, ecdf_p, rejected (either test at `FAMILY` shared out among all tests).
    """
    rows = []
    names = [c for c in table.columns if c not in ("simulation", "divergences")]
    limit = FAMILY / (2 * len(names))
    for name in names:
        ranks = table[name].to_numpy()
        counts = np.bincount(ranks * BINS // levels, minlength=BINS)
        width = np.bincount(np.arange(levels) * BINS // levels, minlength=BINS) / levels
        chi2 = float(chisquare(counts, len(ranks) * width).pvalue)
        ecdf = ecdf_p(ranks, levels)
        rows.append(
            {
                "quantity": name,
                "n": len(ranks),
                "chi2_p": chi2,
                "ecdf_p": ecdf,
                "rejected": min(chi2, ecdf) < limit,
            }
        )
    return pd.DataFrame(rows)


def rank_figure(table: pd.DataFrame, levels: int) -> Figure:
    """Distribution functions of ranks less that of the uniform distribution, with the simultaneous 95 % band."""
    from matplotlib.figure import Figure

    groups = {
        "Parameters": "parameter: ",
        "Parameters of the probability model": "hyper: ",
        "Levels and potencies of studies": ("level: ", "study: "),
        "Log likelihood": "log likelihood",
    }
    points, low, high = ecdf_band(len(table), levels)
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    for axes, (title, start) in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, groups.items(), strict=True
    ):
        axes.fill_between(points, low - points, high - points, color="#e3e3e3", lw=0)
        for name in (c for c in table.columns if c.startswith(start)):
            share = (table[name].to_numpy()[:, None] < np.round(points * levels)[None, :]).mean(axis=0)
            axes.plot(points, share - points, color="#0072B2", lw=0.8, alpha=0.7)
        axes.axhline(0, color="#8a8a8a", lw=0.8)
        axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("rank of the truth among its posterior draws, as a share", fontsize=9)
    figure.supylabel("distribution function less the uniform one", fontsize=9)
    shown = sum(len(axes.lines) - 1 for axes in figure.axes)
    figure.suptitle(
        f"Simulation-based calibration: {len(table)} simulated data sets\n"
        f"grey: where a calibrated quantity stays throughout in 95 % of cases; of {shown}, "
        f"{0.05 * shown:.0f} are expected to leave it somewhere",
        fontsize=9.5,
    )
    return figure


# --------------------------------------------------------------------------- problems


def problem_of(
    folder: str | os.PathLike[str] | None = None,
    ready: Prepared | None = None,
    *,
    workers: int | None = None,
) -> tuple[Problem, Tangent]:
    """The calibration's problem and the tangent of its predictions.

    Parameters
    ----------
    folder : path, optional
        Of a calibration, for the tangent at its mode; without it that at the medians of the priors.

    Raises
    ------
    mscrenal.calibration.journal.JournalError
        If the folder is of another calibration.
    """
    from mscrenal.calibration.calibrate import learnt_from, prepare
    from mscrenal.calibration.sampler import problem_mark
    from mscrenal.calibration.store import read_laplace
    from mscrenal.model.definition import model_hash

    ready = ready or prepare(workers=workers)
    if folder is not None:
        mark = problem_mark(ready.problem, ready.blind, learnt_from(), model_hash())
        offset, around = read_laplace(Path(folder) / "mode.npz", mark)
        return ready.with_offset(offset).problem, around.tangent
    at = np.zeros(len(ready.problem.vector))
    found = ready.predictions(workers)(at)
    return ready.problem, Tangent(at, found.values, found.jacobian)


def reduced(
    problem: Problem, tangent: Tangent, *, rows: int = 40, names: int = 12
) -> tuple[Problem, Tangent]:
    """A part of a problem with every kind of row in it: whole studies, and the parameters that these inform most.

    Studies are taken so that every combination of measure, class, species, treated or not comes in, those that bring
    most that is new per row first, up to about `rows`; the rest of the formulas (levels, potencies of studies, biases,
    residuals) follows from them. Of the parameters the `names` with the largest scaled derivatives are kept, and always
    how strongly cells act; the others stay at the point of the tangent.
    """
    data = problem.data
    kinds = {
        s: {(d.measure, d.kind.name, d.species == "human", d.treated) for d in data if d.study == s}
        for s in dict.fromkeys(d.study for d in data)
    }
    size = {s: sum(d.study == s for d in data) for s in kinds}
    taken: list[str] = []
    seen: set[tuple[Any, ...]] = set()
    while len(taken) < len(kinds) and sum(size[s] for s in taken) < rows:
        best = max(
            (s for s in kinds if s not in taken), key=lambda s: (len(kinds[s] - seen) / size[s], -size[s])
        )
        taken.append(best)
        seen |= kinds[best]
    keep = np.array([d.study in taken for d in data])
    _, sigma = row_distributions(
        problem,
        np.zeros(_width(problem)),
        tangent.values,
        _blocks(problem),
    )
    weight = np.abs(tangent.jacobian[keep] / sigma[keep, None]).sum(axis=0)
    order = sorted(range(len(problem.names)), key=lambda k: -weight[k])
    chosen = {problem.names[k] for k in order[:names]} | ({POTENCY} & set(problem.names))
    part = replace(
        problem,
        data=tuple(d for d in data if d.study in taken),
        studies={s: problem.studies[s] for s in taken},
        names=tuple(n for n in problem.names if n in chosen),
        offset=problem.offset[keep] if len(problem.offset) else problem.offset,
    )
    columns = np.array([problem.vector.index(n) for n in part.vector])
    return part, Tangent(tangent.at[columns], tangent.values[keep], tangent.jacobian[np.ix_(keep, columns)])


def _sizes(problem: Problem) -> dict[str, int]:
    return {
        "z": len(problem.names),
        "study": max(1, len(problem.potent)),
        "level": max(1, len(problem.levels)),
        "hyper": len(problem.hyper),
    }


def _width(problem: Problem) -> int:
    return sum(_sizes(problem).values())


def _blocks(problem: Problem) -> dict[str, slice]:
    """Blocks of free variables in the order of `_sizes` (`Density` may order them otherwise)."""
    out, start = {}, 0
    for name, size in _sizes(problem).items():
        out[name] = slice(start, start + size)
        start += size
    return out


# --------------------------------------------------------------------------- recovery, with the engine


def recovery(
    ready: Prepared, repeats: int, *, seed: int = 1, level: float = 0.9, draws: int = 2000
) -> pd.DataFrame:
    """Are known parameters found again, with the engine's own predictions in data and fit?

    Parameters are drawn from the prior, data from the engine's predictions for them, and the draft calibration (mode
    and curvature) is run on these data.

    Returns
    -------
    DataFrame
        repeat, parameter, truth, low, high (standardised), inside.
    """
    problem, predict = ready.problem, ready.predictions(1)
    density = Density(problem)
    rows = []
    for repeat in range(repeats):
        truth, observed = _engine_data(problem, density, predict, stream(seed, "recovery", repeat))
        density.observe(observed)
        found = find_mode(density, predict)
        z = density.coordinates(found.sample(draws, seed))[:, : len(problem.names)]
        low, high = np.quantile(z, [(1 - level) / 2, (1 + level) / 2], axis=0)
        x = density.coordinates(truth)[: len(problem.names)]
        rows += [
            {"repeat": repeat, "parameter": n, "truth": x[k], "low": low[k], "high": high[k],
             "inside": bool(low[k] <= x[k] <= high[k])}
            for k, n in enumerate(problem.names)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _engine_data(
    problem: Problem, density: Density, predict: Any, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Free variables from the prior that the engine can simulate, and data from its predictions."""
    for _ in range(20):
        u = generator.standard_normal(density.size)
        prediction = predict(density.coordinates(u)).values
        if np.isfinite(prediction).all():
            mean, sigma = row_distributions(problem, u, prediction, density.blocks)
            return u, mean + sigma * generator.standard_t(TAIL, size=len(mean))
    raise SbcError(
        "twenty draws of the prior, and none that the engine can simulate. Take fewer or other studies."
    )


# --------------------------------------------------------------------------- command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, write ranks, tests and figure; 1 if a quantity is rejected."""
    parser = argparse.ArgumentParser(
        prog="python -m mscrenal.calibration.sbc", description="Simulation-based calibration."
    )
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="of ranks.csv; one that was begun goes on"
    )
    parser.add_argument("--run", metavar="FOLDER", help="of a calibration: the tangent at its mode")
    parser.add_argument("--reduced", action="store_true", help="fewer studies and parameters: minutes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    problem, tangent = problem_of(given.run, workers=given.workers)
    if given.reduced:
        problem, tangent = reduced(problem, tangent)
    settings = Settings(seed=given.seed)

    def progress(done: int, of: int) -> None:
        print(f"\r{done} of {of} simulations", end="\n" if done == of else "", file=sys.stderr, flush=True)

    try:
        table = run(
            problem, tangent, given.simulations, settings=settings, folder=given.out, workers=given.workers,
            progress=progress,
        )  # fmt: skip
    except SbcError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"\nInterrupted: what is computed is kept; go on with --out {given.out}", file=sys.stderr)
        return 130
    found = uniformity(table, settings.ranks)
    write_result(Path(given.out), problem, table, found, settings)
    print(found.to_string(index=False))
    return int(found["rejected"].any())


def write_result(
    folder: Path, problem: Problem, table: pd.DataFrame, found: pd.DataFrame, settings: Settings
) -> None:
    """Table of tests, figure, and what a page says of them."""
    found.to_csv(folder / "uniformity.csv", index=False)
    rank_figure(table, settings.ranks).savefig(folder / "ecdf.png", dpi=110, metadata={"Software": None})
    summary = {
        "simulations": len(table),
        "rows": len(problem.data),
        "studies": len(problem.studies),
        "parameters": len(problem.names),
        "free_variables": _width(problem),
        "quantities": len(found),
        "rejected": found.loc[found["rejected"], "quantity"].tolist(),
        "smallest_p": {test: float(found[test].min()) for test in ("chi2_p", "ecdf_p")},
        "family_level": FAMILY,
        "divergences": int(table["divergences"].sum()),
        "draws_per_fit": settings.ranks - 1,
        "seed": settings.seed,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
