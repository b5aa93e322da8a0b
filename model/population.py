"""Many subjects through several arms at once: the unit of work of every population, trial and comparison.

A subject is a patient with a draw of the parameters. It is placed once and meets every arm from the same state, so
that arms differ by treatment alone. All of it runs in compiled code that holds no lock, so that threads scale;
a subject's numbers depend on that subject alone, and are the same to the last bit in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mscrenal.model.build import Model
from mscrenal.model.initial import Subject, common_parameters, own_parameters, place
from mscrenal.model.kernels import Compiled, compiled
from mscrenal.model.patient import Patient
from mscrenal.model.placement import FOUND
from mscrenal.model.simulate import (
    MASS_BALANCE_TOLERANCE,
    Dose,
    DrugCourse,
    Trajectory,
    given_and_held,
    last_dose,
    mass_message,
    products_of,
    schedule_of,
    simulate_subject,
)
from mscrenal.model.solve import ATOL, MAX_STEPS, RTOL, STATUSES, Schedule, explain_failure

__all__ = ["Below", "Cohort", "Course", "Regimen", "integrate_arms", "simulate_cohort", "write_arms"]

# Doses, drug courses and, if there are any, the days of resets.
Regimen = (
    tuple[tuple[Dose, ...], tuple[DrugCourse, ...]]
    | tuple[tuple[Dose, ...], tuple[DrugCourse, ...], tuple[float, ...]]
)


@dataclass(frozen=True)
class Below:
    """Follow each subject beyond the horizon until an observable falls below a threshold.

    Nothing more is given after the horizon but the drugs of the day.
    """

    observable: str
    threshold: float
    limit_day: float


@dataclass(frozen=True)
class Cohort:
    """What became of n subjects in each of n_arms arms.

    Attributes
    ----------
    values : ndarray (n, n_arms, n_times, n_observables)
        NaN where a subject failed.
    status : ndarray of object (n, n_arms)
        'ok', or why not: as `Trajectory.status`.
    messages : dict of (subject, arm) to str
        What happened to each that failed: when, after which dose, the state at fault.
    crossing : ndarray (n, n_arms)
        Day on which the observable of `Below` fell below its threshold; infinity if it did not, NaN if not asked.
    """

    values: np.ndarray
    status: np.ndarray
    messages: dict[tuple[int, int], str]
    crossing: np.ndarray


@dataclass(frozen=True)
class Course:
    """What is seen of every subject, and how exactly it is computed."""

    times: np.ndarray
    observables: tuple[str, ...]
    below: Below | None
    rtol: float
    atol: float
    max_steps: int

    def nothing_yet(self, n: int, n_arms: int) -> Cohort:
        """A cohort of which no arm has run."""
        values = np.full((n, n_arms, len(self.times), len(self.observables)), np.nan)
        status = np.full((n, n_arms), "ok", dtype=object)
        return Cohort(values, status, {}, np.full((n, n_arms), np.nan))


@dataclass(frozen=True)
class Integrated:
    """What the integrator gave for n subjects in some arms: seen (n, n_arms, n_times, n_observables), final
    (n, n_arms, n_states), the rest (n, n_arms).
    """

    seen: np.ndarray
    final: np.ndarray
    code: np.ndarray
    reached: np.ndarray
    fault: np.ndarray
    crossing: np.ndarray


def integrate_arms(
    kernels: Compiled,
    states: np.ndarray,
    parameters: np.ndarray,
    plan: np.ndarray,
    schedules: Sequence[Schedule],
    course: Course,
) -> Integrated:
    """Integrate n subjects through arms that give the same products.

    Parameters
    ----------
    states : ndarray (n, n_states)
        At the start; NaN for a subject that could not be placed.
    parameters : ndarray (n, n_parameters)
    plan : ndarray of int64 (n, n_arms)
        Which of the schedules each subject follows in each arm.
    """
    from mscrenal.model import stepper

    model, shape, below = kernels.model, plan.shape, course.below
    picked = np.array([model.observable_names.index(o) for o in course.observables], dtype=np.int32)
    beyond = (-1.0, 0.0, 0.0)
    if below is not None:
        index = model.observable_names.index(below.observable)
        beyond = (float(index), float(below.threshold), float(below.limit_day))
    found = Integrated(
        np.full((*shape, len(course.times), len(picked)), np.nan),
        np.full((*shape, len(model.states)), np.nan),
        np.zeros(shape, dtype=np.int64),
        np.full(shape, np.nan),
        np.zeros(shape, dtype=np.int64),
        np.full(shape, np.nan),
    )
    stepper.population(
        kernels.system, parameters, np.ascontiguousarray(states), plan,
        np.concatenate(([0], np.cumsum([len(s.edges) for s in schedules]))).astype(np.int64),
        np.concatenate([s.edges for s in schedules]), np.concatenate([s.inputs for s in schedules]),
        np.concatenate([s.boluses for s in schedules]), np.concatenate([s.resets for s in schedules]),
        course.times, picked, course.rtol, course.atol, course.max_steps, beyond,
        found.seen, found.final, found.code, found.reached, found.fault, found.crossing,
    )  # fmt: skip
    return found


def write_arms(
    cohort: Cohort,
    arms: Sequence[int],
    model: Model,
    course: Course,
    found: Integrated,
    mass_error: np.ndarray,
    doses_of: Callable[[int, int], Sequence[Dose]],
    unplaced: Sequence[str],
) -> None:
    """Write what was found into the cohort: numbers, or a status with its message and NaN.

    Parameters
    ----------
    arms : sequence of int
        The arms of the cohort that were integrated.
    mass_error : ndarray (n, len(arms))
        Largest relative error of the mass balance of any product.
    doses_of : callable
        The doses of a subject in an arm of the cohort, for messages.
    unplaced : sequence of str, n
        Why a subject has no initial state.
    """
    columns, end = list(arms), float(course.times[-1])
    cohort.values[:, columns], cohort.crossing[:, columns] = found.seen, found.crossing
    for j, k in np.argwhere((found.code != 0) | ~(mass_error <= MASS_BALANCE_TOLERANCE)).tolist():
        a, status, day = columns[k], STATUSES[found.code[j, k]], float(found.reached[j, k])
        if status == "initial-state":
            message = unplaced[j]
        elif status == "ok":
            status = "mass-balance"
            message = mass_message(mass_error[j, k], end) + last_dose(doses_of(j, a), end)
        else:
            message = explain_failure(model, status, day, int(found.fault[j, k]), course.max_steps)
            message += last_dose(doses_of(j, a), day)
        cohort.status[j, a], cohort.messages[j, a] = status, message
        cohort.values[j, a], cohort.crossing[j, a] = np.nan, np.nan


def simulate_cohort(
    patients: Sequence[Patient],
    thetas: Sequence[Mapping[str, float]],
    regimens: Sequence[Sequence[Regimen]],
    times: np.ndarray,
    observables: Sequence[str],
    *,
    knock_out: Collection[str] = (),
    below: Below | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
    max_steps: int = MAX_STEPS,
) -> Cohort:
    """Simulate n subjects, each under n_arms regimens.

    Parameters
    ----------
    patients : sequence of Patient, n
    thetas : sequence of mapping, n
        The draw of each subject.
    regimens : sequence of sequence of (doses, courses) or (doses, courses, resets), n of n_arms
    times : ndarray (n_times,)
        Output days, increasing.
    observables : sequence of str
    knock_out : collection of str
        Arms of action switched off in every arm.
    below : Below, optional

    Returns
    -------
    Cohort
        A subject that fails is a status with a message; it stops nobody else.
    """
    at = np.ascontiguousarray(times, dtype=np.float64)
    course = Course(at, tuple(observables), below, rtol, atol, max_steps)
    cohort = course.nothing_yet(len(patients), len(regimens[0]) if regimens else 0)
    start = _Starts(patients, thetas, knock_out)
    for products, members in _groups(regimens).items():
        group = _Group(start, products, members, regimens)
        group.run(cohort, course)
        group.run_steady(cohort, course)
    return cohort


def _parts(regimen: Regimen) -> tuple[tuple[Dose, ...], tuple[DrugCourse, ...], tuple[float, ...]]:
    doses, courses, *more = regimen
    return doses, courses, more[0] if more else ()


def _groups(regimens: Sequence[Sequence[Regimen]]) -> dict[tuple[str, ...], list[int]]:
    """Arms by the products that they give: one set of parameters each."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for a, (doses, *_) in enumerate(regimens[0] if regimens else ()):
        groups.setdefault(products_of(doses), []).append(a)
    return groups


class _Starts:
    """The subjects placed, once per number of product slots: no product has a say before its first dose."""

    def __init__(
        self, patients: Sequence[Patient], thetas: Sequence[Mapping[str, float]], knock_out: Collection[str]
    ) -> None:
        self.patients, self.thetas, self.knock_out = patients, thetas, tuple(knock_out)
        self.own = [own_parameters(p) for p in patients]
        self._placed: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]] = {}

    def parameters(self, model: Model, products: tuple[str, ...]) -> np.ndarray:
        """Parameters of each subject, (n, n_parameters)."""
        common: dict[tuple[str, str, int], np.ndarray] = {}
        rows = np.empty((len(self.patients), len(model.parameters)))
        for j, (patient, theta) in enumerate(zip(self.patients, self.thetas, strict=True)):
            key = (patient.species, patient.disease, id(theta))
            if key not in common:
                common[key] = common_parameters(
                    model, patient.species, patient.disease, products, theta, self.knock_out
                )
            rows[j] = common[key]
            for name, value in self.own[j].items():
                rows[j, model.parameter_index[name]] = value
        return rows

    def placed(
        self, kernels: Compiled, products: tuple[str, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """States, parameters, inputs and messages of each subject under these products."""
        model = kernels.model
        rows = self.parameters(model, products)
        if model.slots not in self._placed:
            found = place(kernels, self.patients, rows)
            self._placed[model.slots] = found.states, found.parameters, found.inputs, found.messages
        states, first, inputs, messages = self._placed[model.slots]
        at = [model.parameter_index[name] for name in FOUND]
        rows[:, at] = first[:, at]
        return states, rows, inputs, messages


class _Group:
    """Arms that give the same products."""

    def __init__(
        self,
        start: _Starts,
        products: tuple[str, ...],
        members: list[int],
        regimens: Sequence[Sequence[Regimen]],
    ) -> None:
        self.kernels = compiled(max(1, len(products)))
        self.patients, self.regimens = start.patients, regimens
        # A steady state depends on the state that it meets: such arms run one subject after the other.
        steady = {a for a in members if any(dose.steady_state for dose in regimens[0][a][0])}
        self.members = [a for a in members if a not in steady]
        self.steady = sorted(steady)
        self.states, self.parameters, self.inputs, self.unplaced = start.placed(self.kernels, products)

    def run(self, cohort: Cohort, course: Course) -> None:
        """Integrate, and write the rows of this group's arms."""
        if not self.members:
            return
        plan, schedules = self._schedules()
        found = integrate_arms(self.kernels, self.states, self.parameters, plan, schedules, course)
        end = float(course.times[-1])
        error = np.stack(
            [self._mass_errors(found.final[:, k], a, end) for k, a in enumerate(self.members)], axis=1
        )
        write_arms(
            cohort, self.members, self.kernels.model, course, found, error,
            lambda j, a: self.regimens[j][a][0], self.unplaced,
        )  # fmt: skip

    def _schedules(self) -> tuple[np.ndarray, list[Schedule]]:
        """Which schedule each subject follows in each arm, (n, n_arms), and the schedules, each once."""
        model = self.kernels.model
        known: dict[object, int] = {}
        schedules: list[Schedule] = []
        plan = np.zeros((len(self.patients), len(self.members)), dtype=np.int64)
        for j, patient in enumerate(self.patients):
            background = self.inputs[j]
            for k, a in enumerate(self.members):
                doses, courses, resets = _parts(self.regimens[j][a])
                key = (patient.onset_days, patient.drugs, doses, courses, resets)
                if key not in known:
                    known[key] = len(schedules)
                    day = -patient.onset_days
                    schedules.append(schedule_of(model, day, background, doses, courses, resets))
                plan[j, k] = known[key]
        return plan, schedules

    def _mass_errors(self, final: np.ndarray, arm: int, end: float) -> np.ndarray:
        """Largest relative error of the mass balance of any product, (n,)."""
        worst = np.zeros(len(self.patients))
        balance: dict[object, list[tuple[float, list[int]]]] = {}
        for j in range(len(self.patients)):
            doses, _, resets = _parts(self.regimens[j][arm])
            if (doses, resets) not in balance:
                balance[doses, resets] = given_and_held(self.kernels.model, doses, end, resets)
            for given, held in balance[doses, resets]:
                worst[j] = max(worst[j], abs(final[j, held].sum() - given) / given)
        return worst

    def run_steady(self, cohort: Cohort, course: Course) -> None:
        """As `run`, for the arms with doses at steady state."""
        from mscrenal.model.stepper import QUARTER

        model, times, below = self.kernels.model, course.times, course.below
        picked = [model.observable_names.index(o) for o in course.observables]
        beyond = np.arange(times[-1] + QUARTER, below.limit_day + QUARTER, QUARTER) if below else np.empty(0)
        days = np.concatenate((times, beyond))
        for j, patient in enumerate(self.patients):
            placed = np.isfinite(self.states[j]).all()
            subject = Subject(
                patient, self.states[j], self.parameters[j], self.inputs[j], -patient.onset_days
            )
            for a in self.steady:
                if not placed:
                    cohort.status[j, a], cohort.messages[j, a] = "initial-state", self.unplaced[j]
                    continue
                doses, courses, resets = _parts(self.regimens[j][a])
                run = simulate_subject(
                    self.kernels,
                    subject,
                    doses,
                    courses,
                    days,
                    resets=resets,
                    rtol=course.rtol,
                    atol=course.atol,
                )
                if run.status != "ok":
                    cohort.status[j, a], cohort.messages[j, a] = run.status, run.message
                    continue
                cohort.values[j, a] = run.observables[: len(times), picked]
                if below is not None:
                    cohort.crossing[j, a] = _day_below(run, below, len(times) - 1)


def _day_below(run: Trajectory, below: Below, first: int) -> float:
    """Day after row `first` on which the observable falls below the threshold, linearly between rows; or infinity."""
    days, values = run.times[first:], run.observable(below.observable)[first:]
    under = np.flatnonzero(values[1:] < below.threshold)
    if not len(under):
        return float("inf")
    k = int(under[0])
    before, after = values[k], values[k + 1]
    return float(days[k] + (before - below.threshold) / (before - after) * (days[k + 1] - days[k]))
