"""Large virtual populations: streamed, so that a million patients need little more memory than a thousand.

Patients are drawn, simulated and reduced in chunks of a size that depends on the scenario alone. Of each patient only
the endpoints stay; trajectories are counted into histograms (`mscrenal.scenarios.sketch`) and let go. Counts are
integers and chunks come in order, so that the result is the same to the last bit whoever computes what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mscrenal.calibration import Draws
from mscrenal.model import OBSERVABLES
from mscrenal.model.crowd import simulate_people
from mscrenal.model.initial import InitialStateError
from mscrenal.model.population import Below, Cohort
from mscrenal.model.simulate import prepare, products_of
from mscrenal.model.solve import POPULATION_ATOL, POPULATION_RTOL
from mscrenal.scenarios.endpoints import (
    DAYS_PER_YEAR,
    ESKD_EGFR,
    ESKD_LIMIT_YEARS,
    EndpointValues,
    endpoint,
    evaluate,
    reached_on,
)
from mscrenal.scenarios.executor import executor_for
from mscrenal.scenarios.gallery import load_scenario
from mscrenal.scenarios.population_result import BAND, MOST_LISTED, PopulationResult
from mscrenal.scenarios.run import Progress, RunError, provenance_of
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sketch import RELATIVE_ERROR, Sketch
from mscrenal.scenarios.sources import Source, draws_of
from mscrenal.scenarios.virtual_patients import people_of, treatment_of

__all__ = ["population"]

MOST_PATIENTS = 10_000_000
# Half a second to a second of work: enough to outweigh its handling, little enough to stop promptly.
SIMULATIONS_PER_TASK = 1024
FOLLOW_UP = 4  # what following a patient to kidney failure costs, in simulations of a year
# Endpoints of all patients: beyond the first number in single precision (an error of 6e-8), beyond the second not
# at all. A million patients, two arms and sixteen endpoints are 3.2e7.
MOST_DOUBLE, MOST_SINGLE = 50_000_000, 150_000_000
BAND_TIMES = 25
ALWAYS = ("egfr", "uacr")  # whose trajectories are shown whatever the endpoints


@dataclass(frozen=True)
class _Plan:
    """What all chunks share. `draws` of a number, a seed and a name are made where they are needed, and do not travel."""

    scenario: Scenario
    draws: Draws | tuple[int, int, str]
    seed: int
    days: np.ndarray
    observables: tuple[str, ...]
    endpoints: tuple[str, ...]
    size: int

    @property
    def to_eskd(self) -> bool:
        """Whether patients are followed beyond the horizon, until their kidneys fail."""
        return "time_to_eskd" in self.endpoints and self.scenario.subject.species == "human"


@dataclass(frozen=True)
class _Chunk:
    """Patients `first` to ``first + n - 1``."""

    plan: _Plan
    first: int
    n: int


@dataclass(frozen=True)
class _Reduced:
    """What is left of a chunk.

    Attributes
    ----------
    values : ndarray (n_endpoints, n_arms, n)
    extrapolated, censored : ndarray of int (n_endpoints, n_arms)
        How many of the values are.
    failed : ndarray of bool (n_arms, n)
    statuses : Counter of status
    failures : list of (patient, arm, status, message), the first `MOST_LISTED`
    undefined : dict of endpoint to why this chunk has none
    sketches : tuple of Sketch (n_arms, n_days), of each observable
    """

    values: np.ndarray
    extrapolated: np.ndarray
    censored: np.ndarray
    failed: np.ndarray
    statuses: Counter[str]
    failures: list[tuple[int, int, str, str]]
    undefined: dict[str, str]
    sketches: tuple[Sketch, ...]


def population(
    scenario: str | Path | Scenario,
    *,
    patients: int = 10_000,
    draws: int | Draws = 200,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    endpoints: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> PopulationResult:
    """Simulate a large virtual population through every arm of a scenario.

    Virtual patient j has the covariates of the scenario's population (or of its one patient) and random effects of
    its own, carries parameter draw j modulo the number of draws, and meets every arm. It is the same whatever the size
    of the population; its draws are other ones than those of `compare`.

    Parameters
    ----------
    scenario : str, path or Scenario
        A name of the gallery, a TOML file, an event table, or a scenario.
    patients : int
        Size of the population, 1 to 10,000,000.
    draws : int or Draws
        Parameter draws that patients share out among themselves.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
        Where a number of draws comes from: the posterior that ships, the priors, or a posterior of one's own.
    workers : int, optional
        Threads on this machine; by default one per processor.
    cluster : str, optional
        Instead of threads: ``tcp://HOST:PORT`` of a dask.distributed scheduler, or its scheduler file.
    endpoints : sequence of str, optional
        Default: the scenario's.
    progress : callable, optional
        Called with patients done, all patients, and a word.

    Returns
    -------
    PopulationResult
        `.table`, `.data`, `.plot()`, `.save(folder)`, `.to_json()`.

    Raises
    ------
    RunError
        For numbers out of range, or more values than memory should hold.

    Examples
    --------
    >>> from mscrenal.scenarios import population
    >>> result = population("uc-dn-weekly", patients=1000)     # doctest: +SKIP
    """
    given = load_scenario(scenario)
    plan = _planned(given, patients, draws, seed, source, endpoints)
    total = _Total(plan, patients)
    if progress is not None:
        progress(0, patients, given.name)
    with executor_for(workers, cluster) as executor:
        weight = float(given.weight_kg or 1.0)
        executor.warm({max(1, len(products_of(arm.doses(weight)))) for arm in given.arms})
        for chunk, reduced in zip(
            _chunks(plan, patients), executor.map(_reduce, _chunks(plan, patients)), strict=True
        ):
            total.add(chunk, reduced)
            if progress is not None:
                progress(chunk.first + chunk.n, patients, given.name)
    return total.result()


def _planned(
    scenario: Scenario,
    patients: int,
    draws: int | Draws,
    seed: int,
    source: Source,
    endpoints: Sequence[str] | None,
) -> _Plan:
    """The plan, checked."""
    if isinstance(patients, bool) or not isinstance(patients, int) or not 1 <= patients <= MOST_PATIENTS:
        raise RunError(f"patients must be a whole number from 1 to {MOST_PATIENTS:,}, got {patients!r}.")
    wanted = [endpoint(name) for name in dict.fromkeys(endpoints or scenario.endpoints)]
    n_values = patients * len(scenario.arms) * len(wanted)
    if n_values > MOST_SINGLE:
        raise RunError(
            f"{patients:,} patients x {len(scenario.arms)} arms x {len(wanted)} endpoints are {n_values:.2g} values; "
            f"{MOST_SINGLE:.1e} is the most. Choose fewer endpoints, arms or patients."
        )
    spelled: Draws | tuple[int, int, str]
    if isinstance(draws, Draws):
        spelled = draws
    elif source in ("posterior", "prior"):
        spelled = (draws, seed, str(source))
    else:
        # A file of this machine is not there for the workers of a cluster.
        spelled = draws_of(draws, seed, source)
    median = _drawn(spelled).median()  # refuses a number or a seed out of range
    if scenario.population is None:
        try:
            prepare(scenario.subject.patient(), (), median)
        except InitialStateError as error:
            raise RunError(str(error)) from None
    shown = {*ALWAYS, *(item.observable for item in wanted)}
    followed = any(item.kind == "time_to" for item in wanted)
    return _Plan(
        scenario,
        spelled,
        seed,
        _days(scenario),
        tuple(o.name for o in OBSERVABLES if o.name in shown),
        tuple(item.name for item in wanted),
        max(16, SIMULATIONS_PER_TASK // (len(scenario.arms) * (FOLLOW_UP if followed else 1))),
    )


def _days(scenario: Scenario) -> np.ndarray:
    """Day 0, visits, the horizon, and as many days between as bands need."""
    end = float(scenario.horizon_days)
    days = {0.0, end, *(float(v) for v in scenario.visits), *np.linspace(0.0, end, BAND_TIMES).tolist()}
    kept: list[float] = []
    for day in sorted(days):
        # A visit and a day of the grid that differ by rounding are one, the horizon itself excepted.
        if kept and day - kept[-1] < 1e-6 and day != end:
            continue
        kept.append(day)
    return np.array(kept)


@lru_cache(maxsize=1)
def _made(n: int, seed: int, source: str) -> Draws:
    return draws_of(n, seed, source)


def _drawn(spelled: Draws | tuple[int, int, str]) -> Draws:
    return spelled if isinstance(spelled, Draws) else _made(*spelled)


def _chunks(plan: _Plan, patients: int) -> Iterator[_Chunk]:
    for first in range(0, patients, plan.size):
        yield _Chunk(plan, first, min(plan.size, patients - first))


# --------------------------------------------------------------------------- one chunk


def _reduce(chunk: _Chunk) -> _Reduced:
    """Draw, simulate and reduce some patients."""
    plan, n = chunk.plan, chunk.n
    scenario, drawn = plan.scenario, _drawn(plan.draws)
    people = people_of(scenario, plan.seed, chunk.first, n)
    which = np.arange(chunk.first, chunk.first + n) % len(drawn)
    cohort = simulate_people(
        people,
        {name: values[which] for name, values in drawn.values.items()},
        [treatment_of(arm, people) for arm in scenario.arms],
        plan.days,
        plan.observables,
        below=Below("egfr", ESKD_EGFR, ESKD_LIMIT_YEARS * DAYS_PER_YEAR) if plan.to_eskd else None,
        rtol=POPULATION_RTOL,
        atol=POPULATION_ATOL,
    )
    failed = cohort.status != "ok"
    found = [_evaluated(name, plan, cohort) for name in plan.endpoints]
    listed = list(cohort.messages.items())[:MOST_LISTED]
    return _Reduced(
        np.stack([f.values.T for f in found]),
        np.stack([(f.extrapolated & np.isfinite(f.values)).sum(axis=0) for f in found]),
        np.stack([(f.censored & np.isfinite(f.values)).sum(axis=0) for f in found]),
        failed.T,
        Counter(cohort.status[failed].tolist()),
        [(chunk.first + j, a, str(cohort.status[j, a]), message) for (j, a), message in listed],
        {name: f.undefined for name, f in zip(plan.endpoints, found, strict=True) if f.undefined},
        tuple(Sketch.of(cohort.values[..., i]) for i in range(len(plan.observables))),
    )


def _evaluated(name: str, plan: _Plan, cohort: Cohort) -> EndpointValues:
    """An endpoint of each patient and arm, (n, n_arms)."""
    wanted, n = endpoint(name), len(cohort.values)
    horizon = float(plan.scenario.horizon_days)
    if wanted.kind == "time_to" and plan.to_eskd:
        return reached_on(np.where(cohort.status == "ok", cohort.crossing, np.nan), horizon)
    # Always as many rows: a matrix product (the slopes) rounds by the place that a row has in it.
    rows = np.full((plan.size, *cohort.values.shape[1:3]), np.nan)
    rows[:n] = cohort.values[..., plan.observables.index(wanted.observable)]
    found = evaluate(name, rows, plan.days, horizon_days=horizon, visits=plan.scenario.visits)
    return EndpointValues(found.values[:n], found.extrapolated[:n], found.censored[:n], found.undefined)


# --------------------------------------------------------------------------- all of them


class _Total:
    """What has come in so far."""

    def __init__(self, plan: _Plan, patients: int) -> None:
        self.plan, self.patients = plan, patients
        n_arms = len(plan.scenario.arms)
        shape = (len(plan.endpoints), n_arms)
        single = patients * shape[0] * shape[1] > MOST_DOUBLE
        self.values = np.full((*shape, patients), np.nan, dtype=np.float32 if single else np.float64)
        self.extrapolated, self.censored = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self.failed = np.zeros((n_arms, patients), dtype=bool)
        self.statuses: Counter[str] = Counter()
        self.failures: list[tuple[int, int, str, str]] = []
        self.undefined: dict[str, str] = {}
        self.sketches = [Sketch((n_arms, len(plan.days))) for _ in plan.observables]

    def add(self, chunk: _Chunk, reduced: _Reduced) -> None:
        """Take in the next chunk."""
        at = slice(chunk.first, chunk.first + chunk.n)
        self.values[..., at], self.failed[:, at] = reduced.values, reduced.failed
        self.extrapolated += reduced.extrapolated
        self.censored += reduced.censored
        self.statuses += reduced.statuses
        self.failures += reduced.failures[: MOST_LISTED - len(self.failures)]
        self.undefined |= reduced.undefined
        for mine, new in zip(self.sketches, reduced.sketches, strict=True):
            mine.add(new)

    def result(self) -> PopulationResult:
        """The result."""
        plan = self.plan
        scenario, drawn = plan.scenario, _drawn(plan.draws)
        names = [arm.name for arm in scenario.arms]
        provenance: dict[str, Any] = provenance_of(scenario, drawn, plan.seed, self.patients)
        provenance["solver"] |= {"rtol": POPULATION_RTOL, "atol": POPULATION_ATOL}
        provenance["sketch"] = {"relative_error": RELATIVE_ERROR}
        return PopulationResult(
            command="population",
            title=scenario.title,
            question=scenario.question,
            provenance=provenance,
            scenario=scenario,
            endpoints=tuple(endpoint(name) for name in plan.endpoints),
            values=self.values,
            failed=self.failed,
            flags={"extrapolated": self.extrapolated, "censored": self.censored},
            statuses=dict(sorted(self.statuses.items())),
            listed=tuple(
                {"arm": names[a], "draw": j % len(drawn), "patient": j, "status": status, "message": message}
                for j, a, status, message in self.failures
            ),
            undefined={
                name: why
                for i, (name, why) in enumerate((n, self.undefined.get(n, "")) for n in plan.endpoints)
                if why and not np.isfinite(self.values[i]).any()
            },
            bands=self._bands(),
        )

    def _bands(self) -> xr.Dataset:
        table = {o.name: o for o in OBSERVABLES}
        parts = {}
        for name, sketch in zip(self.plan.observables, self.sketches, strict=True):
            about = {
                "unit": table[name].unit,
                "label": table[name].label or name,
                "out_of_range": int(sketch.beyond.sum()),
            }
            quantiles = np.stack([sketch.quantile(q) for q in BAND], axis=-1)
            parts[name] = (("arm", "time", "quantile"), quantiles, about)
        data = xr.Dataset(
            parts,
            coords={
                "arm": [a.name for a in self.plan.scenario.arms],
                "time": self.plan.days,
                "quantile": list(BAND),
            },
        )
        data["time"].attrs["unit"] = "day"
        return data
