"""The calibration finds what it is given: ranks are uniform for a right model and not for a wrong one; recovery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("nutpie")

from test_inference import datum

from mscrenal.calibration.calibrate import prepare
from mscrenal.calibration.inference import Tangent
from mscrenal.calibration.observations import CLASSES
from mscrenal.calibration.probability import Problem
from mscrenal.calibration.sbc import (
    Fitter,
    SbcError,
    Settings,
    ecdf_band,
    ecdf_p,
    problem_of,
    rank_figure,
    recovery,
    reduced,
    run,
    uniformity,
)
from mscrenal.calibration.studies import studies

ERROR = 4.0


def small() -> tuple[Problem, Tangent]:
    """Two parameters, fourteen rows that inform them well, two rows with a level of their own."""
    rng = np.random.default_rng(4)
    data = [datum(k, 0.0, ERROR) for k in range(14)]
    data += [datum(20 + k, 45.0, 2.0, study="twice", measure="level", own_level=2.0) for k in range(2)]
    jacobian = ERROR * rng.normal(size=(len(data), 2))
    values = rng.normal(size=len(data))
    return Problem(tuple(data), {}, ("nephron_loss_rate", "lung_trapping")), Tangent(
        np.zeros(2), values, jacobian
    )


# --------------------------------------------------------------------------- the tests of uniformity


def test_the_probability_of_the_ranks_is_that_of_simulation():
    """Exact recursion against samples of uniform ranks."""
    rng, levels, n = np.random.default_rng(1), 10, 40
    seen = np.array([ecdf_p(rng.integers(0, levels, n), levels) for _ in range(600)])
    for alpha in (0.05, 0.2, 0.5):
        # Counts are whole numbers, so that the level is met from below.
        share = (seen <= alpha).mean()
        assert share <= alpha + 3 * np.sqrt(alpha / len(seen))
        assert share > 0.6 * alpha


def test_the_band_holds_as_many_samples_as_it_says():
    rng, levels, n = np.random.default_rng(2), 100, 200
    points, low, high = ecdf_band(n, levels, alpha=0.1)
    ranks = rng.integers(0, levels, (3000, n))
    share = (ranks[:, :, None] < np.round(points * levels)).mean(axis=1)
    inside = ((share >= low - 1e-12) & (share <= high + 1e-12)).all(axis=1).mean()
    assert 0.88 < inside < 0.95


@pytest.mark.parametrize("shape", ["shifted", "too narrow", "too wide"])
def test_ranks_that_are_not_uniform_are_rejected(shape):
    rng = np.random.default_rng(3)
    p = {
        "shifted": stats.norm.cdf(rng.normal(0.5, 1, 300)),
        "too narrow": stats.norm.cdf(rng.normal(0, 1.6, 300)),
        "too wide": stats.norm.cdf(rng.normal(0, 0.6, 300)),
    }[shape]
    assert ecdf_p((p * 100).astype(int), 100) < 1e-4


# --------------------------------------------------------------------------- simulations


def test_simulated_data_have_the_spread_of_the_probability_model():
    problem, tangent = small()
    fitter = Fitter(problem, tangent, Settings())
    seen = np.array([fitter.simulate(k)[1] for k in range(1500)])
    residual = 0.7 * CLASSES["gfr"].residual
    spread = np.sqrt(
        2.0 * (ERROR**2 + np.exp(2 * 0.5**2) * residual**2) + (tangent.jacobian[:14] ** 2).sum(axis=1)
    )
    assert seen[:, :14].std(axis=0) == pytest.approx(spread, rel=0.2)


def test_a_right_model_is_not_rejected_and_one_with_too_small_residuals_is():
    """The same fits, of data as the model has them, and of data with three times the noise."""
    problem, tangent = small()
    short = Settings(tune=80, draws=99, thin=1)
    right, wrong = (
        uniformity(run(problem, tangent, 25, settings=s), s.ranks) for s in (short, replace(short, noise=3.0))
    )
    assert not right["rejected"].any(), right
    assert {"hyper: residual, gfr", "log likelihood"} <= set(wrong.loc[wrong["rejected"], "quantity"])


def test_a_run_that_was_killed_goes_on_and_gives_the_same_ranks(tmp_path):
    problem, tangent = small()
    settings = Settings(tune=60, draws=30, thin=3)
    whole = run(problem, tangent, 5, settings=settings)
    run(problem, tangent, 3, settings=settings, folder=tmp_path)
    with (tmp_path / "ranks.csv").open("a") as file:
        file.write("3,0,1")  # cut short by the kill
    again = run(problem, tangent, 5, settings=settings, folder=tmp_path)
    assert again.equals(whole)


def test_ranks_of_another_problem_are_not_mixed_in(tmp_path):
    problem, tangent = small()
    settings = Settings(tune=60, draws=30, thin=3)
    run(problem, tangent, 1, settings=settings, folder=tmp_path)
    with pytest.raises(SbcError, match="another problem, or made with other settings"):
        run(problem, tangent, 2, settings=replace(settings, seed=2), folder=tmp_path)


def test_the_figure_shows_every_quantity_beside_the_band():
    problem, tangent = small()
    settings = Settings(tune=60, draws=30, thin=3)
    table = run(problem, tangent, 3, settings=settings)
    lines = [line for axes in rank_figure(table, settings.ranks).axes for line in axes.lines]
    assert len(lines) == len(table.columns) - 2 + 4  # and a zero in each of four panels


# --------------------------------------------------------------------------- with the evidence


@pytest.fixture(scope="module")
def evidence():
    return problem_of(ready=prepare(workers=2, offset=False))


@pytest.mark.slow
def test_the_reduced_problem_has_every_kind_of_row(evidence):
    whole, _ = evidence
    part, tangent = reduced(*evidence)

    def kinds(problem, **only):
        return {(d.measure, d.species == "human", d.treated) for d in problem.data}

    assert kinds(part) == kinds(whole)
    assert len(part.data) < len(whole.data)
    assert tangent.jacobian.shape == (len(part.data), len(part.vector))
    assert len(part.levels) > 3
    assert len(part.potent) > 3


@pytest.mark.slow
def test_simulation_based_calibration_rejects_nothing(evidence):
    """200 simulated data sets of the reduced problem; the family of all tests at 0.1 %."""
    settings = Settings()
    table = run(*reduced(*evidence), 200, settings=settings, workers=2)
    found = uniformity(table, settings.ranks)
    assert not found["rejected"].any(), found.sort_values("ecdf_p").head()
    assert table["divergences"].sum() < 0.01 * 200 * settings.draws


@pytest.mark.slow
def test_known_parameters_are_recovered_from_the_engine_s_own_predictions():
    """Nine in ten 90 % intervals of the draft calibration hold the truth."""
    chosen = {name: studies()[name] for name in ("bakris2020", "brenner2001", "ezquer2009")}
    ready = prepare(chosen, workers=2, offset=False)
    found = recovery(ready, repeats=15)
    assert len(found) >= 60
    assert 0.82 <= found["inside"].mean() <= 0.97, found
