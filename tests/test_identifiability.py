"""What can be told apart: rank and collinearity of known matrices, of the model, and the information in known rows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pymc")

from test_inference import ERROR, RESIDUAL, SEEN, linear
from toy_posterior import toy_posterior

from mscrenal.calibration import PosteriorError
from mscrenal.calibration.calibrate import prepare
from mscrenal.calibration.identifiability import (
    _crossings,
    _profiles,
    _structure,
    _words,
    identifiability,
    practice,
    structure,
)
from mscrenal.calibration.inference import Density
from mscrenal.calibration.observations import observe_study
from mscrenal.calibration.probability import TAIL, Problem
from mscrenal.calibration.studies import studies

# --------------------------------------------------------------------------- structure


def test_two_columns_that_are_multiples_can_only_be_told_together():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30))
    found = _structure(("a", "twice a", "b"), [np.stack([a, 2 * a, b], axis=1)] * 2)
    assert found.ranks == (2, 2)
    assert not found.full
    assert found.collinearity == float("inf")
    assert found.blind["a"] == pytest.approx(0.5)
    assert found.blind["b"] == pytest.approx(0.0, abs=1e-12)


def test_the_index_of_two_columns_is_that_of_brun():
    angle = np.deg2rad(2.0)
    matrix = np.array([[1.0, np.cos(angle)], [0.0, np.sin(angle)]])
    found = _structure(("a", "b"), [matrix])
    index = 1 / np.sqrt(1 - np.cos(angle))
    assert found.full
    assert found.collinearity == pytest.approx(index)
    assert found.pairs.iloc[0]["collinearity"] == pytest.approx(index)


def test_a_deficient_point_does_not_hide_a_generic_rank():
    """Where a parameter is zero the other may not show; elsewhere it does: generically both can be told."""
    rng = np.random.default_rng(2)
    full = rng.normal(size=(10, 2))
    found = _structure(("a", "b"), [np.stack([full[:, 0], full[:, 0]], axis=1), full])
    assert found.full
    assert max(found.blind.values()) == 0.0


def test_a_parameter_that_moves_nothing_is_named():
    found = _structure(("a", "nothing"), [np.array([[1.0, 0.0], [2.0, 0.0]])])
    assert found.unseen == ("nothing",)
    assert found.ranks == (1,)


def of(study: str, *names: str) -> Problem:
    """The rows of one study, and these parameters."""
    chosen = studies()[study]
    return Problem(tuple(observe_study(chosen)), {study: chosen}, names)


def test_from_people_alone_translation_and_half_effective_dose_are_one_number():
    """The model divides the one by the other; animals, who need no translation, tell them apart."""
    found = structure(
        of("wang2014", "ec50_effect", "species.human.translation", "nephron_loss_rate"), workers=1
    )
    assert not found.full
    assert found.blind["ec50_effect"] == pytest.approx(0.5, abs=1e-3)
    assert found.blind["nephron_loss_rate"] < 1e-3


def test_the_loss_of_nephrons_and_the_leak_of_albumin_are_told_apart():
    found = structure(of("brenner2001", "nephron_loss_rate", "ras_on_leak"), workers=1)
    assert found.full
    assert found.collinearity < 15


# --------------------------------------------------------------------------- practice


def test_the_information_of_rows_with_known_noise_is_the_analytic_one():
    problem, tangent = linear(SEEN)
    density = Density(problem)
    found = practice(problem, tangent, np.zeros(density.size), density)
    weight = (TAIL + 1) / (TAIL + 3) / (ERROR**2 + RESIDUAL**2)
    expected = np.linalg.inv(np.eye(2) + weight * tangent.jacobian.T @ tangent.jacobian)
    assert found.covariance == pytest.approx(expected, rel=1e-4)
    assert found.informed == pytest.approx(2 - np.trace(expected), rel=1e-4)
    assert found.directions["sd"].to_numpy() == pytest.approx(np.sqrt(np.linalg.eigvalsh(expected)), rel=1e-4)
    assert (found.conditional <= found.sd + 1e-12).all()


def test_a_combination_is_told_by_its_largest_parts():
    assert _words(("a", "b", "c"), np.array([-0.3, 0.05, 0.95])) == "0.95 c - 0.30 a"
    assert _words(("a", "b", "c"), np.array([0.3, 0.05, -0.95])) == "0.95 c - 0.30 a"


def test_the_profile_of_a_nearly_normal_density_is_the_normal_interval():
    problem, tangent = linear(SEEN)
    density = Density(problem)
    profiles = _profiles(density, tangent, np.zeros(density.size))
    density.put(tangent)
    from mscrenal.calibration.inference import find_mode

    around = find_mode(density, tangent)
    covariance = around.factor @ around.factor.T
    for place, (low, high) in zip(np.arange(density.size)[density.blocks["z"]], profiles, strict=True):
        sd = np.sqrt(covariance[place, place])
        assert (low, high) == pytest.approx(
            (around.mode[place] - 1.645 * sd, around.mode[place] + 1.645 * sd), abs=0.05
        )


def test_a_profile_that_stays_flat_ends_with_the_grid():
    at = np.linspace(-3, 3, 61)
    low, high = _crossings(at, np.where(at > 0, 0.5 * at**2, 0.0))
    assert low == -3
    assert high == pytest.approx(1.645, abs=0.01)


# --------------------------------------------------------------------------- together


def test_a_posterior_of_other_evidence_is_refused():
    ready = prepare({"brenner2001": studies()["brenner2001"]}, workers=1, offset=False)
    with pytest.raises(PosteriorError, match="fitted to other evidence"):
        identifiability(toy_posterior(), ready)


@pytest.mark.slow
def test_a_small_calibration_is_explained_from_structure_to_profile(tmp_path):
    from mscrenal.calibration.calibrate import calibrate

    ready = prepare({n: studies()[n] for n in ("brenner2001", "jardine2020")}, workers=2, offset=False)
    fitted = calibrate(tmp_path, draft=True, prepared=ready, workers=2)
    found = identifiability(fitted.posterior, ready, workers=2)
    assert tuple(found.table["parameter"]) == ready.problem.names
    assert (found.table["profile_low"] < found.table["profile_high"]).all()
    # What the rows narrow by a linear analysis, the normal approximation narrows too.
    narrowed = 1 - found.table["sd_from_rows"]
    assert np.corrcoef(narrowed, found.table["contraction"])[0, 1] > 0.7
