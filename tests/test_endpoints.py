"""Endpoints: closed forms on straight lines, the acute/chronic convention, and time to kidney failure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mscrenal.scenarios.endpoints import (
    DAYS_PER_YEAR,
    ENDPOINTS,
    ESKD_EGFR,
    ESKD_LIMIT_YEARS,
    EndpointError,
    change,
    endpoint,
    evaluate,
    percent_change,
    slope,
    time_to_eskd,
    value_at,
)

DAYS = np.arange(0.0, 337.0, 28.0)


def line(start: float, per_year: float, days: np.ndarray = DAYS) -> np.ndarray:
    return start + per_year * days / DAYS_PER_YEAR


def test_the_endpoints_are_those_of_the_interface():
    assert list(ENDPOINTS) == [
        "egfr_change",
        "egfr_slope_total",
        "egfr_slope_chronic",
        "mgfr_change",
        "uacr_percent_change",
        "creatinine_change",
        "il6_percent_change",
        "tnfa_percent_change",
        "tgfb1_percent_change",
        "psmad_percent_change",
        "fibrosis_change",
        "m1m2_ratio_change",
        "treg_percent_change",
        "hba1c_change",
        "insulin_percent_change",
        "time_to_eskd",
    ]


def test_a_patient_gains_by_more_gfr_more_treg_and_later_kidney_failure_and_by_less_of_all_else():
    higher = {name for name, item in ENDPOINTS.items() if item.better == "higher"}
    assert higher == {
        "egfr_change",
        "egfr_slope_total",
        "egfr_slope_chronic",
        "mgfr_change",
        "treg_percent_change",
        "time_to_eskd",
    }


def test_tgfb1_is_read_in_the_kidney_since_the_blood_may_move_the_other_way():
    assert ENDPOINTS["tgfb1_percent_change"].observable == "tgfb1_kidney"


def test_an_unknown_endpoint_is_refused_with_the_nearest_name():
    with pytest.raises(EndpointError, match="Did you mean 'egfr_change'"):
        endpoint("egfr_chnge")


def test_change_and_percent_change_compare_the_horizon_with_day_zero():
    values = np.array([[800.0, 700.0, 600.0], [100.0, 100.0, 150.0]])
    assert change(values, [0, 100, 200], 200).tolist() == [-200.0, 50.0]
    assert percent_change(values, [0, 100, 200], 200).tolist() == [-25.0, 50.0]


def test_a_difference_of_two_percentages_is_in_percentage_points():
    assert ENDPOINTS["uacr_percent_change"].difference_unit == "percentage points"
    assert ENDPOINTS["egfr_change"].difference_unit == ENDPOINTS["egfr_change"].unit


def test_a_value_between_two_times_lies_on_the_straight_line_between_them():
    assert value_at([[10.0, 20.0]], [0, 10], 2.5).tolist() == [12.5]


def test_nothing_is_extrapolated_beyond_the_trajectory():
    with pytest.raises(EndpointError, match="spans days 0 to 10"):
        value_at([10.0, 20.0], [0, 10], 11)
    with pytest.raises(EndpointError, match="horizon"):
        evaluate("egfr_slope_total", [10.0, 20.0], [0, 10], horizon_days=11)


def test_trajectories_must_fit_their_times_and_times_must_rise():
    with pytest.raises(EndpointError, match="do not end in the 3 times"):
        change([1.0, 2.0], [0, 1, 2], 2)
    with pytest.raises(EndpointError, match="rise strictly"):
        change([1.0, 2.0, 3.0], [0, 1, 1], 1)


def test_an_observable_that_is_zero_at_day_zero_has_no_percent_change_and_says_why():
    result = evaluate("insulin_percent_change", [[0.0, 0.0]], [0, 336])
    assert np.isnan(result.values).all()
    assert result.undefined == "insulin_dose is zero at day 0"


@given(per_year=st.floats(-20, 20), start=st.floats(20, 120))
def test_total_and_chronic_slope_of_a_straight_line_are_its_slope(per_year, start):
    values = line(start, per_year)
    for name in ("egfr_slope_total", "egfr_slope_chronic"):
        assert float(evaluate(name, values, DAYS).values) == pytest.approx(per_year, abs=1e-9)


def test_slope_is_the_least_squares_line_of_numpy():
    values = np.random.default_rng(1).normal(size=(5, DAYS.size))
    expected = np.polyfit(DAYS / DAYS_PER_YEAR, values.T, 1)[0]
    assert slope(values, DAYS, start=0, stop=336) == pytest.approx(expected)


def test_an_acute_dip_of_the_first_three_months_moves_the_total_slope_but_not_the_chronic_one():
    dip = -3.0 * np.minimum(DAYS / 28.0, 1.0)  # a drug's haemodynamic drop within four weeks
    values = line(50.0, -2.0) + dip
    assert float(evaluate("egfr_slope_chronic", values, DAYS).values) == pytest.approx(-2.0)
    assert float(evaluate("egfr_slope_total", values, DAYS).values) < -2.5


def test_slopes_use_the_visits_so_that_a_fine_grid_around_doses_weighs_no_more():
    curved = lambda days: 50 - 1e-4 * days**2  # noqa: E731
    fine = np.unique(np.concatenate([DAYS, np.linspace(0, 14, 200)]))
    at_visits = evaluate("egfr_slope_total", curved(fine), fine, visits=DAYS).values
    assert float(at_visits) == pytest.approx(float(evaluate("egfr_slope_total", curved(DAYS), DAYS).values))
    assert float(evaluate("egfr_slope_total", curved(fine), fine).values) != pytest.approx(
        float(at_visits), rel=0.01
    )


def test_a_short_study_has_no_chronic_slope_and_says_so():
    days = np.arange(0.0, 57.0, 14.0)
    result = evaluate("egfr_slope_chronic", line(50, -4, days), days)
    assert math.isnan(float(result.values))
    assert "day 90" in result.undefined
    late = evaluate("time_to_eskd", line(50, -4, days), days)
    assert math.isnan(float(late.values))
    assert late.undefined


def test_kidney_failure_within_the_horizon_is_read_off_the_trajectory():
    result = evaluate("time_to_eskd", line(16.0, -4.0), DAYS)
    assert float(result.values) == pytest.approx(0.25, rel=1e-6)
    assert not result.extrapolated
    assert not result.censored


def test_kidney_failure_beyond_the_horizon_follows_the_chronic_slope_and_is_flagged():
    result = evaluate("time_to_eskd", line(45.0, -5.0), DAYS)
    assert float(result.values) == pytest.approx((45.0 - ESKD_EGFR) / 5.0)
    assert result.extrapolated
    assert not result.censored


@pytest.mark.parametrize("per_year", [0.0, 3.0, -0.1])
def test_a_kidney_that_holds_is_censored_at_the_limit(per_year):
    result = evaluate("time_to_eskd", line(60.0, per_year), DAYS)
    assert float(result.values) == ESKD_LIMIT_YEARS
    assert result.censored
    assert result.extrapolated


def test_a_patient_below_the_threshold_at_day_zero_has_time_zero():
    assert float(time_to_eskd([14.0, 13.0], [0, 336], 336, -1.0).values) == 0.0


def test_a_crossing_after_the_horizon_counts_as_beyond_it_even_where_the_trajectory_goes_on():
    days = np.array([0.0, 365.25, 730.5])
    result = time_to_eskd([25.0, 20.0, 10.0], days, 365.25, -5.0)
    assert float(result.values) == pytest.approx(2.0)
    assert result.extrapolated


@given(
    values=hnp.arrays(float, (3, DAYS.size), elements=st.floats(1, 120)),
    name=st.sampled_from(sorted(ENDPOINTS)),
)
def test_a_broken_trajectory_gives_no_number_and_leaves_its_neighbours_alone(values, name):
    broken = values.copy()
    broken[1] = np.nan
    found = evaluate(name, broken, DAYS).values
    assert np.isnan(found[1])
    assert found[[0, 2]] == pytest.approx(evaluate(name, values, DAYS).values[[0, 2]], nan_ok=True)
