"""Integrate one subject with the compiled Rosenbrock method (`mscrenal.model.stepper`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from mscrenal.model.build import Model
from mscrenal.model.declare import nearest
from mscrenal.model.kernels import Compiled

__all__ = ["ATOL", "MAX_STEPS", "RTOL", "STATUSES", "Schedule", "Solution", "explain_failure", "solve"]

# With these eGFR and UACR of the shipped scenarios err by less than 1e-6 (docs/numerics.md): two arms of one patient
# are compared with each other, and differ by little.
RTOL, ATOL = 1e-5, 1e-8
# And with these by about 1e-5, for populations, in which patients differ by much more.
POPULATION_RTOL, POPULATION_ATOL = 1e-4, 1e-6
# Of the whole horizon: a hundred times what the shipped scenarios take.
MAX_STEPS = 20_000
# A state may undershoot zero by round-off and by what the tolerance allows; more is a failure.
NEGATIVE_TOLERANCE = 1e-6
# In the order of the codes of the integrator.
STATUSES = ("ok", "budget", "step-underflow", "non-finite", "pivot-lost", "initial-state")
REASONS = {
    "budget": "the budget of {budget} steps is spent. Shorten the horizon, or raise max_steps",
    "step-underflow": "the step fell below what the time can resolve",
    "non-finite": "a rate is no finite number, or a state fell below zero",
    "pivot-lost": "the factorisation lost its accuracy at every step size",
}


@dataclass(frozen=True)
class Schedule:
    """What is given from outside, as a piecewise-constant function of time.

    Attributes
    ----------
    edges : ndarray (n_edges,)
        Times (days) from which a row of `inputs` holds, increasing; the first is the start.
    inputs : ndarray (n_edges, n_inputs)
    boluses : ndarray (n_edges, n_inputs)
        Amounts given at once at an edge (an infusion of no duration), in input units times day.
    resets : ndarray of bool (n_edges,)
        Edges at which the state goes back to the initial one, before anything is given; default none.
    """

    edges: np.ndarray
    inputs: np.ndarray
    boluses: np.ndarray
    resets: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        if len(self.resets) == 0:
            object.__setattr__(self, "resets", np.zeros(len(self.edges), dtype=np.bool_))
        for name in ("edges", "inputs", "boluses"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))


@dataclass(frozen=True)
class Solution:
    """States (n_times, n_states) and observables (n_times, n_observables) at the output times; NaN after a failure.

    `status` is one of `STATUSES`; `message` says when and where. `final` is the state at the last output
    time, negative round-off included; `reached` the day up to which it came; `steps` counts the steps tried, rejected
    ones included.
    """

    states: np.ndarray
    observables: np.ndarray
    status: str
    message: str
    final: np.ndarray
    reached: float
    steps: int = 0


def solve(
    compiled: Compiled,
    parameters: np.ndarray,
    initial: np.ndarray,
    schedule: Schedule,
    times: np.ndarray,
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
    max_steps: int = MAX_STEPS,
    hold: Collection[str] = (),
) -> Solution:
    """Integrate one subject.

    Parameters
    ----------
    parameters : ndarray (n_parameters,)
    initial : ndarray (n_states,)
        State at ``schedule.edges[0]``, before any bolus there.
    times : ndarray (n_times,)
        Output times in days, increasing, none before ``schedule.edges[0]``. An output at the time of
        a bolus is that before it, and the inputs that it sees are those after it.
    rtol, atol : float
        Tolerances of each state, which is of order 1.
    max_steps : int
        Budget of steps for the whole horizon.
    hold : collection of str
        States that stay what they are.

    Returns
    -------
    Solution
        A failure is a status, never an exception and never a number.
    """
    from mscrenal.model import stepper

    model, sizes = compiled.model, compiled.system.sizes
    n_observables = len(model.observables)
    seen = np.full((len(times), n_observables), np.nan)
    states = np.full((len(times), len(model.states)), np.nan)
    y = np.array(initial, dtype=np.float64)
    fault = np.zeros(1, dtype=np.int64)
    code, reached, steps = stepper.integrate(
        compiled.system, y, parameters, schedule.edges, schedule.inputs, schedule.boluses, schedule.resets,
        np.ascontiguousarray(times, dtype=np.float64), np.arange(n_observables, dtype=np.int32), seen, states,
        rtol, atol, max_steps, _moving(model, hold), np.empty(sizes[stepper.N_CONSTANTS]),
        np.empty(schedule.inputs.shape[1]), np.empty((stepper.WORK_ROWS, len(model.states))),
        np.empty(sizes[stepper.N_JAC]), np.empty(sizes[stepper.N_LU]), np.empty(n_observables), fault,
    )  # fmt: skip
    status = STATUSES[int(code)]
    if status != "ok":
        # What was reached before the failure stays out of sight too: half a course is no result.
        states[:], seen[:] = np.nan, np.nan
        message = explain_failure(model, status, reached, int(fault[0]), max_steps)
        return Solution(states, seen, status, message, y, float(reached), int(steps))
    return Solution(states, seen, status, "", y, float(times[-1]), int(steps))


def explain_failure(model: Model, status: str, day: float, state: int, budget: int = MAX_STEPS) -> str:
    """What happened, when, and the state whose error was largest."""
    reason = REASONS[status].format(budget=f"{budget:,}")
    return f"stopped at day {day + 0.0:g}: {reason}. State at fault: {model.state_names[state]}."


def _moving(model: Model, hold: Collection[str]) -> np.ndarray:
    """1 for a state that moves, 0 for one that is held; empty if all move."""
    if not hold:
        return np.empty(0)
    moving = np.ones(len(model.states))
    for name in hold:
        if name not in model.index:
            raise ValueError(f"hold: no state {name!r}.{nearest(name, model.states)}")
        moving[model.index[name]] = 0.0
    return moving
