"""Every derivative against finite differences of a solver that knows nothing of derivatives.

The measure of an observable is its largest error over time, relative to its largest derivative over time. Differences resolve
only so much: what the tolerance of the solver in every state does to the observable, divided by the step, and what a step
of half the length still changes (a healthy subject lies in a corner of the second derivative). An error is what goes beyond that.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from conftest import Regimen, regimens, subjects
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mscrenal.calibration import prior_draws
from mscrenal.model import (
    OBSERVABLES,
    RANDOM_EFFECTS,
    Dose,
    DrugCourse,
    InitialStateError,
    Patient,
    RegimenError,
    sampled_parameters,
    simulate,
)
from mscrenal.model.gradient import PreparedGradient, Seeds, gradient, gradient_of_subject, seeds_of
from mscrenal.model.initial import Subject, parameter_sources
from mscrenal.model.kernels import Compiled, with_gradient
from mscrenal.model.reference import solve_reference
from mscrenal.model.simulate import prepare, products_of, schedule_of
from mscrenal.model.solve import Schedule, Solution, solve

OBSERVED = tuple(o.name for o in OBSERVABLES)
RTOL, ATOL = 1e-11, 1e-14  # of the solutions that are subtracted
ERRS = 10.0  # times its tolerance, over a whole course
STEP = 1e-3  # of each parameter, relative; the half of it takes its error away (Richardson)
TIGHT = 1e-9  # tolerance at which a wrong term would show
CLOSE = 2e-5  # largest error at that tolerance
USUAL = 2e-3  # and at the tolerance that is used
TIMES = np.array([0.0, 0.5, 1.0, 7.0, 28.0, 56.0, 112.0, 200.0])


@dataclass(frozen=True)
class Problem:
    """A subject, a regimen and a draw."""

    patient: Patient
    doses: tuple[Dose, ...] = ()
    courses: tuple[DrugCourse, ...] = ()
    theta: dict[str, float] = field(default_factory=dict)
    knock_out: tuple[str, ...] = ()

    def at(self, name: str) -> float:
        if name in RANDOM_EFFECTS:
            return self.patient.eta.get(name, 0.0)
        return self.theta.get(name, sampled_parameters()[name].value)

    def size(self, name: str) -> float:
        return abs(self.at(name)) or (RANDOM_EFFECTS[name].sd if name in RANDOM_EFFECTS else 1.0)

    def moved(self, change: dict[str, float]) -> Problem:
        eta = {n: self.at(n) + x for n, x in change.items() if n in RANDOM_EFFECTS}
        theta = {n: self.at(n) + x for n, x in change.items() if n not in RANDOM_EFFECTS}
        patient = self.patient.replace(eta={**self.patient.eta, **eta})
        return replace(self, patient=patient, theta={**self.theta, **theta})

    def placed(self) -> tuple[Compiled, Subject, Schedule]:
        kernels, subject = prepare(self.patient, products_of(self.doses), self.theta, self.knock_out)
        schedule = schedule_of(kernels.model, subject.day, subject.inputs, self.doses, self.courses)
        return kernels, subject, schedule

    def used(self) -> list[str]:
        """What has a say in this subject, and all random effects."""
        products = products_of(self.doses)
        model = with_gradient(max(1, len(products))).model
        sources = parameter_sources(model, self.patient.species, self.patient.disease, products)
        known = sampled_parameters()
        return [*dict.fromkeys(drawn for drawn, _ in sources.values() if drawn in known), *RANDOM_EFFECTS]

    def gradient(self, names, tolerance=TIGHT, observables=OBSERVED, times=TIMES):
        found = gradient(
            self.patient, self.doses, self.courses, self.theta, names, times, observables,
            knock_out=self.knock_out, rtol=tolerance, atol=tolerance * 1e-2,
        )  # fmt: skip
        assert found.status == "ok", found.message
        return found


def by_reference(kernels, subject, schedule, times) -> Solution:
    return solve_reference(
        kernels, subject.parameters, subject.state, schedule, times, rtol=RTOL, atol=ATOL, max_steps=10**6
    )


def by_own(kernels, subject, schedule, times) -> Solution:
    return solve(
        kernels, subject.parameters, subject.state, schedule, times, rtol=RTOL, atol=ATOL, max_steps=10**6
    )


@dataclass(frozen=True)
class Differences:
    """Derivatives (n_times, n_observables) along a direction by differences, and the least that they resolve."""

    slope: np.ndarray
    least: np.ndarray

    def error(self, found: np.ndarray) -> np.ndarray:
        """Of each observable, (n_observables,)."""
        beyond = np.max(np.abs(found - self.slope), axis=0) - np.max(self.least, axis=0)
        size = np.max(np.abs(self.slope), axis=0)
        return np.where(beyond <= 0, 0.0, beyond / np.maximum(size, 1e-300))

    def resolved(self, limit: float) -> np.ndarray:
        """The observables whose derivative is large enough to be checked to `limit`."""
        return np.max(np.abs(self.slope), axis=0) * limit > np.max(self.least, axis=0)

    def check(self, found: np.ndarray, limit: float) -> None:
        error = self.error(found)
        worst = int(np.argmax(error))
        assert error[worst] <= limit, f"{OBSERVED[worst]} is off by {error[worst]:.2g}"
        assert self.resolved(limit).any()


def seen_noise(kernels: Compiled, subject: Subject, schedule: Schedule, states: np.ndarray, times, noise):
    """What errors of the states, noise(y), do to the observables, (n_times, n_observables)."""
    out = np.zeros((len(times), len(OBSERVED)))
    for row, day in enumerate(times):
        u = np.ascontiguousarray(schedule.inputs[np.searchsorted(schedule.edges, day, side="right") - 1])
        slope = np.zeros((len(OBSERVED), len(subject.state)))
        kernels.observe_jac(np.ascontiguousarray(states[row]), subject.parameters, u, slope)
        out[row] = np.abs(slope) @ noise(np.abs(states[row]))
    return out


def richardson(function: Callable[[float], np.ndarray], step: float) -> tuple[np.ndarray, np.ndarray]:
    """The derivative of a function at 0, by central differences of two steps, and how much the last one changed it."""
    coarse = (function(step) - function(-step)) / (2 * step)
    fine = (function(step / 2) - function(-step / 2)) / step
    return (4 * fine - coarse) / 3, np.abs(fine - coarse)


def differences(
    problem: Problem,
    direction: dict[str, float],
    solver=by_reference,
    times=TIMES,
    step=STEP,
    tolerance=TIGHT * 1e-2,
) -> Differences:
    """Along a direction, in units of which `step` is moved."""

    def course(x: float) -> np.ndarray:
        solution = solver(*problem.moved({n: x * d for n, d in direction.items()}).placed(), times)
        assert solution.status == "ok", solution.message
        return solution.observables

    here = problem.placed()
    states = solver(*here, times).states
    least = seen_noise(
        *here, states, times, lambda y: ERRS * (ATOL + RTOL * y) / step + 10 * ERRS * tolerance
    )
    slope, doubt = richardson(course, step)
    return Differences(slope, least + doubt)


def along(problem: Problem, seed: int) -> dict[str, float]:
    """A random direction in everything that has a say, each as far as it is large."""
    random = np.random.default_rng(seed)
    return {n: float(random.standard_normal()) * problem.size(n) for n in problem.used()}


DRAWS = prior_draws(16, seed=33)
DKD = Patient(drugs=("ras",))
ETAS = {n: 0.7 * e.sd for n, e in RANDOM_EFFECTS.items()}
CASES = {
    "diabetic, three infusions": Problem(
        DKD, tuple(Dose(d, 1.0, "UC") for d in (0.0, 7.0, 14.0)), (DrugCourse("sglt2i", 20.0, 90.0),)
    ),
    "diabetic with insulin, overlapping bolus and infusion": Problem(
        Patient(insulin_share=0.5, drugs=("ras", "finerenone"), sex="female", ageing=True, eta=ETAS),
        (Dose(0.2, 5.0, "BM", "IA-renal", 0.0), Dose(0, 1.0, "BM", "IV", 0.5), Dose(0.25, 2.0, "BM", "IV", 3.0)),
        (DrugCourse("glp1ra", 0.0, 100.0), DrugCourse("ras", 30.0, 40.0, 0.0)),
    ),
    "lupus, cells as immunosuppression stops": Problem(
        Patient(disease="lupus", sledai=11.0, drugs=("immunosuppression",), eta=ETAS),
        (Dose(0, 1.0, "UC", "IV", 0.1), Dose(0.05, 1.0, "AD", "IV", 3.0)),
        (DrugCourse("immunosuppression", 50.0, 90.0, 0.0),),
    ),
    "non-diabetic, vesicles by vein and artery": Problem(
        Patient(disease="nondiabetic-ckd", drugs=("ras",)),
        (Dose(1, 30.0, "EV-UC"), Dose(28, 30.0, "EV-UC", "IA-renal", 0.0)),
        (DrugCourse("anti-tgfb", 5.0, 60.0),),
    ),
    "renovascular, allogeneic cells sensitise": Problem(
        Patient(disease="renovascular"),
        (Dose(0, 2.5, "placenta"), Dose(111.9, 2.5, "placenta")),
        (DrugCourse("bardoxolone", 10.0), DrugCourse("pentoxifylline", 5.0, 80.0)),
    ),
    "rat with streptozotocin, depots": Problem(
        Patient(species="rat", disease="stz", onset_days=28.0),
        (Dose(0, 2.0, "AD", "IP"), Dose(3, 1.0, "AD", "SC", 0.0), Dose(3, 1.0, "AD", "intraparenchymal", 0.0)),
        (DrugCourse("ccr2-inhibitor", 0.0, 30.0),),
    ),
    "obese mouse, conditioned medium": Problem(
        Patient(species="mouse", disease="db-db", onset_days=20.0),
        (Dose(0, 2.0, "CM-UC"), Dose(0, 2.0, "CM-UC", "IV", 0.0), Dose(7, 2.0, "CM-UC", "IP")),
        (DrugCourse("pirfenidone", 3.0, 50.0),),
    ),
    "obstructed mouse, engineered cells": Problem(
        Patient(species="mouse", disease="obstruction", onset_days=2.0), (Dose(0, 10.0, "UC-miR146a"),)
    ),
    "rat with a remnant kidney": Problem(
        Patient(species="rat", disease="subtotal-nephrectomy", onset_days=14.0), (Dose(0.5, 4.0, "kidney"),)
    ),
    "healthy subject": Problem(Patient(disease="healthy"), (Dose(0, 1.0, "UCB"),)),
}  # fmt: skip
CASES = {name: replace(case, theta=DRAWS.at(k)) for k, (name, case) in enumerate(CASES.items())}
FIRST = CASES["diabetic, three infusions"]
PLACED = [name for name, case in CASES.items() if case.patient.established]


def directional(problem: Problem, direction: dict[str, float], tolerance: float) -> np.ndarray:
    """The derivative along a direction, (n_times, n_observables)."""
    found = problem.gradient(list(direction), tolerance).derivatives
    return found @ np.array(list(direction.values()))


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_along_a_random_direction_in_all_parameters_is_that_of_the_reference_solver(name):
    problem = CASES[name]
    direction = along(problem, seed=len(name))
    expected = differences(problem, direction, tolerance=1e-7 * 1e-2)
    expected.check(directional(problem, direction, 1e-7), 10 * CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_the_same_with_all_digits(name, seed):
    problem = replace(CASES[name], theta=prior_draws(3, seed=77).at(seed))
    direction = along(problem, seed)
    differences(problem, direction).check(directional(problem, direction, TIGHT), CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_at_the_usual_tolerance_a_derivative_has_three_digits(name):
    problem = CASES[name]
    direction = along(problem, seed=len(name))
    usual = gradient(
        problem.patient, problem.doses, problem.courses, problem.theta, list(direction), TIMES, OBSERVED
    )
    found = usual.derivatives @ np.array(list(direction.values()))
    differences(problem, direction, by_own, tolerance=1e-7).check(found, USUAL)


NAMED = {
    "diabetic with insulin, overlapping bolus and infusion": (
        "nephron_loss_rate", "titration", "ras_on_nephron_loss", "species.human.translation",
        "insult.diabetic.insulin_resistance", "eta_nephron", "eta_potency",
    ),
    "lupus, cells as immunosuppression stops": (
        "c3_consumption", "product.UC.potency_immunomodulation", "product.AD.potency_immunomodulation",
        "eta_immunosuppression",
    ),
    "renovascular, allogeneic cells sensitise": ("eta_sensitisation", "insult.renovascular.ischaemia"),
    "rat with streptozotocin, depots": ("insult.stz.beta_set", "m1_loss_rate", "product.AD.survival"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case, names in NAMED.items() for name in names],
)
def test_the_derivative_by_a_single_parameter_is_that_of_finite_differences(case, name):
    problem = CASES[case]
    direction = {name: problem.size(name)}
    expected = differences(problem, direction, by_own, step=5 * STEP)
    expected.check(directional(problem, direction, TIGHT), CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_derivative_by_every_single_parameter_is_that_of_finite_differences(case):
    problem = CASES[case]
    names = problem.used()
    found = problem.gradient(names, 1e-8).derivatives
    errors = {}
    for k, name in enumerate(names):
        expected = differences(problem, {name: problem.size(name)}, by_own, tolerance=1e-10, step=5 * STEP)
        errors[name] = float(np.max(expected.error(found[..., k] * problem.size(name))))
    wrong = {name: error for name, error in errors.items() if not error <= 5 * CLOSE}
    assert wrong == {}


# --------------------------------------------------------------------------- any subject, any regimen


def check_any(patient: Patient, regimen: Regimen, seed: int) -> None:
    problem = Problem(patient, regimen.doses, regimen.courses, prior_draws(1, seed).at(0))
    try:
        here = problem.placed()
    except InitialStateError:
        found = gradient(
            patient, regimen.doses, regimen.courses, problem.theta, ["nephron_loss_rate"], TIMES, OBSERVED
        )
        assert found.status == "initial-state"
        assert np.isnan(found.derivatives).all()
        return
    assume(by_own(*here, TIMES).status == "ok")
    direction = along(problem, seed)
    expected = differences(problem, direction, by_own, tolerance=1e-7 * 1e-2, step=STEP / 4)
    expected.check(directional(problem, direction, 1e-7), 10 * USUAL)


@settings(max_examples=6)
@given(subjects(), regimens(most=4), st.integers(0, 1000))
def test_any_subject_under_any_regimen_has_the_derivatives_of_finite_differences(patient, regimen, seed):
    check_any(patient, regimen, seed)


@pytest.mark.slow
@settings(max_examples=80)
@given(subjects(), regimens(most=6), st.integers(0, 10**6))
def test_many_subjects_under_many_regimens_have_the_derivatives_of_finite_differences(patient, regimen, seed):
    check_any(patient, regimen, seed)


# --------------------------------------------------------------------------- the start


@pytest.mark.parametrize("name", PLACED)
def test_the_derivatives_of_the_placed_start_are_those_of_placing_again(name):
    problem = CASES[name]
    names = problem.used()
    kernels, subject, _ = problem.placed()
    kernels = with_gradient(kernels.model.slots)
    prepared = PreparedGradient(
        problem.patient, problem.doses, problem.courses, names, TIMES, OBSERVED, knock_out=problem.knock_out
    )
    seeds = seeds_of(kernels, subject, prepared._directions)
    for k, parameter in enumerate(names):

        def start(x: float, parameter: str = parameter) -> np.ndarray:
            _, moved, _ = problem.moved({parameter: x * problem.size(parameter)}).placed()
            return np.concatenate([moved.state, moved.parameters])

        expected, _ = richardson(start, 1e-3)
        found = np.concatenate([seeds.state[:, k], seeds.parameters[:, k]]) * problem.size(parameter)
        here = np.concatenate([subject.state, subject.parameters])
        # The iteration ends at 1e-11 of the speed of each state: of a value, 1e-7 of it is seen by the differences.
        off = np.abs(found - expected) / (1e-6 * np.abs(expected) + 1e-7 * (1e-3 + np.abs(here)))
        worst = int(np.argmax(off))
        assert off[worst] <= 1, (
            [*kernels.model.state_names, *kernels.model.parameter_names][worst],
            parameter,
        )


def test_the_start_of_an_animal_depends_on_no_parameter():
    problem = CASES["rat with streptozotocin, depots"]
    kernels, subject, _ = problem.placed()
    directions = np.eye(len(kernels.model.parameters))
    seeds = seeds_of(with_gradient(1), subject, directions)
    assert not seeds.state.any()
    assert (seeds.parameters == directions).all()


def unit_seeds(kernels: Compiled, states: list[str]) -> Seeds:
    state = np.zeros((len(kernels.model.states), len(states)))
    for k, name in enumerate(states):
        state[kernels.model.index[name], k] = 1.0
    return Seeds(state, np.zeros((len(kernels.model.parameters), len(states))))


def test_unit_seeds_give_the_derivatives_by_initial_states():
    kernels, subject, schedule = FIRST.placed()
    kernels = with_gradient(kernels.model.slots)
    states = ["nephrons", "podocytes", "m1", "tgfb", "glucose", "matrix", "lung", "kidney", "licensing"]
    states = [n for n in states if n in kernels.model.index]
    assert len(states) >= 7
    found = gradient_of_subject(
        kernels, subject, schedule, unit_seeds(kernels, states), TIMES, OBSERVED, states,
        rtol=TIGHT, atol=TIGHT * 1e-2,
    )  # fmt: skip
    assert found.status == "ok"
    solution = by_own(kernels, subject, schedule, TIMES)
    for k, name in enumerate(states):
        row = kernels.model.index[name]

        def course(x: float, row: int = row) -> np.ndarray:
            state = subject.state.copy()
            state[row] += x
            return by_reference(kernels, replace(subject, state=state), schedule, TIMES).observables

        # From zero a state can only rise: what the model does below is not asked.
        up = subject.state[row] < 0.1
        step = 1e-3 if up else STEP
        if up:
            base = course(0.0)
            halves = [(course(step * f) - base) / (step * f) for f in (1.0, 0.5, 0.25)]
            first = [2 * halves[1] - halves[0], 2 * halves[2] - halves[1]]
            slope = (4 * first[1] - first[0]) / 3
        else:
            slope, _ = richardson(course, step)
        least = seen_noise(
            kernels, subject, schedule, solution.states, TIMES,
            lambda y, step=step: 4 * ERRS * (ATOL + RTOL * y) / step + 10 * ERRS * TIGHT * 1e-2,
        )  # fmt: skip
        Differences(slope, least).check(found.derivatives[..., k], 10 * CLOSE)


def test_a_reset_takes_the_derivatives_back_to_the_start_as_it_does_the_state():
    kernels, subject, schedule = FIRST.placed()
    kernels = with_gradient(kernels.model.slots)
    back = replace(schedule, resets=schedule.edges == 14.0)
    assert back.resets.sum() == 1
    names = ["nephron_loss_rate", "product.UC.survival", "eta_podocyte"]
    prepared = PreparedGradient(FIRST.patient, FIRST.doses, FIRST.courses, names, TIMES, OBSERVED)
    seeds = seeds_of(kernels, subject, prepared._directions)
    scale = np.array([FIRST.size(n) for n in names])
    found = gradient_of_subject(
        kernels, subject, back, seeds, TIMES, OBSERVED, names, scale=scale, rtol=TIGHT, atol=TIGHT * 1e-2
    )
    plain = gradient_of_subject(
        kernels, subject, schedule, seeds, TIMES, OBSERVED, names, scale=scale, rtol=TIGHT, atol=TIGHT * 1e-2
    )
    late = TIMES > 14.0
    for k, name in enumerate(names):

        def course(x: float, name: str = name) -> np.ndarray:
            moved_kernels, moved, same = FIRST.moved({name: x * FIRST.size(name)}).placed()
            return by_reference(moved_kernels, moved, replace(same, resets=back.resets), TIMES).observables

        solution = by_own(kernels, subject, back, TIMES)
        least = seen_noise(
            kernels, subject, back, solution.states, TIMES,
            lambda y: ERRS * (ATOL + RTOL * y) / STEP + 10 * ERRS * TIGHT * 1e-2,
        )  # fmt: skip
        slope, doubt = richardson(course, STEP)
        Differences(slope, least + doubt).check(found.derivatives[..., k] * FIRST.size(name), CLOSE)
        assert not np.allclose(found.derivatives[late, :, k], plain.derivatives[late, :, k], rtol=1e-3)


def test_resets_by_day_are_those_of_the_schedule():
    names = ["nephron_loss_rate", "product.UC.survival"]
    arguments = (FIRST.patient, FIRST.doses, (), FIRST.theta, names, TIMES, ("egfr", "uacr"))
    again = gradient(*arguments, resets=[100.0])
    anew = gradient(FIRST.patient, (), (), FIRST.theta, names, [0.0, 12.0, 100.0], ("egfr", "uacr"))
    np.testing.assert_allclose(again.derivatives[TIMES == 112.0], anew.derivatives[1:2], rtol=1e-3, atol=1e-6)
    assert (again.derivatives[TIMES == 112.0, :, 1] == 0).all()


# --------------------------------------------------------------------------- what must be exactly so


def test_a_knocked_out_arm_of_action_has_no_derivative():
    arm = "immunomodulation"
    name = f"product.UC.potency_{arm}"
    assert FIRST.gradient([name], 1e-6).derivatives.any()
    assert not replace(FIRST, knock_out=(arm,)).gradient([name], 1e-6).derivatives.any()


def test_what_the_subject_does_not_use_has_derivative_zero_exactly():
    used = set(FIRST.used())
    others = [n for n in sampled_parameters() if n not in used]
    assert any(n.startswith("product.") for n in others)
    assert any(n.startswith("species.") for n in others)
    assert any(n.startswith("insult.") for n in others)
    assert not FIRST.gradient(others[:40], 1e-5).derivatives.any()
    assert not FIRST.gradient(["product.AD.survival", "nephron_loss_rate"], 1e-5).derivatives[..., 0].any()


def test_before_the_first_dose_no_product_has_a_derivative():
    late = replace(FIRST, doses=(Dose(20.0, 1.0, "UC"),))
    found = late.gradient(["product.UC.survival"], 1e-6).derivatives
    assert not found[TIMES <= 20.0].any()
    assert found[TIMES > 20.0].any()


@pytest.mark.parametrize("name", CASES)
def test_the_values_are_those_of_a_simulation_without_derivatives(name):
    problem = CASES[name]
    plain = simulate(
        problem.patient, problem.doses, problem.courses, problem.theta, TIMES, rtol=1e-9, atol=1e-12
    )
    beside = problem.gradient(["nephron_loss_rate"], 1e-8)
    size = np.abs(plain.observables).max(axis=0)
    for k, observable in enumerate(OBSERVED):
        # Cells are counted to a hundredth of one per kg; an insulin dose of animals that get none is none.
        floor = 0.01 if observable.startswith("cells_") else 1e-4 if observable == "insulin_dose" else 1e-9
        np.testing.assert_allclose(
            beside.values[:, k],
            plain.observables[:, k],
            rtol=0,
            atol=1e-6 * size[k] + floor,
            err_msg=observable,
        )


@settings(max_examples=8)
@given(st.data())
def test_order_and_number_of_the_names_do_not_change_a_derivative(data):
    names = FIRST.used()
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=20, unique=True))
    one = data.draw(st.sampled_from(chosen))
    alone = FIRST.gradient([one], 1e-8).derivatives[..., 0]
    among = FIRST.gradient(chosen, 1e-8).derivatives[..., chosen.index(one)]
    back = FIRST.gradient(chosen[::-1], 1e-8).derivatives[..., chosen[::-1].index(one)]
    size = np.abs(alone).max(axis=0)
    for other in (among, back):
        assert (np.abs(other - alone).max(axis=0) <= 1e-4 * size + 1e-4 / FIRST.size(one)).all()


@pytest.mark.parametrize("number", [1, 7, 8, 9, 16, 17])
def test_any_number_of_names_fills_whole_blocks(number):
    # Eight derivatives are carried together; the places left over in the last eight are never seen.
    names = (FIRST.used() * 2)[:number]
    few = FIRST.gradient(names, 1e-6, ("egfr", "uacr"))
    assert few.derivatives.shape == (len(TIMES), 2, number)
    one = FIRST.gradient(names[-1:], 1e-6, ("egfr", "uacr")).derivatives[..., 0]
    np.testing.assert_allclose(few.derivatives[..., -1], one, rtol=1e-3, atol=1e-4 * np.abs(one).max())


def test_no_name_at_all_gives_the_values():
    found = FIRST.gradient([], 1e-6, ("egfr",))
    assert found.derivatives.shape == (len(TIMES), 1, 0)
    assert np.isfinite(found.values).all()


def test_a_name_given_twice_has_the_same_derivative_twice():
    found = FIRST.gradient(["nephron_loss_rate"] * 2, 1e-6).derivatives
    assert (found[..., 0] == found[..., 1]).all()


def test_a_prepared_gradient_gives_the_same_to_the_last_bit_and_survives_a_pickle():
    names = ["nephron_loss_rate", "eta_nephron"]
    ready = PreparedGradient(FIRST.patient, FIRST.doses, FIRST.courses, names, TIMES, OBSERVED)
    direct = gradient(FIRST.patient, FIRST.doses, FIRST.courses, FIRST.theta, names, TIMES, OBSERVED)
    for one in (ready, ready, pickle.loads(pickle.dumps(ready))):
        assert (one.at(FIRST.theta).derivatives == direct.derivatives).all()


def test_random_effects_given_apart_are_those_of_the_patient():
    ready = PreparedGradient(DKD, (), (), ["eta_nephron"], TIMES, ("egfr",))
    patient = DKD.replace(eta={"eta_nephron": 2e-4})
    of_patient = gradient(patient, (), (), {}, ["eta_nephron"], TIMES, ("egfr",))
    assert (ready.at({}, {"eta_nephron": 2e-4}).derivatives == of_patient.derivatives).all()


# --------------------------------------------------------------------------- failures and slips


def test_a_subject_that_cannot_be_placed_is_nan_with_a_reason():
    found = gradient(DKD.replace(egfr=149.0), (), (), {}, ["nephron_loss_rate"], TIMES, ("egfr",))
    assert found.status == "initial-state"
    assert "cannot be met" in found.message
    assert np.isnan(found.values).all()
    assert np.isnan(found.derivatives).all()


def test_a_failed_integration_is_nan_with_a_reason_and_the_last_dose(monkeypatch):
    monkeypatch.setattr("mscrenal.model.gradient.MAX_STEPS", 40)
    found = gradient(DKD, [Dose(0, 1.0, "UC")], (), {}, ["nephron_loss_rate"], TIMES, ("egfr",))
    assert found.status == "budget"
    assert "Last dose: day 0" in found.message
    assert np.isnan(found.values).all()
    assert np.isnan(found.derivatives).all()


def test_a_state_below_zero_is_a_status_and_no_number():
    kernels, subject, schedule = FIRST.placed()
    below = subject.state.copy()
    below[kernels.model.index["insulin"]] = -0.1
    found = gradient_of_subject(
        with_gradient(1), replace(subject, state=below), schedule, unit_seeds(kernels, ["nephrons"]),
        np.array([0.0, 1.0]), ("egfr",), ("nephrons",),
    )  # fmt: skip
    assert found.status == "non-finite"
    assert "insulin" in found.message
    assert np.isnan(found.values).all()


@pytest.mark.parametrize("egfr", [45.0, 149.0])
def test_an_unknown_name_is_refused_with_the_nearest(egfr):
    # Also for a patient who cannot be placed: a slip is a slip whatever the numbers.
    patient = DKD.replace(egfr=egfr)
    with pytest.raises(KeyError, match="Did you mean 'nephron_loss_rate'"):
        gradient(patient, (), (), {}, ["nephron_los_rate"], TIMES, ("egfr",))
    with pytest.raises(KeyError, match="Did you mean 'egfr'"):
        gradient(patient, (), (), {}, ["nephron_loss_rate"], TIMES, ("egrf",))


def test_times_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="times must increase"):
        gradient(DKD, (), (), {}, ["nephron_loss_rate"], [7.0, 0.0], ("egfr",))


def test_a_dose_before_the_start_is_refused():
    with pytest.raises(RegimenError, match="precedes the start"):
        gradient(DKD, [Dose(-1, 1.0, "UC")], (), {}, ["nephron_loss_rate"], TIMES, ("egfr",))
