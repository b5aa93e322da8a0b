"""The problem that every simulator solves: the whole model, with doses, from a placed initial state.

A diabetic patient on a RAS blocker and an SGLT2 inhibitor is given UC cells, a million per kg, by three weekly
infusions of an hour, and is followed for 48 weeks with a weekly output of eGFR and UACR. The case at the
medians of the parameters is timed; the error is measured over it and over draws from the priors. The placement of
the initial state is done once, before any clock runs, and the same numbers are handed to everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.integrate import Radau, odeint

from mscrenal.calibration import prior_draws
from mscrenal.model import Dose, Patient
from mscrenal.model.build import Model
from mscrenal.model.definition import model
from mscrenal.model.initial import InitialStateError
from mscrenal.model.kernels import Compiled, cache_folder, compiled, with_gradient
from mscrenal.model.reference import solve_reference
from mscrenal.model.simulate import prepare, schedule_of
from mscrenal.model.solve import Schedule

__all__ = ["DOSES", "GRADIENT", "OBSERVED", "PATIENT", "TIMES", "Case", "Problem", "load", "make"]

PATIENT = Patient(drugs=("ras", "sglt2i"))
DOSES = tuple(Dose(7.0 * week, 1.0, "UC", "IV", 1 / 24) for week in range(3))
TIMES = 7.0 * np.arange(49)
OBSERVED = ("egfr", "uacr")
# What a calibration would ask the derivative for: biology that moves eGFR or UACR by itself, and what is
# particular to the product. All are sampled and positive, so that relative derivatives exist.
GRADIENT = (
    "leak_podocyte",
    "leak_slit",
    "leak_pressure",
    "compensation",
    "hyperfiltration",
    "insulin_dependent",
    "insult.diabetic.insulin_resistance",
    "slit_tnf",
    "slit_ros",
    "memory_decay",
    "ec50_effect",
    "tubule_albumin",
    "tnf_half",
    "ros_m1",
    "recruitment_mcp1",
    "nephron_loss_rate",
    "damage_albumin",
    "scavenging_nrf2",
    "capillary_tgfb",
    "product.UC.viability",
    "product.UC.potency_immunomodulation",
    "product.UC.potency_antioxidant",
    "product.UC.potency_cytoprotection",
    "product.UC.potency_antifibrotic",
    "product.UC.potency_metabolic",
)
REFERENCE_RTOL, REFERENCE_ATOL = 1e-11, 1e-13
SLOPE_RTOL, SLOPE_ATOL = 1e-9, 1e-11
# Relative steps of the finite differences that confirm the derivatives. They cannot replace them: the second
# derivative of the model jumps where a state passes its healthy value, and differences converge slowly across it.
STEPS = (0.004, 0.002)
SEED = 20


@dataclass(frozen=True)
class Case:
    """One subject: parameters (n_parameters,), initial state (n_states,), eGFR and UACR (n_times, 2)."""

    parameters: np.ndarray
    state: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Problem:
    """Cases with their reference solution, and the schedule that all share.

    Attributes
    ----------
    cases : tuple of Case
        The first is at the medians.
    schedule : Schedule
    times : ndarray (n_times,)
        Days.
    gradients : ndarray (n_gradient_cases, n_times, 2, 25)
        d ln(observable) / d ln(parameter), state at time 0 held, of the first cases.
    gradient_noise : float
        How far extrapolated finite differences lie from `gradients`, as `gradient_error` measures it.
    crosscheck : float
        Largest relative difference between the reference and SciPy's Radau.
    """

    cases: tuple[Case, ...]
    schedule: Schedule
    times: np.ndarray
    gradients: np.ndarray
    gradient_noise: float
    crosscheck: float

    @property
    def structure(self) -> Model:
        return model(1)

    @property
    def gradient_columns(self) -> list[int]:
        """Places of the 25 parameters in the parameter vector."""
        return [self.structure.parameter_index[name.split(".")[-1]] for name in GRADIENT]

    @property
    def segments(self) -> list[tuple[float, float, np.ndarray]]:
        """(start, stop, inputs) of each stretch of constant inputs, up to the last output."""
        edges = [*self.schedule.edges, np.inf]
        last = float(self.times[-1])
        return [
            (float(edges[k]), min(float(edges[k + 1]), last), u)
            for k, u in enumerate(self.schedule.inputs)
            if edges[k] < last
        ]

    def value_error(self, case: int, values: np.ndarray) -> float:
        """Largest relative error of eGFR and UACR over all output times; infinite where a number is missing."""
        if values.shape != self.cases[case].reference.shape or not np.isfinite(values).all():
            return np.inf
        return float(np.abs(values / self.cases[case].reference - 1).max())

    def gradient_error(self, case: int, slopes: np.ndarray) -> float:
        """Largest error of d ln observable / d ln parameter, relative to the largest slope of that observable.

        slopes: (n_times, 2, 25), natural scale.
        """
        truth = self.gradients[case]
        if slopes.shape != truth.shape or not np.isfinite(slopes).all():
            return np.inf
        return _gradient_distance(self.relative(case, slopes), truth)

    def relative(self, case: int, slopes: np.ndarray) -> np.ndarray:
        """Derivatives on the natural scale as d ln / d ln."""
        one = self.cases[case]
        return slopes * one.parameters[self.gradient_columns] / one.reference[:, :, np.newaxis]

    def save(self, folder: Path) -> None:
        """Write the problem where `load` finds it, for workers that need not place anybody again."""
        np.savez(
            folder / "problem.npz",
            parameters=np.array([c.parameters for c in self.cases]),
            states=np.array([c.state for c in self.cases]),
            references=np.array([c.reference for c in self.cases]),
            edges=self.schedule.edges,
            inputs=self.schedule.inputs,
            boluses=self.schedule.boluses,
            times=self.times,
            gradients=self.gradients,
            checks=np.array([self.gradient_noise, self.crosscheck]),
        )


def load(folder: Path) -> Problem:
    """Read what `Problem.save` wrote."""
    with np.load(folder / "problem.npz") as table:
        cases = tuple(
            Case(*row) for row in zip(table["parameters"], table["states"], table["references"], strict=True)
        )
        schedule = Schedule(table["edges"], table["inputs"], table["boluses"])
        return Problem(cases, schedule, table["times"], table["gradients"], *map(float, table["checks"]))


def make(n_draws: int, n_gradients: int, *, crosschecked: int = 1, variational: bool = True) -> Problem:
    """Place the subjects and compute the references; kept in the cache under what they depend on.

    Parameters
    ----------
    n_draws : int
        Draws from the priors beside the medians. A draw that no patient fits is passed over.
    n_gradients : int
        Of how many cases, from the first, the gradient is computed.
    crosschecked : int
        How many cases, from the first, are solved by Radau too.
    variational : bool
        Whether the gradient is that of the variational equations, which takes most of a minute a case, or of finite
        differences, which are as good at the medians and nowhere else (`gradient_noise` then is NaN).
    """
    asked = repr(
        (
            compiled(1).hash,
            PATIENT,
            DOSES,
            GRADIENT,
            SLOPE_RTOL,
            STEPS,
            SEED,
            n_draws,
            n_gradients,
            crosschecked,
            variational,
        )
    )
    folder = cache_folder() / f"benchmark_{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    if (folder / "problem.npz").exists():
        return load(folder)
    problem = _made(n_draws, n_gradients, crosschecked, variational)
    folder.mkdir(parents=True, exist_ok=True)
    problem.save(folder)
    return problem


def _made(n_draws: int, n_gradients: int, crosschecked: int, variational: bool) -> Problem:
    kernels, subject = prepare(PATIENT, ("UC",), {})
    schedule = schedule_of(kernels.model, subject.day, subject.inputs, DOSES, ())
    subjects = [subject]
    # A few more than asked for, as some draws have no patient with these covariates.
    for theta in prior_draws(n_draws + n_draws // 2 + 8, seed=SEED) if n_draws else ():
        if len(subjects) == n_draws + 1:
            break
        try:
            subjects.append(prepare(PATIENT, ("UC",), theta)[1])
        except InitialStateError:
            continue
    cases = tuple(
        Case(s.parameters, s.state, _solved(kernels, s.parameters, s.state, schedule)) for s in subjects
    )
    problem = Problem(cases, schedule, TIMES, np.empty((0, len(TIMES), 2, len(GRADIENT))), 0.0, 0.0)
    crosscheck = max(
        (
            problem.value_error(k, _by_radau(kernels, problem, case))
            for k, case in enumerate(cases[:crosschecked])
        ),
        default=0.0,
    )
    differences = [_differences(kernels, problem, case) for case in cases[:n_gradients]]
    found, noise = differences, np.nan
    if variational and n_gradients:
        whole = with_gradient(1)
        found = [_variational(whole, problem, case) for case in cases[:n_gradients]]
        noise = max(_gradient_distance(a, b) for a, b in zip(differences, found, strict=True))
    slopes = np.array(found).reshape(-1, len(TIMES), 2, len(GRADIENT))
    return replace(problem, gradients=slopes, gradient_noise=noise, crosscheck=crosscheck)


def _solved(kernels: Compiled, p: np.ndarray, y: np.ndarray, schedule: Schedule) -> np.ndarray:
    solution = solve_reference(kernels, p, y, schedule, TIMES, rtol=REFERENCE_RTOL, atol=REFERENCE_ATOL)
    if solution.status != "ok":
        raise RuntimeError(f"the reference solution failed: {solution.status}: {solution.message}")
    return observed(kernels, p, solution.states, schedule, TIMES)


def observed(
    kernels: Compiled, p: np.ndarray, states: np.ndarray, schedule: Schedule, times: Sequence[float]
) -> np.ndarray:
    """EGFR and UACR, (n_times, 2), of states (n_times, n_states)."""
    columns = [kernels.model.observable_names.index(name) for name in OBSERVED]
    out = np.empty(len(kernels.model.observables))
    values = np.empty((len(times), len(columns)))
    rows = np.searchsorted(schedule.edges, times, side="right") - 1
    for k, row in enumerate(rows):
        kernels.observe(np.ascontiguousarray(states[k]), p, schedule.inputs[row], out)
        values[k] = out[columns]
    return values


def _by_radau(kernels: Compiled, problem: Problem, case: Case) -> np.ndarray:
    """The same case by an implicit Runge-Kutta method, (n_times, 2)."""
    n = len(case.state)
    states = np.empty((len(problem.times), n))
    states[0] = y = case.state
    for start, stop, u in problem.segments:

        def rhs(t: float, x: np.ndarray, u: np.ndarray = u) -> np.ndarray:
            out = np.empty(n)
            kernels.rhs(np.ascontiguousarray(x), case.parameters, u, out)
            return out

        def jac(t: float, x: np.ndarray, u: np.ndarray = u) -> np.ndarray:
            out = np.zeros((n, n))
            kernels.jac(np.ascontiguousarray(x), case.parameters, u, out)
            return out

        solver = Radau(rhs, start, y, stop, rtol=REFERENCE_RTOL, atol=REFERENCE_ATOL, jac=jac)
        while solver.status == "running":
            solver.step()
            due = (problem.times > solver.t_old) & (problem.times <= solver.t)
            if due.any():
                states[due] = solver.dense_output()(problem.times[due]).T
        if solver.status == "failed":
            raise RuntimeError(f"Radau failed at day {solver.t:g} of the cross-check.")
        y = solver.y
    return observed(kernels, case.parameters, states, problem.schedule, problem.times)


def _variational(kernels: Compiled, problem: Problem, case: Case) -> np.ndarray:
    """D ln y / d ln p, (n_times, 2, 25): one parameter at a time, by LSODA on the state and its derivative together."""
    rows = np.searchsorted(problem.schedule.edges, problem.times, side="right") - 1
    picked = [kernels.model.observable_names.index(name) for name in OBSERVED]
    n, n_parameters, n_seen = len(case.state), len(case.parameters), len(kernels.model.observables)
    out = np.empty((len(problem.times), 2, len(GRADIENT)))
    for k, column in enumerate(problem.gradient_columns):
        course = _course_with_slope(kernels, problem, case, column)
        for t, (row, z) in enumerate(zip(rows, course, strict=True)):
            u = problem.schedule.inputs[row]
            seen, by_state, by_parameter = (
                np.empty(n_seen),
                np.zeros((n_seen, n)),
                np.zeros((n_seen, n_parameters)),
            )
            kernels.observe(z[:n], case.parameters, u, seen)
            kernels.observe_jac(z[:n], case.parameters, u, by_state)
            kernels.observe_by_parameter(z[:n], case.parameters, u, by_parameter)
            slope = by_state[picked] @ z[n:] + by_parameter[picked, column]
            out[t, :, k] = slope * case.parameters[column] / seen[picked]
    return out


def _course_with_slope(kernels: Compiled, problem: Problem, case: Case, column: int) -> np.ndarray:
    """The state and its derivative by one parameter, (n_times, 2 n_states)."""
    n, p = len(case.state), case.parameters

    def rhs(t: float, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        out, by_state, by_parameter = np.empty(2 * n), np.zeros((n, n)), np.zeros((n, len(p)))
        kernels.rhs(z[:n], p, u, out[:n])
        kernels.jac(z[:n], p, u, by_state)
        kernels.rhs_by_parameter(z[:n], p, u, by_parameter)
        out[n:] = by_state @ z[n:] + by_parameter[:, column]
        return out

    def jac(t: float, z: np.ndarray, u: np.ndarray) -> np.ndarray:
        # Without the second derivatives of the model: Newton's iteration only takes a step more.
        out = np.zeros((2 * n, 2 * n))
        by_state = np.zeros((n, n))
        kernels.jac(z[:n], p, u, by_state)
        out[:n, :n] = out[n:, n:] = by_state
        return out

    course = np.empty((len(problem.times), 2 * n))
    course[0] = z = np.concatenate([case.state, np.zeros(n)])
    for start, stop, u in problem.segments:
        due = (problem.times > start) & (problem.times < stop)
        grid = np.concatenate(([start], problem.times[due], [stop]))
        found = odeint(rhs, z, grid, (u,), jac, tfirst=True, rtol=SLOPE_RTOL, atol=SLOPE_ATOL, mxstep=100_000)
        course[due], z = found[1:-1], found[-1]
        course[problem.times == stop] = z
    return course


def _differences(kernels: Compiled, problem: Problem, case: Case) -> np.ndarray:
    """The same by central differences of the reference, extrapolated once."""
    out = np.empty((len(problem.times), 2, len(GRADIENT)))
    for k, column in enumerate(problem.gradient_columns):
        slopes = []
        for h in STEPS:
            values = []
            for sign in (1.0, -1.0):
                p = case.parameters.copy()
                p[column] *= np.exp(sign * h)
                values.append(np.log(_solved(kernels, p, case.state, problem.schedule)))
            slopes.append((values[0] - values[1]) / (2 * h))
        out[:, :, k] = (4 * slopes[1] - slopes[0]) / 3
    return out


def _gradient_distance(slopes: np.ndarray, truth: np.ndarray) -> float:
    """Largest difference, relative to the largest slope of that observable by any of the parameters."""
    size = np.abs(truth).max(axis=(0, 2))[:, np.newaxis]
    return float((np.abs(slopes - truth) / size).max())
