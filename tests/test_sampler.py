"""Sampling: a stand-in that follows the engine, weights that mend it, and runs that go on after a kill."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

pytest.importorskip("pymc")

from mscrenal.calibration import sampler
from mscrenal.calibration.calibrate import calibrate, prepare
from mscrenal.calibration.journal import JournalError
from mscrenal.calibration.posterior import read_posterior
from mscrenal.calibration.sampler import Settings
from mscrenal.calibration.standin import Design, depends_on, error_of, fit_standin, smoothed_weights
from mscrenal.calibration.studies import studies


def quartic(points: np.ndarray) -> Design:
    """Three rows of a polynomial that the stand-in can hold, with their derivatives."""
    x, y = points.T
    values = np.stack([1 + 2 * x - y + x * y, x**3 - 0.5 * y**2, 0.1 * y**4 + x], axis=1)
    slopes = np.zeros((len(points), 3, 2))
    slopes[:, 0] = np.stack([2 + y, -1 + x], axis=1)
    slopes[:, 1] = np.stack([3 * x**2, -y], axis=1)
    slopes[:, 2] = np.stack([np.ones_like(x), 0.4 * y**3], axis=1)
    return Design(points, values, slopes)


def standin_of(design: Design, halves: tuple[int, ...] = ()):
    depends = depends_on(design.usable().jacobians, np.ones(design.values.shape[1]))
    return fit_standin(design, depends, np.array(halves, dtype=int))


def test_what_saturates_as_a_half_normal_parameter_vanishes_is_followed_to_zero():
    """A prediction linear in the value of the parameter is flat in its standardised coordinate."""
    z = np.random.default_rng(6).normal(-1.0, 1.2, size=(60, 1))
    value = norm.ppf(0.5 + 0.5 * norm.cdf(z))
    slope = norm.pdf(z) / (2 * norm.pdf(value))
    found = standin_of(Design(z, 3 - 2 * value, -2 * slope[:, :, None]), halves=(0,))
    for there in (-6.0, -2.0, 0.0, 1.5):
        exact = 3 - 2 * norm.ppf(0.5 + 0.5 * norm.cdf(there))
        assert found(np.array([there])).values[0] == pytest.approx(exact, abs=5e-3)
        assert found(np.array([there])).jacobian[0, 0] == pytest.approx(
            -2 * norm.pdf(there) / (2 * norm.pdf(norm.ppf(0.5 + 0.5 * norm.cdf(there)))), abs=2e-2
        )


def test_a_stand_in_holds_every_polynomial_of_its_kind_with_its_derivatives():
    points = np.random.default_rng(1).normal(size=(60, 2))
    found, truth = standin_of(quartic(points)), quartic(points + 0.1)
    for k, x in enumerate(truth.points):
        here = found(x)
        np.testing.assert_allclose(here.values, truth.values[k], atol=2e-3)
        np.testing.assert_allclose(here.jacobian, truth.jacobians[k], atol=2e-2)


@given(st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=2))
def test_the_jacobian_of_a_stand_in_is_that_of_its_values(x):
    found = standin_of(quartic(np.random.default_rng(2).normal(size=(60, 2))))
    step = 1e-6
    for k in range(2):
        forth, back = np.array(x), np.array(x)
        forth[k] += step
        back[k] -= step
        slope = (found(forth).values - found(back).values) / (2 * step)
        np.testing.assert_allclose(found(np.array(x)).jacobian[:, k], slope, atol=1e-6, rtol=1e-6)


def test_a_row_that_does_not_depend_on_a_coordinate_has_no_derivative_by_it():
    points = np.random.default_rng(3).normal(size=(40, 2))
    design = quartic(points)
    design.jacobians[:, 0, 1] = 0.0
    design.values[:, 0] = 2 * points[:, 0]
    design.jacobians[:, 0, 0] = 2.0
    found = standin_of(design)
    assert (found(np.array([0.4, 1.0])).jacobian[0, 1]) == 0.0


def test_points_that_an_arm_could_not_follow_are_left_out():
    design = quartic(np.random.default_rng(4).normal(size=(60, 2)))
    design.values[3] = np.nan
    assert len(design.usable()) == 59
    assert error_of(standin_of(design), design, np.ones(3))["largest"] < 0.01


def test_equal_densities_give_equal_weights_and_a_tail_that_can_be_trusted():
    weights, k = smoothed_weights(np.full(500, -3.0) + 1e-9 * np.arange(500))
    np.testing.assert_allclose(weights, 1 / 500, rtol=1e-6)
    assert k < 0.7


def test_the_heavier_density_gets_the_heavier_weight():
    ratio = np.random.default_rng(5).normal(size=1000)
    weights, k = smoothed_weights(ratio)
    assert np.corrcoef(weights, np.exp(ratio))[0, 1] > 0.95
    assert weights.sum() == pytest.approx(1.0)
    assert k < 0.7
    _, heavy = smoothed_weights(8 * ratio)
    assert heavy > 0.7


# --------------------------------------------------------------------------- the engine itself

SMALL = Settings(chains=2, tune=150, draws=200, kept=100, seed=4)


@pytest.fixture(scope="module")
def prepared():
    chosen = {name: studies()[name] for name in ("packham2016", "bakris2020", "brenner2001")}
    return prepare(chosen)


@pytest.fixture
def few_points(monkeypatch):
    for name, value in (
        ("FIRST_POINTS", 24),
        ("MORE_POINTS", 16),
        ("PRELIMINARY", (100, 100)),
        ("PRIOR_POINTS", 8),
    ):
        monkeypatch.setattr(sampler, name, value)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_comes_out_the_same_whatever_the_number_of_workers(
    prepared, few_points, tmp_path
):
    whole = calibrate(tmp_path / "whole", settings=SMALL, prepared=prepared, workers=2)
    assert whole.diagnostics["pareto_k"] < 0.7
    folder = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", folder)
    for name in ("round_1_1.npz", "posterior.nc"):
        (folder / name).unlink()
    journal = folder / "values.journal"
    journal.write_bytes(journal.read_bytes()[:-1001])
    again = calibrate(folder, settings=SMALL, prepared=prepared, workers=1)
    np.testing.assert_array_equal(again.posterior.data["z"], whole.posterior.data["z"])
    kept = read_posterior(folder / "posterior.nc")
    np.testing.assert_array_equal(
        kept.data["z"], read_posterior(tmp_path / "whole" / "posterior.nc").data["z"]
    )


@pytest.mark.slow
def test_a_folder_of_another_calibration_or_with_a_damaged_file_is_refused(prepared, few_points, tmp_path):
    calibrate(tmp_path, settings=SMALL, prepared=prepared)
    with pytest.raises(JournalError, match="belongs to another calibration"):
        calibrate(
            tmp_path, settings=Settings(chains=2, tune=150, draws=200, kept=100, seed=5), prepared=prepared
        )
    chain = tmp_path / "first_0.npz"
    content = bytearray(chain.read_bytes())
    content[len(content) // 2] ^= 0xFF
    chain.write_bytes(content)
    with pytest.raises(JournalError, match=r"first_0\.npz is damaged"):
        calibrate(tmp_path, settings=SMALL, prepared=prepared)
