"""Trials that are run some at a time are the trials of `trial`, and one of them is what its row says."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_trial import FILE

from mscrenal.scenarios import RunError, load_scenario, trial
from mscrenal.scenarios.schema import read_scenario
from mscrenal.scenarios.trial import predicted_assurance
from mscrenal.scenarios.trial_run import TrialRun


def scenario(text: str = ""):
    return read_scenario(FILE + text, name="finerenone", file="finerenone.toml")


@pytest.fixture(scope="module")
def whole():
    return trial(scenario(), trials=20, draws=20, workers=1)


@pytest.fixture(scope="module")
def run():
    made = TrialRun(scenario(), draws=20)
    for series, parts in {"design": (7, 13), "fixed": (20,), "curve": (1, 19)}.items():
        for n in parts:
            made.conduct(series, n)
    return made


def test_part_by_part_is_the_same_to_the_last_bit(run, whole):
    pd.testing.assert_frame_equal(_sorted(run.result().rows), _sorted(whole.rows))
    # In words, all digits of them: an exaggeration that is not defined is NaN, which is not equal to itself.
    assert repr(run.result().comparisons) == repr(whole.comparisons)
    assert run.result().provenance["scenario_hash"] == whole.provenance["scenario_hash"]


def _sorted(rows):
    return rows.sort_values(["series", "trial", "arm", "part"], ignore_index=True)


def test_done_counts_what_is_finished(run):
    assert [run.done(s) for s in ("design", "fixed", "curve")] == [20, 20, 20]
    assert TrialRun(scenario(), draws=20).done("design") == 0


def test_no_result_before_the_first_trials():
    with pytest.raises(RunError, match="Conduct trials of 'design' and of 'fixed' first"):
        TrialRun(scenario(), draws=20).result()


@pytest.mark.parametrize("n", [0, -1, 2.5, True, 100_000])
def test_numbers_of_trials_are_bounded(run, n):
    with pytest.raises(RunError, match="Allowed: a whole number"):
        run.conduct("design", n)
    with pytest.raises(RunError, match="Allowed: a whole number"):
        run.some(0, n)


@pytest.mark.parametrize("fixed", [False, True])
def test_one_trial_is_what_its_row_says(run, whole, fixed):
    rows = whole.rows[
        (whole.rows["series"] == ("fixed" if fixed else "design")) & (whole.rows["arm"] == "finerenone")
    ]
    for one in run.some(3, 4, fixed=fixed):
        row = rows[rows["trial"] == one.number].iloc[0]
        found = next(f for f in one.findings if f.arm == "finerenone")
        assert one.draw == row["draw"]
        assert found.effect == pytest.approx(math.exp(row["effect"]), rel=1e-12)
        assert (found.p, found.n_analysed) == (row["p"], row["n_analysed"])
        assert found.truth == pytest.approx(math.exp(row["truth"]), rel=1e-12)
        assert found.in_favour == (row["p"] <= 0.05 and row["effect"] < 0)


def test_the_interval_and_the_test_agree(run):
    for one in run.some(0, 20):
        for f in one.findings:
            assert f.low < f.effect < f.high
            assert (f.p <= 0.05) == (not f.low < 1 < f.high)
            assert (f.in_favour or f.against) == (f.p <= 0.05)


def test_means_are_those_of_the_readings(run):
    one = run.some(5)[0]
    seen = np.log(one.readings[one.arm == 1, -1])
    seen = seen[np.isfinite(seen)]
    ends = stats.t.interval(0.95, len(seen) - 1, loc=seen.mean(), scale=stats.sem(seen))
    np.testing.assert_allclose(one.means()[1, -1], np.exp([seen.mean(), *ends]), rtol=1e-12)
    assert one.means().shape == (3, 3, 3)


def test_events_and_responders_are_counted():
    text = '[trial]\narms = ["placebo", "finerenone"]\nendpoint = "{}"\n'
    one = TrialRun(scenario(text.format("uacr_responder")), draws=20).some(0)[0]
    fell = one.readings[:, -1] <= 0.7 * one.readings[:, 0]
    assert (one.reached == fell).all()
    assert TrialRun(scenario(text.format("kidney_composite_40")), draws=20).some(0)[0].reached is not None


def test_the_expected_curve_is_the_prediction_with_its_error(run, whole):
    rows = whole.rows[(whole.rows["series"] == "design") & (whole.rows["arm"] == "finerenone")]
    found = run.expected([12, 48])
    mine = found[found["arm"] == "finerenone"].set_index("n_arm")
    for n in (12, 48):
        assert mine.loc[n, "assurance"] == pytest.approx(predicted_assurance(rows, n / 12, "lower", 0.05))
    assert mine.loc[48, "assurance"] > mine.loc[12, "assurance"]
    assert (mine["mc_error"] > 0).all()


def test_a_small_curve_costs_less():
    found = load_scenario("uc-dn-weekly")
    large, small = (TrialRun(found, draws=20, most_of_curve=n) for n in (240, 60))
    assert large.simulations("curve") == 3 * 228
    assert small.simulations("curve") == 3 * 57
    assert small.simulations("design") == 3 * 19
