"""The integrator: a stiff method for any model whose kernels are compiled, one subject or a population.

Nothing here knows the model: kernels come as addresses of machine code (`mscrenal.model.codegen`) and are called through
them, so that numba compiles this file once per release and a change of the model costs the kernels alone. The
module is imported when a model is first compiled, not before, and numba keeps what it compiled on disk.

Rodas4, a stiffly accurate L-stable Rosenbrock method of order 4 with an embedded formula of order 3: Hairer and Wanner,
Solving Ordinary Differential Equations II, 2nd edition, 1996, section IV.7 and program RODAS (coefficient set 1).
Between two edges of a schedule the inputs are constant and the system is autonomous, so that the terms of the
time derivative vanish. Output between steps comes from a polynomial of higher order than the method's.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# No "fast" option here: what is inlined where would then change the last bit from one process to the next.
jit = nb.njit(cache=True, error_model="numpy", nogil=True)


class System(NamedTuple):
    """A compiled model as the integrator sees it.

    Attributes
    ----------
    kernels : int64 ndarray
        Addresses, in the order of the constants DERIVE to OBSERVE_BY_PARAMETER below.
    sizes : int64 ndarray
        Constants of an edge, observables, Jacobian entries, entries of the observables' derivative, entries of the
        factorisation; and of the sensitivities (0 without): all constants, entries by parameter of rates and of observables.
    jac_rows, jac_columns, jac_at : int32 ndarray (n_jac,)
        Of each Jacobian entry its place in the matrix and in the factorisation.
    diagonal_at : int32 ndarray (n_states,)
    seen_rows, seen_columns : int32 ndarray (n_seen_jac,)
    """

    kernels: np.ndarray
    sizes: np.ndarray
    jac_rows: np.ndarray
    jac_columns: np.ndarray
    jac_at: np.ndarray
    diagonal_at: np.ndarray
    seen_rows: np.ndarray
    seen_columns: np.ndarray


DERIVE, RATES, SLOPES, OBSERVE, OBSERVE_SLOPES, FACTOR, SOLVE = range(7)
DERIVE_MORE, RATES_BY_PARAMETER, OBSERVE_BY_PARAMETER = range(7, 10)
N_CONSTANTS, N_OBSERVABLES, N_JAC, N_SEEN_JAC, N_LU, N_ALL_CONSTANTS, N_BY_RATE, N_BY_SEEN = range(8)


def _caller(n: int) -> Any:
    """An intrinsic that calls a C function void(double *, …) of n arguments at an address, on the data of n arrays."""

    def call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        double = ir.DoubleType().as_pointer()
        function = ir.FunctionType(ir.VoidType(), [double] * n).as_pointer()
        pointers = [
            builder.bitcast(context.make_array(t)(context, builder, a).data, double)
            for t, a in zip(signature.args[1:], args[1:], strict=True)
        ]
        builder.call(builder.inttoptr(args[0], function), pointers)
        return context.get_dummy_value()

    return call


@intrinsic
def call2(typing: Any, address: Any, a: Any, b: Any) -> Any:
    """Call a kernel of two arrays."""
    return types.void(types.int64, a, b), _caller(2)


@intrinsic
def call1(typing: Any, address: Any, a: Any) -> Any:
    """Call a kernel of one array."""
    return types.void(types.int64, a), _caller(1)


@intrinsic
def call3(typing: Any, address: Any, a: Any, b: Any, c: Any) -> Any:
    """Call a kernel of three arrays."""
    return types.void(types.int64, a, b, c), _caller(3)


@jit
def kernel(address, a, b, c):
    """A kernel of three arrays, from Python."""
    call3(address, a, b, c)


OK, BUDGET, UNDERFLOW, NON_FINITE, PIVOT_LOST, NOT_PLACED = 0, 1, 2, 3, 4, 5
# Rows of the memory of one subject, (WORK_ROWS, n_states): six stages; the new state and its rate; the rate at the start of
# the step; a state between; the state before this step, and its rate; the first state of the course; an output.
Z, F, F0, AT, BEFORE, START, F_BEFORE, CLEAN = 6, 7, 8, 9, 10, 11, 12, 13
WORK_ROWS = 14
QUARTER = 91.3125  # days
# Days. Weeks-long steps of a patient who hardly changes cost little and show everything in between; and after an edge
# the first step finds what is fast (creatinine, a third of a day) before it grows, sixfold each time.
LONGEST, LONGEST_FIRST = 28.0, 0.05
# Outputs between steps are trusted where polynomials of degree 5 and 3 differ by less than this many tolerances.
TRUSTED = 10.0
FAST = 5.0  # steps times rate of decay, beyond which a state is a fast one in this step
SHORTEST = 1e-15  # days; a step of a tenth of a nanosecond has no hope left
GAMMA = 0.25
A21 = 1.544
A31, A32 = 0.9466785280815826, 0.2557011698983284
A41, A42, A43 = 3.314825187068521, 2.896124015972201, 0.9986419139977817
A51, A52, A53, A54 = 1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950
C21 = -5.6688
C31, C32 = -2.430093356833875, -0.2063599157091915
C41, C42, C43 = -0.1073529058151375, -9.594562251023355, -20.47028614809616
C51, C52, C53, C54 = 7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160
C61, C62, C63, C64, C65 = (
    8.083246795921522,
    -7.981132988064893,
    -31.52159432874371,
    16.31930543123136,
    -6.058818238834054,
)
D21, D22, D23, D24, D25 = (
    10.12623508344586,
    -7.487995877610167,
    -34.80091861555747,
    -7.992771707568823,
    1.025137723295662,
)
D31, D32, D33, D34, D35 = (
    -0.6762803392301253,
    6.087714651680015,
    16.43084320892478,
    24.76722511418386,
    -6.594389125716872,
)
# A pivot this small beside 1/(hγ), where each starts at or above it, has lost about eight digits.
LEAST_PIVOT = 1e-8
SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0
# Size of the first step's error that is aimed at: a sixth of a tolerance to the fourth power, so that few are rejected.
FIRST = 5e-4


@jit
def stage(system, y, d, w, k, f, moving):
    """Complete a stage: k = (1/(hγ) - J)⁻¹ (f(y) + k), where k holds the terms of the stages before."""
    call3(system.kernels[RATES], y, d, f)
    if moving.shape[0] > 0:
        for i in range(y.shape[0]):
            f[i] *= moving[i]
    for i in range(y.shape[0]):
        k[i] += f[i]
    call2(system.kernels[SOLVE], w, k)


@jit
def spread(system, jv, into):
    """-J in the layout of the factorisation, (n_lu + 1,), from its entries (n_jac,)."""
    for e in range(into.shape[0]):
        into[e] = 0.0
    for e in range(jv.shape[0]):
        into[system.jac_at[e]] = -jv[e]


@jit
def factorised(system, h, w):
    """Add 1/(hγ) to the diagonal of -J in w and factorise it; whether its pivots can be trusted."""
    inverse = 1.0 / (h * GAMMA)
    for i in range(system.diagonal_at.shape[0]):
        w[system.diagonal_at[i]] += inverse
    call1(system.kernels[FACTOR], w)
    return w[w.shape[0] - 1] > LEAST_PIVOT * inverse


@jit
def growth(h, h_old, error, error_old, rejected):
    """By how much the next step may be longer: the error of this step, and what the last two together say (Gustafsson)."""
    grow = min(GROW, max(SHRINK, SAFETY * error**-0.25)) if error > 0.0 else GROW
    if h_old > 0.0 and error > 0.0:
        grow = min(grow, max(SHRINK, SAFETY * h / h_old * (error_old / (error * error)) ** 0.25))
    return min(grow, 1.0) if rejected else grow


@jit
def rodas(system, y, d, h, w, work, moving, rtol, atol):
    """One step of length h from y: work[Z] becomes the new state, work[5] its error; returns the size of that.

    w : the factorised 1/(hγ) - J, (n_lu + 1,); work[F0] = f(y); work[0] to work[5] hold the stages afterwards.
    """
    k1, k2, k3, k4, k5, k6 = work[0], work[1], work[2], work[3], work[4], work[5]
    z, f, f0 = work[Z], work[F], work[F0]
    n = y.shape[0]
    g = 1.0 / h
    for i in range(n):
        k1[i] = f0[i]
    call2(system.kernels[SOLVE], w, k1)
    a, c = A21, C21 * g
    for i in range(n):
        z[i] = y[i] + a * k1[i]
        k2[i] = c * k1[i]
    stage(system, z, d, w, k2, f, moving)
    c1, c2 = C31 * g, C32 * g
    for i in range(n):
        z[i] = y[i] + A31 * k1[i] + A32 * k2[i]
        k3[i] = c1 * k1[i] + c2 * k2[i]
    stage(system, z, d, w, k3, f, moving)
    c1, c2, cc3 = C41 * g, C42 * g, C43 * g
    for i in range(n):
        z[i] = y[i] + A41 * k1[i] + A42 * k2[i] + A43 * k3[i]
        k4[i] = c1 * k1[i] + c2 * k2[i] + cc3 * k3[i]
    stage(system, z, d, w, k4, f, moving)
    c1, c2, cc3, cc4 = C51 * g, C52 * g, C53 * g, C54 * g
    for i in range(n):
        z[i] = y[i] + A51 * k1[i] + A52 * k2[i] + A53 * k3[i] + A54 * k4[i]
        k5[i] = c1 * k1[i] + c2 * k2[i] + cc3 * k3[i] + cc4 * k4[i]
    stage(system, z, d, w, k5, f, moving)
    c1, c2, cc3, cc4, cc5 = C61 * g, C62 * g, C63 * g, C64 * g, C65 * g
    for i in range(n):
        z[i] += k5[i]
        k6[i] = c1 * k1[i] + c2 * k2[i] + cc3 * k3[i] + cc4 * k4[i] + cc5 * k5[i]
    stage(system, z, d, w, k6, f, moving)
    error = 0.0
    for i in range(n):
        z[i] += k6[i]
        ratio = k6[i] / (atol + rtol * max(abs(y[i]), abs(z[i])))
        error += ratio * ratio
    return sqrt(error / n)


@jit
def first_step(system, y, d, end, rtol, atol, f, z, g, moving):
    """A first step after an edge, from the size of the first two derivatives: Hairer, Nørsett and Wanner, section II.4."""
    call3(system.kernels[RATES], y, d, f)
    if moving.shape[0] > 0:
        for i in range(y.shape[0]):
            f[i] *= moving[i]
    d0, d1 = 0.0, 0.0
    for i in range(y.shape[0]):
        scale = 1.0 / (atol + rtol * abs(y[i]))
        d0 += (y[i] * scale) ** 2
        d1 += (f[i] * scale) ** 2
    if not d1 > 0.0:
        return min(LONGEST_FIRST, end)
    d0, d1 = sqrt(d0 / y.shape[0]), sqrt(d1 / y.shape[0])
    h = min(0.01 * max(d0, 1.0) / d1, end)
    for i in range(y.shape[0]):
        z[i] = y[i] + h * f[i]
    call3(system.kernels[RATES], z, d, g)
    if moving.shape[0] > 0:
        for i in range(y.shape[0]):
            g[i] *= moving[i]
    d2 = 0.0
    for i in range(y.shape[0]):
        d2 += ((g[i] - f[i]) / (atol + rtol * abs(y[i]))) ** 2
    d2 = sqrt(d2 / y.shape[0]) / h
    return min(100.0 * h, (FIRST / max(d1, d2, 1e-15)) ** 0.25, LONGEST_FIRST, end)


@jit
def advance(
    system, y, d, t, end, h, rtol, atol, most, moving, times, cursor, picked, seen, states, work, jv, w, o,
    fault, longest,
):  # fmt: skip
    """Integrate y (n_states,) in place from t to end, inputs constant.

    Returns status, time reached, next step, cursor into `times`, steps taken. Outputs in [t, end) are written
    to `seen` (n_times, n_picked) and, if it has rows, `states` (n_times, n_states).
    """
    n = y.shape[0]
    z, f, f0, clean = work[Z], work[F], work[F0], work[CLEAN]
    n_times = times.shape[0]
    jw = np.empty(w.shape[0])
    steps = 0
    fresh, rejected = True, False
    h_old, error_old, wish, aimed = 0.0, 1.0, 0.0, False
    call3(system.kernels[RATES], y, d, f0)
    if moving.shape[0] > 0:
        for i in range(n):
            f0[i] *= moving[i]
    while t < end:
        if end - t < SHORTEST:
            # Two events as good as at once, or what a step that aimed at an output beside the end has left.
            while cursor < n_times and times[cursor] < end:
                emit(system, y, d, cursor, picked, seen, states, o, 0.0, clean)
                cursor += 1
            for i in range(n):
                y[i] += (end - t) * f0[i]
            return OK, end, h, cursor, steps
        if steps >= most:
            return BUDGET, t, h, cursor, steps
        steps += 1
        last = not aimed and t + 1.0001 * h >= end
        if last:
            h = end - t
        if fresh:
            call3(system.kernels[SLOPES], y, d, jv)
            if moving.shape[0] > 0:
                for e in range(jv.shape[0]):
                    jv[e] *= moving[system.jac_rows[e]]
            spread(system, jv, jw)
            fresh = False
        for e in range(w.shape[0]):
            w[e] = jw[e]
        if not factorised(system, h, w):
            rejected, aimed = True, False
            h *= 0.1
            if h < SHORTEST or t + h <= t:
                # A Jacobian with no finite numbers has no pivots either.
                fault[0] = lowest(f0)
                lost = w[w.shape[0] - 1] == w[w.shape[0] - 1]
                return PIVOT_LOST if lost else NON_FINITE, t, h, cursor, steps
            continue
        error = rodas(system, y, d, h, w, work, moving, rtol, atol)
        if not error <= 1.0:
            rejected, aimed = True, False
            # A step into nothing (a power of a negative number) says nothing of how far is too far.
            h *= max(SHRINK, SAFETY * error**-0.25) if error < 1e30 else 0.1
            if h < SHORTEST or t + 0.01 * h <= t:
                fault[0] = at_fault(f0, work[5], y, z, rtol, atol)
                return UNDERFLOW if error == error else NON_FINITE, t, h, cursor, steps
            continue
        # Rounding must not carry a step that aims at an output beyond it.
        reached = end if last else times[cursor] if aimed else t + h
        call3(system.kernels[RATES], z, d, f)
        if moving.shape[0] > 0:
            for i in range(n):
                f[i] *= moving[i]
        landing = False
        while cursor < n_times and times[cursor] < reached and not landing:
            x, at = times[cursor] - t, work[AT]
            interpolate(system, at, x, h, h_old, y, work, jw)
            landing = x >= SHORTEST and not trusted(system, at, x, h, h_old, y, work, jw, rtol, atol)
            if not landing:
                # An interpolated state may dip a little further; the mesh is checked where the segment ends.
                emit(system, at, d, cursor, picked, seen, states, o, 0.0, clean)
                cursor += 1
        if landing:
            # The step was good, but cannot be trusted in between: repeat it as far as the output.
            wish = max(wish, h)
            h, aimed = times[cursor] - t, True
            continue
        accept(y, work)
        t = reached
        fresh = True
        grow = growth(h, h_old, error, error_old, rejected)
        rejected, aimed = False, False
        h_old, error_old = h, max(1e-2, error)
        # A step cut short by an output says little of the next.
        h = min(max(h * grow, wish), longest)
        wish = 0.0
        # One at the end sees the inputs of the next segment, which is for the caller.
        if t < end and cursor < n_times and times[cursor] == t:
            emit(system, y, d, cursor, picked, seen, states, o, 0.0, clean)
            cursor += 1
    return OK, t, h, cursor, steps


@jit
def accept(y, work):
    """The new state becomes the state, and the old one that before."""
    for i in range(y.shape[0]):
        work[BEFORE, i], work[F_BEFORE, i] = y[i], work[F0, i]
        y[i], work[F0, i] = work[Z, i], work[F, i]


@jit
def interpolate(system, out, x, h, h_old, y, work, jw):
    """State at x after the start of a step of length h, before it is accepted.

    A polynomial of higher order than the method through the values and slopes at the ends of the step and, if there is one
    (h_old > 0), at the start of the step before: of degree 5, or 3. A state that decays within the step by Rodas4's
    own formula, from its stages: there a slope would multiply the error of the state by hλ.
    """
    z, f, f0, before, f_before = work[Z], work[F], work[F0], work[BEFORE], work[F_BEFORE]
    if h_old > 0.0:
        a, b, c = x + h_old, x, x - h
        l0 = b * c / (h_old * (h_old + h))
        l1 = -a * c / (h_old * h)
        l2 = a * b / ((h + h_old) * h)
        g0 = -1.0 / h_old - 1.0 / (h_old + h)
        g1 = 1.0 / h_old - 1.0 / h
        g2 = 1.0 / (h + h_old) + 1.0 / h
        l0, l1, l2 = l0 * l0, l1 * l1, l2 * l2
        v0, v1, v2 = (1.0 - 2.0 * a * g0) * l0, (1.0 - 2.0 * b * g1) * l1, (1.0 - 2.0 * c * g2) * l2
        s0, s1, s2 = a * l0, b * l1, c * l2
        for i in range(y.shape[0]):
            out[i] = v0 * before[i] + v1 * y[i] + v2 * z[i] + s0 * f_before[i] + s1 * f0[i] + s2 * f[i]
    else:
        v1, v2, s1, s2 = cubic(x, h)
        for i in range(y.shape[0]):
            out[i] = v1 * y[i] + v2 * z[i] + s1 * f0[i] + s2 * f[i]
    k1, k2, k3, k4, k5 = work[0], work[1], work[2], work[3], work[4]
    s = x / h
    r = 1.0 - s
    for i in range(y.shape[0]):
        if h * jw[system.diagonal_at[i]] > FAST:
            c3 = D21 * k1[i] + D22 * k2[i] + D23 * k3[i] + D24 * k4[i] + D25 * k5[i]
            c4 = D31 * k1[i] + D32 * k2[i] + D33 * k3[i] + D34 * k4[i] + D35 * k5[i]
            out[i] = y[i] * r + s * (z[i] + r * (c3 + s * c4))


@jit
def cubic(x, h):
    """Weights of the values and the slopes at the two ends of a step in the polynomial of degree 3."""
    s = x / h
    r = 1.0 - s
    return r * r * (1.0 + 2.0 * s), s * s * (3.0 - 2.0 * s), x * r * r, -x * s * r


@jit
def trusted(system, found, x, h, h_old, y, work, jw, rtol, atol):
    """Whether `interpolate` can be trusted: its polynomials of degree 5 and 3 agree well enough, in the states that are not fast."""
    if not h_old > 0.0:
        return False
    z, f, f0 = work[Z], work[F], work[F0]
    v1, v2, s1, s2 = cubic(x, h)
    for i in range(y.shape[0]):
        if not h * jw[system.diagonal_at[i]] > FAST:
            other = v1 * y[i] + v2 * z[i] + s1 * f0[i] + s2 * f[i]
            if not abs(found[i] - other) <= TRUSTED * (atol + rtol * abs(found[i])):
                return False
    return True


@jit
def at_fault(f, miss, y, z, rtol, atol):
    """The state whose rate is no number, or else that with the largest error."""
    worst, at = -1.0, lowest(f)
    if f[at] != f[at]:
        return at
    for i in range(y.shape[0]):
        ratio = abs(miss[i]) / (atol + rtol * max(abs(y[i]), abs(z[i])))
        if ratio != ratio:
            return i
        if ratio > worst:
            worst, at = ratio, i
    return at


@jit
def lowest(y):
    """The first state that is no number, or else that which lies lowest."""
    at = 0
    for i in range(y.shape[0]):
        if y[i] != y[i]:
            return i
        if y[i] < y[at]:
            at = i
    return at


@jit
def floor_of(atol):
    """How far a state may undershoot zero: by round-off, and by what the tolerance allows."""
    return -(1e-6 + 100.0 * atol)


@jit
def emit(system, y, d, row, picked, seen, states, o, floor, clean):
    """Write the output of one time: states, and the observables that were asked for; False if a state is below `floor`."""
    fine = True
    for i in range(y.shape[0]):
        if not y[i] >= floor:
            fine = False
        clean[i] = max(y[i], 0.0)
    if states.shape[0] > 0:
        states[row] = clean
    if picked.shape[0] > 0:
        call3(system.kernels[OBSERVE], clean, d, o)
        for k in range(picked.shape[0]):
            seen[row, k] = o[picked[k]]
    return fine


@jit
def integrate(
    system, y, p, edges, inputs, boluses, resets, times, picked, seen, states, rtol, atol, most, moving, d, u,
    work, jv, w, o, fault,
):  # fmt: skip
    """One subject under one schedule; y (n_states,) ends as the state at the last output time.

    Returns status, the time reached and the number of steps. At an edge an output comes first, then a reset,
    then what is given.
    """
    n_edges = edges.shape[0]
    floor = floor_of(atol)
    horizon = times[times.shape[0] - 1]
    start = work[START]
    start[:] = y
    cursor, total = 0, 0
    h = 0.0
    t = edges[0]
    for e in range(n_edges):
        if edges[e] > horizon:
            break  # what is given later shows nowhere
        t = edges[e]
        stop = horizon
        if e + 1 < n_edges:
            stop = min(edges[e + 1], horizon)
        for i in range(u.shape[0]):
            u[i] = inputs[e, i]
        call3(system.kernels[DERIVE], p, u, d)
        if cursor < times.shape[0] and times[cursor] == t:
            if not emit(system, y, d, cursor, picked, seen, states, o, floor, work[CLEAN]):
                fault[0] = lowest(y)
                return NON_FINITE, t, total
            cursor += 1
        if stop <= t:
            break
        if resets[e]:
            y[:] = start
        if np.any(boluses[e]):
            # Rates are linear in the inputs: an amount given at once is the limit of a short infusion.
            f, f0 = work[F], work[F0]
            call3(system.kernels[RATES], y, d, f0)
            for i in range(u.shape[0]):
                u[i] += boluses[e, i]
            call3(system.kernels[DERIVE], p, u, d)
            call3(system.kernels[RATES], y, d, f)
            for i in range(y.shape[0]):
                y[i] += f[i] - f0[i]
            for i in range(u.shape[0]):
                u[i] = inputs[e, i]
            call3(system.kernels[DERIVE], p, u, d)
        h = first_step(system, y, d, stop - t, rtol, atol, work[F], work[Z], work[F0], moving)
        status, t, h, cursor, steps = advance(
            system, y, d, t, stop, h, rtol, atol, most - total, moving, times, cursor, picked, seen, states,
            work, jv, w, o, fault, LONGEST,
        )  # fmt: skip
        total += steps
        if status != OK:
            return status, t, total
    if cursor < times.shape[0] and not emit(
        system, y, d, cursor, picked, seen, states, o, floor, work[CLEAN]
    ):
        fault[0] = lowest(y)
        return NON_FINITE, t, total
    return OK, t, total


@jit
def population(
    system, subjects, initial, plan, offsets, edges, inputs, boluses, resets, times, picked, rtol, atol, most,
    beyond, seen, final, status, reached, fault, crossing,
):  # fmt: skip
    """Each subject through each of its arms; nothing is shared between them but memory to work in.

    subjects : parameters, (n, n_parameters); initial : states at the first edge, (n, n_states), NaN for none.
    plan : (n, n_arms), which schedule; schedule k has the edges offsets[k] to offsets[k + 1].
    beyond : (index of an observable, threshold, last day); after the horizon the simulation goes on until the
    observable falls below the threshold, and `crossing` (n, n_arms) is the day; not if the index is negative.
    seen : (n, n_arms, n_times, n_picked); final : (n, n_arms, n_states); status, fault : int64 (n, n_arms);
    reached : (n, n_arms), day.
    """
    n_inputs = inputs.shape[1]
    n_states, sizes = initial.shape[1], system.sizes
    d, u, o = np.empty(sizes[N_CONSTANTS]), np.empty(n_inputs), np.empty(sizes[N_OBSERVABLES])
    work, jv, w = np.empty((WORK_ROWS, n_states)), np.empty(sizes[N_JAC]), np.empty(sizes[N_LU])
    states, moving = np.empty((0, n_states)), np.empty(0)
    at = np.zeros(1, dtype=np.int64)
    for j in range(subjects.shape[0]):
        p = subjects[j]
        for a in range(plan.shape[1]):
            if initial[j, 0] != initial[j, 0]:
                status[j, a] = NOT_PLACED
                continue
            first, last = offsets[plan[j, a]], offsets[plan[j, a] + 1]
            y = final[j, a]
            y[:] = initial[j]
            at[0] = 0
            code, t, _ = integrate(
                system, y, p, edges[first:last], inputs[first:last], boluses[first:last], resets[first:last],
                times, picked, seen[j, a], states, rtol, atol, most, moving, d, u, work, jv, w, o, at,
            )  # fmt: skip
            status[j, a], reached[j, a], fault[j, a] = code, t, at[0]
            if code == OK and beyond[0] >= 0:
                crossing[j, a] = day_below(
                    system,
                    y,
                    d,
                    t,
                    int(beyond[0]),
                    beyond[1],
                    beyond[2],
                    rtol,
                    atol,
                    most,
                    moving,
                    work,
                    jv,
                    w,
                    o,
                    at,
                )


@jit
def day_below(system, y, d, t, observable, threshold, limit, rtol, atol, most, moving, work, jv, w, o, at):
    """Day after t on which an observable falls below a threshold, inputs as they are; infinity if not by `limit`.

    NaN if the integration fails. Read linearly between quarter-yearly values.
    """
    state = work[START]
    state[:] = y
    call3(system.kernels[OBSERVE], state, d, o)
    value = o[observable]
    nothing, picked = np.empty(0), np.empty(0, dtype=np.int32)
    empty = np.empty((0, y.shape[0]))
    h = 1.0
    while t < limit:
        before = value
        code, later, h, _, _ = advance(
            system, state, d, t, t + QUARTER, h, rtol, atol, most, moving, nothing, 0, picked, empty, empty,
            work, jv, w, o, at, QUARTER,
        )  # fmt: skip
        if code != OK:
            return np.nan
        call3(system.kernels[OBSERVE], state, d, o)
        value = o[observable]
        if value < threshold:
            return t + (before - threshold) / (before - value) * QUARTER
        t = later
    return np.inf


V, M, T = nb.float64[::1], nb.float64[:, ::1], nb.float64[:, :, ::1]
SYSTEM = types.NamedTuple(
    [nb.int64[::1], nb.int64[::1], *[nb.int32[::1]] * 6], System
)  # fmt: skip


def compile_all() -> None:
    """Compile what Python calls, or load it from disk."""
    kernel.compile((nb.int64, V, V, V))
    number, whole, flags = nb.float64, nb.int64, nb.boolean[::1]
    table, rows = nb.int64[:, ::1], nb.int32[::1]
    course = (V, M, M, flags, V, rows)  # edges, inputs, boluses, resets, times, picked
    control = (number, number, whole)  # rtol, atol, most
    integrate.compile((SYSTEM, V, V, *course, M, M, *control, V, V, V, M, V, V, V, nb.int64[::1]))
    beyond = types.UniTuple(nb.float64, 3)
    results = (nb.float64[:, :, :, ::1], T, table, M, table, M)
    population.compile((SYSTEM, M, M, table, nb.int64[::1], *course, *control, beyond, *results))
