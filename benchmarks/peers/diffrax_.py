"""diffrax: stiff Runge-Kutta methods in JAX, float64, compiled by XLA.

Its own way with discontinuities is a step-size controller that is told of them (`jump_ts`); one solve then goes
through all doses. A population is the same solve under `vmap`; derivatives go forward (25 parameters, 98
outputs) through its `ForwardMode`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Before equinox is imported: a failure is to be a NaN, as calls back to Python keep XLA from caching what it
# compiled. It costs diffrax nothing.
os.environ.setdefault("EQX_ON_ERROR", "nan")

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from mscrenal.model.build import Model
from mscrenal.model.codegen import equations
from mscrenal.model.functions import EXCESS_WIDTH
from mscrenal.model.kernels import cache_folder

from .base import Simulator

jax.config.update("jax_enable_x64", True)
# XLA takes most of a minute for this model; a second run finds it compiled.
jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "benchmark_jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    # Kvaerno4 was slower than either at every error, and each takes most of a minute to compile.
    "Kvaerno3": {"method": diffrax.Kvaerno3},
    "Kvaerno5": {"method": diffrax.Kvaerno5},
}
GRADIENT_CONFIGURATIONS = CONFIGURATIONS
LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
GRADIENT_LADDER = (1e-3, 1e-4, 1e-5, 1e-6)
QUICK_TASKS = ("single",)  # a minute and a half of compilation stand before its derivatives
OWN_THREADS = True  # XLA spreads a batch over the cores by itself
MAX_STEPS = 4096


def _excess(d: jax.Array) -> jax.Array:
    # The positive part inside, or a derivative of 0 * infinity could come of the branch not taken.
    positive = jnp.maximum(d, 0.0)
    return positive * positive / (positive + EXCESS_WIDTH)


def jax_functions(structure: Model, observed: Sequence[str]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Right-hand side and observables as functions of y, p, u (arrays) that JAX can trace."""
    eq = equations(structure)
    known: dict[sp.Symbol, Any] = {}
    for name, expression in eq.quantities.items():
        known[eq.symbols[name]] = expression.xreplace(known)
    arguments = [
        [eq.symbols[name] for name in table]
        for table in (structure.states, structure.parameters, structure.inputs)
    ]

    def function(expressions: list[Any]) -> Callable[..., Any]:
        plain = [e.xreplace(known) for e in expressions]
        made = sp.lambdify(arguments, plain, modules=[{"Excess": _excess}, "jax"], cse=True)
        return lambda y, p, u: jnp.stack([jnp.asarray(x, dtype=float) for x in made(y, p, u)])

    return function(list(eq.derivatives.values())), function([eq.observables[n] for n in observed])


def version() -> str:
    """The version installed."""
    return diffrax.__version__


class Peer(Simulator):
    """One compiled solve for all cases and tolerances."""

    def __init__(self, problem: Any, configuration: str, cores: int = 1) -> None:
        super().__init__(problem, configuration, cores)
        settings = {**CONFIGURATIONS, **GRADIENT_CONFIGURATIONS}[configuration]
        self.method = settings["method"]()
        self.rhs, self.observe = jax_functions(problem.structure, ("egfr", "uacr"))
        self.columns = jnp.array(problem.gradient_columns)
        self.simulated = jax.jit(lambda y, p, rtol: self._solve(y, p, rtol))
        self.batched = jax.jit(jax.vmap(self._solve, in_axes=(0, 0, None)))
        self.differentiated = jax.jit(self._slopes)

    def _solve(self, y0: Any, p: Any, rtol: Any, adjoint: Any = None) -> Any:
        schedule, times = self.problem.schedule, self.problem.times
        edges, inputs = jnp.array(schedule.edges), jnp.array(schedule.inputs)

        def field(t: Any, y: Any, args: Any) -> Any:
            return self.rhs(y, p, inputs[jnp.searchsorted(edges, t, side="right") - 1])

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.method,
            t0=float(times[0]),
            t1=float(times[-1]),
            dt0=1e-4,
            y0=y0,
            saveat=diffrax.SaveAt(ts=jnp.array(times)),
            stepsize_controller=diffrax.ClipStepSizeController(
                diffrax.PIDController(rtol=rtol, atol=rtol), jump_ts=edges[1:]
            ),
            max_steps=MAX_STEPS,
            adjoint=adjoint or diffrax.DirectAdjoint(),
            throw=False,
        )
        levels = inputs[jnp.searchsorted(edges, jnp.array(times), side="right") - 1]
        return jax.vmap(lambda y, u: self.observe(y, p, u))(solution.ys, levels)

    def _slopes(self, y0: Any, p: Any, rtol: Any) -> Any:
        def values(chosen: Any) -> Any:
            out = self._solve(y0, p.at[self.columns].set(chosen), rtol, diffrax.ForwardMode())
            return out, out

        slopes, out = jax.jacfwd(values, has_aux=True)(p[self.columns])
        return out, slopes

    def simulate(self, case: int, rtol: float) -> np.ndarray:
        """One call of the jitted solve."""
        one = self.problem.cases[case]
        return np.asarray(self.simulated(one.state, one.parameters, rtol))

    def population(self, cases: Sequence[int], rtol: float) -> None:
        """All cases in one vmapped call."""
        table = self.problem.cases
        states = np.array([table[k].state for k in cases])
        parameters = np.array([table[k].parameters for k in cases])
        np.asarray(self.batched(states, parameters, rtol))

    def gradient(self, case: int, rtol: float) -> tuple[np.ndarray, np.ndarray]:
        """Values and forward derivatives of one case."""
        one = self.problem.cases[case]
        values, slopes = self.differentiated(one.state, one.parameters, rtol)
        return np.asarray(values), np.asarray(slopes)
