"""NUTS, and what makes it affordable and exact: a stand-in built from the engine, and weights from the engine.

1. The engine's values and derivatives at points around the mode make a first stand-in (`mscrenal.calibration.standin`).
2. NUTS on it shows where the posterior is; the engine at some of its draws makes the stand-in good there.
3. NUTS on the final stand-in: the chains whose diagnostics are reported.
4. The engine's own density at the kept draws weighs them (Pareto-smoothed importance sampling); if the weights are too
   uneven, round 2 is repeated.

Every result of the engine goes through a journal on disk and every chain is kept as a file, so that a run that was
killed goes on where it was and comes out the same to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from mscrenal.calibration.inference import Density, Laplace
from mscrenal.calibration.journal import Journal
from mscrenal.calibration.predictions import ATOL, RTOL, Coordinates, Predictions
from mscrenal.calibration.probability import HYPER, TAIL, Problem, log_likelihood, row_distributions
from mscrenal.calibration.sampling import stream
from mscrenal.calibration.standin import (
    Design,
    StandIn,
    depends_on,
    error_of,
    fit_standin,
    smoothed_weights,
)
from mscrenal.calibration.store import read_arrays, write_arrays
from mscrenal.model.declare import HalfNormal

__all__ = ["Chain", "Sampled", "Settings", "problem_mark", "sample"]

# Called with the part of the work done (0 to 1) and a word.
Progress = Callable[[float, str], None]
STATS = ("diverging", "n_steps", "mean_tree_accept", "energy", "step_size")
# Points of the first design, spread around the mode by so much more than the normal approximation.
FIRST_POINTS, INFLATION = 200, 1.6
# Draws of a preliminary posterior that are added to the design.
MORE_POINTS = 160
PRIOR_POINTS = 200
PRELIMINARY = (300, 400)  # tuning and kept draws
# Shape of the weights' tail above which they cannot be trusted.
TRUSTED_K = 0.7
MOST_ROUNDS = 4
# Error of a stand-in at draws of its own chains, in units of a row's spread (95 %): beyond it the chains went where the
# design had not been, and what they say of the posterior is not to be trusted.
MOST_ERROR = 0.5
CHUNK = 4  # points a task: enough to outweigh its handling


@dataclass(frozen=True)
class Settings:
    """How NUTS runs.

    Attributes
    ----------
    chains, tune, draws : int
    seed : int
    target_accept : float
    kept : int
        Draws in the posterior's file, all chains together.
    rtol, atol : float
        Of the simulations.
    """

    chains: int = 4
    tune: int = 500
    draws: int = 1500
    seed: int = 1
    target_accept: float = 0.9
    kept: int = 2000
    rtol: float = RTOL
    atol: float = ATOL


@dataclass(frozen=True)
class Chain:
    """One chain.

    Attributes
    ----------
    draws : ndarray (n_draws, n_free)
        Free variables.
    stats : mapping of str to ndarray (n_draws,)
        diverging, n_steps, mean_tree_accept, energy, step_size.
    seconds : float
    evaluations : int
        Of the density, tuning included.
    """

    draws: np.ndarray
    stats: Mapping[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    evaluations: int = 0


@dataclass(frozen=True)
class Sampled:
    """What sampling gives.

    Attributes
    ----------
    chains : list of Chain
        Of NUTS on the final stand-in.
    draws : ndarray (n_kept, n_free)
        Draws of the engine's own posterior: those of the chains, resampled by their weights.
    predictions : ndarray (n_kept, n_data)
        Of the engine.
    notes : dict
        pareto_k, weight_ess, rounds, standin_error, simulations.
    """

    chains: list[Chain]
    draws: np.ndarray
    predictions: np.ndarray
    notes: Mapping[str, Any]


def problem_mark(problem: Problem, blind: Mapping[str, frozenset[str]], evidence: str, model: str) -> str:
    """SHA-256 of what is fitted to what: rows and their functionals, arms, priors of the probability model."""
    arms = {(d.study, t.arm): problem.studies[d.study].arms[t.arm] for d in problem.data for t in d.terms}
    told = [
        model, evidence, problem.vector, [asdict(HYPER[name]) for name in problem.hyper], TAIL,
        [repr(d) for d in problem.data], sorted(f"{key}: {arm!r}" for key, arm in arms.items()),
        {k: sorted(v) for k, v in blind.items()}, [f"{x:.12e}" for x in problem.offset], _joint(problem),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _joint(problem: Problem) -> list[object]:
    if problem.joint is None:
        return []
    joint = problem.joint
    # To the digits that the engine gives alike on any machine.
    numbers = np.concatenate([joint.mean, joint.covariance.ravel()])
    return [*joint.names, *(f"{x:.6f}" for x in numbers)]


def fingerprint(
    problem: Problem,
    blind: Mapping[str, frozenset[str]],
    around: Laplace,
    settings: Settings,
    evidence: str,
    model: str,
) -> str:
    """SHA-256 of everything that the numbers depend on."""
    digest = hashlib.sha256(problem_mark(problem, blind, evidence, model).encode())
    digest.update(json.dumps(asdict(settings), sort_keys=True).encode())
    for array in (around.mode, around.factor):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def sample(
    problem: Problem,
    blind: Mapping[str, frozenset[str]],
    around: Laplace,
    settings: Settings,
    folder: str | os.PathLike[str],
    *,
    evidence: str,
    model: str,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sampled:
    """Sample the posterior, or go on with what was begun in the folder.

    Parameters
    ----------
    blind
        As of `mscrenal.calibration.predictions.Predictions`.
    folder : path
        Where the journal and finished chains are kept.
    evidence, model : str
        Hashes: a folder begun with others is refused.
    workers : int, optional
        Processes; default one per processor. The numbers do not depend on it.

    Raises
    ------
    mscrenal.calibration.journal.JournalError
        If the folder holds another calibration, or a damaged file.
    KeyboardInterrupt
        What was computed is on disk.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark = fingerprint(problem, blind, around, settings, evidence, model)
    told = progress or (lambda part, text: None)
    n, m = len(problem.data), len(problem.vector)
    with (
        _pool(problem, blind, settings, workers) as pool,
        Journal(folder / "slopes.journal", mark, m, n * (1 + m)) as slopes,
        Journal(folder / "values.journal", mark, m, n) as values,
    ):
        return _Run(problem, around, settings, folder, mark, pool, slopes, values, told).whole()


def _pool(
    problem: Problem, blind: Mapping[str, frozenset[str]], settings: Settings, workers: int | None
) -> ProcessPoolExecutor:
    # A worker a processor, and one thread each: linear algebra of this size is slower on several that wait for each other.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return ProcessPoolExecutor(
        workers or os.cpu_count() or 1,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(problem, dict(blind), settings.rtol, settings.atol),
    )


class _Run:
    """The steps of one calibration."""

    def __init__(
        self,
        problem: Problem,
        around: Laplace,
        settings: Settings,
        folder: Path,
        mark: str,
        pool: ProcessPoolExecutor,
        slopes: Journal,
        values: Journal,
        told: Progress,
    ) -> None:
        self.problem, self.around, self.settings = problem, around, settings
        self.folder, self.mark, self.pool, self.told = folder, mark, pool, told
        self.slopes, self.values = slopes, values
        self.density = Density(problem)

    def whole(self) -> Sampled:
        seed, n = self.settings.seed, len(self.around.mode)
        prior = self.prior_check()
        first = stream(seed, "design").standard_normal((FIRST_POINTS, n))
        points = self.coordinates(self.around.mode + INFLATION * first @ self.around.factor.T)
        design = self.design(points, (0.03, 0.2), "engine, points around the mode")
        chains, standin = self.chains(design, PRELIMINARY, "first", (0.2, 0.3))
        for turn in range(1, MOST_ROUNDS + 1):
            part = 0.3 + 0.35 * (1 - 0.5 ** (turn - 1))
            draws = np.concatenate([c.draws for c in chains])
            taken = stream(seed, "more", turn).permutation(len(draws))[:MORE_POINTS]
            more = self.design(
                self.coordinates(draws[taken]), (part, part + 0.1), "engine, draws of the posterior"
            )
            error = error_of(standin, more, self.sigma(draws))
            design = design.plus(more)
            settings = (self.settings.tune, self.settings.draws)
            chains, standin = self.chains(design, settings, f"round {turn}", (part + 0.1, part + 0.17))
            found = self.weighed(chains, standin, (part + 0.17, part + 0.2), turn, error)
            notes = found.notes
            words = f"round {turn}: Pareto k {notes['pareto_k']:.2f}, log ratio SD {notes['log_ratio_sd']:.2f}, error {error['q95']:.2f}"
            self.told(part + 0.2, words)
            # The error is that of the stand-in before it saw these draws: small only if its chains stayed where it was
            # right. Weights alone do not see a region that the chains missed.
            calm = not any(np.asarray(c.stats["diverging"]).any() for c in chains)
            enough = notes["weight_ess"] > len(found.draws) / 5
            if notes["pareto_k"] < TRUSTED_K and enough and calm and error["q95"] < MOST_ERROR:
                break
        return replace(found, notes={**found.notes, "prior_predictive": prior})

    def prior_check(self) -> dict[str, float]:
        """Before anything else: can the prior predict what was observed at all?

        Shares of rows inside the central 90 % and 99 % of the prior predictive distribution, and of draws that some arm
        could not follow.
        """
        generator = stream(self.settings.seed, "prior predictive")
        free = generator.standard_normal((PRIOR_POINTS, len(self.around.mode)))
        words = "engine, draws of the prior"
        values = self._asked(self.values, self.coordinates(free), _evaluate_values, (0.0, 0.03), words)
        mean, sigma = row_distributions(self.problem, free, values, self.density.blocks)
        replicate = mean + sigma * generator.standard_t(TAIL, mean.shape)
        rank = np.nanmean(replicate < np.array([d.value for d in self.problem.data]), axis=0)
        return {
            "inside90": float(np.mean((rank > 0.05) & (rank < 0.95))),
            "inside99": float(np.mean((rank > 0.005) & (rank < 0.995))),
            "failed": float(np.mean(~np.isfinite(values).all(axis=1))),
        }

    def coordinates(self, free: np.ndarray) -> np.ndarray:
        return self.density.coordinates(free)

    def sigma(self, draws: np.ndarray) -> np.ndarray:
        """A typical spread of each row, (n_data,)."""
        some = draws[:: max(1, len(draws) // 50)]
        nothing = np.zeros((len(some), len(self.problem.data)))
        return np.asarray(
            np.median(row_distributions(self.problem, some, nothing, self.density.blocks)[1], axis=0)
        )

    def design(self, points: np.ndarray, span: tuple[float, float], words: str) -> Design:
        """The engine's values and derivatives at some points."""
        n, m = len(self.problem.data), len(self.problem.vector)
        rows = self._asked(self.slopes, points, _evaluate, span, words)
        return Design(points, rows[:, :n], rows[:, n:].reshape(len(points), n, m))

    def _asked(
        self,
        journal: Journal,
        points: np.ndarray,
        function: Callable[[Sequence[np.ndarray]], list[np.ndarray]],
        span: tuple[float, float],
        words: str,
    ) -> np.ndarray:
        """Results at some points, those that the journal lacks computed on all workers and noted as they come."""
        missing = [x for x in points if x not in journal]
        parts = [missing[i : i + CHUNK] for i in range(0, len(missing), CHUNK)]
        pending: dict[Future[list[np.ndarray]], list[np.ndarray]] = {}
        done = len(points) - len(missing)
        try:
            for part in parts:
                pending[self.pool.submit(function, part)] = part
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    for point, result in zip(pending.pop(future), future.result(), strict=True):
                        journal.add(point, result)
                        done += 1
                share = done / len(points)
                self.told(span[0] + share * (span[1] - span[0]), f"{words}: {done} of {len(points)}")
        finally:
            for future in pending:
                future.cancel()
        return np.array([journal[x] for x in points])

    def chains(
        self, design: Design, size: tuple[int, int], name: str, span: tuple[float, float]
    ) -> tuple[list[Chain], StandIn]:
        """NUTS on the stand-in of a design."""
        sigma = self.sigma(self.around.sample(50, self.settings.seed))
        depends = depends_on(design.usable().jacobians, sigma)
        known = Coordinates(self.problem.vector)
        halves = [k for k, n in enumerate(known.names) if isinstance(known.parameter(n).prior, HalfNormal)]
        standin = fit_standin(design, depends, np.array(halves, dtype=int))
        jobs: dict[Future[Chain], int] = {}
        chains: dict[int, Chain] = {}
        for k in range(self.settings.chains):
            path = self._chain_file(name, k)
            if path.exists():
                chains[k] = _stored(path, self.mark)
            else:
                args = (standin, self.around, size, self.settings.target_accept, self._chain_seed(name, k))
                jobs[self.pool.submit(_chain, *args)] = k
        try:
            while jobs:
                finished, _ = wait(jobs, return_when=FIRST_COMPLETED)
                for future in finished:
                    k = jobs.pop(future)
                    chains[k] = future.result()
                    _store(self._chain_file(name, k), self.mark, chains[k])
                share = len(chains) / self.settings.chains
                words = f"NUTS ({name}): {len(chains)} of {self.settings.chains} chains"
                self.told(span[0] + share * (span[1] - span[0]), words)
        finally:
            for future in jobs:
                future.cancel()
        return [chains[k] for k in range(self.settings.chains)], standin

    def _chain_file(self, name: str, chain: int) -> Path:
        return self.folder / f"{name.replace(' ', '_')}_{chain}.npz"

    def _chain_seed(self, name: str, chain: int) -> int:
        return int(stream(self.settings.seed, "chain", name, chain).integers(2**31))

    def weighed(
        self,
        chains: Sequence[Chain],
        standin: StandIn,
        span: tuple[float, float],
        turn: int,
        error: Mapping[str, float],
    ) -> Sampled:
        """Draws weighed by the engine's own density, and resampled to equal weights."""
        draws = np.concatenate([c.draws for c in chains])
        step = max(1, len(draws) // self.settings.kept)
        kept = draws[::step][: self.settings.kept]
        x = self.coordinates(kept)
        engine = self._asked(self.values, x, _evaluate_values, span, "engine, weights of the draws")
        ratio = self._log_likelihood(kept, engine) - self._log_likelihood(kept, standin.values(x))
        good = np.isfinite(ratio)
        weights = np.zeros(len(kept))
        weights[good], k = smoothed_weights(ratio[good])
        # Systematic resampling: each draw comes as often as its weight says, within one.
        at = (np.arange(len(kept)) + stream(self.settings.seed, "resample").random()) / len(kept)
        index = np.minimum(np.searchsorted(np.cumsum(weights), at), len(kept) - 1)
        index = stream(self.settings.seed, "order").permutation(index)
        notes = {
            "pareto_k": k,
            "weight_ess": float(1.0 / (weights**2).sum()),
            "log_ratio_sd": float(ratio[good].std()),
            "failed_draws": int((~good).sum()),
            "rounds": turn,
            "standin_error": dict(error),
            "gradients_of_the_engine": len(self.slopes),
            "values_of_the_engine": len(self.values),
        }
        return Sampled(list(chains), kept[index], engine[index], notes)

    def _log_likelihood(self, free: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return log_likelihood(self.problem, free, prediction, self.density.blocks).sum(axis=1)


# --------------------------------------------------------------------------- in a worker

_here: dict[str, Any] = {}


def _begin(problem: Problem, blind: Mapping[str, frozenset[str]], rtol: float, atol: float) -> None:
    """What a worker makes once."""
    import signal

    # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _here.clear()
    _here.update(problem=problem, blind=blind, tolerance=(rtol, atol))


def _predictions(blind: Mapping[str, Any]) -> Predictions:
    problem, (rtol, atol) = _here["problem"], _here["tolerance"]
    return Predictions(
        problem.data, problem.studies, problem.vector, blind=blind, workers=1, rtol=rtol, atol=atol
    )


def _evaluate(points: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values and derivatives."""
    if "predict" not in _here:
        _here["predict"] = _predictions(_here["blind"])
    found = [_here["predict"](x) for x in points]
    return [np.concatenate([f.values, f.jacobian.ravel()]) for f in found]


def _evaluate_values(points: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values alone, for half of the work."""
    if "values" not in _here:
        _here["values"] = _predictions(dict.fromkeys(_here["blind"], _here["problem"].vector))
    return [_here["values"](x).values for x in points]


def _chain(standin: StandIn, around: Laplace, size: tuple[int, int], target: float, seed: int) -> Chain:
    """One chain of NUTS on a stand-in, whitened by the curvature at the mode."""
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    if "density" not in _here:
        _here["density"] = Density(_here["problem"])
    began, density = time.monotonic(), _here["density"]
    n, count = density.size, 0

    def log_density(w: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count
        count += 1
        value, slope = density.exact(around.mode + around.factor @ w, standin)
        return value, around.factor.T @ slope

    model = from_pyfunc(
        n, lambda: log_density, lambda *_: lambda w: {"w": np.asarray(w)}, [np.dtype("float64")], [(n,)], ["w"],
        make_initial_point_fn=lambda given: 0.5 * np.random.default_rng(given).standard_normal(n),
    )  # fmt: skip
    trace = nutpie.sample(
        model,
        draws=size[1],
        tune=size[0],
        chains=1,
        cores=1,
        seed=seed,
        progress_bar=False,
        target_accept=target,
    )
    w = np.asarray(trace.posterior["w"])[0]
    stats = {k: np.asarray(trace.sample_stats[k])[0] for k in STATS if k in trace.sample_stats}
    return Chain(around.mode + w @ around.factor.T, stats, time.monotonic() - began, count)


def _store(path: Path, mark: str, found: Chain) -> None:
    arrays = {
        "draws": found.draws,
        "seconds": np.array(found.seconds),
        "evaluations": np.array(found.evaluations),
    }
    write_arrays(path, mark, arrays | {f"stat_{k}": v for k, v in found.stats.items()})


def _stored(path: Path, mark: str) -> Chain:
    stored = read_arrays(path, mark)
    stats = {k.removeprefix("stat_"): v for k, v in stored.items() if k.startswith("stat_")}
    return Chain(stored["draws"], stats, float(stored["seconds"]), int(stored["evaluations"]))
