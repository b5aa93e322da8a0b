"""The compiled integrator on problems with known solutions, and its parts against plain linear algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mscrenal.calibration import prior_draws
from mscrenal.model import Dose, DrugCourse, Patient, stepper
from mscrenal.model.build import Model, build
from mscrenal.model.declare import Assumed, Input, Observable, Parameter, Process, State
from mscrenal.model.initial import InitialStateError, parameter_vector, place, place_plainly
from mscrenal.model.kernels import KERNELS, Compiled, compile_model, compiled
from mscrenal.model.population import Below, simulate_cohort
from mscrenal.model.simulate import prepare, schedule_of, simulate_subject
from mscrenal.model.solve import STATUSES, Schedule, solve
from mscrenal.model.sparse import plan

WHY = Assumed("a problem with a known solution")


def parameter(name: str, value: float) -> Parameter:
    return Parameter(name, value, "1/day", f"{name} of the test problem", WHY)


def predator_and_prey() -> Model:
    """Lotka and Volterra with a fast decay beside them that is fed by an input: nonlinear, stiff, with an invariant."""
    rates = (
        parameter("birth", 0.8),
        parameter("catch", 1.1),
        parameter("death", 0.7),
        parameter("decay", 900.0),
    )

    def births(hares, birth):
        return birth * hares

    def catches(hares, lynxes, catch):
        return catch * hares * lynxes

    def deaths(lynxes, death):
        return death * lynxes

    def decays(tracer, decay):
        return decay * tracer

    def feeding(feed):
        return feed

    def process(name, stoichiometry, rate, *parameters):
        return Process(name, stoichiometry, rate, "1/day", name, parameters, paced=False)

    return build(
        states=[State(n, "1", n, "test") for n in ("hares", "lynxes", "tracer")],
        inputs=[Input("feed", "1/day", "into the tracer")],
        processes=[
            process("births", {"hares": 1}, births, rates[0]),
            process("catches", {"hares": -1, "lynxes": 1}, catches, rates[1]),
            process("deaths", {"lynxes": -1}, deaths, rates[2]),
            process("decays", {"tracer": -1}, decays, rates[3]),
            process("feeding", {"tracer": 1}, feeding),
        ],
        quantities=[],
        observables=[Observable("prey", "1", "hares", lambda hares: hares)],
        effects=[],
    )


@pytest.fixture(scope="module")
def wild(tmp_path_factory) -> Compiled:
    return compile_model(predator_and_prey(), tmp_path_factory.mktemp("kernels"))


INITIAL = np.array([1.0, 0.5, 0.0])
TIMES = np.array([0.0, 0.4, 3.0, 7.5, 20.0])


def quiet(edges=(0.0,), boluses=(0.0,), resets=(), feed=(0.0,)) -> Schedule:
    column = [np.array([[float(x)] for x in values]) for values in (feed, boluses)]
    return Schedule(np.array(edges, dtype=float), *column, np.asarray(resets, dtype=bool))


def course(wild: Compiled, schedule: Schedule, times=TIMES, initial=INITIAL, **options):
    p = np.array([q.value for q in wild.model.parameters.values()])
    return solve(wild, p, initial, schedule, np.asarray(times, dtype=float), **options)


# --------------------------------------------------------------------------- the method


def test_a_conserved_quantity_is_conserved_to_the_tolerance(wild):
    birth, catch, death = 0.8, 1.1, 0.7
    out = course(wild, quiet(), np.linspace(0, 40, 81), rtol=1e-9, atol=1e-12)
    hares, lynxes = out.states[:, 0], out.states[:, 1]
    held = catch * (hares + lynxes) - death * np.log(hares) - birth * np.log(lynxes)
    np.testing.assert_allclose(held, held[0], rtol=1e-7)


def test_the_error_falls_with_the_fourth_power_of_the_step(wild):
    """From the tolerance: steps grow as tol^(-1/4), so that a hundredfold smaller error costs about 3.2 times the steps."""
    exact = course(wild, quiet(), rtol=1e-12, atol=1e-14).states
    errors, steps = [], []
    for tolerance in (1e-4, 1e-6, 1e-8):
        out = course(wild, quiet(), rtol=tolerance, atol=tolerance * 1e-2)
        errors.append(np.abs(out.states - exact).max())
        steps.append(out.steps)
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    order = math.log(errors[0] / errors[2]) / math.log(steps[2] / steps[0])
    assert 3.0 < order < 6.0


def test_a_fast_tracer_follows_its_closed_form_through_a_bolus_and_an_infusion(wild):
    decay, feed = 900.0, 1800.0
    out = course(
        wild,
        quiet(edges=(0.0, 1.0, 2.0), boluses=(3.0, 0.0, 0.0), feed=(0.0, feed, 0.0)),
        [0.0, 0.002, 0.5, 1.001, 1.5, 2.001, 3.0],
        rtol=1e-8,
        atol=1e-12,
    )
    level = feed / decay
    expected = [
        0.0,
        3.0 * math.exp(-decay * 0.002),
        0.0,
        level * (1 - math.exp(-decay * 0.001)),
        level,
        level * math.exp(-decay * 0.001),
        0.0,
    ]
    np.testing.assert_allclose(out.states[:, 2], expected, rtol=1e-6, atol=1e-9)


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=12, unique=True).map(sorted))
@settings(max_examples=40, deadline=None)
def test_what_is_shown_does_not_depend_on_when_it_is_shown(wild, times):
    some = course(wild, quiet(), times, rtol=1e-7, atol=1e-10)
    all_of_them = course(wild, quiet(), sorted({*times, *np.linspace(0, 20, 41)}), rtol=1e-7, atol=1e-10)
    rows = np.searchsorted(sorted({*times, *np.linspace(0, 20, 41)}), times)
    np.testing.assert_allclose(some.states, all_of_them.states[rows], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("start", [-7.66631e-15, 0.1, 1 / 3])
def test_outputs_a_rounding_error_from_an_edge_or_from_each_other_are_met(wild, start):
    times = np.array(
        [
            start,
            np.nextafter(start, 9.0),
            start + 3e-15 + 1e-13,
            0.7,
            np.nextafter(0.7, 9.0),
            5.0 - 1e-12,
            5.0,
        ]
    )
    schedule = quiet(edges=(start, 0.7), boluses=(0.0, 1.0), feed=(0.0, 0.0))
    out = course(wild, schedule, times)
    assert out.status == "ok", out.message
    assert out.steps < 2000
    np.testing.assert_allclose(out.states[0], INITIAL)
    np.testing.assert_allclose(out.states[-1], out.states[-2], rtol=1e-6, atol=1e-9)


def test_a_held_state_stands_still_and_the_others_see_it_stand(wild):
    out = course(wild, quiet(), hold=("hares",), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(out.states[:, 0], 1.0, rtol=1e-14)
    np.testing.assert_allclose(out.states[:, 1], 0.5 * np.exp((1.1 - 0.7) * TIMES), rtol=1e-7)


def test_an_unknown_state_to_hold_is_refused_with_the_nearest(wild):
    with pytest.raises(ValueError, match=r"no state 'hare'\. Did you mean 'hares'"):
        course(wild, quiet(), hold=("hare",))


def test_a_reset_starts_the_course_again(wild):
    again = course(wild, quiet(edges=(0.0, 10.0), boluses=(0, 0), feed=(0, 0), resets=np.array([False, True])),
                   [0.0, 3.0, 10.0, 13.0], rtol=1e-10, atol=1e-13)  # fmt: skip
    np.testing.assert_allclose(again.states[3], again.states[1], rtol=1e-7)
    plain = course(wild, quiet(), [10.0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        again.states[2], plain.states[0], rtol=1e-7
    )  # an output at a reset is that before it


# --------------------------------------------------------------------------- ends that are no results


def test_a_spent_budget_is_a_status_that_says_when_and_where(wild):
    out = course(wild, quiet(), max_steps=3)
    assert out.status == "budget"
    assert "the budget of 3 steps is spent. Shorten the horizon, or raise max_steps" in out.message
    assert np.isnan(out.states).all()
    assert np.isnan(out.observables).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308])
def test_numbers_that_are_none_end_as_a_status_at_once(wild, value):
    p = np.array([value, 1.1, 0.7, 900.0])
    out = solve(wild, p, INITIAL, quiet(), TIMES)
    assert out.status in STATUSES[1:]
    assert "State at fault: " in out.message
    assert np.isnan(out.states).all()


def test_a_course_that_leaves_the_numbers_is_a_status(wild):
    # Hares alone, growing by a factor of 1e35 a day.
    out = solve(wild, np.array([80.0, 0.0, 0.7, 900.0]), INITIAL, quiet(), np.array([0.0, 20.0]))
    assert out.status in STATUSES[1:]
    assert out.reached < 20.0
    assert "hares" in out.message


# --------------------------------------------------------------------------- the factorisation


@st.composite
def patterns(draw):
    n = draw(st.integers(1, 9))
    cells = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    return n, sorted(draw(st.sets(cells, max_size=n * n)))


def compiled_source(source: str, name: str):
    scope = {"inf": math.inf}
    exec(source, scope)  # the package's own text, as numba would compile it
    return scope[name]


@given(patterns(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_static_factorisation_solves_what_numpy_solves(pattern, seed):
    n, entries = pattern
    lu = plan(n, entries)
    rng = np.random.default_rng(seed)
    matrix = np.zeros((n, n))
    for i, j in entries:
        matrix[i, j] = rng.normal()
    matrix[np.diag_indices(n)] += 2.0 + n  # dominant, as 1/(hγ) makes it
    w = np.zeros(len(lu.entries) + 1)
    for (i, j), k in lu.position.items():
        w[k] = matrix[i, j]
    right = rng.normal(size=n)
    compiled_source(lu.factor_source("factor"), "factor")(w)
    b = right.copy()
    compiled_source(lu.solve_source("solve"), "solve")(w, b)
    np.testing.assert_allclose(b, np.linalg.solve(matrix, right), rtol=1e-10, atol=1e-12)
    assert w[-1] == pytest.approx(1 / np.abs(w[lu.diagonal]).max())


def test_a_lost_pivot_is_seen():
    lu = plan(2, [(0, 1), (1, 0)])
    w = np.zeros(len(lu.entries) + 1)
    for (i, j), value in {(0, 0): 1.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 1.0 + 1e-14}.items():
        w[lu.position[i, j]] = value
    compiled_source(lu.factor_source("factor"), "factor")(w)
    assert w[-1] < 1e-13


def test_the_plan_of_the_model_fills_in_little():
    system = compiled(1).system
    lu = plan(
        len(compiled(1).model.states),
        list(zip(system.jac_rows.tolist(), system.jac_columns.tolist(), strict=True)),
    )
    assert len(lu.entries) < 1.5 * len(system.jac_rows)


def test_the_integrator_finds_each_kernel_where_it_was_put():
    names = ("DERIVE", "RATES", "SLOPES", "OBSERVE", "OBSERVE_SLOPES", "FACTOR", "SOLVE")
    more = ("DERIVE_MORE", "RATES_BY_PARAMETER", "OBSERVE_BY_PARAMETER")
    put = ("derive", "rates", "slopes", "observe_at", "observe_slopes", "factor", "back_solve")
    put += ("derive_more", "rates_by_parameter", "observe_by_parameter")
    assert [put[getattr(stepper, name)] for name in (*names, *more)] == list(KERNELS)


# --------------------------------------------------------------------------- placement


PEOPLE = (
    Patient(),
    Patient(egfr=25, uacr=2500, hba1c=9, drugs=("ras", "sglt2i")),
    Patient(insulin_share=0.6, hba1c=8.5),
    Patient(disease="lupus"),
    Patient(disease="nondiabetic-ckd"),
    Patient(disease="renovascular"),
)
DRAWN = prior_draws(12, seed=5)


@pytest.mark.parametrize("k", range(len(DRAWN)))
def test_the_compiled_placement_is_the_plain_one(k):
    kernels = compiled(1)
    rows = np.array([parameter_vector(kernels.model, who, ("UC",), DRAWN.at(k)) for who in PEOPLE])
    placed = place(kernels, PEOPLE, rows)
    for j, who in enumerate(PEOPLE):
        if placed.messages[j]:
            with pytest.raises(InitialStateError) as caught:
                place_plainly(kernels, who, rows[j])
            assert placed.messages[j] == str(caught.value)
            assert np.isnan(placed.states[j]).all()
            continue
        plain = place_plainly(kernels, who, rows[j])
        np.testing.assert_allclose(placed.states[j], plain.state, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(placed.parameters[j], plain.parameters, rtol=1e-8, atol=1e-12)


# --------------------------------------------------------------------------- cohorts

DOSES = (Dose(0, 1.0, "UC"), Dose(7, 1.0, "UC", "IV", 0.0))
REGIMENS = ((DOSES, ()), ((), (DrugCourse("sglt2i", 10.0),)), ((Dose(3, 1.0, "AD"), Dose(3, 1.0, "UC")), ()))
DAYS = np.array([0.0, 1.0, 30.0, 180.0])


def cohort(subjects, regimens=REGIMENS, **options):
    return simulate_cohort(
        [PEOPLE[j] for j, _ in subjects],
        [DRAWN.at(k) for _, k in subjects],
        [regimens] * len(subjects),
        DAYS,
        ("egfr", "uacr", "cells_kidney"),
        **options,
    )


def test_a_cohort_is_its_subjects_one_by_one_to_the_last_bit():
    subjects = [(0, 0), (3, 1), (4, 2), (1, 3)]
    together = cohort(subjects)
    for row, subject in enumerate(subjects):
        assert np.array_equal(together.values[row], cohort([subject]).values[0])


def test_a_subject_of_a_cohort_is_the_subject_simulated():
    found = cohort([(0, 2)])
    for a, (doses, courses) in enumerate(REGIMENS):
        products = tuple(dict.fromkeys(d.product for d in doses))
        kernels, subject = prepare(PEOPLE[0], products, DRAWN.at(2))
        run = simulate_subject(kernels, subject, doses, courses, DAYS)
        expected = np.stack([run.observable(n) for n in ("egfr", "uacr", "cells_kidney")], axis=1)
        np.testing.assert_allclose(found.values[0, a], expected, rtol=1e-12, atol=1e-12)


def test_one_failed_subject_is_a_status_with_a_message_and_stops_nobody():
    thetas = [DRAWN.at(0), DRAWN.at(1) | {"product.UC.survival": math.nan}, DRAWN.at(2)]
    found = simulate_cohort([PEOPLE[0]] * 3, thetas, [REGIMENS] * 3, DAYS, ("egfr",))
    assert [list(row) for row in found.status] == [["ok"] * 3, ["non-finite", "ok", "non-finite"], ["ok"] * 3]
    assert np.isnan(found.values[1, [0, 2]]).all()
    assert np.isfinite(found.values[[0, 2]]).all()
    assert set(found.messages) == {(1, 0), (1, 2)}
    message = found.messages[1, 0]
    assert message.startswith("stopped at day 0")
    assert "State at fault: " in message
    assert "Last dose: day 0." in message


def test_a_patient_who_cannot_be_placed_is_a_failure_of_every_arm():
    nobody = Patient(hba1c=14.0, insulin_share=3.0)
    found = simulate_cohort([PEOPLE[0], nobody], [DRAWN.at(0)] * 2, [REGIMENS] * 2, DAYS, ("egfr",))
    assert list(found.status[0]) == ["ok"] * 3
    assert list(found.status[1]) == ["initial-state"] * 3
    assert "hba1c = 14" in found.messages[1, 0]


def test_the_day_below_a_threshold_is_that_of_the_trajectory():
    steep = Patient(egfr=20.0, uacr=3000.0)
    below = Below("egfr", 15.0, 30 * 365.25)
    found = simulate_cohort([steep], [DRAWN.at(0)], [(((), ()),)], DAYS, ("egfr",), below=below)
    day = found.crossing[0, 0]
    kernels, subject = prepare(steep, (), DRAWN.at(0))
    schedule = schedule_of(kernels.model, 0.0, subject.inputs, (), ())
    egfr = kernels.model.observable_names.index("egfr")
    times = np.array([0.0, day - 30.0, day, day + 30.0])
    values = solve(kernels, subject.parameters, subject.state, schedule, times).observables[:, egfr]
    assert values[1] > 15.0 > values[3]
    assert values[2] == pytest.approx(15.0, abs=0.03)  # read linearly within a quarter of a year


def test_nobody_falls_below_a_threshold_out_of_reach():
    found = cohort([(0, 0)], below=Below("egfr", 0.001, 400.0))
    assert np.isinf(found.crossing).all()
