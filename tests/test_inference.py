"""On a problem whose posterior is known in closed form the density, its mode and its curvature are the known ones."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pymc")

from mscrenal.calibration.inference import (
    Density,
    Laplace,
    ModeError,
    Tangent,
    find_mode,
    laplace,
)
from mscrenal.calibration.observations import CLASSES, Datum, Term
from mscrenal.calibration.probability import HYPER, TAIL, Problem

NAMES = ("nephron_loss_rate", "lung_trapping")


def datum(line: int, value: float, error: float, **changes: object) -> Datum:
    """A row of an untreated patient: its prediction, its error, and nothing else."""
    made = Datum(
        study=f"study{line}", table="mine", line=line, endpoint="egfr", kind=CLASSES["gfr"], observable="egfr",
        measure="change", arm="placebo", against="", species="human", value=value, error=error,
        terms=(Term("placebo", 84.0, "egfr", False, 1.0),), limit=None, above=False, own_level=0.0, treated=False,
        benefit=1, n=20.0, day=84.0,
    )  # fmt: skip
    return replace(made, **changes)


# Errors so large that the residual beyond them does not matter: what is left is a linear model with known noise.
ERROR = 40.0
DESIGN = ERROR * np.array([[1.2, 0.3], [-0.4, 0.9], [0.8, -1.1], [0.2, 0.5], [-0.7, -0.2]])
SHIFT = np.array([3.0, -1.0, 2.0, 0.5, -4.0])


def linear(values: np.ndarray) -> tuple[Problem, Tangent]:
    data = tuple(datum(k, float(v), ERROR) for k, v in enumerate(values))
    return Problem(data, {}, NAMES), Tangent(np.zeros(2), SHIFT, DESIGN)


# What is seen are the predictions at TRUTH: the residuals at the mode are a small part of an error.
TRUTH = np.array([0.02, -0.03])
SEEN = SHIFT + DESIGN @ TRUTH
# Near its centre Student's t with nu degrees of freedom is a normal of variance sigma^2 nu / (nu + 1).
RESIDUAL = HYPER["residual, gfr"].median
PRECISION = (TAIL + 1) / TAIL / (ERROR**2 + RESIDUAL**2)
ANALYTIC = np.eye(2) + PRECISION * DESIGN.T @ DESIGN
MODE = np.linalg.solve(ANALYTIC, PRECISION * DESIGN.T @ (SEEN - SHIFT))


def reference(problem: Problem, density: Density, predict: Tangent, u: np.ndarray) -> float:
    """The log density of untreated changes, by SciPy."""
    z, hyper = u[density.blocks["z"]], u[density.blocks["hyper"]]
    declared = HYPER[problem.hyper[0]]
    residual = declared.median * math.exp(declared.sigma * hyper[0])
    mean = predict(z).values
    sigma = np.array([math.hypot(d.error, residual) for d in problem.data])
    seen = np.array([d.value for d in problem.data])
    return float(
        stats.norm.logpdf(u).sum() + stats.t.logpdf((seen - mean) / sigma, TAIL).sum() - np.log(sigma).sum()
    )


# --------------------------------------------------------------------------- the density


def test_the_density_is_that_of_the_model_in_words():
    problem, predict = linear(SEEN)
    density = Density(problem)
    density.put(predict)
    assert density.size == sum(s.stop - s.start for s in density.blocks.values())
    rng = np.random.default_rng(1)
    for _ in range(5):
        u = rng.standard_normal(density.size)
        assert density.linear(u)[0] == pytest.approx(reference(problem, density, predict, u), rel=1e-9)


def mixed() -> tuple[Problem, Tangent]:
    """Rows of every kind: treated animals, levels, standardised differences, shares, a row without an error."""
    animal = {
        "species": "rat",
        "treated": True,
        "kind": CLASSES["animal albuminuria"],
        "observable": "uacr",
        "benefit": -1,
    }
    data = (
        datum(1, 2.0, 1.0),
        datum(2, 45.0, 2.0, measure="level", own_level=2.0),
        datum(2, 41.0, 2.5, measure="level", own_level=2.0),
        datum(3, -0.8, 0.3, study="rats", measure="fold", **animal),
        datum(4, -1.1, 0.4, study="rats", measure="smd", **animal),
        datum(5, -0.5, 0.6, study="trial", measure="share", treated=True, limit=-3.0),
        datum(6, 1.4, 0.5, study="trial", measure="share", treated=True, limit=-3.0, above=True),
        datum(7, 3.0, math.nan, study="trial", treated=True),
        datum(8, 4.0, 1.5, study="series", treated=True),
    )
    studies: dict[str, Any] = {
        study: SimpleNamespace(arms={"placebo": SimpleNamespace(doses=doses)})
        for study, doses in (("rats", ()), ("trial", ()), ("series", ("cells",)))
    }
    problem = Problem(data, studies, ("ec50_effect", "lung_trapping", "product.UC.secretion"))
    rng = np.random.default_rng(2)
    jacobian = rng.normal(size=(len(data), len(problem.vector)))
    return problem, Tangent(np.zeros(len(problem.vector)), np.array([d.value for d in data]) + 0.3, jacobian)


def test_every_kind_of_row_is_distributed_as_the_model_says_in_words():
    problem, predict = mixed()
    density = Density(problem)
    density.put(predict)
    u = 0.6 * np.random.default_rng(6).standard_normal(density.size)
    scale = {
        name: HYPER[name].median * math.exp(HYPER[name].sigma * x)
        for name, x in zip(problem.hyper, u[density.blocks["hyper"]], strict=True)
    }
    levels = dict(zip(problem.levels, u[density.blocks["level"]], strict=True))
    total = stats.norm.logpdf(u).sum()
    for datum_, mean in zip(problem.data, predict(density.coordinates(u)).values, strict=True):
        kind = datum_.kind
        residual, error = scale[f"residual, {kind.name}"], 0.0 if math.isnan(datum_.error) else datum_.error
        if datum_.measure == "level":
            mean += 2.0 * levels["study2", "egfr", "level"]
        if datum_.study == "series":  # nobody untreated to compare with
            mean += scale["uncontrolled_gain"] * kind.between
        if datum_.measure in ("smd", "share"):
            between = scale[f"between subjects, {kind.name}"]
            mean, residual = mean / between, residual / between
        if datum_.measure == "share":
            below = (-3.0 / between - mean) * math.pi / math.sqrt(3.0)  # logit of the share below the limit
            mean = -below if datum_.above else below
        if datum_.species == "rat":  # less albuminuria is better
            mean -= scale["small_study_effect"] * datum_.error
        total += stats.t.logpdf(datum_.value, TAIL, mean, math.hypot(error, residual))
    assert density.linear(u)[0] == pytest.approx(total, rel=1e-9)


def test_the_gradient_of_the_density_is_that_of_finite_differences():
    problem, predict = mixed()
    density = Density(problem)
    density.put(predict)
    assert problem.potent == ("rats", "trial", "series")
    assert {"small_study_effect", "uncontrolled_gain", "between_products"} <= set(problem.hyper)
    assert "between subjects, animal albuminuria" in problem.hyper
    rng, step = np.random.default_rng(3), 1e-5
    for _ in range(3):
        u = 0.7 * rng.standard_normal(density.size)
        expected = [
            (density.linear(u + step * e)[0] - density.linear(u - step * e)[0]) / (2 * step)
            for e in np.eye(density.size)
        ]
        np.testing.assert_allclose(density.linear(u)[1], expected, rtol=1e-5, atol=1e-6)


def test_the_exact_density_is_the_linear_one_at_its_own_tangent():
    problem, predict = mixed()
    density = Density(problem)

    def curved(x: np.ndarray) -> Tangent:
        bend = 0.1 * np.sin(x).sum()
        return Tangent(x, predict(x).values + bend, predict.jacobian + 0.1 * np.cos(x))

    u = 0.5 * np.random.default_rng(4).standard_normal(density.size)
    value, slope = density.exact(u, curved)
    density.put(curved(density.coordinates(u)))
    again, back = density.linear(u)
    assert value == again
    np.testing.assert_array_equal(slope, back)
    step = 1e-5
    expected = [
        (density.exact(u + step * e, curved)[0] - density.exact(u - step * e, curved)[0]) / (2 * step)
        for e in np.eye(density.size)
    ]
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)


def test_a_prediction_that_failed_has_no_density_and_leaves_the_tangent_alone():
    problem, predict = linear(SEEN)
    density = Density(problem)
    density.put(predict)
    u = np.full(density.size, 0.1)
    before = density.linear(u)[0]
    lost = Tangent(predict.at, np.where(np.arange(5) == 2, np.nan, SHIFT), DESIGN)
    value, slope = density.exact(u, lost)
    assert math.isnan(value)
    assert slope.tolist() == [0.0] * density.size
    assert density.linear(u)[0] == before
    flat = Tangent(predict.at, SHIFT, np.full_like(DESIGN, np.nan))
    assert math.isnan(density.exact(u, flat)[0])


def test_simulated_data_take_the_place_of_the_evidence():
    problem, predict = linear(SEEN)
    other = SEEN + np.array([10.0, -20.0, 5.0, 0.0, 30.0])
    moved, built = Density(problem), Density(linear(other)[0])
    given = Density(problem, observed=other)
    u = np.linspace(-0.5, 0.5, moved.size)
    for density in (moved, built, given):
        density.put(predict)
    moved.observe(other)
    assert moved.linear(u)[0] == built.linear(u)[0] == given.linear(u)[0]


def test_coordinates_shift_a_study_s_potency_by_its_deviation_in_units_of_the_prior():
    problem, _ = mixed()
    density = Density(problem)
    u = np.zeros(density.size)
    u[density.blocks["z"]] = 0.5, -0.2, 1.0
    u[density.blocks["study"]] = 1.0, -1.0, 0.0
    x = density.coordinates(u)
    np.testing.assert_allclose(x[:3], [0.5, -0.2, HYPER["between_products"].median])
    assert x[3] - 0.5 == pytest.approx(0.5 - x[4])  # to both sides of the shared potency
    assert x[3] > 0.5
    assert x[5] == pytest.approx(0.5)


# --------------------------------------------------------------------------- the mode and its curvature


def test_the_mode_of_a_linear_problem_is_the_known_one():
    problem, predict = linear(SEEN)
    density = Density(problem)
    told: list[str] = []
    found = find_mode(density, predict, progress=told.append)
    np.testing.assert_allclose(found.mode[density.blocks["z"]], MODE, atol=2e-4)
    assert np.abs(density.linear(found.mode)[1]).max() < 1e-3
    assert found.log_density == density.linear(found.mode)[0]
    assert told
    assert all("log density" in line for line in told)


def test_the_mode_does_not_depend_on_where_the_search_began():
    problem, predict = linear(SEEN)
    density = Density(problem)
    far = find_mode(density, predict, start=np.full(density.size, 1.5))
    near = find_mode(density, predict)
    np.testing.assert_allclose(far.mode, near.mode, atol=5e-3)


def test_the_covariance_is_the_analytic_one_where_rows_lie_near_their_predictions():
    problem, predict = linear(SEEN)
    density = Density(problem)
    found = find_mode(density, predict)
    covariance = found.factor @ found.factor.T
    block = density.blocks["z"]
    np.testing.assert_allclose(covariance[block, block], np.linalg.inv(ANALYTIC), rtol=2e-3, atol=1e-4)
    # What no row speaks of keeps its prior.
    for name in ("study", "level"):
        np.testing.assert_allclose(covariance[density.blocks[name], density.blocks[name]], [[1.0]], rtol=1e-6)


def test_draws_of_the_approximation_have_its_mean_and_covariance_and_follow_the_seed():
    factor = np.array([[0.5, 0.0], [0.3, 0.2]])
    found = Laplace(np.array([1.0, -2.0]), factor, 0.0, Tangent(np.zeros(2), SHIFT, DESIGN))
    draws = found.sample(20000, seed=5)
    np.testing.assert_allclose(draws.mean(axis=0), found.mode, atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), factor @ factor.T, atol=0.01)
    np.testing.assert_array_equal(draws, found.sample(20000, seed=5))
    assert not np.array_equal(draws, found.sample(20000, seed=6))


def test_the_search_follows_predictions_that_bend():
    problem, _ = linear(SEEN)
    density = Density(problem)

    def curved(x: np.ndarray) -> Tangent:
        return Tangent(x, SHIFT + DESIGN @ np.sinh(x + 0.5), DESIGN * np.cosh(x + 0.5))

    found = find_mode(density, curved, start=np.full(density.size, 1.0))
    step = 1e-5
    slopes = [
        (density.exact(found.mode + step * e, curved)[0] - density.exact(found.mode - step * e, curved)[0])
        / (2 * step)
        for e in np.eye(density.size)
    ]
    assert np.abs(slopes).max() < 0.05  # less than a tenth of a prior's SD away
    np.testing.assert_allclose(found.tangent.at, density.coordinates(found.mode))


def test_the_search_goes_back_from_a_step_that_does_not_pay_or_cannot_be_simulated():
    """Predictions that saturate: from their flat part the tangent leads far beyond the mode, and off a cliff."""
    design = 40 * DESIGN[:, :1]
    problem = Problem(tuple(datum(k, float(v), ERROR) for k, v in enumerate(SHIFT)), {}, NAMES[:1])
    density = Density(problem)
    lost = 0

    def saturating(x: np.ndarray) -> Tangent:
        nonlocal lost
        values = SHIFT + design @ np.tanh(3 * x)
        if x[0] < -0.5:
            lost += 1
            values = np.full(5, np.nan)
        return Tangent(x, values, 3 * design / np.cosh(3 * x) ** 2)

    start = np.zeros(density.size)
    start[density.blocks["z"]] = 0.9
    found = find_mode(density, saturating, start=start)
    assert lost > 0
    assert abs(found.mode[density.blocks["z"]][0]) < 1e-3


def test_a_start_that_cannot_be_simulated_says_which_arm():
    problem, _ = linear(SEEN)

    class Lost:
        values, jacobian = np.full(5, np.nan), DESIGN
        failures = (("study1: placebo", "step-underflow", "at day 3"),)

    with pytest.raises(ModeError, match="start cannot be simulated: study1: placebo step-underflow at day 3"):
        find_mode(Density(problem), lambda _: Lost())


def test_a_search_that_is_cut_off_says_so():
    problem, _ = linear(SEEN + 200.0)

    def curved(x: np.ndarray) -> Tangent:
        return Tangent(x, SHIFT + DESIGN @ np.sinh(x), DESIGN * np.cosh(x))

    with pytest.raises(ModeError, match="no mode after 1 linear problems"):
        find_mode(Density(problem), curved, most=1)


def test_a_direction_that_heavy_tails_make_flat_is_held_at_half_the_prior_s_curvature():
    # At sqrt(3 nu) errors Student's t is convex, and rows as strong as these outweigh the prior.
    problem, predict = linear(SHIFT + math.sqrt(3 * TAIL) * ERROR)
    density = Density(problem)
    density.put(replace(predict, jacobian=4 * DESIGN))
    at, step = np.zeros(density.size), 1e-4
    bend = [
        density.linear(at + step * e)[1] @ e - density.linear(at - step * e)[1] @ e
        for e in np.eye(density.size)[density.blocks["z"]]
    ]
    assert max(bend) / (2 * step) > 0  # no mode of this direction lies here
    widest = np.linalg.eigvalsh((found := laplace(density, at)).factor @ found.factor.T).max()
    assert widest == pytest.approx(2.0, rel=1e-3)
