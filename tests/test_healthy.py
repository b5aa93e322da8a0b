"""The healthy, untreated subject is a steady state by construction; ageing alone moves it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mscrenal.calibration import prior_draws
from mscrenal.model import SPECIES, Patient, simulate

TEN_YEARS = [0.0, 1.0, 365.25, 3652.5]
DRAWS = list(prior_draws(5, seed=3))


def drift(species: str, theta) -> float:
    """Largest relative change of any state in ten years; absolute where health is zero."""
    run = simulate(Patient(species=species, disease="healthy"), theta=theta, times=TEN_YEARS)
    assert run.status == "ok", run.message
    healthy = np.array([s.healthy for s in run.model.states.values()])
    assert np.array_equal(run.states[0], healthy)
    return float(np.max(np.abs(run.states - healthy) / np.where(healthy > 0, healthy, 1.0)))


@pytest.mark.parametrize("species", SPECIES)
def test_nothing_moves_in_ten_years_at_the_medians(species):
    assert drift(species, {}) < 1e-6


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("k", range(len(DRAWS)))
def test_nothing_moves_in_ten_years_whatever_the_parameters(species, k):
    assert drift(species, DRAWS[k]) < 1e-6


@pytest.mark.parametrize("sex", ["male", "female"])
def test_observables_of_a_healthy_person_stand_at_their_healthy_values(sex):
    run = simulate(Patient(disease="healthy", sex=sex), times=TEN_YEARS)
    expected = {
        "mgfr": 115.0,
        "uacr": 8.0,
        "fibrosis_area": 5.0,
        "m1m2_ratio": 1.0,
        "nephrons": 1.0,
        "sledai": 0.0,
        "c3": 110.0,
    }
    for name, value in expected.items():
        assert run.observable(name) == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_ageing_costs_nephrons_at_its_own_rate():
    run = simulate(Patient(disease="healthy", ageing=True), times=TEN_YEARS)
    rate = run.model.parameters["ageing_loss"].value
    # The rest is the single-nephron hyperfiltration of those that remain: small, and a further loss.
    alone = math.exp(-rate * 3652.5)
    assert alone * 0.98 < run.observable("nephrons")[-1] < alone


def test_ageing_is_off_unless_asked_for():
    assert Patient(disease="healthy").ageing is False


def test_a_drug_in_a_healthy_subject_is_the_only_thing_that_moves_it():
    run = simulate(Patient(disease="healthy", drugs=("ras",)), times=[0.0, 365.25])
    assert np.max(np.abs(run.states[1] - run.states[0])) > 1e-3
