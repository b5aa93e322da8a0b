"""The joint prior: what the published course says of the parameters together, and nothing of the others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pymc")

from test_inference import SEEN, linear

from mscrenal.calibration.course import EGFR_ERROR, STUDY, JointPrior, course_prior
from mscrenal.calibration.identifiability import practice
from mscrenal.calibration.inference import Density, find_mode
from mscrenal.calibration.natural_history import REFERENCE, YEAR, goulooze_baseline, goulooze_course
from mscrenal.calibration.predictions import Coordinates
from mscrenal.calibration.probability import Problem
from mscrenal.model import simulate

NAMES = ("nephron_loss_rate", "damage_albumin", "load_exponent", "susceptibility", "lung_trapping")


@pytest.fixture(scope="module")
def joint() -> JointPrior:
    return course_prior(NAMES, workers=1)


def third_year(z: np.ndarray) -> float:
    """eGFR of the typical patient three years on, under standardised parameters."""
    coordinates = Coordinates(NAMES)
    theta = dict(zip(NAMES, coordinates.values(z), strict=True))
    egfr, uacr = goulooze_baseline(43.0, 850.0)
    patient = REFERENCE.replace(egfr=egfr, uacr=uacr)
    return float(simulate(patient, theta=theta, times=[0.0, 3 * YEAR]).observable("egfr")[-1])


def test_parameters_that_move_no_course_keep_their_prior(joint):
    assert "lung_trapping" not in joint.names
    mean, factor = joint.of(NAMES)
    k = NAMES.index("lung_trapping")
    assert mean[k] == 0.0
    assert factor[k].tolist() == np.eye(len(NAMES))[k].tolist()


def test_draws_of_the_joint_prior_keep_to_the_published_course_as_single_priors_do_not(joint):
    published = goulooze_course(43.0, 850.0, np.array([0.0, 3.0]))[0][-1]
    mean, factor = joint.of(NAMES)
    z = np.random.default_rng(1).standard_normal((60, len(NAMES)))
    alone = np.array([third_year(row) for row in z]) - published
    together = np.array([third_year(mean + factor @ row) for row in z]) - published
    assert np.abs(together).mean() < EGFR_ERROR
    assert together.std() < 0.5 * alone.std()


def test_nothing_becomes_wider_and_what_is_known_is_a_combination(joint):
    sd = np.sqrt(np.diag(joint.covariance))
    assert (sd <= 1.0 + 1e-12).all()
    smallest = np.sqrt(np.linalg.eigvalsh(joint.covariance).min())
    assert smallest < 0.5 * sd.min()
    assert (joint.information >= 0).all()


def test_a_part_of_the_names_has_the_margin_of_the_whole(joint):
    some = ("susceptibility", "nephron_loss_rate")
    mean, factor = joint.of(some)
    at = [joint.names.index(n) for n in some]
    assert factor @ factor.T == pytest.approx(joint.covariance[np.ix_(at, at)])
    assert mean == pytest.approx(joint.mean[at])


def test_the_mode_under_a_joint_prior_is_that_of_the_linear_normal_model():
    """Against the formula: prior N(m, C), rows normal to a good approximation near their centre."""
    problem, tangent = linear(SEEN)
    mean, covariance = np.array([0.4, -0.3]), np.array([[0.5, 0.3], [0.3, 0.4]])
    tied = Problem(
        problem.data,
        problem.studies,
        problem.names,
        problem.offset,
        JointPrior(problem.names, mean, covariance),
    )
    density = Density(tied)
    # Far below the spread of a row the t distribution does not matter: data at the prior's own prediction.
    density.observe(tangent.values + tangent.jacobian @ (mean - tangent.at))
    found = find_mode(density, tangent)
    assert density.coordinates(found.mode)[: len(mean)] == pytest.approx(mean, abs=0.02)


def test_information_about_parameters_under_a_joint_prior_is_the_analytic_one():
    problem, tangent = linear(SEEN)
    mean, covariance = np.zeros(2), np.array([[0.5, 0.3], [0.3, 0.4]])
    tied = Problem(
        problem.data,
        problem.studies,
        problem.names,
        problem.offset,
        JointPrior(problem.names, mean, covariance),
    )
    free, density = Density(problem), Density(tied)
    alone = practice(problem, tangent, np.zeros(free.size), free)
    found = practice(tied, tangent, np.zeros(density.size), density)
    # Precision of the rows, from the problem with a standard normal prior.
    rows = np.linalg.inv(alone.covariance) - np.eye(2)
    expected = np.linalg.inv(np.linalg.inv(covariance) + rows)
    assert found.covariance == pytest.approx(expected, rel=1e-3)
    assert found.conditional == pytest.approx(1 / np.sqrt(np.diag(np.linalg.inv(expected))), rel=1e-3)


def test_prior_draws_of_the_problem_have_the_joint_covariance():
    problem, _ = linear(SEEN)
    covariance = np.array([[0.5, 0.3], [0.3, 0.4]])
    tied = Problem(
        problem.data, problem.studies, problem.names, problem.offset,
        JointPrior(problem.names, np.array([0.4, -0.3]), covariance),
    )  # fmt: skip
    density = Density(tied)
    u = np.random.default_rng(1).standard_normal((20_000, density.size))
    seen = density.coordinates(u)[:, :2]
    assert np.cov(seen.T) == pytest.approx(covariance, abs=0.02)
    assert stats.kstest(seen[:, 0], stats.norm(0.4, np.sqrt(0.5)).cdf).pvalue > 1e-3


def test_the_course_is_no_row_of_the_likelihood():
    from mscrenal.calibration.studies import studies

    assert all(role != "fit" for role, _ in studies()[STUDY].row_roles())
