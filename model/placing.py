"""The initial states of patients, compiled.

The compiled form of the plain iteration in `mscrenal.model.initial`, which says what is solved and why; a test holds the
two together. The linear systems are solved by a static sparse LU without pivoting, and where that loses accuracy the
plain form takes over. As `mscrenal.model.stepper`, it is imported when a model is first compiled, and knows the
model through its kernels and tables alone.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import numba as nb
import numpy as np
from numba.core import types

from mscrenal.model.stepper import (
    DERIVE,
    N_CONSTANTS,
    N_JAC,
    N_OBSERVABLES,
    N_SEEN_JAC,
    OBSERVE,
    OBSERVE_SLOPES,
    RATES,
    SLOPES,
    SYSTEM,
    M,
    call3,
    jit,
)


class PlacementTables(NamedTuple):
    """The square system of `mscrenal.model.placement` as positions, all int32 but `healthy`.

    Attributes
    ----------
    states : (n_unknown,) state of each unknown; `rates` : (n_unknown,) state whose balance is its equation, -1 for none;
    diagonal : (n_unknown,) position of the diagonal in the factorisation.
    from_jac : (., 2) Jacobian entry and position; `from_seen` : (., 3) entry, position, 0 for GFR and 1 for UACR.
    history : (n_history,) rows of states with a history; `healthy` : (n_history,) their healthy values.
    pivots … up_terms : the factorisation as lists of operations, `mscrenal.model.sparse.StaticLU.programme`.
    special : observables GFR and UACR, rows of nephrons, podocytes, β cells, size of the factorisation, then the states
    and parameters of `mscrenal.model.placement.SPECIAL`.
    """

    states: np.ndarray
    rates: np.ndarray
    diagonal: np.ndarray
    from_jac: np.ndarray
    from_seen: np.ndarray
    history: np.ndarray
    healthy: np.ndarray
    pivots: np.ndarray
    lowers: np.ndarray
    starts: np.ndarray
    targets: np.ndarray
    uppers: np.ndarray
    down: np.ndarray
    down_starts: np.ndarray
    down_terms: np.ndarray
    up: np.ndarray
    up_starts: np.ndarray
    up_terms: np.ndarray
    special: np.ndarray


GFR_SEEN, UACR_SEEN, GFR_ROW, UACR_ROW, BETA_ROW, N_PLACE_LU = range(6)
Y_BETA_CELLS, Y_GLUCOSE, Y_CREATININE, Y_AUTOIMMUNITY = range(6, 10)
P_BETA_SET, P_GLUCOSE_GOAL, P_INSULIN_START, P_CREATININE_GENERATION, P_LUPUS, P_GFR_HEALTHY = range(10, 16)
PLACED, NO_STATE, NO_PIVOT = 0, 1, 2
MOST_ITERATIONS = 200
TOLERANCE = 1e-11


@jit
def factor_by(w, pivots, lowers, starts, targets, uppers):
    """Factorise in place by a list of operations."""
    for e in range(pivots.shape[0]):
        m = w[lowers[e]] / w[pivots[e]]
        w[lowers[e]] = m
        for q in range(starts[e], starts[e + 1]):
            w[targets[q]] -= m * w[uppers[q]]


@jit
def solve_by(w, b, down, down_starts, down_terms, up, up_starts, up_terms):
    """Solve in place by a list of operations."""
    for e in range(down.shape[0]):
        total = b[down[e, 0]]
        for q in range(down_starts[e], down_starts[e + 1]):
            total -= w[down_terms[q, 1]] * b[down_terms[q, 0]]
        b[down[e, 0]] = total
    for e in range(up.shape[0]):
        total = b[up[e, 0]]
        for q in range(up_starts[e], up_starts[e + 1]):
            total -= w[up_terms[q, 1]] * b[up_terms[q, 0]]
        b[up[e, 0]] = total / w[up[e, 1]]


@jit
def balance(system, tables, y, d, pulls, gfr, uacr, f, jv, o, oj, r, m):
    """Residual r (n_unknown,) and its derivative m (n_place_lu,) at a trial state; returns the size of r."""
    call3(system.kernels[RATES], y, d, f)
    call3(system.kernels[SLOPES], y, d, jv)
    call3(system.kernels[OBSERVE], y, d, o)
    call3(system.kernels[OBSERVE_SLOPES], y, d, oj)
    m[:] = 0.0
    for k in range(tables.from_jac.shape[0]):
        m[tables.from_jac[k, 1]] = jv[tables.from_jac[k, 0]]
    # A trial beyond the range of the model has no logarithm; NaN makes the iteration back off.
    scale = (1.0 / o[tables.special[GFR_SEEN]], 1.0 / o[tables.special[UACR_SEEN]])
    for k in range(tables.from_seen.shape[0]):
        m[tables.from_seen[k, 1]] = oj[tables.from_seen[k, 0]] * scale[tables.from_seen[k, 2]]
    for row in range(tables.states.shape[0]):
        if tables.rates[row] >= 0:
            r[row] = f[tables.rates[row]]
    for k in range(tables.history.shape[0]):
        row = tables.history[k]
        r[row] -= pulls[k] * (y[tables.states[row]] - tables.healthy[k])
        m[tables.diagonal[row]] -= pulls[k]
    r[tables.special[GFR_ROW]] = (
        log(o[tables.special[GFR_SEEN]] / gfr) if o[tables.special[GFR_SEEN]] > 0.0 else np.nan
    )
    r[tables.special[UACR_ROW]] = (
        log(o[tables.special[UACR_SEEN]] / uacr) if o[tables.special[UACR_SEEN]] > 0.0 else np.nan
    )
    size = 0.0
    for row in range(tables.states.shape[0]):
        part = abs(r[row]) / max(abs(m[tables.diagonal[row]]), 1e-12)
        if not part <= size:
            size = part
            if part != part:
                break
    return size


@jit
def place(system, tables, y, p, u, pulls, gfr, uacr, insulin, sledai, d, jv, o):
    """Find the state y (n_states,), from the trial in it, and the parameters in p that follow from it."""
    n = tables.states.shape[0]
    f, oj = np.empty(y.shape[0]), np.empty(system.sizes[N_SEEN_JAC])
    r, m, w, change, before = (
        np.empty(n),
        np.empty(tables.special[N_PLACE_LU]),
        np.empty(tables.special[N_PLACE_LU]),
        np.empty(n),
        np.empty(n),
    )
    call3(system.kernels[DERIVE], p, u, d)
    step = 1.0
    size = balance(system, tables, y, d, pulls, gfr, uacr, f, jv, o, oj, r, m)
    iterations = 0
    while not size < TOLERANCE:
        iterations += 1
        if iterations > MOST_ITERATIONS or step < 1e-14:
            return NO_STATE
        w[:] = m
        for row in range(n):
            change[row] = -r[row]
            if tables.rates[row] >= 0 and row != tables.special[BETA_ROW]:
                w[tables.diagonal[row]] -= 1.0 / step
        factor_by(w, tables.pivots, tables.lowers, tables.starts, tables.targets, tables.uppers)
        solve_by(
            w, change, tables.down, tables.down_starts, tables.down_terms, tables.up, tables.up_starts,
            tables.up_terms,
        )  # fmt: skip
        for row in range(n):
            value = y[tables.states[row]]
            before[row] = value
            # No step may take a state through zero, nor more than double it.
            y[tables.states[row]] = min(max(value + change[row], 0.3 * value), max(3.0 * value, value + 1.0))
        new = balance(system, tables, y, d, pulls, gfr, uacr, f, jv, o, oj, r, m)
        if not new < np.inf:
            for row in range(n):
                y[tables.states[row]] = before[row]
            step *= 0.1
            size = balance(system, tables, y, d, pulls, gfr, uacr, f, jv, o, oj, r, m)
            continue
        # As long as the residual does not grow the pseudo-time step may; in the end this is Newton.
        step = min(step * (4.0 if new < 1.5 * size else 0.25), 1e12)
        size = new
    p[tables.special[P_BETA_SET]] = y[tables.special[Y_BETA_CELLS]]
    p[tables.special[P_GLUCOSE_GOAL]] = y[tables.special[Y_GLUCOSE]]
    if insulin > 0.0:
        p[tables.special[P_INSULIN_START]] = insulin
    p[tables.special[P_CREATININE_GENERATION]] = (
        o[tables.special[GFR_SEEN]] / p[tables.special[P_GFR_HEALTHY]] * y[tables.special[Y_CREATININE]]
    )
    if sledai > 0.0:
        # The balance of autoimmunity is linear in the lupus drive.
        p[tables.special[P_LUPUS]] = 1.0
        call3(system.kernels[DERIVE], p, u, d)
        call3(system.kernels[RATES], y, d, f)
        driven = f[tables.special[Y_AUTOIMMUNITY]]
        p[tables.special[P_LUPUS]] = 0.0
        call3(system.kernels[DERIVE], p, u, d)
        call3(system.kernels[RATES], y, d, f)
        p[tables.special[P_LUPUS]] = f[tables.special[Y_AUTOIMMUNITY]] / (
            f[tables.special[Y_AUTOIMMUNITY]] - driven
        )
    return PLACED


@jit
def place_all(system, tables, subjects, initial, backgrounds, wanted, pulls, codes):
    """Place each subject: parameters (n, n_parameters) and trial states (n, n_states) are completed in place.

    wanted : (n, 4): GFR, UACR, insulin share, SLEDAI; pulls : (n, n_history); codes : int64 (n,).
    """
    sizes = system.sizes
    d, o, jv = np.empty(sizes[N_CONSTANTS]), np.empty(sizes[N_OBSERVABLES]), np.empty(sizes[N_JAC])
    for j in range(subjects.shape[0]):
        codes[j] = place(
            system,
            tables,
            initial[j],
            subjects[j],
            backgrounds[j],
            pulls[j],
            wanted[j, 0],
            wanted[j, 1],
            wanted[j, 2],
            wanted[j, 3],
            d,
            jv,
            o,
        )


_ROWS, _TABLE = nb.int32[::1], nb.int32[:, ::1]
TABLES = types.NamedTuple(
    [*[_ROWS] * 3, _TABLE, _TABLE, _ROWS, nb.float64[::1], *[_ROWS] * 5, *[_TABLE, _ROWS, _TABLE] * 2, _ROWS],
    PlacementTables,
)


def compile_all() -> None:
    """Compile what Python calls, or load it from disk."""
    place_all.compile((SYSTEM, TABLES, M, M, M, M, M, nb.int64[::1]))
