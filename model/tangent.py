"""Forward sensitivities, compiled.

Along a step of the state, which is made by Rodas4 as ever, the sensitivities S = dy/dθ obey the linear system
S' = J(t) S + (∂f/∂p)(t) dp/dθ. They are carried by SDIRK4, a stiffly accurate L-stable method of order 4 with five stages
and an embedded formula of order 3 (Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.6, table
6.5): at each stage one sparse matrix is factorised, and it serves all parameters. The state at the stages comes from the
interpolant of the step. The step is accepted if the errors of the state and of every sensitivity are.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mscrenal.model.stepper import (
    AT,
    BUDGET,
    CLEAN,
    DERIVE,
    DERIVE_MORE,
    F0,
    GAMMA,
    LONGEST,
    N_ALL_CONSTANTS,
    N_BY_RATE,
    N_BY_SEEN,
    N_JAC,
    N_LU,
    N_OBSERVABLES,
    N_SEEN_JAC,
    NON_FINITE,
    OBSERVE,
    OBSERVE_BY_PARAMETER,
    OBSERVE_SLOPES,
    OK,
    PIVOT_LOST,
    RATES,
    RATES_BY_PARAMETER,
    SAFETY,
    SHORTEST,
    SHRINK,
    SLOPES,
    SYSTEM,
    UNDERFLOW,
    WORK_ROWS,
    F,
    M,
    V,
    Z,
    accept,
    at_fault,
    call3,
    factorised,
    first_step,
    floor_of,
    growth,
    interpolate,
    jit,
    lowest,
    rodas,
    spread,
)


class TangentTables(NamedTuple):
    """Positions that the sensitivities need beside those of `System`, all int32.

    Attributes
    ----------
    rate_rows : (n_by_rate,) state, of each derivative of a rate by a parameter; `observed_rows` : (n_by_seen,) observable.
    down … up_terms : the solves as lists of operations, `mscrenal.model.sparse.StaticLU.programme`.
    """

    rate_rows: np.ndarray
    observed_rows: np.ndarray
    down: np.ndarray
    down_starts: np.ndarray
    down_terms: np.ndarray
    up: np.ndarray
    up_starts: np.ndarray
    up_terms: np.ndarray


STAGES = 5
# A derivative is asked for fewer digits than its value: what is made of it, a direction to move in, needs no more.
SLACK = 10.0
LANES = 8  # sensitivities that are carried together: two registers of a processor with AVX
VECTOR = ir.VectorType(ir.DoubleType(), LANES)
STAGE_AT = (0.25, 0.75, 0.55, 0.5, 1.0)
S21 = 1.0 / 2.0
S31, S32 = 17.0 / 50.0, -1.0 / 25.0
S41, S42, S43 = 371.0 / 1360.0, -137.0 / 2720.0, 15.0 / 544.0
S51, S52, S53, S54 = 25.0 / 24.0, -49.0 / 48.0, 125.0 / 16.0, -85.0 / 12.0
E1, E2, E3, E5 = -3.0 / 16.0, -27.0 / 32.0, 25.0 / 32.0, 1.0 / 4.0


@jit
def constants_of(system, p, u, e):
    """All constants of an edge: those of the core first."""
    call3(system.kernels[DERIVE], p, u, e)
    call3(system.kernels[DERIVE_MORE], p, u, e)


def _lanes(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> Any:
    """Pointer to the LANES numbers of one row of an array (n * LANES,)."""
    data = context.make_array(kind)(context, builder, array).data
    at = builder.gep(data, [builder.mul(row, ir.Constant(ir.IntType(64), LANES))])
    return builder.bitcast(at, VECTOR.as_pointer())


def _splat(builder: Any, x: Any) -> Any:
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), zeros)


@intrinsic
def add_row(typing: Any, target: Any, i: Any, source: Any, k: Any, x: Any) -> Any:
    """target[i] += x * source[k], rows of LANES numbers; written as vectors, which numba does not find by itself."""

    def call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        into = _lanes(context, builder, signature.args[0], args[0], args[1])
        row = builder.load(_lanes(context, builder, signature.args[2], args[2], args[3]), align=8)
        product = builder.fmul(_splat(builder, args[4]), row, flags=("contract",))
        total = builder.fadd(builder.load(into, align=8), product, flags=("contract",))
        builder.store(total, into, align=8)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.float64), call


@intrinsic
def solve_row(typing: Any, b: Any, i: Any, w: Any, terms: Any, start: Any, stop: Any, scale: Any) -> Any:
    """b[i] = (b[i] - Σ w[terms[q, 1]] * b[terms[q, 0]]) * scale over q from start to stop, rows of LANES numbers.

    The sum stays in registers: through memory each term would wait for the one before it to be written.
    """

    def call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        target = _lanes(context, builder, kinds[0], args[0], args[1])
        weights = context.make_array(kinds[2])(context, builder, args[2]).data
        table = context.make_array(kinds[3])(context, builder, args[3]).data
        total = cgutils.alloca_once_value(builder, builder.load(target, align=8))
        one, long = ir.Constant(ir.IntType(64), 1), ir.IntType(64)
        with cgutils.for_range(builder, args[5], start=args[4]) as loop:
            pair = builder.shl(loop.index, one)
            k = builder.sext(builder.load(builder.gep(table, [pair])), long)
            at = builder.sext(builder.load(builder.gep(table, [builder.add(pair, one)])), long)
            x = builder.fneg(builder.load(builder.gep(weights, [at])))
            row = builder.load(_lanes(context, builder, kinds[0], args[0], k), align=8)
            product = builder.fmul(_splat(builder, x), row, flags=("contract",))
            builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
        builder.store(builder.fmul(_splat(builder, args[6]), builder.load(total)), target, align=8)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(b, integer, w, terms, integer, integer, types.float64), call


@jit
def solve_block(tables, w, b):
    """Solve for the LANES columns of b (n_states * LANES,) in place, w factorised with reciprocal pivots."""
    starts = tables.down_starts
    for e in range(tables.down.shape[0]):
        if starts[e] < starts[e + 1]:
            solve_row(b, tables.down[e, 0], w, tables.down_terms, starts[e], starts[e + 1], 1.0)
    starts = tables.up_starts
    for e in range(tables.up.shape[0]):
        solve_row(b, tables.up[e, 0], w, tables.up_terms, starts[e], starts[e + 1], w[tables.up[e, 1]])


@jit
def stage_matrices(system, h, h_old, e, y, work, jw, use, jv, ws, by_rate, forces):
    """At each stage of a step from y the factorised matrix, into ws (STAGES, n_lu + 1), and the used entries of ∂f/∂p, into
    forces (STAGES, n_used). The state at the stages is that of the interpolant. False if a pivot is lost.
    """
    at = work[AT]
    for k in range(STAGES):
        if k == STAGES - 1:
            at[:] = work[Z]
        else:
            interpolate(system, at, STAGE_AT[k] * h, h, h_old, y, work, jw)
        call3(system.kernels[SLOPES], at, e, jv)
        spread(system, jv, ws[k])
        if not factorised(system, h, ws[k]):
            return False
        call3(system.kernels[RATES_BY_PARAMETER], at, e, by_rate)
        for x in range(use.shape[0]):
            forces[k, x] = by_rate[use[x, 0]]
    return True


@jit
def carry(tables, s, h, use, q, ws, forces, stages, trial, rtol, atol):
    """Some sensitivities s (n_states * LANES,) over a step: into stages[STAGES]; returns the largest error."""
    size = s.shape[0]
    inverse = 1.0 / (GAMMA * h)
    new = stages[STAGES]
    k1, k2, k3, k4, k5 = stages[0], stages[1], stages[2], stages[3], stages[4]
    for k in range(STAGES):
        # Branches outside the loops, so that each of these runs over vectors.
        if k == 0:
            for i in range(size):
                trial[i] = s[i]
        elif k == 1:
            for i in range(size):
                trial[i] = s[i] + h * (S21 * k1[i])
        elif k == 2:
            for i in range(size):
                trial[i] = s[i] + h * (S31 * k1[i] + S32 * k2[i])
        elif k == 3:
            for i in range(size):
                trial[i] = s[i] + h * (S41 * k1[i] + S42 * k2[i] + S43 * k3[i])
        else:
            for i in range(size):
                trial[i] = s[i] + h * (S51 * k1[i] + S52 * k2[i] + S53 * k3[i] + S54 * k4[i])
        for i in range(size):
            new[i] = inverse * trial[i]
        for x in range(use.shape[0]):
            add_row(new, tables.rate_rows[use[x, 0]], q, use[x, 1], forces[k, x])
        solve_block(tables, ws[k], new)
        slope = stages[k]
        for i in range(size):
            slope[i] = inverse * (new[i] - trial[i])
    # The embedded formula is not damped in stiff directions; solving once more with the matrix of the last stage is.
    for i in range(size):
        trial[i] = (1.0 / GAMMA) * (E1 * k1[i] + E2 * k2[i] + E3 * k3[i] + E5 * k5[i])
    solve_block(tables, ws[STAGES - 1], trial)
    for i in range(size):
        ratio = trial[i] / (atol + rtol * max(abs(s[i]), abs(new[i])))
        trial[i] = ratio * ratio
    totals = k1[:LANES]
    totals[:] = 0.0
    for i in range(size // LANES):
        add_row(totals, 0, trial, i, 1.0)
    worst = 0.0
    for c in range(LANES):
        if not totals[c] <= worst:
            worst = totals[c]
            if worst != worst:
                break
    return sqrt(worst / (size // LANES))


@jit
def advance_with(
    system, tables, y, s, e, t, end, h, rtol, atol, most, use, q, work, jv, w, by_rate, ws, forces, stages,
    trial, fault,
):  # fmt: skip
    """Integrate y and s (n_blocks, n_states * LANES) in place from t to end, inputs constant; as `advance`, without outputs."""
    z, f, f0 = work[Z], work[F], work[F0]
    jw = np.empty(w.shape[0])
    moving = np.empty(0)
    steps = 0
    rejected = False
    h_old, error_old = 0.0, 1.0
    call3(system.kernels[RATES], y, e, f0)
    while t < end:
        if end - t < SHORTEST:
            # As `advance`; a sensitivity moves by less than its rounding.
            for i in range(y.shape[0]):
                y[i] += (end - t) * f0[i]
            return OK, end, h, steps
        if steps >= most:
            return BUDGET, t, h, steps
        steps += 1
        last = t + 1.0001 * h >= end
        wish = 0.0 if rejected else h
        if last:
            h = end - t
        call3(system.kernels[SLOPES], y, e, jv)
        spread(system, jv, jw)
        for i in range(w.shape[0]):
            w[i] = jw[i]
        error = -1.0  # of a lost pivot
        if factorised(system, h, w):
            error = rodas(system, y, e, h, w, work, moving, rtol, atol)
            if error <= 1.0:
                call3(system.kernels[RATES], z, e, f)
                if stage_matrices(system, h, h_old, e, y, work, jw, use, jv, ws, by_rate, forces):
                    for x in range(s.shape[0]):
                        rtol_s, atol_s = SLACK * rtol, SLACK * atol
                        worse = carry(
                            tables, s[x], h, use, q[x], ws, forces, stages[x], trial, rtol_s, atol_s
                        )
                        if not worse <= error:
                            error = worse
                            if not error <= 1.0:
                                break
                else:
                    error = -1.0
        if not 0.0 <= error <= 1.0:
            rejected = True
            lost = error < 0.0 and w[w.shape[0] - 1] == w[w.shape[0] - 1]
            h *= max(SHRINK, SAFETY * error**-0.25) if 1.0 < error < 1e30 else 0.1
            if h < SHORTEST or t + 0.01 * h <= t:
                fault[0] = at_fault(f0, work[5], y, z, rtol, atol)
                return PIVOT_LOST if lost else UNDERFLOW if error >= 0.0 else NON_FINITE, t, h, steps
            continue
        accept(y, work)
        for x in range(s.shape[0]):
            s[x] = stages[x, STAGES]
        t = end if last else t + h
        grow = growth(h, h_old, error, error_old, rejected)
        rejected = False
        h_old, error_old = h, max(1e-2, error)
        # A step cut short by an output says little of the next.
        h = min(max(h * grow, wish) if last else h * grow, LONGEST)
    return OK, t, h, steps


@jit
def emit_with(
    system, tables, y, s, e, seen_row, slopes_row, picked, use_seen, q, o, oj, by_seen, floor, clean
):
    """Observables of one time and their derivatives, slopes_row (n_picked, n_blocks, LANES); as `emit`."""
    fine = True
    for i in range(y.shape[0]):
        if not y[i] >= floor:
            fine = False
        clean[i] = max(y[i], 0.0)
    call3(system.kernels[OBSERVE], clean, e, o)
    call3(system.kernels[OBSERVE_SLOPES], clean, e, oj)
    call3(system.kernels[OBSERVE_BY_PARAMETER], clean, e, by_seen)
    slopes_row[:] = 0.0
    for k in range(picked.shape[0]):
        seen_row[k] = o[picked[k]]
        for block in range(s.shape[0]):
            row = slopes_row[k, block]
            for x in range(oj.shape[0]):
                if system.seen_rows[x] == picked[k]:
                    add_row(row, 0, s[block], system.seen_columns[x], oj[x])
            for x in range(use_seen.shape[0]):
                if tables.observed_rows[use_seen[x, 0]] == picked[k]:
                    add_row(row, 0, q[block], use_seen[x, 1], by_seen[use_seen[x, 0]])
    return fine


@jit
def add_jump(system, tables, y, s, e, sign, use, q, jv, by_rate, f, jump, out):
    """Add ±(f, J s + (∂f/∂p) dp/dθ) under the constants e to jump (n_states,) and out (n_blocks, n_states * LANES)."""
    call3(system.kernels[RATES], y, e, f)
    call3(system.kernels[SLOPES], y, e, jv)
    call3(system.kernels[RATES_BY_PARAMETER], y, e, by_rate)
    for i in range(y.shape[0]):
        jump[i] += sign * f[i]
    for block in range(s.shape[0]):
        for x in range(jv.shape[0]):
            add_row(out[block], system.jac_rows[x], s[block], system.jac_columns[x], sign * jv[x])
        for k in range(use.shape[0]):
            add_row(out[block], tables.rate_rows[use[k, 0]], q[block], use[k, 1], sign * by_rate[use[k, 0]])


@jit
def integrate_with(
    system, tables, y, s, p, q, use, use_seen, edges, inputs, boluses, resets, times, picked, rtol, atol,
    most, seen, seen_slopes, fault,
):  # fmt: skip
    """One subject under one schedule with its sensitivities; as `integrate`, every output time the end of a step.

    s : (n_blocks, n_states * LANES), dy/dθ at the start; q : (n_blocks, n_moving * LANES), dp/dθ of the parameters that move;
    use, use_seen : (., 2), entries of the derivatives of rates and observables by those parameters, and their rows in q.
    seen : (n_times, n_picked); seen_slopes : (n_times, n_picked, n_blocks, LANES).
    """
    n_blocks, n = s.shape[0], y.shape[0]
    sizes = system.sizes
    e, u = np.empty(sizes[N_ALL_CONSTANTS]), np.empty(inputs.shape[1])
    work, jv, w = np.empty((WORK_ROWS, n)), np.empty(sizes[N_JAC]), np.empty(sizes[N_LU])
    by_rate, by_seen = np.empty(sizes[N_BY_RATE]), np.empty(sizes[N_BY_SEEN])
    o, oj = np.empty(sizes[N_OBSERVABLES]), np.empty(sizes[N_SEEN_JAC])
    ws, forces = np.empty((STAGES, sizes[N_LU])), np.empty((STAGES, use.shape[0]))
    stages, trial = np.empty((n_blocks, STAGES + 1, n * LANES)), np.empty(n * LANES)
    jump, leap = np.empty(n), np.empty(s.shape)
    y_start, s_start = y.copy(), s.copy()
    floor = floor_of(atol)
    moving = np.empty(0)
    horizon = times[times.shape[0] - 1]
    cursor, total = 0, 0
    t = edges[0]
    for x in range(edges.shape[0]):
        if edges[x] > horizon:
            break  # what is given later shows nowhere
        t = edges[x]
        stop = min(edges[x + 1], horizon) if x + 1 < edges.shape[0] else horizon
        for i in range(u.shape[0]):
            u[i] = inputs[x, i]
        constants_of(system, p, u, e)
        if cursor < times.shape[0] and times[cursor] == t:
            if not emit_with(
                system, tables, y, s, e, seen[cursor], seen_slopes[cursor], picked, use_seen, q, o, oj, by_seen,
                floor, work[CLEAN],
            ):  # fmt: skip
                fault[0] = lowest(y)
                return NON_FINITE, t, total
            cursor += 1
        if stop <= t:
            break
        if resets[x]:
            y[:] = y_start
            s[:] = s_start
        if np.any(boluses[x]):
            jump[:] = 0.0
            leap[:] = 0.0
            add_jump(system, tables, y, s, e, -1.0, use, q, jv, by_rate, work[F], jump, leap)
            for i in range(u.shape[0]):
                u[i] += boluses[x, i]
            constants_of(system, p, u, e)
            add_jump(system, tables, y, s, e, 1.0, use, q, jv, by_rate, work[F], jump, leap)
            y += jump
            s += leap
            for i in range(u.shape[0]):
                u[i] = inputs[x, i]
            constants_of(system, p, u, e)
        h = first_step(system, y, e, stop - t, rtol, atol, work[F], work[Z], work[F0], moving)
        while t < stop:
            end = min(stop, times[cursor]) if cursor < times.shape[0] else stop
            code, t, h, steps = advance_with(
                system, tables, y, s, e, t, end, h, rtol, atol, most - total, use, q, work, jv, w, by_rate,
                ws, forces, stages, trial, fault,
            )  # fmt: skip
            total += steps
            if code != OK:
                return code, t, total
            if cursor < times.shape[0] and times[cursor] == t and t < stop:
                if not emit_with(
                    system, tables, y, s, e, seen[cursor], seen_slopes[cursor], picked, use_seen, q, o, oj, by_seen,
                    floor, work[CLEAN],
                ):  # fmt: skip
                    fault[0] = lowest(y)
                    return NON_FINITE, t, total
                cursor += 1
    if cursor < times.shape[0] and not emit_with(
        system, tables, y, s, e, seen[cursor], seen_slopes[cursor], picked, use_seen, q, o, oj, by_seen,
        floor, work[CLEAN],
    ):  # fmt: skip
        fault[0] = lowest(y)
        return NON_FINITE, t, total
    return OK, t, total


_ROWS, _TABLE = nb.int32[::1], nb.int32[:, ::1]
TABLES = types.NamedTuple([_ROWS, _ROWS] + [_TABLE, _ROWS, _TABLE] * 2, TangentTables)


def compile_all() -> None:
    """Compile what Python calls, or load it from disk."""
    number, results = nb.float64, (M, nb.float64[:, :, :, ::1], nb.int64[::1])
    course = (V, M, M, nb.boolean[::1], V, _ROWS)  # edges, inputs, boluses, resets, times, picked
    start = (V, M, V, M, _TABLE, _TABLE)  # y, s, p, q, use, use_seen
    integrate_with.compile((SYSTEM, TABLES, *start, *course, number, number, nb.int64, *results))
