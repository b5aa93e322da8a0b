"""Derivatives of a simulated course by parameters, random effects and initial states.

Forward sensitivities through everything that a simulation does: the placement of the patient (implicit-function
theorem), infusions, boluses and resets, the integration itself (`mscrenal.model.tangent`) and the observables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mscrenal.model.build import Model
from mscrenal.model.declare import nearest
from mscrenal.model.definition import sampled_parameters
from mscrenal.model.drugs import DRUGS
from mscrenal.model.initial import InitialStateError, Subject, given_states, parameter_sources, pulls_of
from mscrenal.model.kernels import Compiled, with_gradient
from mscrenal.model.patient import Patient
from mscrenal.model.placement import ANCHORS, BALANCED_BY, history_states, unknown_states
from mscrenal.model.processes.variability import RANDOM_EFFECTS
from mscrenal.model.simulate import (
    MASS_BALANCE_TOLERANCE,
    Dose,
    DrugCourse,
    _check_times,
    _mass_error,
    last_dose,
    mass_message,
    prepare,
    products_of,
    schedule_of,
)
from mscrenal.model.solve import MAX_STEPS, STATUSES, Schedule, explain_failure

__all__ = ["Gradient", "PreparedGradient", "Seeds", "gradient", "gradient_of_subject", "seeds_of"]

# A gradient is used beside its value: the tolerance of both.
RTOL, ATOL = 1e-5, 1e-7


@dataclass(frozen=True)
class Gradient:
    """Observables over time and their derivatives.

    Attributes
    ----------
    times : ndarray (n_times,)
        Days.
    values : ndarray (n_times, n_observables)
    derivatives : ndarray (n_times, n_observables, n_names)
        Per unit of each name.
    observables, names : tuple of str
    status, message : str
        As of a `Trajectory`; the numbers of one that failed are NaN.
    """

    times: np.ndarray
    values: np.ndarray
    derivatives: np.ndarray
    observables: tuple[str, ...]
    names: tuple[str, ...]
    status: str
    message: str


@dataclass(frozen=True)
class Seeds:
    """Derivatives at the start, by the m names.

    Attributes
    ----------
    state : ndarray (n_states, m)
        Of the initial state.
    parameters : ndarray (n_parameters, m)
        Of the parameter vector, found parameters included.
    """

    state: np.ndarray
    parameters: np.ndarray


def gradient(
    patient: Patient,
    doses: Sequence[Dose],
    courses: Sequence[DrugCourse],
    theta: Mapping[str, float],
    names: Sequence[str],
    times: Sequence[float] | np.ndarray,
    observables: Sequence[str],
    *,
    knock_out: Collection[str] = (),
    resets: Sequence[float] = (),
    rtol: float = RTOL,
    atol: float = ATOL,
) -> Gradient:
    """Simulate one subject, with the derivatives of its observables.

    Parameters
    ----------
    patient, doses, courses, theta, knock_out, resets
        As of `mscrenal.model.simulate.simulate`.
    names : sequence of str
        Of `sampled_parameters` and of `RANDOM_EFFECTS`. One that the subject does not use has derivative 0.
    times : array-like (n_times,)
        Output times in days, increasing.
    observables : sequence of str
    rtol, atol : float
        Of the state, and ten times that of its derivative by the logarithm of each name (where that is 0: by
        the name itself, in units of its spread for a random effect).

    Returns
    -------
    Gradient

    Raises
    ------
    KeyError
        For an unknown name or observable, with the nearest that there is.
    RegimenError, ValueError
        As of `simulate`.

    Examples
    --------
    >>> from mscrenal.model import Dose, Patient
    >>> found = gradient(Patient(), [Dose(0, 1.0, "UC")], [], {}, ["nephron_loss_rate"], [0, 84], ["egfr"])
    >>> found.derivatives.shape
    (2, 1, 1)
    """
    ready = PreparedGradient(
        patient, doses, courses, names, times, observables, knock_out=knock_out, resets=resets
    )
    return ready.at(theta, rtol=rtol, atol=atol)


class PreparedGradient:
    """One subject under one regimen, to be simulated with its derivatives at many values of the parameters.

    What the values do not change (schedule, directions) is made once. Arguments and errors as of `gradient`.
    """

    def __init__(
        self,
        patient: Patient,
        doses: Sequence[Dose],
        courses: Sequence[DrugCourse],
        names: Sequence[str],
        times: Sequence[float] | np.ndarray,
        observables: Sequence[str],
        *,
        knock_out: Collection[str] = (),
        resets: Sequence[float] = (),
    ) -> None:
        self.patient, self.doses, self.courses = patient, tuple(doses), tuple(courses)
        self.names, self.observables, self.knock_out = tuple(names), tuple(observables), tuple(knock_out)
        self.resets = tuple(resets)
        self.times = np.array(times, dtype=np.float64)
        _check_times(self.times, patient)
        self.products = products_of(doses)
        self.kernels = with_gradient(max(1, len(self.products)))
        model = self.kernels.model
        _check_observables(model, self.observables)
        self._directions = _directions(self.kernels, patient, self.products, self.names, self.knock_out)
        background = np.zeros(len(model.inputs))
        for drug in patient.drugs:
            background[model.input_index[DRUGS[drug].level]] = 1.0
        self._schedule = schedule_of(model, -patient.onset_days, background, doses, courses, resets)

    def __reduce__(self) -> tuple[Any, ...]:
        # Machine code has addresses of one process: another one prepares it anew.
        given = (self.patient, self.doses, self.courses, self.names, self.times, self.observables)
        return _prepared, (*given, self.knock_out, self.resets)

    def at(
        self,
        theta: Mapping[str, float],
        eta: Mapping[str, float] | None = None,
        *,
        rtol: float = RTOL,
        atol: float = ATOL,
    ) -> Gradient:
        """Values and derivatives at these parameters.

        Parameters
        ----------
        theta : mapping of str to float
            By the names of `sampled_parameters`; missing ones take their median.
        eta : mapping of str to float, optional
            Random effects in place of the patient's.
        """
        patient = self.patient if not eta else self.patient.replace(eta=dict(self.patient.eta) | dict(eta))
        try:
            _, subject = prepare(patient, self.products, theta, self.knock_out)
            seeds = seeds_of(self.kernels, subject, self._directions)
        except (InitialStateError, np.linalg.LinAlgError) as error:
            nothing = np.full((len(self.times), len(self.observables)), np.nan)
            empty = np.full((*nothing.shape, len(self.names)), np.nan)
            return Gradient(
                self.times, nothing, empty, self.observables, self.names, "initial-state", str(error)
            )
        size = {**patient.eta, **theta}
        scale = np.array([abs(size.get(n, _median(n))) or _unit(n) for n in self.names])
        found, final, reached = _integrated(
            self.kernels, subject, self._schedule, seeds, self.times, self.observables, self.names,
            scale, rtol, atol, MAX_STEPS,
        )  # fmt: skip
        return self._checked(found, final, reached)

    def _checked(self, found: Gradient, final: np.ndarray, reached: float) -> Gradient:
        """As `simulate` has it: no numbers if part of a dose is missing, and the last dose in what a failure says."""
        status, message = found.status, found.message
        if status == "ok":
            end = float(self.times[-1])
            error = _mass_error(self.kernels.model, final, self.doses, end, self.resets, ())
            if error <= MASS_BALANCE_TOLERANCE:
                return found
            status, message, reached = "mass-balance", mass_message(error, end), end
        message += last_dose(self.doses, reached)
        values, derivatives = np.full_like(found.values, np.nan), np.full_like(found.derivatives, np.nan)
        return replace(found, values=values, derivatives=derivatives, status=status, message=message)


def _prepared(*given: Any) -> PreparedGradient:
    *first, knock_out, resets = given
    return PreparedGradient(*first, knock_out=knock_out, resets=resets)


def gradient_of_subject(
    kernels: Compiled,
    subject: Subject,
    schedule: Schedule,
    seeds: Seeds,
    times: np.ndarray,
    observables: Sequence[str],
    names: Sequence[str],
    *,
    scale: np.ndarray | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
    max_steps: int = MAX_STEPS,
) -> Gradient:
    """As `gradient`, from a subject already placed and from any seeds: unit vectors in `Seeds.state` give the
    derivatives by initial states.

    Parameters
    ----------
    scale : ndarray (m,), optional
        Size of a step in each direction that matters: the error of a derivative times this is held to the tolerance.
    """
    _check_observables(kernels.model, observables)
    scale = np.ones(seeds.state.shape[1]) if scale is None else scale
    return _integrated(
        kernels, subject, schedule, seeds, times, observables, names, scale, rtol, atol, max_steps
    )[0]


def _integrated(
    kernels: Compiled,
    subject: Subject,
    schedule: Schedule,
    seeds: Seeds,
    times: np.ndarray,
    observables: Sequence[str],
    names: Sequence[str],
    scale: np.ndarray,
    rtol: float,
    atol: float,
    max_steps: int,
) -> tuple[Gradient, np.ndarray, float]:
    """The gradient, the state (n_states,) at the end, and the day up to which it came."""
    from mscrenal.model import tangent

    model, m = kernels.model, seeds.state.shape[1]
    if kernels.tangent is None:
        raise ValueError("these kernels hold no sensitivities. Use mscrenal.model.kernels.with_gradient.")
    moving = np.flatnonzero(np.any(seeds.parameters != 0.0, axis=1))
    values = np.full((len(times), len(observables)), np.nan)
    initial = _blocks(seeds.state * scale, tangent.LANES)
    found = np.full((*values.shape, len(initial), tangent.LANES), np.nan)
    fault, y = np.zeros(1, dtype=np.int64), subject.state.copy()
    code, reached, _ = tangent.integrate_with(
        kernels.system, kernels.tangent, y, initial, subject.parameters,
        _blocks(seeds.parameters[moving] * scale, tangent.LANES), _used(kernels.by_rate, moving),
        _used(kernels.by_seen, moving), schedule.edges, schedule.inputs, schedule.boluses, schedule.resets,
        np.ascontiguousarray(times, dtype=np.float64),
        np.array([model.observable_names.index(n) for n in observables], dtype=np.int32),
        rtol, atol, max_steps, values, found, fault,
    )  # fmt: skip
    slopes = found.reshape(*values.shape, -1)[..., :m]
    status, message = STATUSES[int(code)], ""
    if status != "ok":
        values[:], slopes[:] = np.nan, np.nan
        message = explain_failure(model, status, reached, int(fault[0]), max_steps)
    out = Gradient(
        np.asarray(times), values, slopes / scale, tuple(observables), tuple(names), status, message
    )
    return out, y, float(reached)


def _check_observables(model: Model, names: Sequence[str]) -> None:
    for name in names:
        if name not in model.observables:
            raise KeyError(f"No observable {name!r}.{nearest(name, model.observables)}")


def _blocks(columns: np.ndarray, lanes: int) -> np.ndarray:
    """Columns (n, m) in blocks that are carried together, (n_blocks, n * lanes); the last is filled up with zeros."""
    n, m = columns.shape
    blocks = np.zeros((max(1, -(-m // lanes)), n, lanes))
    for k, block in enumerate(blocks):
        part = columns[:, k * lanes : (k + 1) * lanes]
        block[:, : part.shape[1]] = part
    return blocks.reshape(len(blocks), -1)


def _used(pattern: Sequence[tuple[int, int]], moving: np.ndarray) -> np.ndarray:
    """Entries of a derivative by parameters whose parameter moves, and the row of that parameter, int32 (., 2)."""
    row = {int(p): k for k, p in enumerate(moving)}
    found = [(e, row[p]) for e, (_, p) in enumerate(pattern) if p in row]
    return np.array(found, dtype=np.int32).reshape(-1, 2)


def _median(name: str) -> float:
    return 0.0 if name in RANDOM_EFFECTS else sampled_parameters()[name].value


def _unit(name: str) -> float:
    """A size for what is zero: of a random effect, its spread."""
    return RANDOM_EFFECTS[name].sd if name in RANDOM_EFFECTS else 1.0


def _directions(
    kernels: Compiled,
    patient: Patient,
    products: Sequence[str],
    names: Sequence[str],
    knock_out: Collection[str],
) -> np.ndarray:
    """How the parameter vector moves with each name, before anything is found, (n_parameters, m)."""
    model = kernels.model
    known = sampled_parameters()
    sources = parameter_sources(model, patient.species, patient.disease, products)
    # What the patient or a knock-out sets is no longer drawn.
    fixed = {"ckdepi_kappa", "ckdepi_alpha", "ckdepi_sex", "age"} if patient.species == "human" else set()
    fixed |= {"ageing"} | ({"titration"} if patient.insulin_share == 0 else set())
    fixed |= {f"switch_{arm}" for arm in knock_out}
    rows: dict[str, list[int]] = {}
    for row, (parameter, (drawn, _)) in enumerate(sources.items()):
        if parameter not in fixed:
            rows.setdefault(drawn, []).append(row)
    out = np.zeros((len(model.parameters), len(names)))
    for column, name in enumerate(names):
        if name in RANDOM_EFFECTS:
            out[model.parameter_index[name], column] = 1.0
            continue
        if name not in known:
            raise KeyError(f"No sampled parameter {name!r}.{nearest(name, [*known, *RANDOM_EFFECTS])}")
        for row in rows.get(name, ()):
            out[row, column] = 1.0
    return out


def seeds_of(kernels: Compiled, subject: Subject, directions: np.ndarray) -> Seeds:
    """Derivatives of a subject's start, by the implicit-function theorem.

    Parameters
    ----------
    directions : ndarray (n_parameters, m)
        How the parameters move before anything is found.
    """
    model, patient = kernels.model, subject.patient
    state = np.zeros((len(model.states), directions.shape[1]))
    if not patient.established:
        return Seeds(state, directions)
    y, p, u = subject.state, subject.parameters, subject.inputs
    n, n_seen, n_parameters = len(model.states), len(model.observables), len(model.parameters)
    jac, by_parameter = np.zeros((n, n)), np.zeros((n, n_parameters))
    seen_jac, seen_by = np.zeros((n_seen, n)), np.zeros((n_seen, n_parameters))
    kernels.jac(y, p, u, jac)
    kernels.rhs_by_parameter(y, p, u, by_parameter)
    kernels.observe_jac(y, p, u, seen_jac)
    kernels.observe_by_parameter(y, p, u, seen_by)

    given, pulls = _explicit(kernels, patient, p, directions)
    for name, slope in given.items():
        state[model.index[name]] = slope
    unknown = unknown_states(model)
    columns = np.array([model.index[name] for name in unknown])
    # Few parameters move: a product of small matrices, which no library shares out among threads.
    moving = np.flatnonzero(directions.any(axis=1))
    by_parameter, seen_by, directions_moving = by_parameter[:, moving], seen_by[:, moving], directions[moving]
    matrix, right = jac[columns], by_parameter[columns] @ directions_moving
    for name, (pull, slope) in pulls.items():
        row, i = unknown.index(name), model.index[name]
        matrix[row, i] -= pull
        right[row] -= slope * (y[i] - model.states[name].healthy)
    for name, observable in ANCHORS.items():
        row, k = unknown.index(name), model.observable_names.index(observable)
        matrix[row], right[row] = seen_jac[k], seen_by[k] @ directions_moving
    for name, other in BALANCED_BY.items():
        row, i = unknown.index(name), model.index[other]
        matrix[row], right[row] = jac[i], by_parameter[i] @ directions_moving
    right = right + matrix @ state
    state[columns] = np.linalg.solve(matrix[:, columns], -right)
    found = _found(model, subject, state, directions)
    if patient.sledai:
        row, lupus = model.index["autoimmunity"], model.parameter_index["lupus"]
        drive = np.zeros((n, n_parameters))
        kernels.rhs_by_parameter(y, p, u, drive)
        found[lupus] = 0.0
        found[lupus] = -(jac[row] @ state + drive[row] @ found) / drive[row, lupus]
    return Seeds(state, found)


def _explicit(
    kernels: Compiled, patient: Patient, p: np.ndarray, directions: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, np.ndarray]]]:
    """Derivatives (m,) of the states that covariates give, and of the pulls of those with a history, beside the pulls.

    Both are explicit formulas of a few parameters: one complex step in each parameter gives them exactly.
    """
    model = kernels.model
    step = 1e-200j
    given: dict[str, np.ndarray] = {}
    slopes: dict[str, np.ndarray] = {}
    used: set[str] = set()

    def plain(name: str) -> Any:
        used.add(name)
        return complex(p[model.parameter_index[name]])

    values = pulls_of(model, patient, plain)
    given_states(patient, plain)
    for name in sorted(used):
        row = model.parameter_index[name]
        if not directions[row].any():
            continue

        def moved(other: str, name: str = name) -> Any:
            return complex(p[model.parameter_index[other]]) + (step if other == name else 0.0)

        for state, value in given_states(patient, moved).items():
            given[state] = given.get(state, 0.0) + complex(value).imag / step.imag * directions[row]
        for state, value in zip(history_states(model), pulls_of(model, patient, moved), strict=True):
            slopes[state] = slopes.get(state, 0.0) + complex(value).imag / step.imag * directions[row]
    none = np.zeros(directions.shape[1])
    pulls = {
        state: (complex(value).real, slopes.get(state, none))
        for state, value in zip(history_states(model), values, strict=True)
    }
    return given, pulls


def _found(model: Model, subject: Subject, state: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Derivatives of the parameter vector, with those that follow from the state placed (all but the lupus drive)."""
    out, index, y, p = directions.copy(), model.parameter_index, subject.state, subject.parameters
    out[index["beta_set"]] = state[model.index["beta_cells"]]
    out[index["glucose_goal"]] = state[model.index["glucose"]]
    if subject.patient.insulin_share > 0:
        out[index["insulin_start"]] = 0.0
    # Its GFR is the patient's own, whatever the parameters.
    gfr, healthy = float(subject.patient.egfr or 0), p[index["gfr_healthy"]]
    out[index["creatinine_generation"]] = (
        gfr
        / healthy
        * (
            state[model.index["creatinine"]]
            - y[model.index["creatinine"]] * directions[index["gfr_healthy"]] / healthy
        )
    )
    return out
