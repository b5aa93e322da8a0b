"""The reference solver against an independent one and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mscrenal.calibration import prior_draws
from mscrenal.model import ARMS_OF_ACTION, Dose, DrugCourse, Patient, simulate
from mscrenal.model.simulate import prepare, schedule_of, simulate_subject
from mscrenal.model.solve import Schedule, solve

DKD = Patient(drugs=("ras",))
RAT = Patient(species="rat", disease="stz")
LUPUS = Patient(disease="lupus", drugs=("immunosuppression",))
TIMES = np.array([0.0, 0.02, 0.5, 1.0, 3.0, 7.0, 7.5, 14.0, 28.0, 60.0, 120.0, 336.0])
CASES = [
    (DKD, [Dose(0, 1.0, "UC"), Dose(7, 1.0, "UC"), Dose(14, 1.0, "UC")], []),
    (DKD, [Dose(0.2, 5.0, "BM", "IA-renal", 0.0)], [DrugCourse("sglt2i", 20.0)]),
    (RAT, [Dose(42, 2.0, "AD", "IP"), Dose(42, 1.0, "AD", "SC", 0.0)], []),
    (
        LUPUS,
        [Dose(0, 1.0, "UC", "IV", 0.1), Dose(0.05, 1.0, "UC", "IV", 3.0)],
        [DrugCourse("immunosuppression", 50.0, 90.0, 0.0)],
    ),
    (DKD, [Dose(1, 30.0, "EV-UC"), Dose(30, 30.0, "EV-UC", "IA-renal")], [DrugCourse("glp1ra", 0.0, 100.0)]),
]
DRAWS = prior_draws(len(CASES), seed=21)


def by_radau(kernels, subject, schedule: Schedule, times: np.ndarray) -> np.ndarray:
    """States (n_times, n_states) by SciPy's Radau, restarted at every edge; its own code in every step."""
    p, n = subject.parameters, len(subject.state)

    def rhs(_t, y, u):
        out = np.empty(n)
        kernels.rhs(np.ascontiguousarray(y), p, u, out)
        return out

    def jac(_t, y, u):
        out = np.zeros((n, n))
        kernels.jac(np.ascontiguousarray(y), p, u, out)
        return out

    y, rows = subject.state.copy(), {}
    ends = [*schedule.edges[1:], times[-1]]
    for edge, end, u, bolus in zip(schedule.edges, ends, schedule.inputs, schedule.boluses, strict=True):
        if edge in times:
            rows[edge] = y.copy()
        y = y + rhs(0, y, u + bolus) - rhs(0, y, u)
        end = min(end, times[-1])
        if end <= edge:
            break
        inside = times[(times > edge) & (times < end)]
        found = solve_ivp(
            rhs, (edge, end), y, "Radau", np.append(inside, end), args=(u,), jac=jac, rtol=1e-10, atol=1e-14
        )
        assert found.success
        rows |= dict(zip(found.t, found.y.T, strict=True))
        y = found.y[:, -1]
    return np.array([rows[t] for t in times])


@pytest.mark.parametrize("k", range(len(CASES)))
def test_observables_agree_with_radau_to_five_digits(k):
    patient, doses, courses = CASES[k]
    kernels, subject = prepare(patient, (doses[0].product,), DRAWS.at(k))
    run = simulate_subject(kernels, subject, doses, courses, TIMES, rtol=1e-8, atol=1e-12)
    assert run.status == "ok", run.message
    schedule = schedule_of(kernels.model, subject.day, subject.inputs, doses, courses)
    reference = by_radau(kernels, subject, schedule, TIMES)
    seen = np.empty_like(run.observables)
    for row, day in enumerate(TIMES):
        u = schedule.inputs[np.searchsorted(schedule.edges, day, side="right") - 1]
        kernels.observe(
            np.ascontiguousarray(reference[row]), subject.parameters, np.ascontiguousarray(u), seen[row]
        )
    for j, name in enumerate(kernels.model.observable_names):
        # Of a dose of millions, cells are counted to a hundredth of a cell per kg.
        floor = 0.01 if name.startswith("cells_") else 1e-12
        np.testing.assert_allclose(run.observables[:, j], seen[:, j], rtol=1e-5, atol=floor, err_msg=name)


def test_tighter_tolerances_converge():
    doses = [Dose(0, 1.0, "UC")]
    best = simulate(DKD, doses, times=TIMES, rtol=1e-11, atol=1e-14).observable("uacr")
    error = [
        float(
            np.max(
                np.abs(simulate(DKD, doses, times=TIMES, rtol=r, atol=r * 1e-3).observable("uacr") / best - 1)
            )
        )
        for r in (1e-4, 1e-6, 1e-8)
    ]
    assert error[0] > error[1] > error[2]
    assert error[2] < 1e-7


# --------------------------------------------------------------------------- closed forms
# With all arms knocked out nothing acts back on the host: a healthy one stands still, and exposure is linear.

HEALTHY = Patient(disease="healthy")
TIGHT = {"rtol": 1e-9, "atol": 1e-13}
DAYS = np.array([0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 9.0])


def exposed(product: str, route: str = "IV", duration: float = 0.0):
    kernels, subject = prepare(HEALTHY, (product,), {}, ARMS_OF_ACTION)
    values = dict(zip(kernels.model.parameter_names, subject.parameters, strict=True))
    run = simulate_subject(kernels, subject, [Dose(0, 1.0, product, route, duration)], (), DAYS, **TIGHT)
    assert run.status == "ok", run.message
    return run, values


def decay(rate: float, duration: float) -> np.ndarray:
    """Amount left of 1 given over `duration` and lost at `rate`."""
    if duration == 0:
        return np.where(DAYS > 0, np.exp(-rate * DAYS), 0.0)
    during = -np.expm1(-rate * DAYS) / (rate * duration)
    after = -np.expm1(-rate * duration) / (rate * duration) * np.exp(-rate * (DAYS - duration))
    return np.where(duration >= DAYS, during, after)


@pytest.mark.parametrize("duration", [0.0, 0.05, 1.5])
def test_conditioned_medium_is_lost_as_one_exponential(duration):
    run, p = exposed("CM-UC", duration=duration)
    np.testing.assert_allclose(
        run.state("medium"), decay(p["medium_clearance"], duration), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("duration", [0.0, 0.05, 1.5])
def test_vesicles_leave_plasma_as_one_exponential(duration):
    run, p = exposed("EV-UC", duration=duration)
    np.testing.assert_allclose(
        run.state("ev_plasma"),
        decay(p["ev_clearance"] * (1 + p["ev_uptake"]), duration),
        rtol=1e-5,
        atol=1e-9,
    )


def test_vesicles_in_the_kidney_follow_the_bateman_function():
    run, p = exposed("EV-UC")
    into, out = p["ev_clearance"] * p["ev_uptake"], p["ev_decay"]
    lost = p["ev_clearance"] * (1 + p["ev_uptake"])
    expected = into / (lost - out) * (np.exp(-out * DAYS) - np.exp(-lost * DAYS))
    np.testing.assert_allclose(run.state("ev_kidney"), expected, rtol=1e-5, atol=1e-9)


def test_living_cells_die_as_one_exponential_wherever_they_are():
    run, p = exposed("urine")
    alive = p["viability"] * (1 - p["complement_loss"])
    living = sum(run.state(n) for n in ("blood", "lung", "liver", "kidney"))
    np.testing.assert_allclose(living[1:], alive * np.exp(-p["death"] / p["survival"] * DAYS[1:]), rtol=1e-5)


def test_cells_divide_between_the_organs_as_their_trapping_says():
    run, p = exposed("urine")
    split = p["kidney_share"] * p["homing"] / (1 + p["kidney_share"] * p["homing"])
    lung, rest = p["lung_trapping"], (1 - p["lung_trapping"]) * p["organ_trapping"]
    organs = {n: float(run.state(n)[1]) for n in ("lung", "liver", "kidney")}
    share = {n: v / sum(organs.values()) for n, v in organs.items()}
    assert share["lung"] == pytest.approx(lung / (lung + rest), rel=1e-3)
    assert share["kidney"] == pytest.approx(rest * split / (lung + rest), rel=1e-2)


# --------------------------------------------------------------------------- what the solver reports


def bound(theta=None):
    kernels, subject = prepare(DKD, ("UC",), theta or {})
    return kernels, subject, schedule_of(kernels.model, 0.0, subject.inputs, [Dose(0, 1.0, "UC")], [])


def test_a_budget_of_one_step_is_a_status_with_no_numbers_after_it():
    kernels, subject, schedule = bound()
    out = solve(kernels, subject.parameters, subject.state, schedule, np.array([0.0, 100.0]), max_steps=1)
    assert out.status == "budget"
    assert np.isnan(out.states[1:]).all()


def test_a_state_that_falls_below_zero_is_a_status():
    kernels, subject, schedule = bound()
    below = subject.state.copy()
    below[kernels.model.index["insulin"]] = -0.1
    out = solve(kernels, subject.parameters, below, schedule, np.array([0.0, 1.0]))
    assert out.status == "non-finite"
    assert (
        "day 0: a rate is no finite number, or a state fell below zero. State at fault: insulin."
        in out.message
    )


def test_the_solver_takes_its_stiff_method_where_it_would_stall():
    # LSODA once stayed with its non-stiff method to the end of its budget here: doses of nothing near a steady
    # state, where it has no error from which to see how stiff the circulation of cells is.
    kernels, subject = prepare(DKD, ("UC",), {})
    doses = [Dose(84.0 * k, 0.0, "UC") for k in range(9)]
    for rtol in (1e-7, 1e-8, 1e-9, 1e-10):
        for step in (7.0, 14.0, 28.0):
            run = simulate_subject(
                kernels, subject, doses, (), np.arange(0.0, 731.0, step), rtol=rtol, atol=rtol * 1e-3
            )
            assert run.status == "ok", (rtol, step, run.message)


def test_the_stiff_method_alone_gives_the_same():
    from mscrenal.model.reference import _Runner

    kernels, subject, _ = bound()
    runner = _Runner(kernels, subject.parameters, 1e-9, 1e-12, 20_000)
    y, grid = subject.state.copy(), np.array([0.0, 1.0, 30.0, 300.0])
    y[kernels.model.index["lung"]] = 1.0
    out, status, _ = runner.segment(y, subject.inputs, grid)
    again = runner._stiff_only(y, subject.inputs, grid)
    assert status == "ok"
    assert again is not None
    np.testing.assert_allclose(again, out, rtol=1e-6, atol=1e-9)
