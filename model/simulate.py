"""Simulate one subject under one regimen: doses and drug courses in, states and observables out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mscrenal.model.build import Model, slot_name
from mscrenal.model.declare import nearest
from mscrenal.model.drugs import DRUGS
from mscrenal.model.events import Event, EventSolution, Jump, simulate_events
from mscrenal.model.initial import InitialStateError, Subject, parameter_vector, start
from mscrenal.model.kernels import Compiled, compiled
from mscrenal.model.patient import Patient
from mscrenal.model.products import PRODUCTS
from mscrenal.model.products.base import PRODUCT_ROUTES as ROUTES
from mscrenal.model.solve import ATOL, RTOL, Schedule, Solution, solve

__all__ = [
    "ROUTES",
    "Dose",
    "DrugCourse",
    "RegimenError",
    "Trajectory",
    "prepare",
    "simulate",
    "simulate_subject",
]

MASS_BALANCE_TOLERANCE = 1e-6
# Where a dose enters, by kind of product and route.
ENTRY: Mapping[str, Mapping[str, str]] = {
    "cells": {
        "IV": "in_iv",
        "IA-renal": "in_ia",
        "intraparenchymal": "in_kidney",
        "IP": "in_depot",
        "SC": "in_depot",
    },
    "ev": {
        "IV": "in_ev",
        "IA-renal": "in_ev_local",
        "intraparenchymal": "in_ev_local",
        "IP": "in_ev",
        "SC": "in_ev",
    },
    "medium": dict.fromkeys(ROUTES, "in_medium"),
}
# Which states hold what was given, for the mass balance.
HELD = {
    "cells": ("blood", "lung", "liver", "kidney", "depot", "apoptotic", "debris", "cleared"),
    "ev": ("ev_plasma", "ev_kidney", "ev_lost"),
    "medium": ("medium", "medium_lost"),
}


class RegimenError(ValueError):
    """A dose or drug course that cannot be given."""


@dataclass(frozen=True)
class Dose:
    """One administration.

    Parameters
    ----------
    day : float
        Start, days from time 0.
    amount : float
        Millions of cells per kg (cells, and media as the cells that made them) or 1e9 particles per
        kg (vesicles).
    product, route : str
    duration_days : float
        Length of the infusion; 0 gives it at once.
    steady_state : int
        1: the dose is the last of an endless row of equal doses, whose steady state replaces the exposure that is there;
        2: it is added; 0: neither (`mscrenal.model.events`).
    interval_days : float
        Days between the doses of that row; 0: a constant infusion of ``amount / duration_days``, which ends on `day`.

    Raises
    ------
    RegimenError
    """

    day: float
    amount: float
    product: str
    route: str = "IV"
    duration_days: float = 1 / 24
    steady_state: int = 0
    interval_days: float = 0.0

    def __post_init__(self) -> None:
        if self.product not in PRODUCTS:
            raise RegimenError(f"No product {self.product!r}.{nearest(self.product, PRODUCTS)}")
        allowed = PRODUCTS[self.product].routes
        if self.route not in allowed:
            raise RegimenError(
                f"{self.product} is not given by route {self.route!r}.{nearest(self.route, allowed)}"
            )
        for name, value in (
            ("day", self.day),
            ("amount", self.amount),
            ("duration_days", self.duration_days),
            ("interval_days", self.interval_days),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise RegimenError(f"{name} of a dose must be a finite number, got {value!r}.")
        if self.amount < 0 or self.duration_days < 0:
            raise RegimenError(
                f"a dose has amount >= 0 and duration >= 0, got {self.amount:g} over {self.duration_days:g} d."
            )
        self._check_steady_state()

    def _check_steady_state(self) -> None:
        if self.steady_state not in (0, 1, 2):
            raise RegimenError(
                f"steady_state of a dose must be 0, 1 (replaces) or 2 (adds), got {self.steady_state!r}."
            )
        if self.interval_days < 0 or (self.interval_days and not self.steady_state):
            raise RegimenError(
                f"interval_days of a dose belongs to a steady state and is zero or more, got {self.interval_days:g} "
                f"with steady_state {self.steady_state}. Write doses that follow as doses of their own."
            )
        if self.steady_state and not (self.amount > 0 and (self.interval_days or self.duration_days)):
            raise RegimenError(
                "a dose at steady state needs an amount above zero and interval_days, or without it (a constant infusion) "
                f"duration_days; got {self.amount:g}, {self.interval_days:g} d and {self.duration_days:g} d."
            )

    @property
    def constant(self) -> bool:
        """Whether this is the steady state of a constant infusion, which ends as it is met: nothing more is given."""
        return bool(self.steady_state and not self.interval_days)

    @property
    def kind(self) -> str:
        return PRODUCTS[self.product].kind


@dataclass(frozen=True)
class DrugCourse:
    """A drug taken from `start_day` to `stop_day` (None: to the end) at `level` of its usual dose."""

    drug: str
    start_day: float = 0.0
    stop_day: float | None = None
    level: float = 1.0

    def __post_init__(self) -> None:
        if self.drug not in DRUGS:
            raise RegimenError(f"No drug {self.drug!r}.{nearest(self.drug, DRUGS)}")
        if not (math.isfinite(self.level) and 0 <= self.level <= 2):
            raise RegimenError(
                f"level of {self.drug} must lie between 0 and 2 usual doses, got {self.level!r}."
            )
        if not math.isfinite(self.start_day):
            raise RegimenError(f"start_day of {self.drug} must be finite, got {self.start_day!r}.")
        if self.stop_day is not None and not self.stop_day > self.start_day:
            raise RegimenError(
                f"{self.drug} stops on day {self.stop_day!r}, not after its start on day {self.start_day:g}."
            )


@dataclass(frozen=True)
class Trajectory:
    """One simulated subject.

    Attributes
    ----------
    times : ndarray (n_times,)
        Days.
    states : ndarray (n_times, n_states)
        In the order and units of `model.states`; NaN if the status is not 'ok'.
    observables : ndarray (n_times, n_observables)
        In the order and units of `model.observables`.
    status : str
        'ok', 'initial-state', 'step-underflow', 'budget', 'non-finite', 'pivot-lost' or 'mass-balance'.
    message : str
        What happened, when, and after which dose; empty if ok.
    mass_error : float
        Largest relative error of the mass balance of any product given.
    """

    times: np.ndarray
    states: np.ndarray
    observables: np.ndarray
    status: str
    message: str
    mass_error: float
    model: Model

    def state(self, name: str) -> np.ndarray:
        """One state over time, (n_times,)."""
        if name not in self.model.index:
            raise KeyError(f"No state {name!r}.{nearest(name, self.model.states)}")
        return self.states[:, self.model.index[name]]

    def observable(self, name: str) -> np.ndarray:
        """One observable over time, (n_times,)."""
        if name not in self.model.observables:
            raise KeyError(f"No observable {name!r}.{nearest(name, self.model.observables)}")
        return self.observables[:, self.model.observable_names.index(name)]


def products_of(doses: Sequence[Dose]) -> tuple[str, ...]:
    """The products given, in order of first use: one slot each."""
    return tuple(dict.fromkeys(d.product for d in doses))


def schedule_of(
    model: Model,
    first_day: float,
    background: np.ndarray,
    doses: Sequence[Dose],
    courses: Sequence[DrugCourse],
    resets: Sequence[float] = (),
) -> Schedule:
    """Turn doses and drug courses into a piecewise-constant schedule.

    Overlapping infusions add up; the order of the records does not matter. On a day of `resets` the subject is again
    what it was at the start: infusions in progress end, and a dose of that day is given after it. Drugs go on.

    Raises
    ------
    RegimenError
        For a dose or a reset that cannot be, and for a dose at steady state, which no schedule holds.
    """
    slots = {product: i + 1 for i, product in enumerate(products_of(doses))}
    _check_resets(resets, first_day)
    for dose in doses:
        if dose.steady_state:
            raise RegimenError(
                f"the dose on day {dose.day:g} has steady_state {dose.steady_state}, which depends on the subject's "
                "state that day and has no place in a schedule. Use simulate or simulate_cohort."
            )
        if dose.day < first_day:
            raise RegimenError(
                f"a dose on day {dose.day:g} precedes the start of the simulation on day {first_day:g}."
            )
    marks = {first_day}
    for dose in doses:
        marks |= {dose.day, dose.day + dose.duration_days}
    for course in courses:
        marks.add(max(course.start_day, first_day))
        if course.stop_day is not None:
            marks.add(max(course.stop_day, first_day))
    marks |= set(resets)
    edges = np.array(sorted(marks))
    inputs = np.tile(background, (len(edges), 1))
    boluses = np.zeros_like(inputs)
    for course in courses:
        stop = math.inf if course.stop_day is None else course.stop_day
        inputs[(edges >= course.start_day) & (edges < stop), model.input_index[DRUGS[course.drug].level]] = (
            course.level
        )
    # Sorted, so that rounding in sums does not depend on the order in which doses were written.
    for dose in sorted(doses, key=lambda d: (d.day, d.duration_days, d.product, d.route, d.amount)):
        column = model.input_index[slot_name(ENTRY[dose.kind][dose.route], slots[dose.product])]
        if dose.duration_days > 0:
            end = min([dose.day + dose.duration_days, *(day for day in resets if day > dose.day)])
            on = (edges >= dose.day) & (edges < end)
            # The length as the edges have it, so that the amount given is exact to rounding.
            inputs[on, column] += dose.amount / ((dose.day + dose.duration_days) - dose.day)
        else:
            boluses[np.searchsorted(edges, dose.day), column] += dose.amount
    return Schedule(edges, inputs, boluses, np.isin(edges, resets))


def _check_resets(resets: Sequence[float], first_day: float) -> None:
    for day in resets:
        if not math.isfinite(day) or day < first_day:
            raise RegimenError(
                f"a reset must come on a finite day, none before the start on day {first_day:g}, got {day!r}."
            )
        if first_day < 0:
            raise RegimenError(
                f"a reset on day {day:g} would put the animal back to the day of its insult, "
                f"{-first_day:g} days before day 0, in health. Allowed: none. Simulate what follows as an animal of its own."
            )


def prepare(
    patient: Patient, products: Sequence[str], theta: Mapping[str, float], knock_out: Collection[str] = ()
) -> tuple[Compiled, Subject]:
    """The compiled model and the subject at its start; raises InitialStateError."""
    kernels = compiled(max(1, len(products)))
    parameters = parameter_vector(kernels.model, patient, products, theta, knock_out)
    return kernels, start(kernels, patient, parameters)


def simulate(
    patient: Patient,
    doses: Sequence[Dose] = (),
    courses: Sequence[DrugCourse] = (),
    theta: Mapping[str, float] | None = None,
    times: Sequence[float] | np.ndarray = (0.0,),
    *,
    resets: Sequence[float] = (),
    knock_out: Collection[str] = (),
    rtol: float = RTOL,
    atol: float = ATOL,
) -> Trajectory:
    """Simulate one subject under one regimen.

    Parameters
    ----------
    patient : Patient
    doses : sequence of Dose
    courses : sequence of DrugCourse
        Drugs started or stopped on a day, beside the patient's background.
    theta : mapping of str to float, optional
        Parameters by the names of `sampled_parameters`; missing ones take their median.
    times : array-like (n_times,)
        Output times, days from the first dose, increasing, none before the insult.
    resets : sequence of float
        Days on which the patient is again what it was at the start (`schedule_of`).
    knock_out : collection of str
        Arms of action switched off.

    Returns
    -------
    Trajectory
        A failure is a status with a message; its numbers are NaN.

    Raises
    ------
    RegimenError, PatientError, ValueError
        For input that no subject could have.

    Examples
    --------
    >>> from mscrenal.model import Dose, Patient, simulate
    >>> run = simulate(Patient(), [Dose(0, 1.0, "UC")], times=[0, 84])
    >>> run.status
    'ok'
    """
    products = products_of(doses)
    times = np.asarray(times, dtype=np.float64)
    _check_times(times, patient)
    try:
        kernels, subject = prepare(patient, products, theta or {}, knock_out)
    except InitialStateError as error:
        kernels = compiled(max(1, len(products)))
        nothing = np.full((len(times), len(kernels.model.states)), np.nan)
        seen = np.full((len(times), len(kernels.model.observables)), np.nan)
        return Trajectory(times, nothing, seen, "initial-state", str(error), math.nan, kernels.model)
    return simulate_subject(kernels, subject, doses, courses, times, resets=resets, rtol=rtol, atol=atol)


def simulate_subject(
    kernels: Compiled,
    subject: Subject,
    doses: Sequence[Dose],
    courses: Sequence[DrugCourse],
    times: np.ndarray,
    *,
    resets: Sequence[float] = (),
    rtol: float = RTOL,
    atol: float = ATOL,
) -> Trajectory:
    """As `simulate`, from a subject already placed (the same subject can meet several arms)."""
    model = kernels.model
    jumps: tuple[Jump, ...] = ()
    if any(dose.steady_state for dose in doses):
        solution: Solution = _through_events(kernels, subject, doses, courses, resets, times, (rtol, atol))
        jumps = solution.jumps if isinstance(solution, EventSolution) else ()
    else:
        schedule = schedule_of(model, subject.day, subject.inputs, doses, courses, resets)
        solution = solve(kernels, subject.parameters, subject.state, schedule, times, rtol=rtol, atol=atol)
    status, message, error = solution.status, solution.message, math.nan
    if status == "ok":
        error = _mass_error(model, solution.final, doses, times[-1], resets, jumps)
        if not error <= MASS_BALANCE_TOLERANCE:
            status, message = "mass-balance", mass_message(error, times[-1])
    states = solution.states
    if status != "ok":
        message += last_dose(doses, solution.reached)
        states = np.full_like(states, np.nan)
    observables = solution.observables if status == "ok" else np.full_like(solution.observables, np.nan)
    return Trajectory(times, states, observables, status, message, error, model)


def _through_events(
    kernels: Compiled,
    subject: Subject,
    doses: Sequence[Dose],
    courses: Sequence[DrugCourse],
    resets: Sequence[float],
    times: np.ndarray,
    tolerance: tuple[float, float],
) -> EventSolution:
    """A regimen with steady states, as events."""
    slots = {product: i + 1 for i, product in enumerate(products_of(doses))}
    # The drugs, and whether the resets can be.
    background = schedule_of(kernels.model, subject.day, subject.inputs, (), courses, resets)
    events = [Event(day, evid=3) for day in resets]
    for dose in (d for d in doses if d.amount > 0):
        event = Event(
            dose.day,
            0.0 if dose.constant else dose.amount,
            slot_name(ENTRY[dose.kind][dose.route], slots[dose.product]),
            rate=dose.amount / dose.duration_days if dose.constant else 0.0,
            dur=0.0 if dose.constant else dose.duration_days,
            ii=dose.interval_days,
            ss=dose.steady_state,
            label=f"the dose of {dose.product} on day {dose.day:g}",
        )
        events.append(event)
    rtol, atol = tolerance
    return simulate_events(
        kernels, subject.parameters, subject.state, events, times, start=subject.day, background=background,
        rtol=rtol, atol=atol,
    )  # fmt: skip


def given_and_held(
    model: Model,
    doses: Sequence[Dose],
    end: float,
    resets: Sequence[float] = (),
    jumps: Sequence[Jump] = (),
) -> list[tuple[float, list[int]]]:
    """Of each product: the amount given before day `end`, and the states that hold it; for the mass balance.

    Counted from the last reset, or steady state that replaced what was there; what a steady state brought in counts as
    given.
    """
    since = max(
        [*(day for day in resets if day < end), *(j.time for j in jumps if j.replaces)], default=-math.inf
    )
    out = []
    for slot, product in enumerate(products_of(doses), start=1):
        held = [model.index[slot_name(n, slot)] for n in HELD[PRODUCTS[product].kind]]
        mine = [d for d in doses if d.product == product and since <= d.day < end]
        given = sum(_given(d, end) for d in mine)
        given += sum(float(j.brought[held].sum()) for j in jumps if j.time >= since)
        if given > 0:
            out.append((given, held))
    return out


def _given(dose: Dose, end: float) -> float:
    """What a dose record gives from its day until `end`, in the unit of its amount."""
    if dose.constant:
        return 0.0
    if not dose.duration_days:
        return dose.amount
    lengths = [dose.duration_days]
    # Infusions of the endless row before it that still run on its day.
    while dose.steady_state and lengths[-1] > dose.interval_days:
        lengths.append(dose.duration_days - len(lengths) * dose.interval_days)
    return sum(
        dose.amount * min((end - dose.day) / dose.duration_days, n / dose.duration_days) for n in lengths
    )


def _mass_error(
    model: Model,
    final: np.ndarray,
    doses: Sequence[Dose],
    end: float,
    resets: Sequence[float],
    jumps: Sequence[Jump],
) -> float:
    balance = given_and_held(model, doses, end, resets, jumps)
    return max((abs(float(final[held].sum()) - given) / given for given, held in balance), default=0.0)


def mass_message(error: float, end: float) -> str:
    """What a broken mass balance says."""
    return f"{error:.2g} of a dose is missing or too much at day {end:g}."


def last_dose(doses: Sequence[Dose], day: float) -> str:
    """The end of a failure's message: which dose came last by the day on which it failed."""
    given = [d.day for d in doses if d.day <= day]
    return f" Last dose: day {max(given):g}." if given else " No dose before it."


def _check_times(times: np.ndarray, patient: Patient) -> None:
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise ValueError("times must be one or more finite days, in one dimension.")
    if np.any(np.diff(times) <= 0):
        raise ValueError("times must increase. Sort them and drop repeats.")
    if times[0] < -patient.onset_days:
        raise ValueError(
            f"times start on day {times[0]:g}, before the subject exists (day {-patient.onset_days:g})."
        )
