"""The reference solver, against which the compiled integrator is verified; nobody here wrote its method.

ODEPACK's LSODA (through SciPy) on the generated right-hand side and Jacobian, and SciPy's Radau on the rare
segment on which LSODA gets stuck. The integrator restarts at every edge of an input (start or end of an
infusion, of a drug), so that no step ever straddles one.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.integrate import ODEintWarning, Radau, odeint

from mscrenal.model.kernels import Compiled
from mscrenal.model.solve import NEGATIVE_TOLERANCE, Schedule, Solution

__all__ = ["solve_reference"]

RTOL, ATOL = 1e-7, 1e-10
MAX_STEPS = 20_000
# Days (a tenth of a second). LSODA refuses a first step near the rounding of the time and loses mass before it
# does; two infusions of which one ends a rounding error before the other starts make such a step. One Euler
# step does it: the fastest rate, the circulation, moves a part in a thousand of the cells in blood meanwhile.
SHORTEST = 1e-6


def solve_reference(
    compiled: Compiled,
    parameters: np.ndarray,
    initial: np.ndarray,
    schedule: Schedule,
    times: np.ndarray,
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
    max_steps: int = MAX_STEPS,
) -> Solution:
    """As `mscrenal.model.solve.solve`, with the same arguments and result, by LSODA.

    The budget is that of the steps between two outputs.
    """
    runner = _Runner(compiled, parameters, rtol, atol, max_steps)
    n = len(initial)
    states = np.full((len(times), n), np.nan)
    y = np.array(initial, dtype=np.float64)
    ends = [*schedule.edges[1:], np.inf]
    taken = 0
    shown = np.zeros((len(times), len(schedule.inputs[0])))  # the inputs that each output sees
    rows = zip(schedule.edges, ends, schedule.inputs, schedule.boluses, schedule.resets, strict=True)
    for edge, end, u, bolus, reset in rows:
        shown[times >= edge] = u
        stop = min(end, times[-1])
        if taken < len(times) and times[taken] == edge:
            states[taken] = y
            taken += 1
        if stop <= edge:
            break  # what is given at the end or later shows nowhere
        if reset:
            y = np.array(initial, dtype=np.float64)
        if bolus.any():
            y = runner.jump(y, u, bolus)
        inside = times[(times > edge) & (times < stop)]
        grid = np.concatenate(([edge], inside, [stop]))
        out, status, message = runner.segment(y, u, grid)
        if status != "ok":
            return _failed(compiled, times, status, message, y)
        states[taken : taken + len(inside)] = out[1:-1]
        taken += len(inside)
        y = out[-1]
    if taken < len(times):
        states[taken] = y
    lowest = states.min()
    if lowest < -NEGATIVE_TOLERANCE:
        row, column = np.unravel_index(int(np.argmin(states)), states.shape)
        name = compiled.model.state_names[column]
        return _failed(compiled, times, "non-finite", f"{name} fell to {lowest:.3g} at day {times[row]:g}", y)
    states = np.maximum(states, 0.0)
    seen = np.empty((len(times), len(compiled.model.observables)))
    for k, u in enumerate(shown):
        compiled.observe(np.ascontiguousarray(states[k]), parameters, u, seen[k])
    return Solution(states, seen, "ok", "", y, float(times[-1]))


def _failed(compiled: Compiled, times: np.ndarray, status: str, message: str, y: np.ndarray) -> Solution:
    states = np.full((len(times), len(compiled.model.states)), np.nan)
    seen = np.full((len(times), len(compiled.model.observables)), np.nan)
    return Solution(states, seen, status, message, y, float(times[-1]))


class _Runner:
    """The kernels bound to one subject's parameters."""

    def __init__(self, compiled: Compiled, p: np.ndarray, rtol: float, atol: float, max_steps: int) -> None:
        self.compiled, self.p = compiled, p
        self.rtol, self.atol, self.max_steps = rtol, atol, max_steps
        self.n = len(compiled.model.states)

    def rhs(self, t: float, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        out = np.empty(self.n)
        self.compiled.rhs(y, self.p, u, out)
        return out

    def jac(self, t: float, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        out = np.zeros((self.n, self.n))
        self.compiled.jac(y, self.p, u, out)
        return out

    def jump(self, y: np.ndarray, u: np.ndarray, bolus: np.ndarray) -> np.ndarray:
        # Rates are linear in the inputs: an amount given at once is the limit of a short infusion.
        return y + self.rhs(0.0, y, u + bolus) - self.rhs(0.0, y, u)

    def segment(self, y: np.ndarray, u: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, str, str]:
        """States (n_grid, n_states) at `grid`, of which the first is where `y` holds; status and message."""
        after = grid - grid[0]
        near = int(np.sum(after < SHORTEST))
        out = np.empty((len(grid), self.n))
        out[0] = y
        if near > 1:
            out[1:near] = y + np.outer(after[1:near], self.rhs(0.0, y, u))
        if near == len(grid):
            finite = bool(np.isfinite(out).all())
            return (
                out,
                "ok" if finite else "non-finite",
                "" if finite else f"stopped at day {grid[0]:g}: {self._worst(out, u)}",
            )
        start = near - 1
        far, status, message = self._integrate(out[start], u, grid[start:])
        out[start:] = far
        return out, status, message

    def _integrate(self, y: np.ndarray, u: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, str, str]:
        with warnings.catch_warnings():
            # The outcome is read from the report below; the warning would only say it twice.
            warnings.simplefilter("ignore", ODEintWarning)
            out, info = odeint(
                self.rhs,
                y,
                grid,
                args=(u,),
                Dfun=self.jac,
                tfirst=True,
                rtol=self.rtol,
                atol=self.atol,
                mxstep=self.max_steps,
                full_output=True,
            )
        succeeded = info["message"] == "Integration successful."
        if succeeded and np.isfinite(out).all():
            return out, "ok", ""
        if succeeded:
            lost = int(np.argmin(np.isfinite(out).all(axis=1)))
            return out, "non-finite", f"no finite number at day {grid[lost]:g}. {self._worst(out[:lost], u)}"
        # Beyond the interval that failed the report and the output hold whatever was in memory.
        failed = int(np.argmin(info["tcur"] >= grid[1:]))
        exhausted = "work" in info["message"].lower()
        if exhausted:
            again = self._stiff_only(y, u, grid)
            if again is not None:
                return again, "ok", ""
        reached = info["tcur"][failed] if np.isfinite(info["tcur"][failed]) else grid[failed]
        status = "budget" if exhausted else "step-underflow"
        return (
            out,
            status,
            f"stopped near day {reached:g}: {info['message']} {self._worst(out[: failed + 1], u)}",
        )

    def _stiff_only(self, y: np.ndarray, u: np.ndarray, grid: np.ndarray) -> np.ndarray | None:
        """The same segment by SciPy's Radau, in a tenth of the steps; None if that fails too.

        Near a steady state LSODA can stay for good with its non-stiff method: with no error to measure,
        its estimate of the stiffness is zero too, and stability holds the steps to minutes.
        """
        solver = Radau(
            lambda t, x: self.rhs(t, x, u), grid[0], y, grid[-1], rtol=self.rtol, atol=self.atol,
            jac=lambda t, x: self.jac(t, np.ascontiguousarray(x), u),
        )  # fmt: skip
        out = np.empty((len(grid), self.n))
        out[0] = y
        taken = 1
        for _ in range(self.max_steps // 10):
            solver.step()
            if solver.status == "failed" or not np.isfinite(solver.y).all():
                return None
            passed = int(np.searchsorted(grid, solver.t, side="right"))
            out[taken:passed] = solver.dense_output()(grid[taken:passed]).T
            taken = max(taken, passed)
            if solver.status == "finished":
                return out
        return None

    def _worst(self, out: np.ndarray, u: np.ndarray) -> str:
        """Name the state that moves fastest, relative to its size, at the last finite output."""
        finite = out[np.isfinite(out).all(axis=1)]
        if not len(finite):
            return "No finite state was reached."
        y = np.ascontiguousarray(finite[-1])
        speed = np.abs(self.rhs(0.0, y, u)) / (np.abs(y) + self.atol)
        return f"Fastest state: {self.compiled.model.state_names[int(np.argmax(speed))]}."
