"""pydiffsol: the Rust solvers diffsol on DiffSL text that LLVM compiles.

Sparse matrices are its fastest here (dense ones take 1.4 times as long at 56 states), and its SuiteSparse KLU crashes
with compiled models in 0.6.2. Doses by its stop and reset equations, which keep the whole simulation in one
call; restarting `solve_dense` stretch by stretch takes as long. Sensitivities are wrong by more than
themselves when inputs are looked up by the model index ``N`` (0.6.2), and right when the same inputs are steps of
time, with the stops where they were: the latter is what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pydiffsol as ds

from .base import Simulator
from .diffsl import diffsl_text

# Absolute tolerance as a multiple of the relative one: states are of order 1.
CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "BDF, sparse": {"ode_solver": ds.bdf, "atol": 1.0},
    "BDF, sparse, atol = rtol/100": {"ode_solver": ds.bdf, "atol": 0.01},
    "ESDIRK34, sparse": {"ode_solver": ds.esdirk34, "atol": 1.0},
    "TR-BDF2, sparse": {"ode_solver": ds.tr_bdf2, "atol": 1.0},
}
# Sensitivities outside and inside the error control; the option is its own.
GRADIENT_CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "BDF, sparse, sensitivities uncontrolled": {"ode_solver": ds.bdf, "atol": 1.0},
    "BDF, sparse, sensitivities controlled": {"ode_solver": ds.bdf, "atol": 1.0, "sens": 1.0},
    "TR-BDF2, sparse, sensitivities uncontrolled": {"ode_solver": ds.tr_bdf2, "atol": 1.0},
}
LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 3e-7, 1e-7, 1e-8)
GRADIENT_LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def version() -> str:
    """The version installed."""
    return ds.version()


class Peer(Simulator):
    """One compiled text with all parameters and the initial state as inputs; one with the 25 as inputs."""

    def __init__(self, problem: Any, configuration: str, cores: int = 1) -> None:
        super().__init__(problem, configuration, cores)
        settings = {**CONFIGURATIONS, **GRADIENT_CONFIGURATIONS}[configuration]
        self.solver, self.ratio, self.sens = settings["ode_solver"], settings["atol"], settings.get("sens")
        self.columns = problem.gradient_columns
        self._whole: ds.Ode | None = None
        self._slopes: dict[int, ds.Ode] = {}

    def _text(self, case: int, free: list[int] | None) -> str:
        one = self.problem.cases[case]
        return diffsl_text(
            self.problem.structure,
            self.problem.schedule,
            ("egfr", "uacr"),
            float(self.problem.times[-1]),
            parameters=one.parameters,
            state=one.state,
            free=free,
        )

    def _set(self, ode: ds.Ode, rtol: float) -> ds.Ode:
        ode.ode_solver = self.solver
        ode.rtol, ode.atol = rtol, rtol * self.ratio
        return ode

    def simulate(self, case: int, rtol: float) -> np.ndarray:
        """One call of `solve_dense`."""
        if self._whole is None:
            self._whole = ds.Ode(self._text(0, None), matrix_type=ds.faer_sparse)
        one = self.problem.cases[case]
        solution = self._set(self._whole, rtol).solve_dense(
            np.concatenate([one.parameters, one.state]), self.problem.times
        )
        return np.asarray(solution.ys).T

    def gradient(self, case: int, rtol: float) -> tuple[np.ndarray, np.ndarray]:
        """One call of `solve_fwd_sens`; every input is a parameter of it, so that the rest is compiled in."""
        if case not in self._slopes:
            self._slopes[case] = ds.Ode(self._text(case, self.columns), matrix_type=ds.faer_sparse)
        ode = self._set(self._slopes[case], rtol)
        ode.sens_rtol = ode.sens_atol = None if self.sens is None else rtol * self.sens
        one = self.problem.cases[case]
        solution = ode.solve_fwd_sens(one.parameters[self.columns], self.problem.times)
        return np.asarray(solution.ys).T, np.transpose(np.asarray(solution.sens), (2, 1, 0))
