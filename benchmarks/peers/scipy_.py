"""SciPy's integrators on a right-hand side and a Jacobian that numba compiles, restarted at every dose edge.

The generated functions are those of mscrenal itself: what is compared is the integrators, and what calling them
from Python costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy
from problem import observed
from scipy.integrate import odeint, solve_ivp

from mscrenal.model import stepper
from mscrenal.model.kernels import CORE, compiled

from .base import Simulator

CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "odeint (LSODA)": {"method": "odeint"},
    "solve_ivp LSODA": {"method": "LSODA"},
    "solve_ivp BDF": {"method": "BDF"},
    "solve_ivp Radau": {"method": "Radau"},
}
GRADIENT_CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {}
LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
GRADIENT_LADDER = ()


def version() -> str:
    """The version installed."""
    return scipy.__version__


class Peer(Simulator):
    """The generated kernels bound to a case."""

    def __init__(self, problem: Any, configuration: str, cores: int = 1) -> None:
        super().__init__(problem, configuration, cores)
        self.method = CONFIGURATIONS[configuration]["method"]
        self.kernels = compiled(1)
        self.n = len(problem.cases[0].state)

    def simulate(self, case: int, rtol: float) -> np.ndarray:
        """All stretches of one case."""
        problem, one, kernels, n = self.problem, self.problem.cases[case], self.kernels, self.n

        # What is constant between two edges is computed once, as our own integrator does.
        system = kernels.system
        rates, slopes = (system.kernels[list(CORE).index(name)] for name in ("rates", "slopes"))
        entries = np.empty(len(system.jac_rows))

        def rhs(t: float, y: np.ndarray, constants: np.ndarray) -> np.ndarray:
            out = np.empty(n)
            stepper.kernel(rates, np.ascontiguousarray(y), constants, out)
            return out

        def jac(t: float, y: np.ndarray, constants: np.ndarray) -> np.ndarray:
            out = np.zeros((n, n))
            stepper.kernel(slopes, np.ascontiguousarray(y), constants, entries)
            out[system.jac_rows, system.jac_columns] = entries
            return out

        states = np.empty((len(problem.times), n))
        states[0] = y = one.state
        for start, stop, u in problem.segments:
            due = (problem.times > start) & (problem.times < stop)
            grid = np.concatenate(([start], problem.times[due], [stop]))
            constants = kernels.constants(one.parameters, u)
            if self.method == "odeint":
                out = odeint(
                    rhs, y, grid, (constants,), jac, tfirst=True, rtol=rtol, atol=rtol, mxstep=20_000
                )
            else:
                solution = solve_ivp(
                    rhs, (start, stop), y, self.method, grid, args=(constants,), jac=jac, rtol=rtol, atol=rtol
                )
                if not solution.success:
                    raise ArithmeticError(solution.message)
                out = solution.y.T
            states[due], y = out[1:-1], out[-1]
            states[problem.times == stop] = y
        return observed(kernels, one.parameters, states, problem.schedule, problem.times)
