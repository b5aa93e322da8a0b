"""`mscrenal trial`: virtual trials by the thousand, with assurance, power, type I error and sample size.

Each virtual trial draws one world from the posterior (the design prior), enrols patients of its own, randomises them,
measures them with error, loses some, and is analysed as its protocol says. The share of significant trials is the
assurance (O'Hagan 2005, doi:10.1002/pst.175). The same trials with the effect taken out of every treated patient give
the type I error; trials in the one world of the posterior's medians give the power at a fixed value.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mscrenal.calibration import Draws
from mscrenal.model.simulate import products_of
from mscrenal.model.solve import POPULATION_ATOL, POPULATION_RTOL
from mscrenal.scenarios.endpoints import CHRONIC_START_DAY, DAYS_PER_YEAR, ESKD_EGFR
from mscrenal.scenarios.executor import executor_for
from mscrenal.scenarios.gallery import load_scenario
from mscrenal.scenarios.run import Progress, RunError, provenance_of
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sources import Source, draws_of
from mscrenal.scenarios.trial_analysis import (
    Estimates,
    ancova,
    log_rank,
    mixed_slopes,
    mmrm,
    patient_slopes,
    proportions,
    two_sample,
)
from mscrenal.scenarios.trial_data import Enrolled, Readings, enrol, measure
from mscrenal.scenarios.trial_result import MOST_LISTED, TrialResult, decisions
from mscrenal.scenarios.trial_spec import (
    MOST_PER_ARM,
    TRIAL_ENDPOINTS,
    TrialEndpoint,
    TrialError,
    TrialSpec,
    trial_endpoint,
)

__all__ = ["trial"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Failure = tuple[str, int, int, str, str, str]  # series, trial, patient, arm, status, message
_World = tuple[Readings, Array]  # what is read, and the true values behind it

MOST_TRIALS = 1_000_000
# About half a second of work.
SIMULATIONS_PER_TASK = 1024
# Visits of a repeated-measures analysis, the last among them: an unstructured covariance of more would have more
# entries than a small trial has patients.
MOST_MMRM_VISITS = 4
# Sizes of the curve, as multiples of the design, in one simulation of the largest: smaller trials are parts of it.
CURVE = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
LARGEST_OF_CURVE = 240  # patients an arm, beyond which the curve stops; the search for a size goes further
CURVE_SHARE = 4  # one trial of the curve for so many of the design
SEARCH_TURNS = 6
FIXED_SHARE = 2


@dataclass(frozen=True)
class _Plan:
    """What all batches share. Draws of a number, a seed and a name are made where they are needed."""

    scenario: Scenario
    spec: TrialSpec
    draws: Draws | tuple[int, int, str]
    seed: int

    @property
    def endpoint(self) -> TrialEndpoint:
        return trial_endpoint(self.spec.endpoint)


@dataclass(frozen=True)
class _Series:
    """Trials of one kind: 'design', 'fixed' (posterior medians) or 'curve'.

    `parts` are fractions of `sizes` that are analysed.
    """

    name: str
    sizes: tuple[int, ...]
    parts: tuple[float, ...]
    n: int
    fixed: bool = False


@dataclass(frozen=True)
class _Batch:
    plan: _Plan
    series: _Series
    first: int
    n: int


@dataclass(frozen=True)
class _Done:
    """What is left of a batch: a row for each trial, part and comparison, and failures."""

    rows: pd.DataFrame
    statuses: Mapping[str, int]
    failures: tuple[tuple[int, int, str, str, str], ...]


def trial(
    scenario: str | Path | Scenario = "uc-dn-weekly",
    *,
    n: int | None = None,
    trials: int = 500,
    endpoint: str | None = None,
    analysis: str | None = None,
    alpha: float | None = None,
    arms: Sequence[str] | None = None,
    target_assurance: float | None = None,
    curve: bool = True,
    draws: int | Draws | None = None,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> TrialResult:
    """Run virtual trials of a scenario.

    Parameters
    ----------
    scenario : str, path or Scenario
        A name of the gallery, a TOML file, an event table, or a scenario; its ``[trial]`` table is the design.
    n : int, optional
        Patients in the smallest arm, the others by the allocation ratio; 2 to 20,000. Default: the design's.
    trials : int
        Virtual trials of the design, 20 to 1,000,000.
    endpoint, analysis : str, optional
        Of `TRIAL_ENDPOINTS`, and one of its analyses.
    alpha : float, optional
        Two-sided level of each comparison with the reference.
    arms : sequence of str, optional
        Arms of the scenario that are randomised; the reference is always one.
    target_assurance : float, optional
        Find the smallest trial with this assurance for the first comparison, above 0 and below 1.
    curve : bool
        Whether to simulate assurance by size.
    draws : int or Draws, optional
        Parameter draws; trial k lives in draw k modulo their number. Default: as many as trials, at most 2,000.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
        Where a number of draws comes from.
    workers : int, optional
        Threads on this machine; by default one per processor.
    cluster : str, optional
        Instead of threads: a dask.distributed scheduler.
    resume : path, optional
        A folder that takes finished trials as they come; those that are there already are not run again.
    progress : callable, optional
        Called with units done, all units, and a word.

    Returns
    -------
    TrialResult
        `.table`, `.data`, `.plot()`, `.save(folder)`, `.to_json()`.

    Raises
    ------
    TrialError
        For a design that cannot be, or a target that no size reaches.
    RunError
        For numbers out of range, or a folder that holds other trials.

    Examples
    --------
    >>> from mscrenal.scenarios import trial
    >>> result = trial("uc-dn-weekly", trials=200)          # doctest: +SKIP
    >>> result.comparisons[0].assurance                     # doctest: +SKIP
    """
    plan = _planned(
        scenario, n, trials, endpoint, analysis, alpha, arms, draws, seed, source, target_assurance
    )
    spec = plan.spec
    parts = (*spec.looks, 1.0)
    series = [
        _Series("design", spec.sizes, parts, trials),
        _Series("fixed", spec.sizes, parts, max(20, trials // FIXED_SHARE), fixed=True),
    ]
    if curve or target_assurance is not None:
        series.append(_curve(spec, trials))
    store = _Store(resume, plan)
    with executor_for(workers, cluster) as executor:
        executor.warm({max(1, len(products_of(plan.scenario.arm(a).doses(70.0)))) for a in spec.arms})
        work = _Work(plan, store, executor, progress)
        found = work.run(series)
        if target_assurance is not None:
            spec, extra = _search(plan, work, found, target_assurance, trials)
            found = {**found, **extra}
    return _result(plan, spec, found, work.statuses, work.listed, target_assurance)


def _planned(
    scenario: str | Path | Scenario,
    n: int | None,
    trials: int,
    endpoint: str | None,
    analysis: str | None,
    alpha: float | None,
    arms: Sequence[str] | None,
    draws: int | Draws | None,
    seed: int,
    source: Source,
    target: float | None,
) -> _Plan:
    given = load_scenario(scenario)
    if isinstance(trials, bool) or not isinstance(trials, int) or not 20 <= trials <= MOST_TRIALS:
        raise RunError(
            f"trials must be a whole number from 20 to {MOST_TRIALS:,}, got {trials!r}: with fewer the Monte-Carlo error says it all."
        )
    if target is not None and not (isinstance(target, int | float) and 0.0 < target < 1.0):
        raise TrialError(f"target assurance: given {target!r}. Allowed: above 0 and below 1, such as 0.8.")
    spec = given.trial or TrialSpec()
    given = spec.read_at(given)
    if arms is not None:
        spec = spec.replace(arms=tuple(arms), sizes=())
    if endpoint is not None:
        spec = spec.replace(endpoint=trial_endpoint(endpoint).name, analysis="")
    if analysis is not None:
        chosen = spec.endpoint or next((e for e in given.endpoints if e in TRIAL_ENDPOINTS), "")
        spec = spec.replace(endpoint=chosen, analysis=analysis)
    if alpha is not None:
        spec = spec.replace(alpha=alpha)
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 2 <= n <= MOST_PER_ARM):
        raise TrialError(
            f"n: given {n!r} patients. Allowed: 2 to {MOST_PER_ARM:,} in the smallest arm; with fewer than 2 there is no "
            "spread to test against.",
            key=("n",),
        )
    if n is not None and not spec.sizes and all(a.n is None for a in given.arms):
        every = spec.arms or tuple(a.name for a in given.arms)
        spec = spec.replace(arms=every, sizes=(n,) * len(every))
    spec = spec.of(given)
    if n is not None:
        spec = _scaled(spec, n).of(given)
    spelled: Draws | tuple[int, int, str]
    if isinstance(draws, Draws):
        spelled = draws
    else:
        number = min(trials, 2000) if draws is None else draws
        spelled = (
            (number, seed, str(source))
            if source in ("posterior", "prior")
            else draws_of(number, seed, source)
        )
    _drawn(spelled)  # refuses a number or a seed out of range
    return _Plan(given, spec, spelled, seed)


def _scaled(spec: TrialSpec, least: int) -> TrialSpec:
    """The design with `least` patients in its smallest arm, the others in proportion."""
    sizes = tuple(max(2, round(n * least / min(spec.sizes))) for n in spec.sizes)
    if max(sizes) > MOST_PER_ARM:
        raise TrialError(
            f"n: that makes {max(sizes):,} patients in the largest arm. Allowed: up to {MOST_PER_ARM:,}.",
            key=("n",),
        )
    return spec.replace(sizes=sizes)


def _curve(spec: TrialSpec, trials: int, most: int = LARGEST_OF_CURVE) -> _Series:
    """One large trial and its parts; `most` patients an arm, or those of the design."""
    least = min(spec.sizes)
    top = max(f for f in CURVE if f * max(spec.sizes) <= max(most, max(spec.sizes)))
    largest = tuple(math.ceil(s * top) for s in spec.sizes)
    parts = tuple(f / top for f in CURVE if f <= top and f * least >= 4)
    return _Series("curve", largest, parts or (1.0,), max(20, trials // CURVE_SHARE))


@lru_cache(maxsize=2)
def _made(n: int, seed: int, source: str) -> Draws:
    return draws_of(n, seed, source)


def _drawn(spelled: Draws | tuple[int, int, str]) -> Draws:
    return spelled if isinstance(spelled, Draws) else _made(*spelled)


# --------------------------------------------------------------------------- one batch


def _conduct(batch: _Batch) -> _Done:
    """Enrol, measure and analyse some trials, with the effect and without it."""
    enrolled, worlds = _enacted(batch)
    return _Done(_tested(batch, enrolled, worlds), dict(enrolled.statuses), enrolled.failures)


def _enacted(batch: _Batch) -> tuple[Enrolled, list[_World]]:
    """The patients of some trials, and what is read of them with the effect and without it."""
    plan, series = batch.plan, batch.series
    drawn, spec = _drawn(plan.draws), plan.spec
    trials = np.arange(batch.first, batch.first + batch.n)
    if series.fixed:
        theta = {name: np.full(batch.n, value) for name, value in drawn.median().items()}
    else:
        theta = {name: values[trials % len(drawn)] for name, values in drawn.values.items()}
    endpoint = plan.endpoint
    enrolled = enrol(
        plan.scenario, spec, series.sizes, trials.tolist(), theta, endpoint.observables, plan.seed
    )
    repeats = endpoint.kind == "event"
    return enrolled, [
        (measure(enrolled, true, spec, plan.seed, repeats=repeats), true)
        for true in (enrolled.actual, enrolled.without)
    ]


def _part_of(sizes: Sequence[int], part: float) -> tuple[int, ...]:
    """Patients of each arm in a fraction of a trial."""
    return tuple(max(2, math.ceil(round(part * s, 6))) for s in sizes)


def _tested(batch: _Batch, enrolled: Enrolled, worlds: Sequence[_World]) -> pd.DataFrame:
    """A row for each trial, part and comparison."""
    plan, series = batch.plan, batch.series
    drawn, spec, endpoint = _drawn(plan.draws), plan.spec, plan.endpoint
    trials = enrolled.trials
    rows = []
    reference = spec.arms.index(plan.scenario.reference)
    for part in series.parts:
        sizes = _part_of(series.sizes, part)
        for a, name in enumerate(spec.arms):
            if a == reference:
                continue
            who = _members(enrolled.arm, (reference, a), sizes)
            here, null = (_analysed(endpoint, spec, enrolled, r, who, sizes[a]) for r, _ in worlds)
            truth = _truth(endpoint, enrolled, worlds, who, sizes[a])
            rows.append(
                pd.DataFrame(
                    {
                        "series": series.name,
                        "trial": trials,
                        "draw": -1 if series.fixed else trials % len(drawn),
                        "arm": name,
                        "part": part,
                        "n_arm": sizes[a],
                        "n_reference": sizes[reference],
                        "n_analysed": here.n,
                        "effect": here.effect,
                        "se": here.se,
                        "p": here.p,
                        "null_effect": null.effect,
                        "null_p": null.p,
                        "truth": truth,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def _members(arm: NDArray[np.int64], pair: tuple[int, int], sizes: Sequence[int]) -> NDArray[np.int64]:
    """The first patients of the treated and then of the reference arm, (n_trials, n_treated + n_reference)."""
    columns = []
    for a in (pair[1], pair[0]):
        # Positions of an arm's patients in the order of enrolment; each trial has as many.
        where = np.nonzero(arm == a)[1].reshape(len(arm), -1)
        columns.append(where[:, : sizes[a]])
    return np.concatenate(columns, axis=1)


def _of(values: Array, who: NDArray[np.int64]) -> Array:
    """Rows of these patients, (n_trials, n_chosen, ...)."""
    return np.asarray(values[np.arange(len(values))[:, None], who])


def _analysed(
    endpoint: TrialEndpoint,
    spec: TrialSpec,
    enrolled: Enrolled,
    readings: Readings,
    who: NDArray[np.int64],
    n_treated: int,
) -> Estimates:
    treated = np.zeros(who.shape, dtype=bool)
    treated[:, :n_treated] = True
    main = _of(readings.values[endpoint.observables[0]], who)
    days = enrolled.days
    if endpoint.kind in ("change", "log_ratio"):
        scale = np.log(main) if endpoint.kind == "log_ratio" else main
        baseline = scale[..., 0]
        change = scale - baseline[..., None]
        if spec.analysis == "t-test":
            return two_sample(change[..., -1], treated)
        if spec.analysis == "mmrm":
            return mmrm(change[..., _mmrm_visits(days)], treated, baseline)
        return ancova(change[..., -1], treated, baseline)
    if endpoint.kind == "slope":
        chronic = endpoint.name == "egfr_slope_chronic"
        if spec.analysis == "mixed":
            return mixed_slopes(main, treated, days, CHRONIC_START_DAY, DAYS_PER_YEAR, chronic=chronic)
        late = days >= (CHRONIC_START_DAY if chronic else 0.0)
        return two_sample(patient_slopes(main[..., late], days[late], DAYS_PER_YEAR), treated)
    if endpoint.kind == "responder":
        return proportions(_responds(endpoint, readings, who), treated)
    last, event = _first_event(endpoint, readings, who, days)
    return log_rank(last, event, treated)


def _mmrm_visits(days: Array) -> NDArray[np.int64]:
    """Visits of a repeated-measures analysis, evenly over those after baseline."""
    after = np.arange(1, len(days))
    if len(after) <= MOST_MMRM_VISITS:
        return after
    wanted = days[-1] * np.arange(1, MOST_MMRM_VISITS + 1) / MOST_MMRM_VISITS
    return np.unique([int(after[np.argmin(np.abs(days[after] - w))]) for w in wanted])


def _responds(endpoint: TrialEndpoint, readings: Readings, who: NDArray[np.int64]) -> Mask:
    with np.errstate(invalid="ignore"):
        if endpoint.name == "uacr_responder":
            seen = _of(readings.values["uacr"], who)
            return np.asarray(seen[..., -1] <= 0.7 * seen[..., 0])
        a1c, insulin = (_of(readings.values[name], who) for name in endpoint.observables)
        # Half of nothing is no success.
        halved = (insulin[..., 0] > 0) & (insulin[..., -1] <= 0.5 * insulin[..., 0])
        return np.asarray((a1c[..., -1] < 7.0) & halved)


def _first_event(
    endpoint: TrialEndpoint, readings: Readings, who: NDArray[np.int64], days: Array
) -> tuple[Array, Mask]:
    """Day of the first event or of censoring, and whether it is an event, (n_trials, n_chosen)."""
    seen, again = _of(readings.values["egfr"], who), _of(readings.again["egfr"], who)
    decline = {"kidney_composite_40": 0.40, "kidney_composite_57": 0.57}[endpoint.name]
    limit = np.maximum((1 - decline) * seen[..., :1], ESKD_EGFR)
    with np.errstate(invalid="ignore"):
        crossed = (seen < limit) & (again < limit)
    # A baseline below the limit is no event of the trial.
    crossed[..., 0] = False
    at_visit = np.where(crossed.any(axis=-1), days[crossed.argmax(axis=-1)], np.inf)
    death, left = _of(readings.death, who), _of(readings.left, who)
    end = float(days[-1])
    dies = (death <= end) & (death <= left)
    event = np.minimum(at_visit, np.where(dies, death, np.inf))
    # Who leaves is known to be free of events up to the last visit.
    there = np.isfinite(seen)
    final = days[there.shape[-1] - 1 - there[..., ::-1].argmax(axis=-1)]
    happens = np.isfinite(event)
    failed = ~there[..., 0]
    return np.where(happens, event, final) * ~failed, happens & ~failed


def _truth(
    endpoint: TrialEndpoint,
    enrolled: Enrolled,
    worlds: Sequence[_World],
    who: NDArray[np.int64],
    n_treated: int,
) -> Array:
    """The effect in the treated patients of each trial, each beside itself untreated, on the scale of the test; (n_trials,).

    Without measurement error but for responders and events, which are defined by readings.
    """
    mine = who[:, :n_treated]
    days = enrolled.days
    with np.errstate(invalid="ignore", divide="ignore"):
        if endpoint.kind == "event":
            events = [_first_event(endpoint, r, mine, days)[1].sum(axis=1) for r, _ in worlds]
            # Half an event more on both sides: without any the ratio is 1.
            return np.asarray(np.log((events[0] + 0.5) / (events[1] + 0.5)))
        if endpoint.kind == "responder":
            shares = [_responds(endpoint, r, mine).mean(axis=1) for r, _ in worlds]
            return np.asarray(shares[0] - shares[1])
        pair = [_of(true[..., 0], mine) for _, true in worlds]
        if endpoint.kind == "log_ratio":
            per = np.log(pair[0][..., -1] / pair[1][..., -1])
        elif endpoint.kind == "change":
            per = pair[0][..., -1] - pair[1][..., -1]
        else:
            late = days >= (CHRONIC_START_DAY if endpoint.name == "egfr_slope_chronic" else 0.0)
            slopes = [patient_slopes(p[..., late], days[late], DAYS_PER_YEAR) for p in pair]
            per = slopes[0] - slopes[1]
        known = np.isfinite(per)
        total = np.where(known, per, 0.0).sum(axis=1)
        return np.asarray(np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan))


# --------------------------------------------------------------------------- many batches


class _Work:
    """Batches on an executor, those that a folder holds already taken from there."""

    def __init__(self, plan: _Plan, store: _Store, executor: Any, progress: Progress | None) -> None:
        self.plan, self.store, self.executor, self.progress = plan, store, executor, progress
        self.statuses: Counter[str] = Counter()
        self.listed: list[_Failure] = []

    def run(self, series: Sequence[_Series]) -> dict[str, pd.DataFrame]:
        """Rows of each series."""
        batches = [b for s in series for b in _batches(self.plan, s)]
        total = sum(b.n for b in batches)
        done = 0
        parts: dict[tuple[str, int], _Done] = {}
        waiting = []
        for batch in batches:
            kept = self.store.read(batch)
            if kept is None:
                waiting.append(batch)
            else:
                parts[batch.series.name, batch.first] = kept
                done += batch.n
        word = ", ".join(dict.fromkeys(s.name for s in series))
        if self.progress is not None:
            self.progress(done, total, word)
        for batch, found in zip(waiting, self.executor.map(_conduct, waiting), strict=True):
            self.store.write(batch, found)
            parts[batch.series.name, batch.first] = found
            done += batch.n
            if self.progress is not None:
                self.progress(done, total, word)
        out: dict[str, list[pd.DataFrame]] = {}
        for batch in batches:
            found = parts[batch.series.name, batch.first]
            out.setdefault(batch.series.name, []).append(found.rows)
            self.statuses.update(found.statuses)
            self.listed += [(batch.series.name, *f) for f in found.failures[: MOST_LISTED - len(self.listed)]]
        return {name: pd.concat(rows, ignore_index=True) for name, rows in out.items()}


def _batches(plan: _Plan, series: _Series) -> Iterator[_Batch]:
    # Everybody in the reference arm once, the treated also under treatment.
    of_a_trial = (
        sum(series.sizes) + sum(series.sizes) - series.sizes[plan.spec.arms.index(plan.scenario.reference)]
    )
    size = max(1, SIMULATIONS_PER_TASK // of_a_trial)
    for first in range(0, series.n, size):
        yield _Batch(plan, series, first, min(size, series.n - first))


class _Store:
    """A folder of finished batches, each a Parquet file; without a folder nothing is kept."""

    def __init__(self, folder: str | os.PathLike[str] | None, plan: _Plan) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        drawn = _drawn(plan.draws)
        described = [
            plan.scenario.name, asdict(plan.scenario), asdict(plan.spec), plan.seed, drawn.hash, len(drawn), POPULATION_RTOL,
            provenance_of(plan.scenario, drawn, plan.seed, 1)["model_hash"],
        ]  # fmt: skip
        text = json.dumps(described, sort_keys=True, default=str)
        self.mark = hashlib.sha256(text.encode()).hexdigest()
        if self.folder is not None:
            self._open(self.folder)

    def _open(self, folder: Path) -> None:
        sign = folder / "trials.json"
        try:
            if sign.is_file():
                held = json.loads(sign.read_text(encoding="utf-8"))
                if held.get("mark") != self.mark:
                    raise RunError(
                        f"folder {str(folder)!r} holds trials of another design, seed, posterior or model ({held.get('title')!r}). "
                        "Nothing was changed. Choose another folder, or repeat the command that began it."
                    )
                return
            if folder.exists() and any(folder.iterdir()):
                raise RunError(
                    f"folder {str(folder)!r} is not empty and holds no trials. Nothing was changed. Choose another."
                )
            folder.mkdir(parents=True, exist_ok=True)
            sign.write_text(
                json.dumps({"mark": self.mark, "title": "virtual trials"}) + "\n", encoding="utf-8"
            )
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RunError(f"folder {str(folder)!r} cannot take trials: {error}. Choose another.") from error

    def _path(self, batch: _Batch) -> Path | None:
        if self.folder is None:
            return None
        sizes = "-".join(map(str, batch.series.sizes))
        parts = "-".join(f"{p:g}" for p in batch.series.parts)
        tag = hashlib.sha256(f"{sizes} {parts} {batch.n}".encode()).hexdigest()[:8]
        return self.folder / f"{batch.series.name}-{tag}-{batch.first:07d}.parquet"

    def read(self, batch: _Batch) -> _Done | None:
        """A finished batch, or None; a damaged file counts as none and is written anew."""
        path = self._path(batch)
        if path is None or not path.is_file():
            return None
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            told = json.loads((table.schema.metadata or {})[b"mscrenal"])
            if told["mark"] != self.mark:
                return None
            rows = table.to_pandas()
        except (OSError, ValueError, KeyError):
            return None
        failures = tuple((int(t), int(j), a, s, m) for t, j, a, s, m in told["failures"])
        return _Done(rows, told["statuses"], failures)

    def write(self, batch: _Batch, done: _Done) -> None:
        """Keep a finished batch; it appears under its name only when it is whole."""
        path = self._path(batch)
        if path is None:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        told = {"mark": self.mark, "statuses": dict(done.statuses), "failures": done.failures[:MOST_LISTED]}
        table = pa.Table.from_pandas(done.rows, preserve_index=False)
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), b"mscrenal": json.dumps(told).encode()}
        )
        partial = path.with_suffix(".partial")
        try:
            pq.write_table(table, partial)
            os.replace(partial, path)
        except OSError as error:
            raise RunError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


# --------------------------------------------------------------------------- sample size


def predicted_assurance(rows: pd.DataFrame, factor: float, better: str, alpha: float) -> float:
    """Assurance of trials `factor` times as large, from the effect in each world and the standard error of its trial.

    A normal approximation: it leads the search for a size, and simulation has the last word.
    """
    each = _power_of_each(rows, factor, better, alpha)
    return float(each.mean()) if len(each) else math.nan


def _power_of_each(rows: pd.DataFrame, factor: float, better: str, alpha: float) -> Array:
    """Power in the world of each trial that has an estimate, (n_usable,)."""
    usable = rows[np.isfinite(rows["truth"]) & np.isfinite(rows["se"]) & (rows["se"] > 0)]
    sign = 1.0 if better == "higher" else -1.0
    z = sign * usable["truth"].to_numpy() / usable["se"].to_numpy() * math.sqrt(factor)
    return np.asarray(stats.norm.cdf(z - stats.norm.isf(alpha / 2)))


def _search(
    plan: _Plan, work: _Work, found: Mapping[str, pd.DataFrame], target: float, trials: int
) -> tuple[TrialSpec, dict[str, pd.DataFrame]]:
    """The smallest design with the target, confirmed by simulation."""
    spec, endpoint = plan.spec, plan.endpoint
    first = next(a for a in spec.arms if a != plan.scenario.reference)
    # The largest trials measure the effect in each world, and their own error, best.
    source = found["curve"]
    source = source[(source["arm"] == first) & (source["part"] == source["part"].max())]
    base = float(source["n_arm"].iloc[0]) / spec.sizes[spec.arms.index(first)]
    truth = source["truth"].to_numpy()
    good = truth > 0 if endpoint.better == "higher" else truth < 0
    ceiling = float(np.mean(good))
    room = MOST_PER_ARM / max(spec.sizes)
    top = predicted_assurance(source, room / base, endpoint.better, spec.alpha)
    error = math.sqrt(max(ceiling * (1 - ceiling), 0.25 / len(source)) / len(source))
    if target > top:
        raise TrialError(
            f"target assurance: given {target:g}, which no size reaches. With {MOST_PER_ARM:,} patients in the largest arm it is "
            f"about {top:.2f}; {ceiling:.2f} (± {error:.2f}) of the worlds that the {_drawn(plan.draws).origin} holds possible have "
            f"an effect in the right direction at all. Allowed here: below {top:.2f}.",
            key=("target_assurance",),
        )
    low, high = 2 / min(spec.sizes), room
    for _ in range(60):
        middle = math.sqrt(low * high)
        if predicted_assurance(source, middle / base, endpoint.better, spec.alpha) >= target:
            high = middle
        else:
            low = middle
    factor = high
    out: dict[str, pd.DataFrame] = {}
    tried: dict[tuple[int, ...], float] = {}
    for turn in range(SEARCH_TURNS):
        sizes = tuple(min(MOST_PER_ARM, max(2, math.ceil(n * factor))) for n in spec.sizes)
        if sizes in tried:
            break
        name = f"target {turn + 1}"
        rows = work.run([_Series(name, sizes, (*spec.looks, 1.0), trials)])[name]
        out[name] = rows
        final = rows[(rows["arm"] == first)]
        hit = decisions(final, endpoint, spec, null=False)
        share = float(hit.mean())
        tried[sizes] = share
        error = math.sqrt(max(share * (1 - share), 1e-4) / trials)
        if abs(share - target) <= error:
            break
        # One step along the predicted curve, shifted to what was simulated.
        whole = final[final["part"] == 1.0]
        gap = target - share
        aim = predicted_assurance(whole, 1.0, endpoint.better, spec.alpha) + gap
        steps = np.exp(np.linspace(-1.5, 1.5, 301))
        guess = [predicted_assurance(whole, s, endpoint.better, spec.alpha) for s in steps]
        reached = np.flatnonzero(np.array(guess) >= aim)
        factor = min(room, factor * float(steps[reached[0]] if len(reached) else steps[-1]))
    enough = [
        s
        for s, share in tried.items()
        if share + math.sqrt(max(share * (1 - share), 1e-4) / trials) >= target
    ]
    best = min(enough or [max(tried, key=sum)], key=sum)
    fixed = _Series("fixed target", best, (*spec.looks, 1.0), max(20, trials // FIXED_SHARE), fixed=True)
    out |= work.run([fixed])
    return spec.replace(sizes=best), out


def _result(
    plan: _Plan,
    spec: TrialSpec,
    found: Mapping[str, pd.DataFrame],
    statuses: Mapping[str, int],
    listed: Sequence[_Failure],
    target: float | None,
) -> TrialResult:
    drawn = _drawn(plan.draws)
    simulated = int(sum(len(rows["trial"].unique()) for rows in found.values()))
    provenance: dict[str, Any] = provenance_of(plan.scenario, drawn, plan.seed, int(sum(spec.sizes)))
    provenance["solver"] |= {"rtol": POPULATION_RTOL, "atol": POPULATION_ATOL}
    provenance |= {"trials": int(found["design"]["trial"].nunique()), "trials_in_all": simulated}
    return TrialResult(
        command="trial",
        title=plan.scenario.title,
        question=plan.scenario.question,
        provenance=provenance,
        scenario=plan.scenario,
        design=plan.spec,
        sized=spec if target is not None else None,
        target=target,
        rows=pd.concat(found.values(), ignore_index=True),
        statuses=dict(sorted(statuses.items())),
        listed=tuple(
            {"series": series, "trial": t, "patient": j, "arm": arm, "status": status, "message": message}
            for series, t, j, arm, status, message in listed
        ),
    )
