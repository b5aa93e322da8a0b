"""Simulate one subject under one regimen: doses and drug courses in, states and observables out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mscrenal.model.build import Model, slot_name
from mscrenal.model.declare import nearest
from mscrenal.model.drugs import DRUGS
from mscrenal.model.initial import InitialStateError, Subject, parameter_vector, start
from mscrenal.model.kernels import Compiled, compiled
from mscrenal.model.patient import Patient
from mscrenal.model.products import PRODUCTS
from mscrenal.model.products.base import PRODUCT_ROUTES as ROUTES
from mscrenal.model.solve import ATOL, RTOL, Schedule, solve

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

    Raises
    ------
    RegimenError
    """

    day: float
    amount: float
    product: str
    route: str = "IV"
    duration_days: float = 1 / 24

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
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise RegimenError(f"{name} of a dose must be a finite number, got {value!r}.")
        if self.amount < 0 or self.duration_days < 0:
            raise RegimenError(
                f"a dose has amount >= 0 and duration >= 0, got {self.amount:g} over {self.duration_days:g} d."
            )

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
) -> Schedule:
    """Turn doses and drug courses into a piecewise-constant schedule.

    Overlapping infusions add up; the order of the records does not matter.
    """
    slots = {product: i + 1 for i, product in enumerate(products_of(doses))}
    for dose in doses:
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
            on = (edges >= dose.day) & (edges < dose.day + dose.duration_days)
            # The length as the edges have it, so that the amount given is exact to rounding.
            inputs[on, column] += dose.amount / ((dose.day + dose.duration_days) - dose.day)
        else:
            boluses[np.searchsorted(edges, dose.day), column] += dose.amount
    return Schedule(edges, inputs, boluses)


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
    return simulate_subject(kernels, subject, doses, courses, times, rtol=rtol, atol=atol)


def simulate_subject(
    kernels: Compiled,
    subject: Subject,
    doses: Sequence[Dose],
    courses: Sequence[DrugCourse],
    times: np.ndarray,
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> Trajectory:
    """As `simulate`, from a subject already placed (the same subject can meet several arms)."""
    model = kernels.model
    schedule = schedule_of(model, subject.day, subject.inputs, doses, courses)
    solution = solve(kernels, subject.parameters, subject.state, schedule, times, rtol=rtol, atol=atol)
    status, message, error = solution.status, solution.message, math.nan
    if status == "ok":
        error = _mass_error(model, solution.final, doses, times[-1])
        if not error <= MASS_BALANCE_TOLERANCE:
            status, message = "mass-balance", mass_message(error, times[-1])
    states = solution.states
    if status != "ok":
        message += last_dose(doses, times[-1])
        states = np.full_like(states, np.nan)
    observables = solution.observables if status == "ok" else np.full_like(solution.observables, np.nan)
    return Trajectory(times, states, observables, status, message, error, model)


def given_and_held(model: Model, doses: Sequence[Dose], end: float) -> list[tuple[float, list[int]]]:
    """Of each product: the amount given before day `end`, and the states that hold it; for the mass balance."""
    out = []
    for slot, product in enumerate(products_of(doses), start=1):
        mine = [d for d in doses if d.product == product and d.day < end]
        given = sum(
            d.amount * (min((end - d.day) / d.duration_days, 1.0) if d.duration_days else 1.0) for d in mine
        )
        if given > 0:
            out.append((given, [model.index[slot_name(n, slot)] for n in HELD[PRODUCTS[product].kind]]))
    return out


def _mass_error(model: Model, final: np.ndarray, doses: Sequence[Dose], end: float) -> float:
    balance = given_and_held(model, doses, end)
    return max((abs(float(final[held].sum()) - given) / given for given, held in balance), default=0.0)


def mass_message(error: float, end: float) -> str:
    """What a broken mass balance says."""
    return f"{error:.2g} of a dose is missing or too much at day {end:g}."


def last_dose(doses: Sequence[Dose], end: float) -> str:
    """The end of a failure's message: which dose came last."""
    given = [d.day for d in doses if d.day <= end]
    return f" Last dose: day {max(given):g}." if given else ""


def _check_times(times: np.ndarray, patient: Patient) -> None:
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise ValueError("times must be one or more finite days, in one dimension.")
    if np.any(np.diff(times) <= 0):
        raise ValueError("times must increase. Sort them and drop repeats.")
    if times[0] < -patient.onset_days:
        raise ValueError(
            f"times start on day {times[0]:g}, before the subject exists (day {-patient.onset_days:g})."
        )
