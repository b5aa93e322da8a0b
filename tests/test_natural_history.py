"""The prior medians of natural history come from a fit; these tests keep fit and declarations together."""

import numpy as np
import pytest

from mscrenal.calibration.evidence import find
from mscrenal.calibration.natural_history import (
    COURSE,
    DRUG_TARGETS,
    GRID,
    REFERENCE,
    YEAR,
    YEARS,
    fit_drugs,
    fit_natural_history,
    fit_random_effects,
    goulooze_course,
)
from mscrenal.model import RANDOM_EFFECTS, model, simulate


def declared(name):
    return RANDOM_EFFECTS[name].sd if name in RANDOM_EFFECTS else model().parameters[name].value


def test_the_published_course_is_that_of_the_digest():
    """Section B, item 1 of disease_progression.md: derived there from the same equations."""
    egfr, uacr = goulooze_course(43.4, 866.0)
    assert egfr == pytest.approx([43.4, 40.3, 37.0, 33.6], abs=0.1)
    assert uacr == pytest.approx([866, 925, 974, 1014], abs=2)


@pytest.mark.parametrize("baseline", GRID, ids=lambda b: f"eGFR {b[0]:g}, UACR {b[1]:g}")
def test_the_typical_courses_stay_near_the_published_ones(baseline):
    egfr, uacr = baseline
    run = simulate(REFERENCE.replace(egfr=egfr, uacr=uacr), times=YEARS * YEAR)
    expected, _ = goulooze_course(egfr, uacr)
    # The worst corner (eGFR 25, UACR 300) misses by 1.5 mL/min/1.73 m² after three years, the rest by less.
    assert np.abs(run.observable("egfr") - expected).max() < 1.6


@pytest.mark.parametrize("target", DRUG_TARGETS, ids=lambda t: t.drug)
def test_every_study_that_a_drug_is_fitted_to_stands_in_the_evidence(target):
    for study in target.studies:
        assert len(find(study)), study


@pytest.mark.slow
def test_the_declared_medians_are_those_of_the_fit():
    fitted = fit_natural_history()
    for name in COURSE:
        assert declared(name) == pytest.approx(fitted[name], rel=0.01), name
    for name, value in fit_drugs(fitted).items():
        assert declared(name) == pytest.approx(value, rel=0.01, abs=0.002), name
    for name, value in fit_random_effects(fitted).items():
        assert declared(name) == pytest.approx(value, rel=0.01), name


@pytest.mark.slow
def test_the_fit_does_not_depend_on_where_it_starts():
    elsewhere = {name: value * 1.4 for name, value in COURSE.items()}
    here, there = fit_natural_history(), fit_natural_history(elsewhere)
    for name in COURSE:
        assert there[name] == pytest.approx(here[name], rel=0.01), name
