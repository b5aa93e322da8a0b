"""The virtual population behind each arm of a study is the one whose means the study prints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mscrenal.calibration.observations import observe_study
from mscrenal.calibration.population import population_offset, virtual_patients
from mscrenal.calibration.studies import studies
from mscrenal.calibration.truncated import truncated_quantiles
from mscrenal.model import COVARIATES

SPREAD = {
    name: study
    for name, study in studies().items()
    if study.entry.sd and study.arms and any(a.patient.species == "human" for a in study.arms.values())
}


@given(
    centre=st.floats(20, 80),
    sd=st.floats(1, 25),
    room=st.tuples(st.floats(0.5, 4), st.floats(0.5, 4)),
    mean=st.booleans(),
)
def test_the_mean_or_median_after_the_cut_is_the_given_one(centre, sd, room, mean):
    low, high = centre - room[0] * sd, centre + room[1] * sd
    values = truncated_quantiles((np.arange(4000) + 0.5) / 4000, centre, sd, low, high, mean=mean)
    assert (np.diff(values) >= 0).all()
    assert low <= values[0] <= values[-1] <= high
    assert (values.mean() if mean else np.median(values)) == pytest.approx(centre, abs=0.01 * sd)


def test_without_limits_the_quantiles_are_those_of_the_normal_distribution():
    assert truncated_quantiles([0.025, 0.5, 0.975], 10.0, 2.0, -np.inf, np.inf) == pytest.approx(
        [6.08, 10.0, 13.92], abs=0.001
    )


@pytest.mark.parametrize("name", SPREAD)
def test_patients_have_the_printed_mean_after_the_limits_of_the_trial(name):
    study = SPREAD[name]
    arm = next(iter(study.arms.values()))
    people = virtual_patients(study, arm, 256)
    for key in study.entry.sd:
        covariate = key.removesuffix("_gsd")
        if covariate not in COVARIATES or getattr(arm.patient, covariate) is None:
            continue
        low, high = study.entry.limits.get(covariate, (COVARIATES[covariate].low, COVARIATES[covariate].high))
        values = np.array([getattr(p, covariate) for p in people])
        assert low <= values.min() <= values.max() <= high
        middle = np.median(values) if key.endswith("_gsd") else values.mean()
        assert middle == pytest.approx(getattr(arm.patient, covariate), rel=0.03), covariate


def test_a_dip_of_the_mean_is_not_that_of_a_population_with_more_filtration():
    """EMPA-KIDNEY prints a mean eGFR of 37.5 above a limit of 20; uncorrected, the cut population had 40.7."""
    study = studies()["empakidney_slope"]
    data = observe_study(study)
    offset = dict(zip((d.endpoint for d in data), population_offset(data, {study.id: study}), strict=False))
    assert -0.4 < offset["egfr_acute_dip"] < -0.1
