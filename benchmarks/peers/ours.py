"""mscrenal's own integrator, called as anybody would: one subject at a time, or a population in compiled code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any

import numpy as np
from problem import GRADIENT, OBSERVED, PATIENT

from mscrenal.model import stepper
from mscrenal.model.gradient import Seeds, gradient_of_subject
from mscrenal.model.initial import Subject
from mscrenal.model.kernels import compiled, with_gradient
from mscrenal.model.solve import MAX_STEPS, solve

from .base import Simulator

# Absolute tolerance as a multiple of the relative one: states are of order 1.
CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "Rodas4": {"atol": 1.0},
    "Rodas4, atol = rtol/100": {"atol": 0.01},
}
GRADIENT_CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "forward sensitivities": {"atol": 1.0},
    "forward sensitivities, atol = rtol/100": {"atol": 0.01},
}
LADDER = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 1e-8)
GRADIENT_LADDER = (1e-2, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7)
OWN_THREADS = True


def version() -> str:
    """The version installed."""
    return version_of("mscrenal")


class Peer(Simulator):
    """The compiled model bound to the problem."""

    def __init__(self, problem: Any, configuration: str, cores: int = 1) -> None:
        super().__init__(problem, configuration, cores)
        self.ratio = {**CONFIGURATIONS, **GRADIENT_CONFIGURATIONS}[configuration]["atol"]
        self.kernels = compiled(1)
        self.columns = [self.kernels.model.observable_names.index(name) for name in OBSERVED]

    def simulate(self, case: int, rtol: float) -> np.ndarray:
        """One call of `solve`."""
        one = self.problem.cases[case]
        found = solve(
            self.kernels, one.parameters, one.state, self.problem.schedule, self.problem.times,
            rtol=rtol, atol=rtol * self.ratio,
        )  # fmt: skip
        if found.status != "ok":
            raise ArithmeticError(found.message)
        return found.observables[:, self.columns]

    def population(self, cases: Sequence[int], rtol: float) -> None:
        """The loop over subjects that `simulate_cohort` runs, from states already placed."""
        table, schedule, times = self.problem.cases, self.problem.schedule, self.problem.times
        n, model = len(cases), self.kernels.model
        code, fault = np.zeros((n, 1), dtype=np.int64), np.zeros((n, 1), dtype=np.int64)
        stepper.population(
            self.kernels.system, np.array([table[k].parameters for k in cases]),
            np.array([table[k].state for k in cases]), np.zeros((n, 1), dtype=np.int64),
            np.array([0, len(schedule.edges)]), schedule.edges, schedule.inputs, schedule.boluses,
            schedule.resets, times, np.array(self.columns, dtype=np.int32), rtol, rtol * self.ratio, MAX_STEPS,
            (-1.0, 0.0, 0.0), np.empty((n, 1, len(times), len(self.columns))),
            np.empty((n, 1, len(model.states))), code, np.empty((n, 1)), fault, np.empty((n, 1)),
        )  # fmt: skip
        if code.any():
            raise ArithmeticError(f"{int((code != 0).sum())} of {n} failed.")

    def gradient(self, case: int, rtol: float) -> tuple[np.ndarray, np.ndarray]:
        """One call of `gradient_of_subject`, the initial state held as for everybody else."""
        problem, one, kernels = self.problem, self.problem.cases[case], with_gradient(1)
        chosen = problem.gradient_columns
        seeds = Seeds(np.zeros((len(one.state), len(chosen))), np.zeros((len(one.parameters), len(chosen))))
        seeds.parameters[chosen, range(len(chosen))] = 1.0
        subject = Subject(
            PATIENT, one.state, one.parameters, problem.schedule.inputs[0], float(problem.times[0])
        )
        found = gradient_of_subject(
            kernels, subject, problem.schedule, seeds, problem.times, OBSERVED, GRADIENT,
            scale=np.abs(one.parameters[chosen]), rtol=rtol, atol=rtol * self.ratio,
        )  # fmt: skip
        if found.status != "ok":
            raise ArithmeticError(found.message)
        return found.values, found.derivatives
