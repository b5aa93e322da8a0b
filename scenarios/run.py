"""Run a scenario: every draw of the parameters and every virtual patient through every arm.

The unit of work is one patient under one draw: the patient is placed once and meets all arms from the
same state, so that arms differ by treatment alone. Units are independent and named by their position;
the result is the same to the last bit whatever the number of workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from mscrenal.calibration import Draws, evidence_hash, stream
from mscrenal.model import OBSERVABLES, PRODUCTS, RANDOM_EFFECTS, Patient, sampled_parameters
from mscrenal.model.initial import InitialStateError
from mscrenal.model.kernels import compiled
from mscrenal.model.population import Below, Cohort, Regimen, simulate_cohort
from mscrenal.model.simulate import prepare, products_of
from mscrenal.model.solve import ATOL, RTOL
from mscrenal.scenarios.endpoints import DAYS_PER_YEAR, ESKD_EGFR, ESKD_LIMIT_YEARS
from mscrenal.scenarios.executor import Executor, executor_for
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.sources import Source, draws_of, release

__all__ = ["Progress", "Run", "RunError", "output_days", "provenance_of", "run"]

Progress = Callable[[int, int, str], None]
MOST_VALUES = 100_000_000  # 0.8 GB; beyond that a run must say less, not fill the machine
CONTINUATION = (
    f"the simulation beyond the horizon broke down before eGFR fell below {ESKD_EGFR:g} or {ESKD_LIMIT_YEARS:g} years "
    f"had passed: no time to eGFR < {ESKD_EGFR:g}, everything else stands."
)
SUBJECTS_PER_TASK = 16  # some 0.1 s of work: enough to outweigh its handling, little enough to share out


class RunError(ValueError):
    """A run that cannot be made as asked."""


@dataclass(frozen=True)
class Run:
    """What a run gives back.

    Attributes
    ----------
    data : xarray.Dataset
        Dims (arm, draw, patient, time [day]); one variable per observable, attributes unit and label.
        NaN where a subject failed.
    status : xarray.DataArray
        Dims (arm, draw, patient): 'ok' or why not.
    failures : list of dict
        arm, draw, patient, status, message of each subject that failed.
    scenario : Scenario
    provenance : dict
    eskd_days : xarray.DataArray or None
        Dims (arm, draw, patient): day on which eGFR falls below 15, the simulation going on beyond the
        horizon; infinity if not within 30 years. None if the scenario does not ask for it.
    """

    data: xr.Dataset
    status: xr.DataArray
    failures: list[dict[str, Any]]
    scenario: Scenario
    provenance: dict[str, Any]
    eskd_days: xr.DataArray | None = None


@dataclass(frozen=True)
class _Task:
    """Some subjects, each a patient under a draw, through every arm and set of knock-outs."""

    patients: tuple[Patient, ...]
    thetas: tuple[Mapping[str, float], ...]
    arms: tuple[tuple[Regimen, ...], ...]
    times: np.ndarray
    observables: tuple[str, ...]
    knock_outs: tuple[tuple[str, ...], ...]
    to_eskd: bool
    tolerance: tuple[float, float]


def run(
    scenario: Scenario,
    *,
    draws: int | Draws = 100,
    seed: int = 1,
    source: Source = "posterior",
    workers: int | None = None,
    cluster: str | None = None,
    patients: int | None = None,
    observables: Sequence[str] | None = None,
    days: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Run:
    """Simulate every arm of a scenario.

    Parameters
    ----------
    draws : int or Draws
        How many parameter draws, or the draws themselves.
    seed : int
    source : {'posterior', 'prior'}, path or Posterior
        Where a number of draws comes from: the posterior that ships, the priors, or a posterior of one's own.
    workers : int, optional
        Threads on this machine; by default one per processor.
    cluster : str, optional
        Address or file of the scheduler of a dask.distributed cluster, instead of threads.
    patients : int, optional
        Size of the virtual population; by default the scenario's own (1 for a single patient). With
        more than one, random effects are drawn for each.
    observables : sequence of str, optional
        Default: all.
    days : ndarray, optional
        Output days, increasing; default `output_days`.
    progress : callable, optional
        Called with units done, all units, and a word.

    Raises
    ------
    RunError
        For numbers out of range, or a run larger than memory allows.
    PosteriorError
        If the posterior is not there, damaged, or of another model.
    """
    # Before anything is computed: a cluster that is not there is said at once.
    with executor_for(workers, cluster) as executor:
        return _run(
            executor, scenario, _draws(draws, seed, source), seed, patients, observables, days, progress
        )


def _run(
    executor: Executor,
    scenario: Scenario,
    drawn: Draws,
    seed: int,
    patients: int | None,
    observables: Sequence[str] | None,
    days: np.ndarray | None,
    progress: Progress | None,
) -> Run:
    people = _people(scenario, patients, seed)
    _check_placement(people, drawn)
    if days is None:
        days = output_days(scenario, dense=len(people) == 1)
    names = tuple(observables or (o.name for o in OBSERVABLES))
    size = len(scenario.arms) * len(drawn) * len(people) * len(days) * len(names)
    if size > MOST_VALUES:
        raise RunError(
            f"{len(scenario.arms)} arms x {len(drawn)} draws x {len(people)} patients x {len(days)} days x {len(names)} "
            f"observables are {size:.2g} values; {MOST_VALUES:.0e} is the most. Use fewer --draws or --patients."
        )
    shape = (len(scenario.arms), len(drawn), len(people), len(days))
    values = np.full((len(names), *shape), np.nan)
    status = np.full(shape[:3], "ok", dtype=object)
    failures: list[dict[str, Any]] = []
    to_eskd = "time_to_eskd" in scenario.endpoints and scenario.subject.species == "human"
    eskd = np.full(shape[:3], np.nan)
    for subjects, (cohort,) in _cohorts(
        executor, scenario, people, drawn, days, names, progress, to_eskd=to_eskd
    ):
        for row, (j, k) in enumerate(subjects):
            values[:, :, k, j] = np.moveaxis(cohort.values[row], -1, 0)
            status[:, k, j] = cohort.status[row]
            eskd[:, k, j] = cohort.crossing[row]
        failures += _failed(scenario, subjects, cohort, to_eskd=to_eskd)
    order = {a.name: i for i, a in enumerate(scenario.arms)}
    failures.sort(key=lambda f: (f["draw"], f["patient"], order[f["arm"]]))
    data = _labelled(scenario, values, names, days)
    subject = {k: data.coords[k] for k in ("arm", "draw", "patient")}
    return Run(
        data,
        xr.DataArray(status, dims=tuple(subject), coords=subject),
        failures,
        scenario,
        provenance_of(scenario, drawn, seed, len(people)),
        xr.DataArray(eskd, dims=tuple(subject), coords=subject) if to_eskd else None,
    )


def _labelled(scenario: Scenario, values: np.ndarray, names: Sequence[str], days: np.ndarray) -> xr.Dataset:
    """Values (n_observables, n_arms, n_draws, n_patients, n_days) under their names."""
    table = {o.name: o for o in OBSERVABLES}
    dims = ("arm", "draw", "patient", "time")
    coords = {
        "arm": [a.name for a in scenario.arms],
        "draw": np.arange(values.shape[2]),
        "patient": np.arange(values.shape[3]),
        "time": days,
    }
    data = xr.Dataset(
        {
            n: (dims, values[i], {"unit": table[n].unit, "label": table[n].label or n})
            for i, n in enumerate(names)
        },
        coords=coords,
    )
    data["time"].attrs["unit"] = "day"
    return data


def coalition_runs(
    scenario: Scenario,
    arm: str,
    knock_outs: Sequence[tuple[str, ...]],
    *,
    draws: int | Draws,
    seed: int,
    source: Source,
    workers: int | None,
    cluster: str | None,
    patients: int | None,
    observable: str,
    days: np.ndarray,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]], dict[str, Any]]:
    """Trajectories of one arm under several sets of knock-outs, and of the reference.

    Returns
    -------
    treated : ndarray (n_knock_outs, n_draws, n_patients, n_days)
    reference : ndarray (n_draws, n_patients, n_days)
    failures, provenance
    """
    drawn = _draws(draws, seed, source)
    people = _people(scenario, patients, seed)
    pair = scenario.replace(arms=(scenario.reference_arm, scenario.arm(arm)))
    treated = np.full((len(knock_outs), len(drawn), len(people), len(days)), np.nan)
    reference = np.full(treated.shape[1:], np.nan)
    failures: list[dict[str, Any]] = []
    sets = tuple(tuple(k) for k in knock_outs)
    with executor_for(workers, cluster) as executor:
        for subjects, cohorts in _cohorts(executor, pair, people, drawn, days, (observable,), progress, sets):
            for which, cohort in enumerate(cohorts):
                for row, (j, k) in enumerate(subjects):
                    treated[which, k, j] = cohort.values[row, 1, :, 0]
                    if not sets[which]:
                        reference[k, j] = cohort.values[row, 0, :, 0]
                failures += _failed(pair, subjects, cohort)
    return treated, reference, failures, provenance_of(scenario, drawn, seed, len(people))


def _failed(
    scenario: Scenario, subjects: Sequence[tuple[int, int]], cohort: Cohort, *, to_eskd: bool = False
) -> list[dict[str, Any]]:
    """arm, draw, patient, status and message of each subject that failed, or whose continuation did."""

    def record(row: int, a: int, status: str, message: str) -> dict[str, Any]:
        patient, draw = subjects[row]
        name = scenario.arms[a].name
        return {"arm": name, "draw": draw, "patient": patient, "status": status, "message": message}

    failed = [record(row, a, str(cohort.status[row, a]), m) for (row, a), m in cohort.messages.items()]
    if to_eskd:
        lost = np.argwhere((cohort.status == "ok") & np.isnan(cohort.crossing)).tolist()
        failed += [record(row, a, "continuation", CONTINUATION) for row, a in lost]
    return failed


def _cohorts(
    executor: Executor,
    scenario: Scenario,
    people: Sequence[Patient],
    drawn: Draws,
    days: np.ndarray,
    names: tuple[str, ...],
    progress: Progress | None,
    knock_outs: tuple[tuple[str, ...], ...] = ((),),
    *,
    to_eskd: bool = False,
) -> Iterator[tuple[list[tuple[int, int]], list[Cohort]]]:
    """Yield, in order, the (patient, draw) of some subjects and a cohort per set of knock-outs."""
    arms_of = [
        tuple(
            (tuple(a.doses(float(p.weight_kg or 1.0))), tuple(a.drugs_added), a.resets) for a in scenario.arms
        )
        for p in people
    ]
    thetas = tuple(drawn)
    subjects = [(j, k) for j in range(len(people)) for k in range(len(thetas))]
    # Of fixed size, whoever works: how subjects are shared out can change nothing.
    size = max(1, SUBJECTS_PER_TASK // len(knock_outs))
    parts = [subjects[i : i + size] for i in range(0, len(subjects), size)]
    tasks = [
        _Task(
            tuple(people[j] for j, _ in part),
            tuple(thetas[k] for _, k in part),
            tuple(arms_of[j] for j, _ in part),
            days, names, knock_outs, to_eskd, (RTOL, ATOL),
        )
        for part in parts
    ]  # fmt: skip
    done = 0
    if progress is not None:
        progress(0, len(subjects), scenario.name)
    executor.warm({max(1, len(products_of(doses))) for arms in arms_of for doses, *_ in arms})
    for part, cohorts in zip(parts, executor.map(_simulate, tasks), strict=True):
        yield part, cohorts
        done += len(part)
        if progress is not None:
            progress(done, len(subjects), scenario.name)


def _simulate(task: _Task) -> list[Cohort]:
    """One task: a cohort per set of knock-outs."""
    rtol, atol = task.tolerance
    below = Below("egfr", ESKD_EGFR, ESKD_LIMIT_YEARS * DAYS_PER_YEAR) if task.to_eskd else None
    return [
        simulate_cohort(
            task.patients, task.thetas, task.arms, task.times, task.observables,
            knock_out=knocked, below=below, rtol=rtol, atol=atol,
        )
        for knocked in task.knock_outs
    ]  # fmt: skip


# --------------------------------------------------------------------------- what goes in


def _draws(given: int | Draws, seed: int, source: Source = "posterior") -> Draws:
    return given if isinstance(given, Draws) else draws_of(given, seed, source)


def _people(scenario: Scenario, n: int | None, seed: int) -> list[Patient]:
    """The virtual patients, random effects drawn where there is more than one."""
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 100_000):
        raise RunError(f"patients must be a whole number from 1 to 100,000, got {n!r}.")
    if scenario.population is not None:
        spec = scenario.population if n is None else scenario.population.replace(n=n)
        people = [p.patient() for p in spec.patients(seed)]
    else:
        people = [scenario.subject.patient()] * (n or 1)
    if len(people) == 1:
        return people
    return [p.replace(eta=_etas(seed, j) | dict(p.eta)) for j, p in enumerate(people)]


def _check_placement(people: Sequence[Patient], drawn: Draws) -> None:
    """Refuse a lone patient whose covariates not even the median parameters can meet."""
    if len(people) == 1:
        try:
            prepare(people[0], (), drawn.median())
        except InitialStateError as error:
            raise RunError(str(error)) from None


def _etas(seed: int, patient: int) -> dict[str, float]:
    return {
        name: e.sd * float(stream(seed, "patient", patient, name).standard_normal())
        for name, e in RANDOM_EFFECTS.items()
    }


def output_days(scenario: Scenario, *, dense: bool = True) -> np.ndarray:
    """Days at which a run reports: visits, day 0, the horizon and, if `dense`, a weekly grid and the
    first days after each dose, when cells come and go.
    """
    end = float(scenario.horizon_days)
    days = {0.0, end, *(float(v) for v in scenario.visits)}
    if dense:
        days |= set(np.arange(0.0, end, 7.0 if end <= 800 else 28.0))
        starts = sorted({float(d) for arm in scenario.arms for d in arm.dose_days})
        for day in starts[:40]:
            days |= {day + x for x in (0.005, 0.02, 0.05, 0.25, 1.0, 2.0, 4.0)}
    return np.array(sorted(d for d in days if 0 <= d <= end))


# --------------------------------------------------------------------------- where it comes from


def provenance_of(scenario: Scenario, drawn: Draws, seed: int, patients: int) -> dict[str, Any]:
    """Everything needed to get the same result again, and what it rests on."""
    described = json.dumps(asdict(scenario), sort_keys=True, default=str)
    return {
        "package": "mscrenal",
        "version": release(),
        "scenario": scenario.name,
        "scenario_hash": hashlib.sha256(described.encode()).hexdigest(),
        **origin_of(drawn),
        "seed": seed,
        "draws": len(drawn),
        "patients": patients,
        "parameters_hash": drawn.hash,
        "model_hash": compiled(1).hash,
        "evidence_hash": evidence_hash(),
        "solver": {"method": "Rodas4", "rtol": RTOL, "atol": ATOL},
        "extrapolated": extrapolations(scenario, drawn),
        "assumptions": list(scenario.notes),
    }


def origin_of(drawn: Draws) -> dict[str, Any]:
    """Where draws come from, for a result's provenance: the origin, and of a posterior what it is."""
    return {"origin": drawn.origin} | (
        {"posterior": dict(drawn.source)} if drawn.origin == "posterior" else {}
    )


# What decides how strongly cells act in people, whatever the product.
STRENGTH = ("species.human.translation", "ec50_effect", "memory_weight", "memory_decay", "crowding")


def extrapolations(scenario: Scenario, drawn: Draws) -> list[str]:
    """What the result takes from elsewhere than direct data, in sentences."""
    fitted = drawn.origin == "posterior"
    out = []
    if not fitted:
        out.append("All bands come from the priors: no study was fitted.")
    elif drawn.source.get("draft"):
        out.append(
            "The posterior is a draft, a normal approximation around its mode: its intervals are rough, most of all "
            "where it is skewed."
        )
    if scenario.subject.species == "human" and any(a.n_doses for a in scenario.arms):
        out += _translation(drawn)
    products = dict.fromkeys(c.product for a in scenario.arms for c in a.courses)
    for name in products:
        item = PRODUCTS[name]
        if fitted:
            out += _backed(name, drawn, scenario.subject.species)
        by_class = [p.name for p in item.parameters if item.basis(p.name) == "class prior"]
        assumed = [p.name for p in item.parameters if item.basis(p.name) == "assumed"]
        learnt = [n for n in by_class if f"product.{name}.{n}" in drawn.middle]
        by_class = [n for n in by_class if n not in learnt]
        if by_class:
            rest = "rest" if len(by_class) > 1 else "rests"
            out.append(
                f"{name}: {_listed(by_class)} {rest} on the class prior of all products, with its full width."
            )
        if assumed:
            out.append(
                f"{name}: {_listed(assumed)} {'are' if len(assumed) > 1 else 'is'} assumed; see the product's page."
            )
    return out


def _translation(drawn: Draws) -> list[str]:
    """How far the effect in people rests on what is known of rodents."""
    if drawn.origin == "prior":
        return [
            "The size of the effect in people rests on a translation factor from rodents, 0.35 of theirs at the "
            "median and anything from none to all of it.",
            "P(better) under the priors asks how an effect would show if there is one: except by crowding and "
            "vessel block they allow for no harm, so that a P near 1 is no evidence of benefit.",
        ]
    median = drawn.median()["species.human.translation"]
    before = sampled_parameters()["species.human.translation"].value
    out = [
        f"The size of the effect in people rests on a translation factor from rodents: {median:.2g} of theirs at the "
        f"median of the posterior, {before:.2g} before the trials were fitted.",
        "P(better) asks how an effect would show if there is one: except by crowding and vessel block the model allows "
        "for no harm, so that a P near 1 is no evidence of benefit; the size of the difference is what the trials inform.",
    ]
    alone = [n for n in STRENGTH if n in drawn.source.get("by_prior_alone", ())]
    if alone:
        known = sampled_parameters()
        said = "; ".join(f"{known[n].meaning} ({n})" for n in alone)
        out.append(f"The data hardly moved what else the strength of all cells rests on: {said}.")
    return out


def _backed(product: str, drawn: Draws, species: str) -> list[str]:
    """Whether a product's strength was learnt, and from whom."""
    if "treated_studies" not in drawn.source:
        return []
    studies = drawn.source["treated_studies"].get(product)
    if studies is None:
        return [
            f"{product}: no fitted study gave it; how strongly it acts comes from its prior, widened or narrowed by the "
            "spread found between the products that were studied."
        ]
    if species == "human" and not studies["people"]:
        n = len(studies["animals"])
        return [
            f"{product}: fitted to {n} {'study' if n == 1 else 'studies'} in animals only; in people it rests on the "
            "translation factor."
        ]
    return []


def _listed(names: Collection[str]) -> str:
    return ", ".join(
        n.replace("potency_", "potency (") + (")" if n.startswith("potency_") else "") for n in names
    )
