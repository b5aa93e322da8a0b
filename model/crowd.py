"""`mscrenal.model.population` for many subjects of one kind, at little cost per subject.

There every subject comes with a patient, a draw and regimens of its own, checked one by one, which costs as much as
half the integration. Here people, draws and amounts come as columns. The numbers are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mscrenal.model.build import Model, slot_name
from mscrenal.model.initial import Placed, common_rows, fill_own, place_people
from mscrenal.model.kernels import Compiled, compiled
from mscrenal.model.people import People
from mscrenal.model.placement import FOUND
from mscrenal.model.population import (
    Below,
    Cohort,
    Course,
    Regimen,
    integrate_arms,
    simulate_cohort,
    write_arms,
)
from mscrenal.model.simulate import ENTRY, Dose, DrugCourse, given_and_held, products_of, schedule_of
from mscrenal.model.solve import MAX_STEPS, POPULATION_ATOL, POPULATION_RTOL, Schedule

__all__ = ["Treatment", "simulate_people"]


@dataclass(frozen=True)
class Treatment:
    """What an arm gives to all of its subjects: doses on the same days, drug courses, days of resets.

    Attributes
    ----------
    amounts : ndarray (n, n_doses), optional
        Where subjects get different amounts per kg (a dose that is a total): that of each subject and dose.
    """

    doses: tuple[Dose, ...]
    courses: tuple[DrugCourse, ...] = ()
    resets: tuple[float, ...] = ()
    amounts: np.ndarray | None = None

    def doses_of(self, j: int) -> tuple[Dose, ...]:
        """The doses of subject `j`."""
        if self.amounts is None:
            return self.doses
        return tuple(
            replace(dose, amount=float(amount))
            for dose, amount in zip(self.doses, self.amounts[j], strict=True)
        )

    def regimen_of(self, j: int) -> Regimen:
        """What `simulate_cohort` takes, of subject `j`."""
        return self.doses_of(j), self.courses, self.resets


def simulate_people(
    people: People,
    drawn: Mapping[str, np.ndarray],
    treatments: Sequence[Treatment],
    times: np.ndarray,
    observables: Sequence[str],
    *,
    knock_out: Collection[str] = (),
    below: Below | None = None,
    rtol: float = POPULATION_RTOL,
    atol: float = POPULATION_ATOL,
    max_steps: int = MAX_STEPS,
) -> Cohort:
    """Simulate n subjects of one kind, each under every treatment.

    Parameters
    ----------
    people : People, n
    drawn : mapping of str to ndarray (n,)
        The draw of each subject, by the names of `sampled_parameters`; a missing one takes its median.
    treatments : sequence of Treatment, n_arms
    times, observables, knock_out, below
        As in `simulate_cohort`.

    Returns
    -------
    Cohort
        To the last bit what `simulate_cohort` gives for the same subjects.
    """
    course = Course(
        np.ascontiguousarray(times, dtype=np.float64), tuple(observables), below, rtol, atol, max_steps
    )
    if any(dose.steady_state for t in treatments for dose in t.doses):
        return _one_by_one(people, drawn, treatments, course, knock_out)
    cohort = course.nothing_yet(len(people), len(treatments))
    groups: dict[tuple[str, ...], list[int]] = {}
    for a, t in enumerate(treatments):
        groups.setdefault(products_of(t.doses), []).append(a)
    # Placed once per number of product slots: no product has a say before its first dose.
    known: dict[int, Placed] = {}
    for products, arms in groups.items():
        kernels = compiled(max(1, len(products)))
        placed = _placed(kernels, people, drawn, products, knock_out, known)
        _run_group(kernels, people, placed, {a: treatments[a] for a in arms}, course, cohort)
    return cohort


def _one_by_one(
    people: People,
    drawn: Mapping[str, np.ndarray],
    treatments: Sequence[Treatment],
    course: Course,
    knock_out: Collection[str],
) -> Cohort:
    """A steady state depends on the state that it meets, so that nothing is gained by columns."""
    n = range(len(people))
    return simulate_cohort(
        [people.patient(j) for j in n],
        [{name: float(values[j]) for name, values in drawn.items()} for j in n],
        [[t.regimen_of(j) for t in treatments] for j in n],
        course.times, course.observables, knock_out=knock_out, below=course.below,
        rtol=course.rtol, atol=course.atol, max_steps=course.max_steps,
    )  # fmt: skip


def _placed(
    kernels: Compiled,
    people: People,
    drawn: Mapping[str, np.ndarray],
    products: tuple[str, ...],
    knock_out: Collection[str],
    known: dict[int, Placed],
) -> Placed:
    """The subjects at their start, with their parameters under these products."""
    model, kind = kernels.model, people.kind
    rows = common_rows(model, kind.species, kind.disease, products, drawn, len(people), knock_out)
    fill_own(model, people, rows)
    if model.slots not in known:
        known[model.slots] = place_people(kernels, people, rows)
    first = known[model.slots]
    at = [model.parameter_index[name] for name in FOUND]
    rows[:, at] = first.parameters[:, at]
    return Placed(first.states, rows, first.inputs, first.messages)


def _run_group(
    kernels: Compiled,
    people: People,
    placed: Placed,
    treatments: Mapping[int, Treatment],
    course: Course,
    cohort: Cohort,
) -> None:
    """Integrate arms that give the same products, and write their columns."""
    arms = list(treatments)
    plan, schedules = _schedules(kernels.model, people, placed.inputs[0], list(treatments.values()))
    found = integrate_arms(kernels, placed.states, placed.parameters, plan, schedules, course)
    end = float(course.times[-1])
    error = np.stack(
        [_mass_errors(kernels.model, t, found.final[:, k], end) for k, t in enumerate(treatments.values())],
        axis=1,
    )
    write_arms(
        cohort, arms, kernels.model, course, found, error, lambda j, a: treatments[a].doses, placed.messages
    )


def _schedules(
    model: Model, people: People, background: np.ndarray, treatments: Sequence[Treatment]
) -> tuple[np.ndarray, list[Schedule]]:
    """Which schedule each subject follows in each arm, (n, n_arms), and the schedules."""
    schedules: list[Schedule] = []
    plan = np.zeros((len(people), len(treatments)), dtype=np.int64)
    for k, t in enumerate(treatments):
        base = schedule_of(model, -people.kind.onset_days, background, t.doses, t.courses, t.resets)
        plan[:, k] = len(schedules)
        if t.amounts is None:
            schedules.append(base)
        else:
            plan[:, k] += np.arange(len(people))
            schedules += _with_amounts(model, base, t, t.amounts)
    return plan, schedules


def _with_amounts(model: Model, base: Schedule, treatment: Treatment, amounts: np.ndarray) -> list[Schedule]:
    """`schedule_of` each subject, where only the amounts differ: the same operations, on columns."""
    doses = treatment.doses
    slots = {product: i + 1 for i, product in enumerate(products_of(doses))}
    columns = [model.input_index[slot_name(ENTRY[d.kind][d.route], slots[d.product])] for d in doses]
    inputs, boluses = (np.tile(table, (len(amounts), 1, 1)) for table in (base.inputs, base.boluses))
    inputs[:, :, columns], boluses[:, :, columns] = 0.0, 0.0
    order = sorted(
        zip(doses, columns, amounts.T, strict=True),
        key=lambda item: (item[0].day, item[0].duration_days, item[0].product, item[0].route, item[0].amount),
    )
    for dose, column, amount in order:
        if dose.duration_days > 0:
            whole = dose.day + dose.duration_days
            end = min([whole, *(day for day in treatment.resets if day > dose.day)])
            on = np.flatnonzero((base.edges >= dose.day) & (base.edges < end))
            inputs[:, on, column] += (amount / (whole - dose.day))[:, np.newaxis]
        else:
            boluses[:, np.searchsorted(base.edges, dose.day), column] += amount
    return [Schedule(base.edges, u, b, base.resets) for u, b in zip(inputs, boluses, strict=True)]


def _mass_errors(model: Model, treatment: Treatment, final: np.ndarray, end: float) -> np.ndarray:
    """Largest relative error of the mass balance of any product, (n,)."""
    t = treatment
    balance = given_and_held(model, t.doses, end, t.resets)
    given: dict[str, np.ndarray | float] = {}
    for dose, amount in zip(t.doses, t.doses if t.amounts is None else t.amounts.T, strict=True):
        for total, _ in given_and_held(model, [dose], end, t.resets):
            mine = total if isinstance(amount, Dose) else amount * (total / dose.amount)
            given[dose.product] = given.get(dose.product, 0.0) + mine
    worst = np.zeros(len(final))
    products = [p for p in products_of(t.doses) if p in given]
    for product, (_, held) in zip(products, balance, strict=True):
        worst = np.maximum(worst, np.abs(final[:, held].sum(axis=1) - given[product]) / given[product])
    return worst
