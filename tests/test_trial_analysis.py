"""How trials are analysed: each formula beside a package that has it, and its errors beside what they should be."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.duration.survfunc import survdiff
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import proportions_ztest

from mscrenal.scenarios.trial_analysis import (
    ancova,
    boundaries,
    log_rank,
    mixed_slopes,
    mmrm,
    patient_slopes,
    proportions,
    two_sample,
)

RNG = np.random.default_rng(20261122)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def the_same_numbers_whatever_ran_before():
    """Each test draws from the start of the stream: tests are shared among processes, in an order that changes."""
    RNG.bit_generator.state = START


def data(trials: int = 12, n: int = 40, effect: float = 1.0, missing: float = 0.1):
    treated = np.array([RNG.permutation(n) < n // 2 for _ in range(trials)])
    baseline = RNG.normal(45, 12, (trials, n))
    values = 0.4 * baseline + effect * treated + RNG.normal(0, 3, (trials, n))
    values[RNG.random((trials, n)) < missing] = np.nan
    return values, treated, baseline


def within(share: float, expected: float, n: int, errors: float = 3.5) -> bool:
    """Whether a share of n trials is as expected, within some Monte-Carlo errors."""
    return abs(share - expected) < errors * np.sqrt(expected * (1 - expected) / n)


# --------------------------------------------------------------------------- beside other packages


def test_ancova_is_least_squares_of_statsmodels():
    values, treated, baseline = data()
    found = ancova(values, treated, baseline)
    for t in range(len(values)):
        known = np.isfinite(values[t])
        fit = sm.OLS(
            values[t][known], np.column_stack([np.ones(known.sum()), treated[t][known], baseline[t][known]])
        ).fit()
        assert found.effect[t] == pytest.approx(fit.params[1], rel=1e-9)
        assert found.se[t] == pytest.approx(fit.bse[1], rel=1e-9)
        assert found.p[t] == pytest.approx(fit.pvalues[1], rel=1e-7)
        assert found.n[t] == known.sum()


def test_two_samples_are_compared_as_scipy_does():
    values, treated, _ = data()
    found = two_sample(values, treated)
    for t in range(len(values)):
        a, b = (values[t][g & np.isfinite(values[t])] for g in (treated[t], ~treated[t]))
        expected = stats.ttest_ind(a, b)
        assert found.effect[t] == pytest.approx(a.mean() - b.mean())
        assert found.p[t] == pytest.approx(expected.pvalue, rel=1e-9)


def test_log_rank_is_that_of_statsmodels_with_ties():
    last = np.ceil(RNG.exponential(6, (10, 60)))
    event, treated = RNG.random((10, 60)) < 0.6, RNG.random((10, 60)) < 0.5
    found = log_rank(last, event, treated)
    for t in range(10):
        assert found.p[t] == pytest.approx(survdiff(last[t], event[t], treated[t])[1], rel=1e-9)


def test_the_log_hazard_ratio_has_the_sign_and_about_the_size_of_the_truth():
    treated = np.tile(np.arange(2000) % 2 == 0, (20, 1))
    times = RNG.exponential(np.where(treated, 1 / 0.7, 1.0))
    found = log_rank(np.minimum(times, 2.0), times < 2.0, treated)
    assert found.effect.mean() == pytest.approx(np.log(0.7), abs=0.05)


def test_proportions_are_compared_as_statsmodels_does():
    treated = np.tile(np.arange(80) % 2 == 0, (10, 1))
    response = RNG.random((10, 80)) < np.where(treated, 0.4, 0.2)
    found = proportions(response, treated)
    for t in range(10):
        counts = [(response[t] & g).sum() for g in (treated[t], ~treated[t])]
        assert found.p[t] == pytest.approx(proportions_ztest(counts, [40, 40])[1], rel=1e-9)


def test_slopes_of_patients_are_those_of_polyfit():
    days = np.array([0.0, 30.0, 100.0, 200.0])
    values = RNG.normal(50, 3, (3, 5, 4))
    values[0, 0, 1] = np.nan
    values[0, 1, 1:] = np.nan
    found = patient_slopes(values, days, 365.25)
    known = np.isfinite(values[0, 0])
    assert found[0, 0] == pytest.approx(np.polyfit(days[known], values[0, 0][known], 1)[0] * 365.25)
    assert found[1, 2] == pytest.approx(np.polyfit(days, values[1, 2], 1)[0] * 365.25)
    assert np.isnan(found[0, 1])


def test_repeated_measures_without_gaps_are_ancova_at_the_last_visit():
    treated = np.tile(np.arange(36) % 2 == 0, (6, 1))
    baseline, values = RNG.normal(size=(6, 36)), RNG.normal(size=(6, 36, 4)).cumsum(axis=2)
    found, expected = mmrm(values, treated, baseline), ancova(values[..., -1], treated, baseline)
    assert found.effect == pytest.approx(expected.effect, abs=1e-9)
    assert found.se == pytest.approx(expected.se, rel=1e-6)
    assert found.p == pytest.approx(expected.p, rel=1e-6)


def test_repeated_measures_correct_for_who_leaves_where_ancova_does_not():
    """Patients whose values fall leave: missing at random. The treated fall by two more than the others."""
    n, trials = 120, 60
    treated = np.tile(np.arange(n) % 2 == 0, (trials, 1))
    path = RNG.normal(size=(trials, n, 4)).cumsum(axis=2) - 0.5 * np.arange(1, 5) * treated[..., None]
    seen = path.copy()
    for visit in range(1, 4):
        gone = np.isnan(seen[..., visit - 1]) | (seen[..., visit - 1] < -1.5)
        seen[..., visit] = np.where(gone, np.nan, seen[..., visit])
    baseline = RNG.normal(size=(trials, n))
    likelihood = mmrm(seen, treated, baseline).effect.mean()
    complete = ancova(seen[..., -1], treated, baseline).effect.mean()
    assert likelihood == pytest.approx(-2.0, abs=0.15)
    assert abs(complete + 2.0) > 0.4


def test_the_mixed_model_of_balanced_readings_is_the_difference_of_mean_slopes():
    """One line (no visit inside the acute phase): the fixed effect is then near the two-stage estimate."""
    days, n = np.array([0.0, 100.0, 200.0, 300.0]), 30
    treated = np.tile(np.arange(n) % 2 == 0, (2, 1))
    slopes = RNG.normal(-3, 2, (2, n, 1)) + 1.0 * treated[..., None]
    values = 45 + RNG.normal(0, 6, (2, n, 1)) + slopes * days / 365.25 + RNG.normal(0, 1.0, (2, n, 4))
    # Close, not equal: the model's common intercept borrows from the arms' chance difference at the start.
    found = mixed_slopes(values, treated, days, 50.0, 365.25, chronic=False)
    two = two_sample(patient_slopes(values, days, 365.25), treated)
    assert found.effect == pytest.approx(two.effect, abs=0.35)
    assert found.se == pytest.approx(two.se, rel=0.15)


def test_the_knot_takes_the_acute_fall_out_of_the_chronic_slope():
    days, n = np.array([0.0, 28.0, 90.0, 180.0, 270.0, 365.25]), 200
    treated = np.tile(np.arange(n) % 2 == 0, (2, 1))
    # Treated patients lose 4 in the acute phase and nothing after; the others 2 a year throughout.
    acute = -4.0 * np.minimum(days, 90.0) / 90.0
    other = -2.0 * days / 365.25
    true = np.where(treated[..., None], acute, other)
    values = 45 + RNG.normal(0, 5, (2, n, 1)) + true + RNG.normal(0, 0.5, (2, n, len(days)))
    chronic = mixed_slopes(values, treated, days, 90.0, 365.25, chronic=True)
    total = mixed_slopes(values, treated, days, 90.0, 365.25, chronic=False)
    assert chronic.effect == pytest.approx(2.0, abs=0.35)
    assert total.effect == pytest.approx(-4.0 + 2.0, abs=0.35)


# --------------------------------------------------------------------------- errors of both kinds


@pytest.mark.parametrize("name", ["ancova", "t", "mmrm", "proportions", "log-rank"])
def test_without_an_effect_five_in_a_hundred_trials_are_significant(name):
    rng = np.random.default_rng(5)
    trials, n = 4000, 40
    treated = np.array([rng.permutation(n) < n // 2 for _ in range(trials)])
    baseline = rng.normal(size=(trials, n))
    values = 0.5 * baseline + rng.normal(size=(trials, n))
    if name == "ancova":
        p = ancova(values, treated, baseline).p
    elif name == "t":
        p = two_sample(values, treated).p
    elif name == "mmrm":
        trials = 1000
        series = rng.normal(size=(trials, n, 3)).cumsum(axis=2)
        series[rng.random(series.shape) < 0.1] = np.nan
        p = mmrm(series, treated[:trials], baseline[:trials]).p
    elif name == "proportions":
        # Of small trials the score test is only nearly level: 200 patients.
        treated = np.tile(np.arange(200) % 2 == 0, (trials, 1))
        p = proportions(rng.random((trials, 200)) < 0.3, treated).p
    else:
        treated = np.tile(np.arange(200) % 2 == 0, (trials, 1))
        times = rng.exponential(size=(trials, 200))
        p = log_rank(np.round(np.minimum(times, 1.0), 1), times < 1.0, treated).p
    assert np.isfinite(p).all()
    assert within((p <= 0.05).mean(), 0.05, trials)


def test_power_of_the_t_test_is_that_of_statsmodels():
    rng = np.random.default_rng(6)
    trials, n, effect = 6000, 25, 0.7
    treated = np.tile(np.arange(2 * n) < n, (trials, 1))
    found = two_sample(rng.normal(size=(trials, 2 * n)) + effect * treated, treated)
    expected = TTestIndPower().power(effect, n, 0.05)
    assert within((found.p <= 0.05).mean(), expected, trials)


def test_power_of_two_proportions_is_the_exact_binomial_one():
    """Every table of two times 60 patients, weighted by its binomial probability; the tests of statsmodels decide."""
    rng = np.random.default_rng(7)
    trials, n, shares = 6000, 60, (0.45, 0.25)
    treated = np.tile(np.arange(2 * n) < n, (trials, 1))
    found = proportions(rng.random((trials, 2 * n)) < np.where(treated, *shares), treated)
    weights = [stats.binom.pmf(np.arange(n + 1), n, share) for share in shares]
    likely = [(a, b) for a in range(n + 1) for b in range(n + 1) if weights[0][a] * weights[1][b] > 1e-9]
    power = sum(
        weights[0][a] * weights[1][b] for a, b in likely if proportions_ztest([a, b], [n, n])[1] <= 0.05
    )
    assert within((found.p <= 0.05).mean(), power, trials)


def test_a_trial_that_cannot_be_analysed_has_no_p_value_and_is_not_significant():
    values = np.full((1, 8), np.nan)
    treated = np.arange(8)[None] < 4
    for found in (ancova(values, treated, values), two_sample(values, treated)):
        assert np.isnan(found.p).all()
        assert not found.favours("higher", 0.05).any()


# --------------------------------------------------------------------------- looks


def test_boundaries_are_the_published_ones_of_lan_and_demets():
    """Two-sided 5 %, O'Brien-Fleming type spending, equal steps (tables of gsDesign and ld98)."""
    assert boundaries((0.5, 1.0), 0.05) == pytest.approx([2.963, 1.969], abs=2e-3)
    assert boundaries((1 / 3, 2 / 3, 1.0), 0.05) == pytest.approx([3.710, 2.511, 1.993], abs=2e-3)
    assert boundaries((0.25, 0.5, 0.75, 1.0), 0.05) == pytest.approx([4.333, 2.963, 2.359, 2.014], abs=2e-3)


def test_one_look_is_the_ordinary_test():
    assert boundaries((1.0,), 0.05) == pytest.approx([1.95996], abs=1e-4)


def test_looks_keep_the_level():
    rng = np.random.default_rng(8)
    fractions = np.array([0.4, 0.7, 1.0])
    steps = rng.normal(size=(200_000, 3)) * np.sqrt(np.diff([0.0, *fractions]))
    z = steps.cumsum(axis=1) / np.sqrt(fractions)
    crossed = (np.abs(z) >= boundaries(tuple(fractions), 0.05)).any(axis=1)
    assert within(crossed.mean(), 0.05, 200_000)


def test_the_interval_of_ancova_is_that_of_least_squares():
    rng = np.random.default_rng(5)
    y, x = rng.normal(size=(1, 24)), rng.normal(size=(1, 24))
    treated = np.tile([True, False], 12)[None, :]
    fit = sm.OLS(y[0], sm.add_constant(np.column_stack([treated[0], x[0]]))).fit()
    low, high = ancova(y, treated, x).interval()
    np.testing.assert_allclose([low[0], high[0]], fit.conf_int()[1], rtol=1e-9)


def test_the_interval_of_proportions_is_that_of_the_normal_distribution():
    response = np.array([[True] * 9 + [False] * 11 + [True] * 4 + [False] * 16])
    treated = np.array([[True] * 20 + [False] * 20])
    low, high = proportions(response, treated).interval()
    se = np.sqrt(0.45 * 0.55 / 20 + 0.2 * 0.8 / 20)
    np.testing.assert_allclose([low[0], high[0]], [0.25 - 1.959964 * se, 0.25 + 1.959964 * se], rtol=1e-6)
