"""Populations that match the baseline table of a trial."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mscrenal.scenarios import ScenarioError, load_scenario
from mscrenal.scenarios.scenario import Distribution, PopulationSpec, Target, tilt_to
from mscrenal.scenarios.schema import read_scenario
from mscrenal.scenarios.virtual_patients import people_of

WIDE = {
    "age": Distribution("normal", 60, 10, 18, 90),
    "egfr": Distribution("normal", 50, 15, 20, 90),
    "uacr": Distribution("lognormal", 700, 3.0, 30, 5000),
}


def people(targets, n=6000, covariates=WIDE):
    scenario = load_scenario("uc-dn-weekly")
    spec = PopulationSpec(covariates, drugs=("ras",), targets=targets)
    return people_of(scenario.replace(patient=None, population=spec), 1, 0, n)


def test_who_is_enrolled_has_the_means_and_spreads_asked_for():
    found = people(
        {
            "egfr": Target("normal", 44.3, 12.6),
            "uacr": Target("lognormal", 852, 2.66),
            "age": Target("normal", 65.6),
        }
    )
    assert found.egfr.mean() == pytest.approx(44.3, abs=0.6)
    assert found.egfr.std() == pytest.approx(12.6, abs=0.6)
    assert np.log(found.uacr).mean() == pytest.approx(np.log(852), abs=0.06)
    assert np.exp(np.log(found.uacr).std()) == pytest.approx(2.66, rel=0.06)
    assert found.age.mean() == pytest.approx(65.6, abs=0.5)
    assert found.egfr.min() >= 20


def test_without_targets_nobody_changes():
    scenario = load_scenario("uc-dn-weekly")
    plain, matched = (
        people_of(scenario.replace(patient=None, population=PopulationSpec(WIDE, targets=t)), 1, 0, 50)
        for t in ({}, {"egfr": Target("normal", 50.0)})
    )
    assert len(np.intersect1d(plain.egfr, matched.egfr)) > 10
    again = people_of(scenario.replace(patient=None, population=PopulationSpec(WIDE)), 1, 0, 50)
    np.testing.assert_array_equal(plain.egfr, again.egfr)


def test_patients_are_the_same_however_many_there_are():
    few, many = (people({"egfr": Target("normal", 44.3)}, n=n) for n in (20, 200))
    np.testing.assert_array_equal(many.egfr[:20], few.egfr)


@settings(max_examples=25)
@given(st.floats(-0.8, 0.8), st.floats(0.6, 1.2))
def test_weights_of_a_normal_sample_give_the_moments(mean, sd):
    x = np.random.default_rng(1).normal(size=20_000)
    tilt = tilt_to({"x": Target("normal", mean, sd)}, {"x": x})
    z = (np.stack([x, x**2], axis=1) - tilt.shifts) / tilt.scales
    w = np.exp(z @ tilt.slopes)
    w /= w.sum()
    assert w @ x == pytest.approx(mean, abs=1e-3)
    assert np.sqrt(w @ x**2 - (w @ x) ** 2) == pytest.approx(sd, abs=2e-3)


def test_the_nearest_weights_to_another_mean_are_exponential():
    """Of a normal sample the entropy-nearest shift of the mean multiplies the density by exp(mean x)."""
    x = np.random.default_rng(2).normal(size=200_000)
    tilt = tilt_to({"x": Target("normal", 0.5)}, {"x": x})
    assert tilt.slopes[0] / tilt.scales[0] == pytest.approx(0.5, abs=0.02)


def test_a_table_out_of_reach_is_refused_with_both_sides():
    with pytest.raises(ScenarioError, match=r"no weighting of this population gives egfr 85 \(population: 5"):
        PopulationSpec(WIDE, targets={"egfr": Target("normal", 85.0, 3.0)})


def test_the_file_says_what_to_match():
    text = """
title = "matched"
horizon = "12w"
[population]
egfr = { mean = 50, sd = 15, min = 20, max = 90 }
[population.match]
egfr = { mean = 44.3, sd = 12.6 }
[[arm]]
name = "placebo"
"""
    spec = read_scenario(text, name="matched").population
    assert spec is not None
    assert spec.targets["egfr"] == Target("normal", 44.3, 12.6)
    for wrong, words in (
        ("egfr = { mean = 44.3, gsd = 2 }", "Allowed: mean, or median"),
        ("uacr = { median = 800 }", "unknown covariate of this population 'uacr'"),
        ("egfr = { median = -3 }", "above zero for a median"),
    ):
        with pytest.raises(ScenarioError, match=words):
            read_scenario(
                text.replace("egfr = { mean = 44.3, sd = 12.6 }", wrong), name="matched", file="matched.toml"
            )


def test_one_patient_at_a_time_is_matched_too():
    spec = PopulationSpec(WIDE, n=400, targets={"egfr": Target("normal", 40.0)})
    assert np.mean([p.egfr for p in spec.patients(1)]) == pytest.approx(40.0, abs=2.0)
