"""Large populations: the same to the last bit however shared out, nobody lost, memory that does not grow with patients."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster
from report_reader import read_report
from typer.testing import CliRunner

from mscrenal.app.cli import main
from mscrenal.calibration import draws as drawn_from
from mscrenal.model import DrugCourse, Patient, PatientError
from mscrenal.model.crowd import Treatment, simulate_people
from mscrenal.model.people import People
from mscrenal.model.population import Below, Cohort, simulate_cohort
from mscrenal.model.solve import POPULATION_ATOL, POPULATION_RTOL
from mscrenal.scenarios import (
    Arm,
    Course,
    PatientSpec,
    PopulationSpec,
    RunError,
    Scenario,
    ScenarioError,
    load_scenario,
    population,
)
from mscrenal.scenarios.endpoints import ESKD_EGFR, EndpointError, evaluate
from mscrenal.scenarios.executor import ExecutorError
from mscrenal.scenarios.population_result import BAND
from mscrenal.scenarios.results import prob_better
from mscrenal.scenarios.scenario import Correlation, Distribution
from mscrenal.scenarios.sketch import RELATIVE_ERROR
from mscrenal.scenarios.virtual_patients import people_of, treatment_of

# The function of the same name hides the module.
module = sys.modules["mscrenal.scenarios.population"]


def course(dose: str = "1e6/kg", product: str = "UC") -> Course:
    return Course(product, "IV", dose, (0.0, 7.0), 1 / 24)


PLACEBO, TREATED = Arm("placebo"), Arm("UC", (course(),))
TOTAL = Arm("UC 80e6", (course("80e6"),))
DRUG = Arm("SGLT2 inhibitor", (), (DrugCourse("sglt2i", 0.0),))
WANTED = ("egfr_change", "egfr_slope_total", "uacr_percent_change")
SCENARIO = Scenario(
    "small", "A small population", 84.0, (PLACEBO, TREATED), "placebo",
    patient=PatientSpec(egfr=45.0, uacr=900.0, drugs=("ras",)), endpoints=WANTED,
)  # fmt: skip
SPEC = PopulationSpec(
    {
        "age": Distribution("normal", 60.0, 10.0, 40.0, 80.0),
        "weight_kg": Distribution("normal", 75.0, 15.0, 45.0, 120.0),
        "egfr": Distribution("normal", 45.0, 12.0, 25.0, 75.0),
        "uacr": Distribution("lognormal", 700.0, 2.0, 100.0, 4000.0),
    },
    drugs=("ras",),
    correlations=(Correlation("age", "egfr", -0.4),),
)
MIXED = SCENARIO.replace(patient=None, population=SPEC, arms=(PLACEBO, TREATED, TOTAL, DRUG))


def outcome(scenario: Scenario = SCENARIO, **options: Any):
    return population(scenario, **({"patients": 80, "draws": 7, "workers": 1} | options))


def same(a, b) -> bool:
    return (
        np.array_equal(a.values, b.values, equal_nan=True)
        and a.bands.identical(b.bands)
        and a.table.equals(b.table)
        and a.to_json() == b.to_json()
    )


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """Several chunks, the last of them not full."""
    monkeypatch.setattr(module, "SIMULATIONS_PER_TASK", 64)


def one_by_one(scenario: Scenario, n: int, draws: int, *, below: Below | None = None) -> Cohort:
    """The same virtual patients, each written out, through the plain way."""
    people = people_of(scenario, 1, 0, n)
    patients = [people.patient(j) for j in range(n)]
    thetas = list(drawn_from(draws, 1))
    return simulate_cohort(
        patients,
        [thetas[j % draws] for j in range(n)],
        [
            [(tuple(a.doses(float(p.weight_kg))), tuple(a.drugs_added), a.resets) for a in scenario.arms]
            for p in patients
        ],
        module._days(scenario),
        ("egfr", "uacr"),
        below=below,
        rtol=POPULATION_RTOL,
        atol=POPULATION_ATOL,
    )


# --------------------------------------------------------------------------- reproducible


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing_to_the_last_bit(workers):
    assert same(outcome(MIXED, workers=1), outcome(MIXED, workers=workers))


@pytest.mark.usefixtures("small_chunks")
def test_a_patient_is_the_same_in_a_small_and_in_a_large_population():
    few, many = outcome(MIXED, patients=50), outcome(MIXED, patients=100)
    assert np.array_equal(few.values, many.values[..., :50], equal_nan=True)


def test_the_size_of_chunks_changes_no_patient_and_no_count(monkeypatch):
    whole = outcome(MIXED)
    monkeypatch.setattr(module, "SIMULATIONS_PER_TASK", 64)
    parts = outcome(MIXED)
    # Slopes are matrix products, which round by the place of a row.
    assert np.allclose(parts.values, whole.values, rtol=1e-9, atol=1e-11)
    assert parts.bands.identical(whole.bands)


def test_the_seed_names_the_population():
    assert same(outcome(), outcome())
    other = outcome(seed=2)
    assert not np.any(other.values[0] == outcome().values[0])


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_a_cluster_gives_the_same_to_the_last_bit():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
    ) as cluster:
        far = outcome(MIXED, workers=None, cluster=cluster.scheduler_address, patients=200)
    assert same(far, outcome(MIXED, workers=2, patients=200))


# --------------------------------------------------------------------------- the same as one by one


def test_endpoints_are_those_of_the_same_patients_simulated_one_by_one():
    n, draws = 60, 7
    result = outcome(MIXED, patients=n, draws=draws)
    cohort = one_by_one(MIXED, n, draws)
    days = module._days(MIXED)
    for i, (name, observable) in enumerate(zip(WANTED, (0, 0, 1), strict=True)):
        exact = evaluate(
            name, cohort.values[..., observable], days, horizon_days=84.0, visits=MIXED.visits
        ).values.T
        if "slope" in name:
            assert np.allclose(result.values[i], exact, rtol=1e-9, atol=1e-11)
        else:
            assert np.array_equal(result.values[i], exact)
            means = result.table.query("endpoint == @name")["mean"].to_numpy()
            assert np.array_equal(means, [row.mean() for row in exact])


def test_time_to_kidney_failure_is_that_of_the_same_patients_simulated_one_by_one():
    scenario = MIXED.replace(endpoints=("time_to_eskd",))
    result = outcome(scenario, patients=20, draws=3)
    cohort = one_by_one(scenario, 20, 3, below=Below("egfr", ESKD_EGFR, 30 * 365.25))
    years = np.minimum(cohort.crossing / 365.25, 30.0).T
    assert np.array_equal(result.values[0], years, equal_nan=True)
    for record, of_arm in zip(result.arms, years, strict=True):
        numbers = record["endpoints"]["time_to_eskd"]
        lost = int(np.isnan(of_arm).sum())  # their simulation ends in a failure after the horizon
        assert numbers["n"] == 20 - lost
        assert numbers["note"] == (
            f"{lost} patients have no value: the simulation beyond the horizon failed for them"
            if lost
            else ""
        )
        assert numbers["share_censored"] == (of_arm == 30.0).sum() / (20 - lost)
    assert any("beyond the horizon" in note for note in result.extrapolated)


def test_streamed_quantiles_of_trajectories_are_within_the_stated_error_of_the_exact_ones():
    n = 80
    result = outcome(MIXED, patients=n)
    cohort = one_by_one(MIXED, n, 7)
    for k, name in enumerate(("egfr", "uacr")):
        exact = np.moveaxis(np.quantile(cohort.values[..., k], BAND, axis=0), 0, -1)
        streamed = result.data[name].transpose("arm", "time", "quantile").values
        assert np.abs(streamed / exact - 1).max() <= RELATIVE_ERROR * (1 + 1e-9)


def test_animals_and_combined_products_are_simulated_as_one_by_one():
    mixed = Arm("UC and EV", (course(), Course("EV-UC", "IV", "1e9 particles/kg", (20.0,), 1 / 24)))
    rats = PatientSpec(species="rat", disease="stz", start_week=8.0)
    for scenario in (SCENARIO.replace(arms=(PLACEBO, mixed)), SCENARIO.replace(patient=rats)):
        result = outcome(scenario, patients=12, draws=3)
        exact = one_by_one(scenario, 12, 3).values[..., 0]
        assert np.array_equal(result.values[0], (exact[:, :, -1] - exact[:, :, 0]).T)


def test_a_steady_state_goes_the_plain_way():
    steady = Arm("steady", (Course("UC", "IV", "1e6/kg", (0.0,), 1 / 24, 1, 28.0),))
    result = outcome(SCENARIO.replace(arms=(PLACEBO, steady)), patients=3, draws=2)
    assert np.isfinite(result.values).all()
    assert result.values[0, 1, 0] != result.values[0, 0, 0]


def test_a_total_dose_is_divided_by_each_patients_own_weight():
    people = people_of(MIXED, 1, 0, 30)
    treatment = treatment_of(TOTAL, people)
    assert treatment.amounts == pytest.approx(80 / people.weight_kg[:, np.newaxis] * np.ones(2), rel=1e-12)
    assert treatment_of(TREATED, people).amounts is None
    assert [d.amount for d in treatment.doses_of(3)] == pytest.approx([80 / people.weight_kg[3]] * 2)


# --------------------------------------------------------------------------- who they are


def test_patients_follow_the_scenarios_population():
    people = people_of(MIXED, 1, 0, 4000)
    for name, item in SPEC.covariates.items():
        values = getattr(people, name)
        assert item.low <= values.min() < values.max() <= item.high
    assert np.median(people.uacr) == pytest.approx(700, rel=0.05)
    assert np.corrcoef(people.age, people.egfr)[0, 1] == pytest.approx(-0.35, abs=0.08)  # cut by the limits
    assert people.male.mean() == pytest.approx(0.5, abs=0.03)
    assert people.eta["eta_potency"].std() == pytest.approx(0.5, rel=0.05)


def test_any_stretch_of_patients_is_that_of_the_whole():
    whole, part = people_of(MIXED, 1, 0, 300), people_of(MIXED, 1, 123, 50)
    for name in (*SPEC.covariates, "male"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[123:173])
    assert all(np.array_equal(part.eta[name], whole.eta[name][123:173]) for name in whole.eta)


def test_a_random_effect_that_the_scenario_fixes_stays_fixed():
    fixed = SCENARIO.replace(patient=SCENARIO.patient.replace(eta={"eta_potency": 0.25}))
    people = people_of(fixed, 1, 0, 5)
    assert people.eta["eta_potency"].tolist() == [0.25] * 5
    assert np.ptp(people.eta["eta_nephron"]) > 0


def test_a_population_for_which_nobody_qualifies_says_which_limit(monkeypatch):
    monkeypatch.setattr("mscrenal.scenarios.virtual_patients.MOST_TURNS", 20)
    rare = {"egfr": Distribution("normal", 45.0, 1.0, 60.0, 75.0), "age": SPEC.covariates["age"]}
    with pytest.raises(ScenarioError, match=r"egfr excludes 100\.0%.*Widen the limits"):
        people_of(MIXED.replace(population=SPEC.replace(covariates=rare, correlations=())), 1, 0, 8)


def test_columns_of_people_are_checked_like_patients():
    eta: dict[str, np.ndarray] = {}
    with pytest.raises(PatientError, match=r"egfr = 500 mL/min/1\.73m2 is outside 5 to 150"):
        People.alike(Patient(), 2, covariates={"egfr": np.array([50.0, 500.0])}, eta=eta)
    with pytest.raises(PatientError, match="sledai was given for disease 'diabetic'"):
        People.alike(Patient(), 1, covariates={"sledai": np.array([5.0])}, eta=eta)


# --------------------------------------------------------------------------- statistics


def test_the_table_holds_spread_differences_and_the_share_who_do_better():
    result = outcome(MIXED, patients=60)
    row = result.table.query("arm == 'UC' and endpoint == 'uacr_percent_change'").iloc[0]
    own, beside = result.values[2, 1], result.values[2, 0]
    assert (row["mean"], row["sd"], row["n"]) == (own.mean(), own.std(ddof=1), 60)
    assert row[["q05", "q50", "q95"]].tolist() == np.quantile(own, (0.05, 0.5, 0.95)).tolist()
    assert row["vs_reference_mean"] == (own - beside).mean()
    assert row["vs_reference_q95"] == np.quantile(own - beside, 0.95)
    assert row["vs_reference_share_better"] == prob_better(own - beside, beside, "lower")
    reference = result.table.query("arm == 'placebo'")
    assert reference["vs_reference_mean"].tolist() == [0.0] * 3
    assert reference["vs_reference_share_better"].tolist() == [0.5] * 3


def test_a_patient_carries_draw_j_modulo_the_number_of_draws():
    one = PatientSpec(egfr=45.0, uacr=900.0, eta=dict.fromkeys(people_of(SCENARIO, 1, 0, 1).eta, 0.0))
    result = outcome(SCENARIO.replace(patient=one), patients=9, draws=4)
    assert np.array_equal(result.values[..., 4:8], result.values[..., :4])
    assert np.array_equal(result.values[..., 8], result.values[..., 0])


def test_draws_that_are_given_are_used():
    given = drawn_from(5, seed=9)
    assert same(outcome(draws=given), outcome(draws=given, workers=2))
    assert outcome(draws=given).provenance["parameters_hash"] == given.hash
    assert not np.array_equal(outcome(draws=given).values, outcome(draws=5).values)


# --------------------------------------------------------------------------- failures


@pytest.fixture
def failing(monkeypatch):
    """Every tenth patient fails in the second arm, as an integration that is given up."""
    plain = simulate_people

    def sabotaged(people: People, *args: Any, **options: Any) -> Cohort:
        cohort = plain(people, *args, **options)
        for j in np.flatnonzero(np.arange(len(people)) % 10 == 3):
            cohort.status[j, 1] = "budget"
            cohort.messages[int(j), 1] = "stopped at day 3: the budget of 9 steps is spent."
            cohort.values[j, 1], cohort.crossing[j, 1] = np.nan, np.nan
        return cohort

    monkeypatch.setattr(module, "simulate_people", sabotaged)


@pytest.mark.usefixtures("failing")
def test_failed_patients_are_counted_and_left_out_with_their_partner():
    result = outcome(patients=80)
    kept = np.arange(80) % 10 != 3
    assert result.n_failed == 8
    assert result.statuses == {"budget": 8}
    assert [f["patient"] for f in result.failures] == np.flatnonzero(~kept).tolist()
    assert result.failures[1] == {
        "arm": "UC", "draw": 13 % 7, "patient": 13, "status": "budget",
        "message": "stopped at day 3: the budget of 9 steps is spent.",
    }  # fmt: skip
    own, beside = result.values[0, 1], result.values[0, 0]
    row = result.table.query("arm == 'UC' and endpoint == 'egfr_change'").iloc[0]
    assert (row["n"], row["n_failed"], row["share_failed"]) == (72, 8, 0.1)
    assert row["vs_reference_mean"] == (own - beside)[kept].mean()
    assert result.table.query("arm == 'placebo'")["n"].tolist() == [80] * 3
    records = result.to_json()["records"]
    assert all(np.isfinite(r["q50"]) for r in records)


@pytest.mark.usefixtures("failing")
def test_of_many_failures_the_first_are_listed_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(module, "MOST_LISTED", 3)
    result = outcome(patients=80)
    assert len(result.failures) == 3
    assert result.to_json()["n_failed"] == 8
    assert result.to_json()["failed_by_status"] == {"budget": 8}


def test_patients_whom_no_state_meets_fail_in_every_arm_with_a_reason():
    hard = PatientSpec(hba1c=9.5, insulin_share=0.5, egfr=45.0, uacr=900.0)
    result = outcome(SCENARIO.replace(patient=hard), patients=40, draws=40)
    assert 0 < result.n_failed < 80
    assert set(result.statuses) == {"initial-state"}
    assert np.array_equal(result.failed[0], result.failed[1])
    assert all("cannot be met" in f["message"] for f in result.failures)


def test_a_patient_whom_not_even_the_median_parameters_meet_is_refused_at_once():
    with pytest.raises(RunError, match="hba1c = 14 cannot be met"):
        outcome(SCENARIO.replace(patient=PatientSpec(hba1c=14.0, insulin_share=3.0)))


def test_a_broken_mass_balance_is_a_failure(monkeypatch):
    monkeypatch.setattr("mscrenal.model.population.MASS_BALANCE_TOLERANCE", -1.0)
    people = people_of(SCENARIO, 1, 0, 2)
    cohort = simulate_people(people, {}, [Treatment(TREATED.doses(72.0))], np.array([0.0, 28.0]), ("egfr",))
    assert cohort.status.tolist() == [["mass-balance"], ["mass-balance"]]
    assert np.isnan(cohort.values).all()
    assert "Last dose: day 7" in cohort.messages[0, 0]


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("patients", [0, -1, 10_000_001, 2.0, True, "5"])
def test_an_impossible_number_of_patients_is_refused(patients):
    with pytest.raises(RunError, match="patients must be a whole number from 1 to 10,000,000"):
        outcome(patients=patients)


def test_more_values_than_memory_should_hold_are_refused_with_the_mend():
    with pytest.raises(RunError, match="Choose fewer endpoints, arms or patients"):
        outcome(load_scenario("uc-dn-weekly"), patients=10_000_000)


def test_other_bad_input_is_refused():
    with pytest.raises(EndpointError, match="Did you mean 'egfr_change'"):
        outcome(endpoints=["egfr_chang"])
    with pytest.raises(ValueError, match="draws must be a whole number"):
        outcome(draws=0)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        outcome(seed=-1)
    with pytest.raises(ExecutorError, match="choose one"):
        outcome(workers=2, cluster="tcp://127.0.0.1:1")


# --------------------------------------------------------------------------- what comes out


def test_progress_counts_patients():
    seen = []
    outcome(SCENARIO.replace(arms=(PLACEBO,)), patients=1100, progress=lambda *args: seen.append(args))
    assert seen == [(0, 1100, "small"), (1024, 1100, "small"), (1100, 1100, "small")]


def test_a_result_is_written_with_tables_figure_and_report(tmp_path):
    result = outcome(MIXED)
    folder = result.save(tmp_path / "result")
    names = {path.name for path in folder.iterdir()}
    assert {"population.csv", "population.parquet", "trajectories.csv", "time_courses.svg"} <= names
    assert {"result.json", "provenance.json", "report.html"} <= names
    page = read_report((folder / "report.html").read_text(), figures=1, sections=("scenario",)).body
    assert "5 to 95 % of the patients" in page
    document = json.loads((folder / "result.json").read_text())
    assert document["n_patients"] == 80
    assert document["provenance"]["solver"] == {
        "method": "Rodas4", "rtol": POPULATION_RTOL, "atol": POPULATION_ATOL,
    }  # fmt: skip
    assert {"arm", "time_day", "name", "unit", "q05", "q25", "q50", "q75", "q95"} == set(
        document["records"][0]
    )


def test_a_figure_has_labelled_axes_with_units():
    figure = outcome(MIXED).plot()["time_courses"]
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["eGFR", "UACR"]
    assert [axes.get_ylabel() for axes in panels] == ["[mL/min/1.73 m²]", "[mg/g]"]
    assert all("time since the first dose" in axes.get_xlabel() for axes in panels)


def test_very_many_endpoints_are_kept_in_single_precision_and_say_so(monkeypatch):
    plain = outcome()
    monkeypatch.setattr(module, "MOST_DOUBLE", 100)
    short = outcome()
    assert short.values.dtype == np.float32
    assert np.allclose(short.table["mean"], plain.table["mean"], rtol=1e-6)
    assert any("single precision" in note for note in short.assumptions)


def test_the_command_prints_a_table_or_one_document():
    arguments = ["population", "uc-dn-weekly", "--patients", "40", "--draws", "5", "--workers", "1"]
    arguments += ["--endpoint", "egfr_change", "--json"]
    fine = CliRunner().invoke(main, arguments)
    assert fine.exit_code == 0, fine.output
    document = json.loads(fine.stdout)
    assert document["command"] == "population"
    assert len(document["arms"]) == 7
    assert document["arms"][1]["endpoints"]["egfr_change"]["n"] == 40
    told = CliRunner().invoke(main, [*arguments[:-1]])
    assert "share better" in told.stdout


def test_the_command_leaves_with_three_and_says_how_many_failed_in_all(monkeypatch):
    result = outcome()
    lost = replace(
        result,
        failed=np.ones_like(result.failed),
        listed=tuple(
            {"arm": "UC", "draw": 0, "patient": j, "status": "budget", "message": "m"} for j in range(9)
        ),
    )
    monkeypatch.setattr("mscrenal.scenarios.population", lambda *_, **__: lost)
    told = CliRunner().invoke(main, ["population", "uc-dn-weekly"])
    assert told.exit_code == 3
    assert "160 subjects failed" in told.stderr
    assert "and 155 more, the first 9 in --json and --out" in told.stderr


# --------------------------------------------------------------------------- memory

SCRIPT = """
import resource, sys
from mscrenal.scenarios import load_scenario, population
scenario = load_scenario("uc-dn-weekly")
scenario = scenario.replace(arms=scenario.arms[:2])
result = population(scenario, patients=int(sys.argv[1]), endpoints=["egfr_change", "uacr_percent_change"])
result.to_json()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak_memory(patients: int) -> int:
    """Bytes that a process of its own needed at most."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(patients)], capture_output=True, text=True, check=True
    )
    return int(ran.stdout.split()[-1])


@pytest.mark.slow
def test_memory_grows_by_few_bytes_per_patient():
    n = 6000
    few, many = peak_memory(n), peak_memory(4 * n)
    # Four numbers of 8 bytes and two flags are kept of each; statistics copy a column or two. Trajectories would be
    # 1,250 bytes each, and the noise of a process's memory is some megabytes.
    assert (many - few) / (3 * n) < 400
