"""Running a scenario: the same to the last bit whatever the workers, the same patients in every arm, nobody lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mscrenal.calibration import draws
from mscrenal.model import OBSERVABLES, DrugCourse
from mscrenal.scenarios import load_scenario
from mscrenal.scenarios.executor import ExecutorError
from mscrenal.scenarios.run import MOST_VALUES, RunError, output_days, run
from mscrenal.scenarios.scenario import Arm, Course, PatientSpec, Scenario

DAYS = np.array([0.0, 1.0, 28.0, 84.0])
NAMES = ("egfr", "uacr", "cells_lung")


def course(dose: str = "1e6/kg", product: str = "UC") -> Course:
    return Course(product, "IV", dose, (0.0, 7.0), 1 / 24)


PLACEBO, TREATED = Arm("placebo"), Arm("UC", (course(),))
MIXED = Arm("UC and EV", (course(), Course("EV-UC", "IV", "1e9 particles/kg", (20.0,), 1 / 24)))
DRUG = Arm("SGLT2 inhibitor", (), (DrugCourse("sglt2i", 0.0),))
SCENARIO = Scenario(
    "trial", "A small trial", 84.0, (PLACEBO, TREATED, DRUG), "placebo", patient=PatientSpec(egfr=45.0, uacr=900.0, drugs=("ras",)),
)  # fmt: skip


def outcome(scenario: Scenario = SCENARIO, **options):
    return run(
        scenario, **({"draws": 4, "seed": 1, "workers": 1, "days": DAYS, "observables": NAMES} | options)
    )


def same(a, b) -> bool:
    return all(np.array_equal(a.data[n].values, b.data[n].values, equal_nan=True) for n in a.data)


# --------------------------------------------------------------------------- reproducible


def test_one_worker_and_two_give_the_same_to_the_last_bit():
    one, two = outcome(draws=9, patients=2, workers=1), outcome(draws=9, patients=2, workers=2)
    assert same(one, two)
    assert np.array_equal(one.status, two.status)
    assert one.provenance == two.provenance


def test_the_same_seed_gives_the_same_run_and_another_another():
    assert same(outcome(), outcome())
    assert not same(outcome(), outcome(seed=2))


def test_more_draws_begin_with_the_fewer():
    few, many = outcome(draws=2), outcome(draws=5)
    assert np.array_equal(few.data["egfr"], many.data["egfr"][:, :2])


def test_more_patients_begin_with_the_fewer():
    few, many = outcome(patients=2), outcome(patients=4)
    assert np.array_equal(few.data["egfr"], many.data["egfr"][:, :, :2])


# --------------------------------------------------------------------------- common random numbers


def test_an_arm_is_the_same_whatever_stands_beside_it():
    together = outcome(patients=3)
    alone = outcome(SCENARIO.replace(arms=(TREATED, PLACEBO)), patients=3)
    for arm in ("placebo", "UC"):
        assert np.array_equal(together.data["uacr"].sel(arm=arm), alone.data["uacr"].sel(arm=arm))


def test_every_arm_starts_from_the_same_patients():
    result = outcome(patients=3)
    start = result.data["uacr"].sel(arm=["placebo", "UC"]).isel(time=0).values
    assert np.array_equal(start[0], start[1])


def test_arms_without_an_effect_are_equal_patient_by_patient():
    single = Arm("one cell", (course("1/kg"),))
    result = outcome(SCENARIO.replace(arms=(PLACEBO, single)), patients=3)
    a, b = (result.data["egfr"].sel(arm=n).values for n in ("placebo", "one cell"))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    # Patients differ far more than the arms do.
    assert np.ptp(a[:, :, -1], axis=1).min() > 0.1


def test_patients_of_a_population_differ_and_a_single_patient_is_typical():
    many = outcome(patients=3).data["egfr"].sel(arm="placebo").isel(time=-1).values
    one = outcome().data["egfr"].sel(arm="placebo").isel(time=-1).values
    assert (np.ptp(many, axis=1) > 0).all()
    assert one.shape == (4, 1)


def test_arms_that_mix_products_meet_the_same_placebo():
    mixed = outcome(SCENARIO.replace(arms=(PLACEBO, MIXED)))
    assert set(np.unique(mixed.status)) == {"ok"}
    assert np.array_equal(mixed.data["uacr"].sel(arm="placebo"), outcome().data["uacr"].sel(arm="placebo"))


# --------------------------------------------------------------------------- failures


def with_a_bad_draw(value: float, name: str = "death"):
    """Four draws of which the third cannot be simulated."""
    good = draws(4, seed=1)
    values = {n: v.copy() for n, v in good.values.items()}
    values[name][2] = value
    return replace(good, values=values)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_subject_is_listed_and_stops_nobody(workers):
    result = outcome(draws=with_a_bad_draw(float("nan"), "tnf_turnover"), workers=workers)
    assert (result.status.sel(draw=2) == "initial-state").all()
    assert (result.status.drop_sel(draw=2) == "ok").all()
    assert np.isnan(result.data["egfr"].sel(draw=2)).all()
    assert np.isfinite(result.data["egfr"].drop_sel(draw=2)).all()
    assert [(f["arm"], f["draw"], f["patient"]) for f in result.failures] == [
        (n, 2, 0) for n in ("placebo", "UC", "SGLT2 inhibitor")
    ]
    assert all(f["status"] == "initial-state" and "cannot be met" in f["message"] for f in result.failures)


def test_a_failure_in_one_arm_leaves_the_others():
    result = outcome(draws=with_a_bad_draw(float("nan"), "product.UC.survival"))
    status = result.status.sel(draw=2, patient=0)
    assert [str(v) for v in status.values] == ["ok", "non-finite", "ok"]
    assert [(f["arm"], f["draw"]) for f in result.failures] == [("UC", 2)]
    assert "Last dose: day 0" in result.failures[0]["message"]
    assert np.isnan(result.data["egfr"].sel(draw=2, arm="UC")).all()
    good = outcome().data["egfr"]
    for arm in ("placebo", "SGLT2 inhibitor"):
        assert np.array_equal(result.data["egfr"].sel(arm=arm), good.sel(arm=arm))


def test_a_continuation_that_breaks_down_is_listed_and_costs_no_other_number(monkeypatch):
    def broken(*arguments, **options):
        cohort = simulate(*arguments, **options)
        cohort.crossing[0, 1] = np.nan
        return cohort

    module = __import__("sys").modules["mscrenal.scenarios.run"]
    simulate = module.simulate_cohort
    monkeypatch.setattr(module, "simulate_cohort", broken)
    result = outcome(SCENARIO.replace(endpoints=("egfr_change", "time_to_eskd")))
    assert [(f["arm"], f["status"]) for f in result.failures] == [("UC", "continuation")]
    assert "no time to eGFR < 15, everything else stands" in result.failures[0]["message"]
    assert (result.status == "ok").all()
    assert np.isfinite(result.data["egfr"]).all()


def test_a_cluster_that_cannot_be_is_refused_before_anything_is_computed():
    with pytest.raises(ExecutorError, match="not-an-address"):
        outcome(IMPOSSIBLE, workers=None, cluster="not-an-address")


# So much insulin and so much sugar go together under no draw.
IMPOSSIBLE = SCENARIO.replace(patient=PatientSpec(hba1c=14.0, insulin_share=3.0))


def test_a_lone_patient_who_cannot_exist_is_refused():
    with pytest.raises(RunError, match="hba1c = 14 cannot be met"):
        outcome(IMPOSSIBLE)


def test_patients_who_cannot_exist_are_failures_of_every_draw():
    result = outcome(IMPOSSIBLE, patients=2)
    assert (result.status == "initial-state").all()
    assert len(result.failures) == 3 * 4 * 2
    assert all("hba1c = 14" in f["message"] for f in result.failures)


# --------------------------------------------------------------------------- shape and limits


def test_the_dataset_carries_every_observable_with_unit_and_label():
    result = outcome(draws=1, observables=None)
    assert set(result.data) == {o.name for o in OBSERVABLES}
    assert result.data["egfr"].dims == ("arm", "draw", "patient", "time")
    assert result.data["egfr"].attrs == {"unit": "mL/min/1.73m2", "label": "eGFR"}
    assert list(result.data["arm"].values) == ["placebo", "UC", "SGLT2 inhibitor"]
    assert np.array_equal(result.data["time"], DAYS)


def test_a_run_too_large_for_the_memory_says_so_before_it_starts():
    days = np.arange(0.0, 84.0, 0.001)
    assert 3 * 4 * 50 * len(days) * len(NAMES) > MOST_VALUES
    with pytest.raises(
        RunError, match=r"values; 1e\+08 is the most. Use fewer --draws or --patients"
    ) as caught:
        outcome(patients=50, days=days)
    assert "3 arms x 4 draws x 50 patients x 84000 days x 3 observables" in str(caught.value)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, 5000])
def test_an_impossible_number_of_workers_is_refused(workers):
    with pytest.raises(ExecutorError, match="workers must be"):
        outcome(workers=workers)


@pytest.mark.parametrize("patients", [0, -1, 1.5, True, 100_001])
def test_an_impossible_number_of_patients_is_refused(patients):
    with pytest.raises(RunError, match="patients must be"):
        outcome(patients=patients)


@pytest.mark.parametrize("number", [0, 1.5, -2])
def test_an_impossible_number_of_draws_is_refused(number):
    with pytest.raises(ValueError, match="draws must be"):
        outcome(draws=number)


def test_progress_is_told_from_nothing_to_all():
    told = []
    outcome(draws=5, patients=2, progress=lambda done, of, what: told.append((done, of, what)))
    assert told[0] == (0, 10, "trial")
    assert told[-1] == (10, 10, "trial")
    assert [t[0] for t in told] == sorted(t[0] for t in told)


@pytest.mark.parametrize("name", ["uc-dn-weekly", "stz-rat-uc"])
def test_output_days_of_a_scenario_hold_its_visits_and_what_follows_a_dose(name):
    scenario = load_scenario(name)
    days = output_days(scenario)
    assert np.all(np.diff(days) > 0)
    assert days[0] == 0
    assert days[-1] == scenario.horizon_days
    assert set(scenario.visits) <= set(days)
    assert {0.05, 0.25, 1.0} <= set(days)
    assert len(output_days(scenario, dense=False)) < len(days)


def test_provenance_says_what_the_run_rests_on():
    result = outcome()
    p = result.provenance
    assert (p["seed"], p["draws"], p["patients"], p["origin"]) == (1, 4, 1, "posterior")
    assert p["parameters_hash"] == draws(4, seed=1).hash
    assert (
        outcome(SCENARIO.replace(arms=(PLACEBO, TREATED))).provenance["scenario_hash"] != p["scenario_hash"]
    )
    assert p["posterior"]["rows"] > 100
    assert any("translation factor" in s for s in p["extrapolated"])
