"""Virtual trials as data: who is enrolled, into which arm, what is read at each visit, and who is missing.

Everything random has a name: patient i of trial t is the same person with the same measurement errors whatever the size
of the trial, the arm or the treatment's effect, so that a larger trial is the smaller one and more, and a trial without
an effect is the same trial with the effect taken out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mscrenal.calibration import numbered_uniforms
from mscrenal.model import OBSERVABLES
from mscrenal.model.crowd import simulate_people
from mscrenal.model.people import People
from mscrenal.model.readings import read
from mscrenal.model.solve import POPULATION_ATOL, POPULATION_RTOL
from mscrenal.scenarios.scenario import Scenario
from mscrenal.scenarios.trial_spec import TrialSpec
from mscrenal.scenarios.virtual_patients import people_of, treatment_of

__all__ = ["Enrolled", "Readings", "allocate", "enrol", "measure"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Patients of one trial are numbered from here on; no trial is as large.
STRIDE = 1 << 20
CONFIRM_DAYS = (
    30.0  # from a reading to the repeat that confirms it, as the renal trials do (at least 28 or 30 days)
)


def allocate(spec: TrialSpec, sizes: Sequence[int], seed: int, trial: int) -> NDArray[np.int64]:
    """Arm of each patient in the order of enrolment, (n_patients,), by randomly permuted blocks.

    Parameters
    ----------
    sizes : sequence of int
        Patients of each arm: an arm that is full is passed over.

    Notes
    -----
    The allocation of a smaller trial is not a part of that of a larger one only where an arm fills up early.
    """
    ratio = np.array(spec.ratio)
    block = np.repeat(np.arange(len(ratio)), ratio * (spec.block_length // int(ratio.sum())))
    needed = max(int(np.ceil(s / n)) for s, n in zip(sizes, np.bincount(block), strict=True))
    u = numbered_uniforms(seed, "trial", "allocation", trial, first=0, n=needed * len(block))
    order = np.argsort(u.reshape(needed, len(block)), axis=1, kind="stable")
    arms = block[order].ravel()
    rank = np.empty(len(arms), dtype=np.int64)
    for a in range(len(ratio)):
        mine = arms == a
        rank[mine] = np.arange(mine.sum())
    kept = arms[rank < np.asarray(sizes)[arms]]
    return np.asarray(kept, dtype=np.int64)


@dataclass(frozen=True)
class Enrolled:
    """Some trials of one size, simulated without error.

    Attributes
    ----------
    trials : ndarray of int (n_trials,)
    arm : ndarray of int (n_trials, n_patients)
        By the order of `TrialSpec.arms`.
    days : ndarray (n_visits,)
    observables : tuple of str
    actual, without : ndarray (n_trials, n_patients, n_visits, n_observables)
        True values under the arm's treatment, and of the same patient in the reference arm. NaN: failed.
    statuses : Counter of status, of failed simulations
    failures : tuple of (trial, patient, arm, status, message)
    """

    trials: NDArray[np.int64]
    arm: NDArray[np.int64]
    days: Array
    observables: tuple[str, ...]
    actual: Array
    without: Array
    statuses: Counter[str]
    failures: tuple[tuple[int, int, str, str, str], ...]


def enrol(
    scenario: Scenario,
    spec: TrialSpec,
    sizes: Sequence[int],
    trials: Sequence[int],
    theta: Mapping[str, Array],
    observables: Sequence[str],
    seed: int,
) -> Enrolled:
    """Draw, randomise and simulate the patients of some trials.

    Parameters
    ----------
    scenario : Scenario
    spec : TrialSpec
        Filled in (`TrialSpec.of`).
    sizes : sequence of int
        Patients of each arm.
    trials : sequence of int
        Their numbers.
    theta : mapping of str to ndarray (n_trials,)
        Parameters: one draw for each trial, as all its patients live in one world.
    observables : sequence of str
    seed : int
    """
    who = replace(scenario, patient=None, population=spec.population)
    n = int(sum(sizes))
    days = np.asarray(scenario.visits, dtype=np.float64)
    people = People.together([people_of(who, seed, t * STRIDE, n) for t in trials])
    arm = np.stack([allocate(spec, sizes, seed, t) for t in trials])
    flat = arm.ravel()
    of_trial = np.repeat(np.arange(len(trials)), n)
    shape = (len(flat), len(days), len(observables))
    actual, without = np.full(shape, np.nan), np.full(shape, np.nan)
    statuses: Counter[str] = Counter()
    failures: list[tuple[int, int, str, str, str]] = []
    reference = scenario.arm(scenario.reference)
    for a, name in enumerate(spec.arms):
        index = np.flatnonzero(flat == a)
        if not len(index):
            continue
        mine = people.some(index)
        given = [reference] if name == scenario.reference else [reference, scenario.arm(name)]
        cohort = simulate_people(
            mine,
            {k: v[of_trial[index]] for k, v in theta.items()},
            [treatment_of(g, mine) for g in given],
            days,
            observables,
            rtol=POPULATION_RTOL,
            atol=POPULATION_ATOL,
        )
        # A patient counts only if both worlds could be simulated: otherwise with and without would not be the same people.
        fine = (cohort.status == "ok").all(axis=1)
        without[index[fine]] = cohort.values[fine, 0]
        actual[index[fine]] = cohort.values[fine, -1]
        # The baseline is read before anything is given; a drug that acts at once would show on day 0 already.
        actual[index[fine], 0] = cohort.values[fine, 0, 0]
        statuses.update(cohort.status[cohort.status != "ok"].tolist())
        for (j, g), message in cohort.messages.items():
            at = int(index[j])
            failures.append((int(trials[at // n]), at % n, given[g].name, str(cohort.status[j, g]), message))
    whole = (len(trials), n, len(days), len(observables))
    return Enrolled(
        np.asarray(trials, dtype=np.int64),
        arm,
        days,
        tuple(observables),
        actual.reshape(whole),
        without.reshape(whole),
        statuses,
        tuple(failures),
    )


@dataclass(frozen=True)
class Readings:
    """What the trials' data bases hold.

    Attributes
    ----------
    values, again : dict of observable to ndarray (n_trials, n_patients, n_visits)
        Readings, and their repeats `CONFIRM_DAYS` later of the same true value (which confirm an event); NaN where there was
        no visit.
    death, left : ndarray (n_trials, n_patients)
        Day of death, and of leaving the trial for any reason, infinite where it does not come.
    """

    values: Mapping[str, Array]
    again: Mapping[str, Array]
    death: Array
    left: Array


def measure(
    enrolled: Enrolled, truth: Array, spec: TrialSpec, seed: int, *, repeats: bool = False
) -> Readings:
    """Read true values with error at the visits that take place.

    Parameters
    ----------
    truth : ndarray (n_trials, n_patients, n_visits, n_observables)
        `Enrolled.actual` or `Enrolled.without`.
    repeats : bool
        Whether each reading is confirmed by a second one.

    Notes
    -----
    The error of a reading, from its declaration in `mscrenal.model.observables`, holds what varies from occasion to
    occasion in a person as well as the assay. Where declared, people differ in the size of their errors, and those of one
    person resemble one another for some days; else they are independent. Purely proportional errors are log-normal.
    """
    assert spec.death is not None
    n_trials, n, n_visits, _ = truth.shape
    trials = enrolled.trials

    def uniform(*what: object, of_each: int = 1) -> Array:
        """Numbers of patient i are those from i * of_each on, whoever else is there; (n_trials, n, of_each)."""
        rows = [numbered_uniforms(seed, "trial", *what, int(t), first=0, n=n * of_each) for t in trials]
        return np.stack(rows).reshape(n_trials, n, of_each)

    def waiting(name: str, rate: float) -> Array:
        return -np.log(uniform(name)[..., 0]) / rate if rate > 0 else np.full((n_trials, n), np.inf)

    death = waiting("death", spec.death.per_day)
    left = np.minimum(death, waiting("dropout", spec.dropout.per_day))
    there = enrolled.days[None, None, :] < left[..., None]
    if spec.missed > 0:
        there &= uniform("missed", of_each=n_visits) >= spec.missed
    there[..., 0] = True  # the baseline is what a patient is randomised with
    declared = {o.name: o for o in OBSERVABLES}
    values: dict[str, Array] = {}
    again: dict[str, Array] = {}
    for k, name in enumerate(enrolled.observables):
        observable = declared[name]
        days = np.concatenate([enrolled.days, enrolled.days + CONFIRM_DAYS]) if repeats else enrolled.days
        kinds = ("reading", "repeat") if repeats else ("reading",)
        z = np.concatenate([ndtri(uniform(kind, name, of_each=n_visits)) for kind in kinds], axis=-1)
        true = np.concatenate([truth[..., k]] * len(kinds), axis=-1)
        seen = read(observable, true, days, z, ndtri(uniform("size of errors", name))[..., 0])
        for into, part in zip((values, again), np.split(seen, len(kinds), axis=-1), strict=False):
            into[name] = np.where(there, part, np.nan)
    return Readings(values, again, death, left)
