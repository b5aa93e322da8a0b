"""Virtual trials: patients keep their identity, no effect stays none, errors are counted, and nothing is lost."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_reader import read_report
from scipy.special import ndtr, ndtri

from mscrenal.model import OBSERVABLES
from mscrenal.model.readings import error_sd, error_sizes, read
from mscrenal.scenarios import RunError, ScenarioError, TrialError, TrialSpec, load_scenario, trial
from mscrenal.scenarios.gallery import gallery
from mscrenal.scenarios.schema import read_scenario
from mscrenal.scenarios.trial import _mmrm_visits, predicted_assurance
from mscrenal.scenarios.trial_data import CONFIRM_DAYS, allocate, enrol, measure
from mscrenal.scenarios.trial_result import Share, decisions
from mscrenal.scenarios.trial_spec import (
    ANALYSES,
    TRIAL_ENDPOINTS,
    Rate,
    population_around,
    trial_endpoint,
)

SHIPPED = ("uc-dn-weekly", "nephstrom", "rexlemestrocel", "t2d-uc-monthly", "sle-uc")

# Twelve weeks of an arm that does much (finerenone on UACR) and of one that does nothing.
FILE = """
title = "finerenone and nothing"
horizon = "12w"
reference = "placebo"
visits = ["0d", "4w", "12w"]
endpoints = ["uacr_percent_change", "egfr_change", "egfr_slope_total"]
[patient]
egfr = 45
uacr = 850
drugs = ["ras"]
[[arm]]
name = "placebo"
n = 12
[[arm]]
name = "finerenone"
n = 12
drugs_added = ["finerenone"]
[[arm]]
name = "sham"
n = 12
"""


def scenario(text: str = ""):
    return read_scenario(FILE + text, name="finerenone", file="finerenone.toml")


@pytest.fixture(scope="module")
def result():
    return trial(scenario(), trials=60, draws=20, workers=2)


# --------------------------------------------------------------------------- who is enrolled


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=4),
    st.integers(1, 20),
    st.integers(0, 5),
    st.integers(0, 1000),
)
def test_blocks_keep_the_ratio_and_arms_their_sizes(ratio, units, seed, number):
    sizes = tuple(max(2, r * units) for r in ratio)
    spec = TrialSpec(arms=tuple("abcd"[: len(ratio)]), sizes=sizes)
    arms = allocate(spec, sizes, seed, number)
    assert np.bincount(arms, minlength=len(sizes)).tolist() == list(sizes)
    block = spec.block_length
    share = np.array(spec.ratio) * block // sum(spec.ratio)
    for first in range(0, len(arms) - block + 1, block):
        if any(s * sum(spec.ratio) != r * sum(sizes) for s, r in zip(sizes, spec.ratio, strict=True)):
            break  # an arm that fills up early ends the balance
        assert np.bincount(arms[first : first + block], minlength=len(sizes)).tolist() == share.tolist()


def test_arms_of_unequal_size_are_filled_exactly():
    spec = TrialSpec(arms=("a", "b"), sizes=(46, 45))
    assert np.bincount(allocate(spec, (46, 45), 1, 7)).tolist() == [46, 45]
    assert spec.ratio == (1, 1)


def enrolled(sizes=(6, 6), trials=(0, 1)):
    given_ = scenario()
    spec = TrialSpec(arms=("placebo", "finerenone"), sizes=sizes).of(given_)
    theta: dict[str, np.ndarray] = {}
    return spec, enrol(given_, spec, sizes, trials, theta, ("uacr", "egfr"), 1)


def test_a_larger_trial_is_the_smaller_one_and_more():
    spec, small = enrolled()
    _, large = enrolled((12, 12))
    assert (large.arm[:, :12] == small.arm).all()
    np.testing.assert_array_equal(large.actual[:, :12], small.actual)
    read = [measure(e, e.actual, spec, 1).values["uacr"] for e in (small, large)]
    np.testing.assert_array_equal(read[1][:, :12], read[0])


def test_a_trial_is_the_same_whoever_is_run_with_it():
    _, both = enrolled(trials=(0, 5))
    _, alone = enrolled(trials=(5,))
    np.testing.assert_array_equal(both.actual[1], alone.actual[0])


def test_every_patient_has_two_worlds_that_differ_by_the_treatment_alone():
    spec, found = enrolled()
    control = found.arm == 0
    np.testing.assert_array_equal(found.actual[control], found.without[control])
    assert (found.actual[~control][:, -1, 0] < found.without[~control][:, -1, 0]).all()
    np.testing.assert_allclose(found.actual[:, :, 0], found.without[:, :, 0], rtol=1e-6)
    # The same person, the same errors.
    here, null = (measure(found, true, spec, 1) for true in (found.actual, found.without))
    np.testing.assert_array_equal(here.left, null.left)
    assert (np.isfinite(here.values["uacr"]) == np.isfinite(null.values["uacr"])).all()


# --------------------------------------------------------------------------- what is read


def test_errors_of_a_trial_last_and_their_size_is_the_patients_own():
    """Standardised errors of eGFR: a reading resembles its repeat, hardly the next visit, and some patients err more."""
    given_ = scenario()
    spec = TrialSpec(
        arms=("placebo", "finerenone"), sizes=(300, 300), dropout=Rate(0.0, 84.0), death=Rate(0.0, 84.0), missed=0.0
    ).of(given_)  # fmt: skip
    found = enrol(given_, spec, (300, 300), (0,), {}, ("egfr",), 1)
    seen = measure(found, found.actual, spec, 1, repeats=True)
    true, egfr = found.actual[0, ..., 0], next(o for o in OBSERVABLES if o.name == "egfr")
    first, second = ((kind["egfr"][0] - true) / error_sd(egfr, true) for kind in (seen.values, seen.again))
    clipped = [np.clip(z, -3, 3).ravel() for z in (first, second)]
    assert np.corrcoef(*clipped)[0, 1] == pytest.approx(
        math.exp(-CONFIRM_DAYS / egfr.residual_memory), abs=0.07
    )
    # Equal sizes would put 0.3 % of errors beyond three SDs, and a large error would say nothing of the next visit's.
    sizes = error_sizes(egfr, ndtri((np.arange(20_000) + 0.5) / 20_000))
    beyond = np.mean(np.abs([first, second]) > 3)  # about 80 of 3,600, in clusters
    assert beyond == pytest.approx(np.mean(2 * ndtr(-3 / sizes)), rel=0.5)
    large = np.abs(np.stack([first, second])) > 2
    alone = np.mean(2 * ndtr(-2 / sizes))
    both = np.mean([large[0, :, j] & large[1, :, k] for j in range(3) for k in range(3) if j != k])
    expected = np.mean((2 * ndtr(-2 / sizes)) ** 2)
    assert both == pytest.approx(expected, rel=0.35)
    assert both > 1.5 * alone**2
    # Who else is in the trial does not matter.
    few = enrol(given_, spec, (30, 30), (0,), {}, ("egfr",), 1)
    again = measure(few, few.actual, spec, 1, repeats=True).values["egfr"]
    np.testing.assert_array_equal(again[0], seen.values["egfr"][0, :60])


def test_patients_leave_at_the_rate_of_the_design_and_never_return():
    given_ = scenario()
    spec = TrialSpec(
        arms=("placebo", "finerenone"), sizes=(300, 300), dropout=Rate(0.4, 84.0), death=Rate(0.0, 84.0), missed=0.0
    ).of(given_)  # fmt: skip
    found = enrol(given_, spec, (300, 300), (0,), {}, ("uacr",), 1)
    there = np.isfinite(measure(found, found.actual, spec, 1).values["uacr"])[0]
    assert there[:, 0].all()
    assert 1 - there[:, -1].mean() == pytest.approx(0.4, abs=0.06)
    assert not (there[:, 2] & ~there[:, 1]).any()


def test_a_rate_reaches_its_share_in_its_time():
    rate = Rate(0.057, 875.0)
    assert 1 - math.exp(-rate.per_day * 875.0) == pytest.approx(0.057)


# --------------------------------------------------------------------------- trials


def test_an_arm_that_gets_nothing_is_the_trial_without_an_effect(result):
    sham = result.rows[result.rows["arm"] == "sham"]
    np.testing.assert_array_equal(sham["effect"], sham["null_effect"])
    np.testing.assert_array_equal(sham["p"], sham["null_p"])
    assert (sham["truth"].abs() < 1e-12).all()


def test_a_strong_drug_is_found_and_its_effect_is_that_of_its_trials(result):
    drug = result.comparisons[0]
    assert drug.arm == "finerenone"
    # A third less UACR (bakris2020), here in one patient's surroundings.
    assert 0.5 < drug.truth[1] < 0.85
    assert drug.assurance.value > result.comparisons[1].assurance.value
    assert drug.in_favour.value == 1.0


def test_estimates_are_unbiased(result):
    rows = result.rows[(result.rows["arm"] == "finerenone") & (result.rows["series"] == "design")]
    error = (rows["effect"] - rows["truth"]).dropna()
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(len(error))


def test_assurance_grows_with_size(result):
    curve = result.power_curve
    drug = curve[(curve["arm"] == "finerenone") & (curve["series"] == "curve")].sort_values("n_arm")
    assert drug["assurance"].iloc[-1] > drug["assurance"].iloc[0]
    assert (drug["n_arm"].diff().dropna() > 0).all()


def test_every_share_carries_its_monte_carlo_error(result):
    for c in result.comparisons:
        for share in (c.assurance, c.power, c.type1):
            assert share.error == pytest.approx(math.sqrt(share.value * (1 - share.value) / share.n))
    assert result.comparisons[0].assurance.n == 60
    assert Share.of(np.array([True, True, False, False])).error == pytest.approx(0.25)


def test_workers_do_not_change_a_bit(result):
    alone = trial(scenario(), trials=60, draws=20, workers=1)
    pd.testing.assert_frame_equal(alone.rows, result.rows, check_exact=True)


def test_what_was_kept_is_not_run_again_and_comes_out_the_same(result, tmp_path):
    folder = tmp_path / "kept"

    class Stop(Exception):
        pass

    def interrupted(done, of, word):
        if done > 40:
            raise Stop

    with pytest.raises(Stop):
        trial(scenario(), trials=60, draws=20, workers=1, resume=folder, progress=interrupted)
    kept = sorted(folder.glob("*.parquet"))
    assert kept
    before = {p: p.stat().st_mtime_ns for p in kept}
    # A file that was damaged is written anew.
    kept[0].write_bytes(b"not a table")
    again = trial(scenario(), trials=60, draws=20, workers=2, resume=folder)
    pd.testing.assert_frame_equal(again.rows, result.rows, check_exact=True)
    assert all(p.stat().st_mtime_ns == before[p] for p in kept[1:])


KILLED = """
import sys
from mscrenal.scenarios import trial
from mscrenal.scenarios.schema import read_scenario
text = open(sys.argv[1]).read()
trial(read_scenario(text, name="finerenone"), trials=400, draws=20, workers=1, curve=False, resume=sys.argv[2])
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_gives_the_same(tmp_path):
    path, folder = tmp_path / "mine.toml", tmp_path / "kept"
    path.write_text(FILE)
    running = subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(folder)])
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    running.kill()
    assert running.wait() != 0
    kept = len(list(folder.glob("*.parquet")))
    assert kept >= 3
    given_ = read_scenario(FILE, name="finerenone")
    again = trial(given_, trials=400, draws=20, workers=2, curve=False, resume=folder)
    whole = trial(given_, trials=400, draws=20, workers=2, curve=False)
    pd.testing.assert_frame_equal(again.rows, whole.rows, check_exact=True)


@pytest.mark.slow
def test_a_cluster_gives_the_same_to_the_last_bit(result):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        far = trial(scenario(), trials=60, draws=20, cluster=cluster.scheduler_address)
    pd.testing.assert_frame_equal(far.rows, result.rows, check_exact=True)


def test_a_folder_of_other_trials_is_refused_and_left_alone(tmp_path):
    folder = tmp_path / "kept"
    trial(scenario(), trials=20, draws=5, curve=False, resume=folder)
    names = sorted(p.name for p in folder.iterdir())
    with pytest.raises(RunError, match="another design, seed, posterior or model"):
        trial(scenario(), trials=20, draws=5, curve=False, seed=2, resume=folder)
    assert sorted(p.name for p in folder.iterdir()) == names
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="holds no trials"):
        trial(scenario(), trials=20, resume=tmp_path / "mine")


def test_failed_patients_are_counted_listed_and_left_out():
    """Some patients of this trial have an HbA1c that no β-cell function gives."""
    found = trial("t2d-uc-monthly", trials=40, curve=False)
    assert found.n_failed > 0
    assert {f["status"] for f in found.failures} == {"initial-state"}
    assert all(f["message"] and f["arm"] for f in found.failures)
    assert found.to_json()["n_failed"] == found.n_failed
    rows = found.rows
    assert (rows["n_analysed"] < rows["n_arm"] + rows["n_reference"]).all()
    assert rows["effect"].notna().all()
    assert (rows["effect"].abs() < 3).all()


# Long enough for a chronic slope, and on insulin.
LONG = (
    FILE.replace('"12w"\nreference', '"26w"\nreference')
    .replace('"12w"]', '"12w", "20w", "26w"]')
    .replace("uacr = 850", "uacr = 850\ninsulin_share = 0.1")
)


@pytest.mark.parametrize(
    ("endpoint", "analysis"),
    [(e.name, a) for e in TRIAL_ENDPOINTS.values() for a in e.analyses if a != "mixed"],
)
def test_every_endpoint_and_analysis_runs(endpoint, analysis):
    found = trial(
        read_scenario(LONG, name="long"), trials=20, draws=5, endpoint=endpoint, analysis=analysis, curve=False,
        arms=["placebo", "finerenone"], n=16,
    )  # fmt: skip
    assert found.endpoint.name == endpoint
    assert found.design.analysis == analysis
    if found.endpoint.kind != "event":  # a small trial may have none
        assert found.rows["effect"].notna().mean() > 0.9


def test_who_takes_no_insulin_cannot_halve_it():
    with pytest.raises(TrialError, match="needs patients on insulin"):
        trial(scenario(), trials=20, draws=5, endpoint="hba1c_insulin_responder", curve=False)


def test_the_mixed_model_agrees_with_two_stages():
    both = {
        analysis: trial(
            scenario(), trials=20, draws=5, endpoint="egfr_slope_total", analysis=analysis, curve=False, n=12,
            arms=["placebo", "finerenone"],
        ).rows
        for analysis in ("slopes", "mixed")
    }  # fmt: skip
    pair = both["slopes"]["effect"], both["mixed"]["effect"]
    assert np.corrcoef(*pair)[0, 1] > 0.8


def test_events_are_confirmed_and_deaths_count():
    dying = FILE.replace("[patient]", '[trial]\ndeath = { share = 0.5, by = "12w" }\n[patient]')
    found = trial(
        read_scenario(dying, name="dying"), trials=20, draws=5, endpoint="kidney_composite_40", curve=False
    )
    rows = found.rows
    assert rows["p"].notna().all()
    # Death takes as many in either arm: no effect, and a wide one.
    assert abs(rows["effect"].mean()) < 0.5


# --------------------------------------------------------------------------- size


def test_the_size_for_a_target_has_it():
    found = trial(
        scenario(), arms=["placebo", "finerenone"], trials=300, draws=40, target_assurance=0.8, workers=2
    )
    c = found.comparisons[0]
    assert found.sized is not None
    assert c.assurance.value + 2 * c.assurance.error >= 0.8
    assert c.assurance.value - 3.5 * c.assurance.error <= 0.8
    assert c.n_arm == c.n_reference == found.to_json()["n_per_arm"]
    # Power is that of the size found, too, in trials of its own.
    assert c.power.n == 150
    at_medians = found.rows[(found.rows["series"] == "fixed target") & (found.rows["arm"] == "finerenone")]
    assert set(at_medians["n_arm"]) == {c.n_arm}


def test_a_target_beyond_the_ceiling_says_the_ceiling():
    with pytest.raises(TrialError, match=r"which no size reaches.*worlds.*Allowed here: below"):
        trial(scenario(), arms=["placebo", "sham"], trials=40, draws=10, target_assurance=0.8)


def test_the_prediction_for_a_known_effect_is_the_normal_formula():
    rows = pd.DataFrame({"truth": [1.0], "se": [0.5]})
    from scipy.stats import norm

    assert predicted_assurance(rows, 1.0, "higher", 0.05) == pytest.approx(norm.cdf(2.0 - 1.95996), abs=1e-4)
    assert predicted_assurance(rows, 4.0, "higher", 0.05) == pytest.approx(norm.cdf(4.0 - 1.95996), abs=1e-4)
    assert predicted_assurance(rows, 1.0, "lower", 0.05) < 1e-4


def test_looks_stop_some_trials_early_and_keep_the_level():
    text = FILE.replace("[patient]", "[trial]\nlooks = [0.5]\n[patient]").replace("n = 12", "n = 60")
    found = trial(
        read_scenario(text, name="looks"),
        trials=40,
        draws=10,
        curve=False,
        arms=["placebo", "finerenone"],
        n=60,
    )
    c = found.comparisons[0]
    assert len(c.stops) == 1
    assert 0 < c.stops[0].value <= c.assurance.value
    assert c.expected_n < c.n_arm + c.n_reference
    rows = found.rows[(found.rows["series"] == "design") & (found.rows["part"] == 1.0)]
    # The last look asks a little more than one look would.
    simple = (rows["p"] <= 0.05).mean()
    assert (
        decisions(
            found.rows[found.rows["series"] == "design"], found.endpoint, found.design, null=False
        ).mean()
        >= simple - 0.1
    )


def test_visits_of_repeated_measures_are_few_and_hold_the_last():
    days = np.arange(0.0, 340.0, 28.0)
    chosen = _mmrm_visits(days)
    assert len(chosen) <= 4
    assert chosen[-1] == len(days) - 1
    assert 0 not in chosen


# --------------------------------------------------------------------------- who is admitted


def test_a_population_around_a_patient_has_the_patient_in_the_middle():
    patient = load_scenario("uc-dn-weekly").patient
    spec = population_around(patient)
    typical = spec.typical()
    assert typical.egfr == pytest.approx(patient.egfr, rel=0.1)
    assert spec.drugs == patient.drugs
    assert spec.correlation_matrix.shape[0] == len(spec.covariates)


def test_baseline_readings_around_a_patient_spread_as_trials_print_them():
    """SD 12.6 of eGFR and geometric SD 2.66 of UACR in bakris2020: those of readings, wider than true values."""
    rng = np.random.default_rng(1)
    observables = {o.name: o for o in OBSERVABLES}
    spec = population_around(replace(load_scenario("uc-dn-weekly").patient, egfr=44.3, uacr=850.0))

    def spread(name: str, true: np.ndarray) -> float:
        n = len(true)
        z, size = rng.standard_normal((n, 1)), rng.standard_normal(n)
        readings = read(observables[name], true[:, None], np.zeros(1), z, size)[:, 0]
        return float(np.std(readings if name == "egfr" else np.log(readings)))

    egfr, uacr = spec.covariates["egfr"], spec.covariates["uacr"]
    assert spread("egfr", rng.normal(44.3, egfr.spread, 200_000)) == pytest.approx(12.6, rel=0.02)
    log_uacr = rng.normal(np.log(850), np.log(uacr.spread), 200_000)
    assert spread("uacr", np.exp(log_uacr)) == pytest.approx(np.log(2.66), rel=0.02)


def test_every_human_scenario_of_the_gallery_can_be_a_trial():
    for item in gallery():
        if item.subject.species != "human":
            continue
        arms = tuple(dict.fromkeys((item.reference, item.arms[-1].name)))
        if len(arms) < 2:
            continue
        spec = TrialSpec(arms=arms, sizes=(20, 20))
        assert spec.of(item).endpoint in TRIAL_ENDPOINTS


def test_impossible_eligibility_says_which_limit_excludes_whom():
    text = FILE.replace(
        "[patient]", "[trial.population]\negfr = { mean = 45, sd = 1, min = 80 }\nuacr = 850\n[patient]"
    )
    with pytest.raises(ScenarioError, match=r"qualify.*egfr excludes 100"):
        trial(read_scenario(text, name="nobody"), trials=20, draws=5, curve=False)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n": 1}, r"given 1 patients\. Allowed: 2 to"),
        ({"n": 30_000}, "Allowed: 2 to 20,000"),
        ({"trials": 5}, "whole number from 20"),
        ({"endpoint": "egfr_chnge"}, "egfr_change"),
        ({"endpoint": "time_to_eskd"}, "kidney_composite_40"),
        ({"endpoint": "psmad_percent_change"}, "no measurement in people"),
        ({"endpoint": "egfr_slope_chronic"}, "fewer than two visits"),
        ({"analysis": "log-rank"}, "Allowed for it: ancova, t-test, mmrm"),
        ({"alpha": 0.7}, "below 0.5"),
        ({"arms": ["placebo", "finerenon"]}, "finerenone"),
        ({"arms": ["finerenone", "finerenone"]}, "stands twice"),
        ({"target_assurance": 1.2}, "above 0 and below 1"),
    ],
)
def test_a_design_that_cannot_be_is_refused_with_the_mend(asked, words):
    with pytest.raises((TrialError, RunError, ScenarioError), match=words):
        trial(scenario(), **{"trials": 20, "draws": 5, "curve": False, **asked})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('[trial]\nat = "30w"', r"finerenone.toml:\d+: \[trial\] at: given day 210, beyond the horizon"),
        ('[trial]\nat = "5w"', r"Allowed: its visits after day 0: 0, 28, 84"),
        ("[trial]\nlooks = [0.7, 0.5]", r"finerenone.toml:\d+: \[trial\] looks: .* must rise"),
        ("[trial]\nalpha = 2.0", r"finerenone.toml:\d+: \[trial\] alpha"),
        ("[trial]\nmised = 0.1", "missed"),
        ('[trial]\ndropout = { share = 1.0, by = "1y" }', "share: given 1.0"),
        ('[trial]\narms = ["placebo", "sham"]\nn = [10, 1]', r"given 1 patients in an arm\. Allowed: 2 to"),
        ('[trial]\nendpoint = "egfr_change"\nanalysis = "slopes"', "Allowed for it: ancova"),
        ("[trial]\nblock = 7", "Allowed: a multiple of 3"),
    ],
)
def test_a_faulty_trial_table_is_refused_with_its_place(lines, words):
    def read_and_run():
        return trial(scenario("\n" + lines), trials=20, draws=5, curve=False)

    with pytest.raises(ScenarioError, match=words):
        read_and_run()


def test_visits_without_a_baseline_or_an_end_are_refused():
    for visits, words in (('["4w", "12w"]', "no baseline"), ('["0d", "4w"]', "measures nothing")):
        text = FILE.replace('["0d", "4w", "12w"]', visits)
        with pytest.raises(TrialError, match=words):
            trial(read_scenario(text, name="visits"), trials=20, draws=5, curve=False)


def test_animals_are_refused():
    with pytest.raises(TrialError, match="virtual trials are of people"):
        trial("stz-rat-uc", trials=20)


def test_every_endpoint_has_an_estimand_and_known_analyses():
    for e in TRIAL_ENDPOINTS.values():
        assert e.estimand
        assert set(e.analyses) <= set(ANALYSES)
        assert trial_endpoint(e.name) is e


# --------------------------------------------------------------------------- what comes out


def test_the_result_is_written_whole(result, tmp_path):
    folder = result.save(tmp_path / "out")
    page = read_report((folder / "report.html").read_text(), figures=2, sections=("scenario", "figures")).body
    assert "How probable is it that a trial of" in page
    assert all(sentence in page for sentence in result.summary)
    for name in (
        "trial.csv",
        "power_curve.csv",
        "trials.parquet",
        "assurance.png",
        "effects.svg",
        "result.json",
    ):
        assert (folder / name).stat().st_size > 0
    document = json.loads((folder / "result.json").read_text())
    for key in ("n_per_arm", "endpoint", "estimand", "assurance", "mc_error", "power_curve", "type1_error"):
        assert document[key] is not None
    assert document["provenance"]["trials"] == 60


def test_the_words_for_a_protocol_hold_the_numbers(result):
    words = " ".join(result.summary)
    assert "12 + 12 patients" in words
    assert f"{result.comparisons[0].assurance.value:.0%}" in words
    assert "80 % power" in words


def test_the_command_prints_the_document(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    command = [
        sys.executable,
        "-m",
        "mscrenal.app.cli",
        "trial",
        str(path),
        "--trials",
        "20",
        "--draws",
        "5",
        "--no-curve",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["command"] == "trial"
    assert {"assurance", "mc_error", "power_curve", "type1_error", "estimand"} <= set(document)
    bad = subprocess.run([*command, "--n", "1"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_trials_keep_their_level(name):
    found = trial(name, trials=400, curve=False)
    for c in found.comparisons:
        nominal = math.sqrt(0.05 * 0.95 / c.type1.n)
        assert abs(c.type1.value - 0.05) < 3.5 * nominal
        assert c.assurance.n == 400


def test_groups_of_people_are_put_together_and_taken_apart_again():
    from mscrenal.model.people import People
    from mscrenal.scenarios.virtual_patients import people_of

    given_ = scenario()
    who = given_.replace(patient=None, population=population_around(given_.patient))
    groups = [people_of(who, 1, first, 4) for first in (0, 100)]
    whole = People.together(groups)
    back = whole.some(np.arange(4, 8))
    assert len(whole) == 8
    assert back.patient(2) == groups[1].patient(2)
    assert whole.some(np.array([5, 0])).patient(1) == groups[0].patient(0)
