"""Virtual patients by number: any stretch of an endless row of them, drawn in columns.

Patient j depends on the scenario, the seed and j alone: not on how many there are, nor on who is drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mscrenal.calibration import numbered_normals, numbered_uniforms
from mscrenal.model import COVARIATES, RANDOM_EFFECTS, Patient
from mscrenal.model.crowd import Treatment
from mscrenal.model.people import People
from mscrenal.scenarios.scenario import Arm, Distribution, PopulationSpec, Scenario, ScenarioError

__all__ = ["people_of", "treatment_of"]

MOST_TURNS = 10_000  # drawings of one patient before nobody is said to qualify


def people_of(scenario: Scenario, seed: int, first: int, n: int) -> People:
    """Virtual patients `first` to ``first + n - 1``: covariates of the scenario's population, random effects of their own.

    Where the scenario has one patient all share its covariates; a random effect that it fixes stays fixed.

    Raises
    ------
    ScenarioError
        (Almost) nobody qualifies for the population; the message says which limit excludes whom.
    """
    kind = scenario.subject.patient()
    eta = {
        name: effect.sd * numbered_normals(seed, "population", "eta", name, first=first, n=n)
        for name, effect in RANDOM_EFFECTS.items()
        if name not in kind.eta
    }
    if scenario.population is None:
        return People.alike(kind, n, covariates={}, eta=eta)
    covariates = _covariates(scenario.population, kind, seed, first, n)
    sexes = numbered_uniforms(seed, "population", "sex", first=first, n=n)
    return People.alike(kind, n, covariates=covariates, eta=eta, male=sexes < scenario.population.male_share)


def _covariates(spec: PopulationSpec, kind: Patient, seed: int, first: int, n: int) -> dict[str, np.ndarray]:
    """The covariates in which patients differ, (n,) each. Who does not qualify is drawn again."""
    names = list(spec.covariates)
    if not names:
        return {}
    factor = np.linalg.cholesky(spec.correlation_matrix)
    values = {name: np.empty(n) for name in names}
    excluded = dict.fromkeys(names, 0)
    tries, waiting = 0, np.ones(n, dtype=bool)
    for turn in range(MOST_TURNS):
        z = [
            numbered_normals(seed, "population", "covariate", name, first=first, n=n, turn=turn)
            for name in names
        ]
        # One product after the other: a matrix product rounds by the place that a column has in it.
        mixed = [sum(factor[i, k] * z[k] for k in range(i + 1)) for i in range(len(names))]
        drawn = {name: _at(spec.covariates[name], mixed[i]) for i, name in enumerate(names)}
        admitted = {name: _admitted(name, spec.covariates[name], drawn[name]) for name in names}
        fine = waiting & np.all(list(admitted.values()), axis=0) & _older_than_disease(kind, drawn)
        if spec.tilt is not None:
            u = numbered_uniforms(seed, "population", "enrolled", first=first, n=n, turn=turn)
            # Who does not qualify may have no weight at all, such as the logarithm of a negative number.
            with np.errstate(invalid="ignore"):
                fine &= u < spec.tilt.accepts(drawn)
        for name in names:
            values[name][fine] = drawn[name][fine]
            excluded[name] += int((waiting & ~admitted[name]).sum())
        tries += int(waiting.sum())
        waiting &= ~fine
        if not waiting.any():
            return values
    shares = ", ".join(f"{name} excludes {count / tries:.1%}" for name, count in excluded.items() if count)
    raise ScenarioError(
        f"population: of {tries} drawn subjects only {n - int(waiting.sum())} of the {n} wanted qualify "
        f"({shares or 'disease longer than life'}). Widen the limits or move the distributions."
    )


def _at(distribution: Distribution, z: np.ndarray) -> np.ndarray:
    if distribution.kind == "normal":
        return distribution.centre + distribution.spread * z
    return np.asarray(distribution.centre * distribution.spread**z)


def _admitted(name: str, distribution: Distribution, values: np.ndarray) -> np.ndarray:
    low = max(distribution.low, COVARIATES[name].low)
    high = min(distribution.high, COVARIATES[name].high)
    return np.asarray((values >= low) & (values <= high))


def _older_than_disease(kind: Patient, values: Mapping[str, np.ndarray]) -> np.ndarray:
    years = values.get("duration_years", kind.duration_years)
    return np.asarray(True if years is None else years < np.asarray(values.get("age", kind.age)))


def treatment_of(arm: Arm, people: People) -> Treatment:
    """What an arm gives to these patients; a dose that is a total is divided by each one's weight."""
    typical = float(people.kind.weight_kg or 1.0)
    doses = arm.doses(typical)
    given = [(dose, course) for course in arm.courses for dose in course.doses(typical)]
    courses = [next(course for dose, course in given if dose == wanted) for wanted in doses]
    amounts = None
    if not all(course.amount.per_kg for course in courses) and np.ptp(people.weight_kg) > 0:
        # Through Python's own numbers, one by one: as `Course.doses` does it.
        weights = people.weight_kg.tolist()
        columns = [[c.amount.model_amount(c.kind, weight) for weight in weights] for c in courses]
        amounts = np.array(columns).T
    elif len(people) and float(people.weight_kg[0]) != typical:
        doses = arm.doses(float(people.weight_kg[0]))
    return Treatment(doses, tuple(arm.drugs_added), arm.resets, amounts)
