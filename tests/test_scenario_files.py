"""Scenario files: the gallery says what its sources say, and a slip in a file is told where it stands."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mscrenal.model import COVARIATES, PRODUCTS, DrugCourse, Patient
from mscrenal.scenarios.endpoints import ENDPOINTS
from mscrenal.scenarios.gallery import gallery, gallery_names, load_scenario, scenario_toml
from mscrenal.scenarios.scenario import (
    Arm,
    Correlation,
    Course,
    Distribution,
    PatientSpec,
    PopulationSpec,
    Scenario,
    ScenarioError,
)
from mscrenal.scenarios.schema import PatientTable, PopulationTable, read_scenario

GOOD = """\
title = "UC-MSC weekly x3"
horizon = "48w"
reference = "placebo"

[patient]
disease = "diabetic"
species = "human"
age = 58
sex = "male"
weight_kg = 72
egfr = 45
uacr = 900
hba1c = 7.8
drugs = ["ras", "sglt2i"]

[[arm]]
name = "placebo"

[[arm]]
name = "treated"
product = "UC"
route = "IV"
dose = "1e6/kg"
days = [0, 7, 14]
infusion = "60min"
"""


def read(text: str = GOOD) -> Scenario:
    return read_scenario(text, name="mine", file="mine.toml")


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times in the file"
    return GOOD.replace(old, new)


def line_of(text: str, beginning: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(beginning))


# ------------------------------------------------------------------------------- the gallery

BRIEF = {
    "uc-dn-weekly",
    "nephstrom",
    "rexlemestrocel",
    "t2d-uc-monthly",
    "t2d-case-60y",
    "t2d-case-55y",
    "t2d-four-regimens",
    "engineered-ad",
    "sle-uc",
    "ev-uc",
    "source-comparison",
    "dose-frequency",
    "stz-rat-uc",
}


def test_every_scenario_of_the_brief_ships_and_the_default_comes_first():
    assert set(gallery_names()) >= BRIEF
    assert gallery_names()[0] == "uc-dn-weekly"
    assert [scenario.name for scenario in gallery()] == list(gallery_names())


@pytest.mark.parametrize("name", gallery_names())
def test_a_shipped_scenario_names_its_source_and_question_and_marks_what_is_assumed(name):
    scenario = load_scenario(name)
    assert len(scenario.source) > 30
    assert scenario.question.endswith("?")
    assert "# assumed" in scenario_toml(name)
    assert scenario.reference_arm.n_doses == 0
    assert set(scenario.endpoints) <= set(ENDPOINTS)


@pytest.mark.parametrize("name", gallery_names())
def test_a_shipped_text_is_read_as_a_file_too(name, tmp_path):
    path = tmp_path / f"{name}.toml"
    path.write_text(scenario_toml(name))
    assert load_scenario(str(path)) == load_scenario(name)


@pytest.mark.parametrize("name", gallery_names())
def test_every_patient_of_the_gallery_can_be_handed_to_the_model(name):
    for spec in load_scenario(name).patients(seed=1):
        patient = spec.patient()
        assert patient.disease == spec.disease
        assert patient.weight_kg == spec.weight_kg


def test_the_dn_trial_is_three_weekly_infusions_of_a_million_cells_per_kg_against_placebo_19_and_19():
    scenario = load_scenario("uc-dn-weekly")
    treated = scenario.arm("UC weekly x3")
    assert (scenario.horizon_days, scenario.reference) == (336.0, "placebo")
    assert [arm.n for arm in (scenario.arm("placebo"), treated)] == [19, 19]
    assert (treated.product, treated.route, treated.n_doses, treated.interval_days) == ("UC", "IV", 3, 7.0)
    assert treated.total_cells_per_kg(scenario.weight_kg) == 3e6
    assert treated.courses[0].infusion_days == pytest.approx(1 / 24)
    patient = scenario.patient
    assert (patient.age, patient.egfr, patient.uacr, patient.hba1c) == (58, 45, 900, 7.8)
    assert patient.drugs == ("ras", "sglt2i")


def test_the_default_comparison_holds_its_alternatives_in_number_schedule_and_source():
    regimens = {(arm.product, arm.n_doses, arm.interval_days) for arm in load_scenario("uc-dn-weekly").arms}
    assert regimens == {
        ("none", 0, None),
        ("UC", 1, None),
        ("UC", 3, 7.0),
        ("UC", 3, 28.0),
        ("UC", 6, 28.0),
        ("AD", 3, 7.0),
        ("BM", 3, 7.0),
    }


def test_doses_of_the_named_trials_are_those_of_their_sources():
    assert [arm.dose for arm in load_scenario("nephstrom").arms] == ["none", "80e6", "160e6", "240e6"]
    assert load_scenario("nephstrom").horizon_days == 1.5 * 365.25
    assert [arm.dose for arm in load_scenario("rexlemestrocel").arms] == ["none", "150e6", "300e6"]
    assert load_scenario("rexlemestrocel").horizon_days == 420.0
    assert load_scenario("t2d-uc-monthly").arm("UC monthly x3").dose_days == (0.0, 28.0, 56.0)
    assert load_scenario("sle-uc").arm("UC weekly x2").dose_days == (0.0, 7.0)


def test_patients_of_the_t2d_trial_have_the_hba1c_of_its_baseline_table():
    patients = load_scenario("t2d-uc-monthly").population.replace(n=400).patients(seed=3)
    hba1c = np.array([patient.hba1c for patient in patients])
    assert hba1c.mean() == pytest.approx(8.95, abs=0.25)
    assert hba1c.min() >= 7.0
    assert all(patient.insulin_share == 0.2 for patient in patients)


def test_the_four_regimens_hold_a_mixed_arm():
    mixed = load_scenario("t2d-four-regimens").arm("UC then UCB")
    assert mixed.products == ("UC", "UCB")
    assert mixed.product == "UC then UCB"


def test_the_source_comparison_differs_in_the_source_only():
    arms = load_scenario("source-comparison").arms[1:]
    assert len({(arm.dose, arm.route, arm.dose_days, arm.courses[0].infusion_days) for arm in arms}) == 1
    assert [arm.product for arm in arms] == [
        "BM",
        "AD",
        "UC",
        "placenta",
        "amnion-MSC",
        "amnion-epithelial",
        "urine",
        "dental",
        "kidney",
    ]


def test_vesicles_are_matched_to_the_cells_by_protein():
    scenario = load_scenario("ev-uc")
    cells, vesicles = scenario.arm("UC cells weekly x3"), scenario.arm("EV-UC weekly x3, matched")
    per_cell_ng = 1e3 * vesicles.courses[0].amount.value / cells.courses[0].amount.value
    assert per_cell_ng == pytest.approx(0.2)
    assert vesicles.total_cells_per_kg(72.0) == 0.0
    spread = scenario.arm("EV-UC weekly x12, matched in total")
    assert sum(dose.amount for dose in spread.doses(72.0)) == pytest.approx(
        sum(dose.amount for dose in vesicles.doses(72.0))
    )


def test_the_dose_frequency_grid_has_arms_at_a_free_and_at_a_fixed_total():
    scenario = load_scenario("dose-frequency")
    totals = [arm.total_cells_per_kg(scenario.weight_kg) for arm in scenario.arms if arm.n_doses]
    fixed = [arm for arm in scenario.arms if arm.total_cells_per_kg(scenario.weight_kg) == pytest.approx(6e6)]
    assert {arm.n_doses for arm in fixed} == {1, 3, 6}
    assert min(totals) == pytest.approx(5e5)
    assert max(totals) == pytest.approx(12e6)
    assert len({arm.courses for arm in scenario.arms}) == len(scenario.arms)


def test_the_rat_gets_two_million_cells_at_week_six_and_is_read_at_week_eight():
    scenario = load_scenario("stz-rat-uc")
    rat = scenario.patient
    assert (rat.species, rat.disease, rat.onset_days) == ("rat", "stz", 42.0)
    assert rat.onset_days + scenario.horizon_days == 56.0
    (dose,) = scenario.arm("UC once").doses(rat.weight_kg)
    assert dose.amount * 1e6 * rat.weight_kg == pytest.approx(2e6)


# ------------------------------------------------------------------------------- getting a scenario


def test_an_unknown_scenario_offers_the_nearest_names():
    with pytest.raises(ScenarioError, match="Did you mean 'uc-dn-weekly'"):
        load_scenario("uc-dn-weakly")
    with pytest.raises(ScenarioError, match="Did you mean 'nephstrom'"):
        scenario_toml("nefstrom")


def test_a_missing_file_is_told_from_an_unknown_name():
    with pytest.raises(ScenarioError, match="there is no such file"):
        load_scenario("no/such.toml")
    with pytest.raises(ScenarioError, match="is a scenario of the gallery: leave out the ending"):
        load_scenario("nephstrom.toml")


def test_folders_other_endings_and_other_encodings_are_refused(tmp_path):
    with pytest.raises(ScenarioError, match="ends in"):
        load_scenario(tmp_path / "mine.yaml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ScenarioError, match="this is a folder"):
        load_scenario(tmp_path / "folder.toml")
    (tmp_path / "latin.toml").write_bytes('title = "Lübeck"'.encode("latin-1"))
    with pytest.raises(ScenarioError, match="not UTF-8 text"):
        load_scenario(tmp_path / "latin.toml")


def test_a_scenario_is_its_own_scenario():
    scenario = load_scenario("ev-uc")
    assert load_scenario(scenario) is scenario


# ------------------------------------------------------------------------------- reading a file


def test_the_file_of_the_interface_is_read():
    scenario = read()
    assert scenario.name == "mine"
    assert [arm.name for arm in scenario.arms] == ["placebo", "treated"]
    assert [(dose.day, dose.amount) for dose in scenario.arm("treated").doses(72)] == [
        (0, 1.0),
        (7, 1.0),
        (14, 1.0),
    ]
    assert scenario.visits[0] == 0
    assert scenario.visits[-1] == 336


def test_every_and_n_doses_are_the_same_as_the_days_written_out():
    other = changed("days = [0, 7, 14]", 'every = "1w"\nn_doses = 3')
    assert read(other) == read()
    later = changed("days = [0, 7, 14]", 'every = "1w"\nn_doses = 3\nstart = "2w"')
    assert read(later).arm("treated").dose_days == (14.0, 21.0, 28.0)


def test_days_may_be_written_as_durations():
    assert read(changed("[0, 7, 14]", '["0d", "1w", 14]')) == read()


def test_an_arm_may_hold_courses_of_several_products():
    text = (
        GOOD
        + '\n[[arm]]\nname = "mixed"\n'
        + "".join(
            f'[[arm.course]]\nproduct = "{product}"\nroute = "IV"\ndose = "1e6/kg"\ndays = {days}\n'
            for product, days in (("UC", [0, 28]), ("AD", [14]))
        )
    )
    mixed = read(text).arm("mixed")
    assert [(dose.day, dose.product) for dose in mixed.doses(72)] == [(0, "UC"), (14, "AD"), (28, "UC")]
    assert mixed.product == "UC + AD"
    assert (mixed.n_doses, mixed.interval_days) == (3, 14.0)


def test_drugs_can_be_added_to_an_arm_by_name_or_with_their_dates():
    text = (
        GOOD + 'drugs_added = ["finerenone", { drug = "glp1ra", start = "4w", stop = "24w", level = 0.5 }]\n'
    )
    assert read(text).arm("treated").drugs_added == (
        DrugCourse("finerenone", 0.0, None, 1.0),
        DrugCourse("glp1ra", 28.0, 168.0, 0.5),
    )


def test_a_population_is_read_with_distributions_limits_and_correlations():
    text = re.sub(
        r"\[patient\].*?\n\n",
        """[population]
n = 50
male_share = 1
drugs = ["ras"]
age = { mean = 60, sd = 8, min = 40, max = 75 }
uacr = { median = 800, gsd = 2.6, min = 300, max = 5000 }
egfr = { mean = 45, sd = 10, min = 25, max = 75 }
weight_kg = 80
correlations = [{ between = ["egfr", "uacr"], value = -0.5 }]

""",
        GOOD,
        flags=re.DOTALL,
    )
    population = read(text).population
    patients = population.patients(seed=5)
    assert len(patients) == 50
    assert all(40 <= patient.age <= 75 and 300 <= patient.uacr <= 5000 for patient in patients)
    assert {patient.weight_kg for patient in patients} == {80.0}
    assert {patient.sex for patient in patients} == {"male"}
    many = population.replace(n=800).patients(seed=5)
    rho = np.corrcoef([p.egfr for p in many], [math.log(p.uacr) for p in many])[0, 1]
    assert -0.6 < rho < -0.3


def test_the_dose_grid_drops_no_regimen_and_repeats_none():
    text = (
        GOOD
        + """
[dose_grid]
product = "UC"
doses = ["1e6/kg", "2e6/kg"]
totals = ["6e6/kg"]
numbers = [1, 3]
intervals = ["1w", "4w"]
"""
    )
    grid = [arm.courses[0] for arm in read(text).arms[2:]]
    # free: 2 doses × (once + 3 at 2 intervals) = 6; fixed: 6e6 once is new, 3 × 2e6 is there already
    assert len(grid) == 7
    assert len(set(grid)) == 7
    assert {(course.dose, course.n_doses) for course in grid} == {
        ("1e6/kg", 1),
        ("1e6/kg", 3),
        ("2e6/kg", 1),
        ("2e6/kg", 3),
        ("6e6/kg", 1),
    }


# ------------------------------------------------------------------------------- slips, and where they stand


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ('product = "UC"', 'product = "UCC"', "product", "unknown product 'UCC'. Did you mean 'UC'"),
        ('route = "IV"', 'route = "oral"', "route", "unknown route 'oral'. Did you mean"),
        ('"sglt2i"', '"sglt2"', "drugs", "unknown drug 'sglt2'. Did you mean 'sglt2i'"),
        (
            'disease = "diabetic"',
            'disease = "diabetes"',
            "disease",
            "unknown disease 'diabetes'. Did you mean 'diabetic'",
        ),
        (
            'species = "human"',
            'species = "humans"',
            "species",
            "unknown species 'humans'. Did you mean 'human'",
        ),
        ('disease = "diabetic"', 'disease = "stz"', "disease", "'stz' for species 'human'. Allowed for it: "),
        ('dose = "1e6/kg"', 'dose = "-1e6/kg"', "dose", "given '-1e6/kg', which is negative"),
        ('dose = "1e6/kg"', 'dose = "many"', "dose", "given 'many'. Allowed: a plain number and a unit"),
        ('dose = "1e6/kg"', "dose = true", "dose", "given True"),
        ('dose = "1e6/kg"', 'dose = "1e10 particles/kg"', "dose", "'UC', which is dosed as cells"),
        (
            'dose = "1e6/kg"',
            'dose = "80e6/kg"',
            "dose",
            "8e+07 cells/kg for a human of 72 kg. Allowed: up to 5e+07",
        ),
        ("[0, 7, 14]", "[0, 14, 7]", "days", "days must rise, got [0, 14, 7]. Sort them"),
        ("[0, 7, 14]", "[0, 7, 7]", "days", "[7] stands twice"),
        ("[0, 7, 14]", "[-7, 0]", "days", "Allowed: finite numbers, zero or later"),
        ("[0, 7, 14]", "[0, nan]", "days", "finite number"),
        ("[0, 7, 14]", "[]", "days", "at least one day"),
        ("[0, 7, 14]", '["soon"]', "days", "day: given 'soon'"),
        ('"60min"', '"8d"', "infusion", "longer than the interval of 1w"),
        ('"60min"', '"60"', "infusion", "infusion: given '60', without a unit"),
        ("egfr = 45", "egfr = 450", "egfr", "egfr = 450 mL/min/1.73m2 is outside 5 to 150"),
        ("egfr = 45", "egfr = 4.9", "egfr", "is outside 5 to 150"),
        ("age = 58", "age = 7", "age", "is outside 18 to 100"),
        ("age = 58", 'age = "old"', "age", "given 'old'. Allowed: number"),
        ("weight_kg = 72", "weight_kg = 720", "weight_kg", "is outside 30 to 250"),
        ("uacr = 900", "uacr = -1", "uacr", "is outside 1 to 12000"),
        ("hba1c = 7.8", "hba1c = 78", "hba1c", "is outside 4 to 16"),
        ("hba1c = 7.8", "duration_years = 60", "duration_years", "but the patient is 58 years old"),
        ("hba1c = 7.8", "sledai = 10", "sledai", "sledai = 10.0 was given for human with disease 'diabetic'"),
        ("hba1c = 7.8", "start_week = 6", "start_week", "only animals have one"),
        ("hba1c = 7.8", "eta = { nothing = 1.0 }", "eta", "unknown random effect 'nothing'"),
        ('sex = "male"', 'sex = "man"', "sex", "given 'man'. Allowed: 'female' or 'male'"),
        ('["ras", "sglt2i"]', '["ras", "ras"]', "drugs", "'ras' stands twice"),
        (
            'reference = "placebo"',
            'reference = "plazebo"',
            "reference",
            "which is no arm. Did you mean 'placebo'",
        ),
        ('horizon = "48w"', 'horizon = "2w"', "days", "Move the horizon behind the last dose"),
        ('horizon = "48w"', 'horizon = "48"', "horizon", "horizon: given '48', without a unit"),
        ('horizon = "48w"', 'horizon = "500y"', "horizon", "up to 50y"),
        ('name = "treated"', 'name = "placebo"', 'name = "placebo"', "arm name 'placebo' stands twice"),
        ('dose = "1e6/kg"', 'dsoe = "1e6/kg"', "dsoe", "unknown key 'dsoe'. Did you mean 'dose'"),
        ("uacr = 900", "uacer = 900", "uacer", "unknown key 'uacer'. Did you mean 'uacr'"),
        ('title = "UC-MSC weekly x3"', 'titel = "x"', "titel", "unknown key 'titel'. Did you mean 'title'"),
        ('product = "UC"', 'product = "UC"\nn = 0', "n = 0", "n: given 0 patients"),
        (
            'horizon = "48w"',
            'horizon = "48w"\nendpoints = ["egfr_chnage"]',
            "endpoints",
            "Did you mean 'egfr_change'",
        ),
        ('horizon = "48w"', 'horizon = "48w"\nendpoints = []', "endpoints", "endpoints: given none"),
        (
            'horizon = "48w"',
            'horizon = "48w"\nvisits = ["0d", "60w"]',
            "visits",
            "Allowed: day 0 to the horizon of 48w",
        ),
        ('horizon = "48w"', 'horizon = "48w"\nvisits = [28, 0]', "visits", "visits must rise"),
        ('horizon = "48w"', 'horizon = "48w"\nvisits = { evry = "4w" }', "visits", "unknown key 'evry'"),
    ],
)
def test_a_slip_is_told_with_file_line_given_allowed_and_mend(old, new, line, expected):
    text = changed(old, new)
    lines = [number for number, content in enumerate(text.splitlines(), 1) if content.startswith(line)]
    with pytest.raises(ScenarioError) as error:
        read(text)
    assert expected in str(error.value)
    assert str(error.value).startswith(f"mine.toml:{lines[-1]}: ")
    assert error.value.line == lines[-1]


def test_a_complaint_about_an_arm_names_the_arm():
    with pytest.raises(ScenarioError, match="arm 'treated': unknown product"):
        read(changed('"UC"', '"UCC"'))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[0, 7, 14]", "[0, 7, 14", "Unclosed array"),
        ('title = "UC-MSC weekly x3"', "title = UC-MSC", "Invalid value"),
        ("egfr = 45", "egfr = 45\negfr = 46", "overwrite a value"),
        ("[patient]", "[patient", "Expected ']'"),
    ],
)
def test_text_that_is_not_toml_is_told_by_its_line(old, new, expected):
    text = changed(old, new)
    with pytest.raises(tomllib.TOMLDecodeError) as reference:
        tomllib.loads(text)
    with pytest.raises(ScenarioError, match=re.escape(expected)) as error:
        read(text)
    assert f"at line {error.value.line}," in str(reference.value)
    assert "this is not TOML" in str(error.value)


def test_a_file_that_stops_in_the_middle_is_told_by_its_last_line():
    with pytest.raises(ScenarioError) as error:
        read('title = "x"\nhorizon = [1,\n2')
    assert error.value.line == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'title' is missing"),
        ('title = "x"\nhorizon = "48w"\n[patient]\n', "Write at least one [[arm]]"),
        ('title = "x"\nhorizon = "48w"\narm = []\n[patient]\n', "Write at least one [[arm]]"),
        ('title = "x"\nhorizon = "48w"\n[[arm]]\nname = "a"\n', "Write a [patient] or a [population]"),
        ('title = "x"\nhorizon = "48w"\n[arm]\nname = "a"\n', "Write [[arm]] for each arm"),
        ('title = "x"\nhorizon = "48w"\n[patient]\n[population]\n[[arm]]\nname = "a"\n', "not both"),
        ('title = "x"\nhorizon = "48w"\n[patient]\n[[arm]]\nproduct = "UC"\n', "'name' is missing"),
        (
            'title = "x"\nhorizon = "48w"\n[patient]\n[[arm]]\nname = "a"\nproduct = "UC"\n',
            "route and dose: not given",
        ),
    ],
)
def test_a_file_that_lacks_a_part_says_which(text, expected):
    with pytest.raises(ScenarioError, match=re.escape(expected)):
        read(text)


def test_all_slips_of_shape_are_told_at_once():
    text = changed("age = 58", 'age = "old"').replace("uacr = 900", 'uacr = "much"')
    with pytest.raises(ScenarioError) as error:
        read(text)
    assert [line.split(":")[1] for line in str(error.value).splitlines()] == ["8", "12"]


def test_a_slip_in_the_second_course_is_told_by_its_own_line():
    text = (
        GOOD
        + '\n[[arm]]\nname = "mixed"\n'
        + "".join(
            f'[[arm.course]]\nproduct = "{product}"\nroute = "IV"\ndose = "1e6/kg"\ndays = [0]\n'
            for product in ("UC", "ADD")
        )
    )
    with pytest.raises(ScenarioError, match="arm 'mixed', course 2: unknown product 'ADD'") as error:
        read(text)
    assert error.value.line == line_of(text, 'product = "ADD"')


def test_days_and_every_together_or_neither_are_refused():
    with pytest.raises(ScenarioError, match="given both days and every"):
        read(changed("days = [0, 7, 14]", 'days = [0]\nevery = "1w"'))
    with pytest.raises(ScenarioError, match="days: not given"):
        read(changed("days = [0, 7, 14]", 'every = "1w"'))


def test_a_bad_grid_is_told_as_the_grid():
    grid = '[dose_grid]\nproduct = "UC"\nnumbers = [6]\nintervals = ["30w"]\n'
    with pytest.raises(ScenarioError, match=r"\[dose_grid\] give doses"):
        read(GOOD + grid)
    text = GOOD + grid + 'doses = ["1e6/kg"]\n'
    with pytest.raises(ScenarioError, match="Move the horizon") as error:
        read(text)
    assert error.value.line == line_of(text, "[dose_grid]")


def test_a_route_that_the_product_cannot_take_is_refused():
    product = next(item for item in PRODUCTS.values() if "SC" not in item.routes)
    with pytest.raises(ScenarioError, match=f"given 'SC' for '{product.name}'. Allowed for this product: IV"):
        read(changed('"UC"', f'"{product.name}"').replace('"IV"', '"SC"'))


def test_a_drug_that_is_background_already_is_not_added_again():
    with pytest.raises(ScenarioError, match="would count twice"):
        read(GOOD + 'drugs_added = ["ras"]\n')


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ('"rass"', "No drug 'rass'. Did you mean 'ras'"),
        ('{ drug = "finerenone", start = "8w", stop = "4w" }', "not after its start"),
        ('{ drug = "finerenone", start = "60w" }', "not before the horizon"),
        ('{ drug = "finerenone", level = 3.0 }', "level of finerenone must lie between 0 and 2"),
        ('{ drug = "finerenone", begin = "8w" }', "unknown key 'begin'"),
    ],
)
def test_a_bad_added_drug_is_refused(entry, expected):
    with pytest.raises(ScenarioError, match=re.escape(expected)):
        read(GOOD + f"drugs_added = [{entry}]\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("egfr = { mean = 45 }", "given mean. Allowed: mean and sd, or median and gsd"),
        ("egfr = { mean = 45, sd = -1 }", "sd: given -1.0"),
        ("uacr = { median = 800, gsd = 0.5 }", "gsd: given 0.5. Allowed: a finite number, 1 or more"),
        ("egfr = { mean = 450, sd = 10 }", "is outside 5 to 150"),
        ("egfr = { mean = 45, sd = 10, min = 50, max = 40 }", "The smallest admitted lies below the largest"),
        ("egfr = { mean = 45, sd = 0, min = 50 }", "nobody qualifies"),
        ("height = { mean = 1.7, sd = 0.1 }", "unknown key 'height'"),
        ("n = 0", "n: given 0 patients"),
        ("male_share = 60", "male_share: given 60.0. Allowed: 0 to 1"),
        ('species = "rat"', "Populations are human"),
        (
            'correlations = [{ between = ["egfr", "age"], value = 0.5 }]',
            "unknown covariate of this population 'egfr'",
        ),
    ],
)
def test_a_bad_population_is_refused(line, expected):
    text = re.sub(r"\[patient\].*?\n\n", f"[population]\n{line}\n\n", GOOD, flags=re.DOTALL)
    with pytest.raises(ScenarioError, match=re.escape(expected)) as error:
        read(text)
    assert error.value.line in (line_of(text, "[population]"), line_of(text, line))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("egfr = 45", "egfr: given for a rat. Animals start healthy"),
        ("age = 40", "age: given for a rat"),
        ("weight_kg = 70", "weight_kg: given 70.0 for a rat. Allowed: 0.05 to 1.2 kg"),
        ("start_week = -1", "Allowed: 0 to 200 weeks"),
        ('disease = "diabetic"', "'diabetic' for species 'rat'"),
    ],
)
def test_an_animal_is_not_described_as_a_patient(line, expected):
    cells = {"species": '"rat"', "disease": '"stz"', "weight_kg": "0.25", "start_week": "6"}
    key, value = line.split(" = ")
    table = "\n".join(f"{name} = {cell}" for name, cell in (cells | {key: value}).items())
    with pytest.raises(ScenarioError, match=re.escape(expected)):
        read(re.sub(r"\[patient\].*?\n\n", f"[patient]\n{table}\n\n", GOOD, flags=re.DOTALL))


# ------------------------------------------------------------------------------- values


def test_values_are_frozen_and_replace_makes_a_changed_copy():
    scenario = read()
    longer = scenario.replace(horizon_days=700.0)
    assert (scenario.horizon_days, longer.horizon_days) == (336.0, 700.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scenario.title = "other"
    with pytest.raises(ScenarioError, match="is no arm"):
        scenario.replace(reference="none")


def test_a_single_dose_and_an_irregular_schedule_have_no_interval():
    assert Arm("a", (Course("UC", "IV", "1e6/kg", (0.0,)),)).interval_days is None
    assert Arm("a", (Course("UC", "IV", "1e6/kg", (0.0, 7.0, 21.0)),)).interval_days is None
    assert Arm("a").interval_days is None


@given(
    st.integers(2, 24),
    st.sampled_from(["1w", "4w", "1mo", "36h", "1d"]),
    st.sampled_from(["0d", "1mo", "3d"]),
)
def test_regular_doses_have_their_interval_whatever_the_calendar(n, every, start):
    arm = Arm("a", (Course.every("UC", "IV", "1e6/kg", every=every, n_doses=n, start=start),))
    assert arm.interval_days == pytest.approx(arm.dose_days[1] - arm.dose_days[0])
    assert arm.n_doses == n


@given(st.floats(40, 150), st.sampled_from(["1e6/kg", "80e6"]), st.integers(1, 6))
def test_the_total_of_cells_is_the_sum_of_the_doses_that_the_model_gets(weight, dose, n):
    arm = Arm("a", (Course.every("UC", "IV", dose, every="1w", n_doses=n),))
    assert arm.total_cells_per_kg(weight) == pytest.approx(
        1e6 * sum(item.amount for item in arm.doses(weight))
    )


def test_what_a_human_scenario_does_not_say_is_the_typical_patient_of_the_disease():
    assert (PatientSpec().egfr, PatientSpec().uacr, PatientSpec().hba1c) == (45.0, 900.0, 7.8)
    assert PatientSpec(disease="lupus").hba1c < 6
    assert PatientSpec(disease="healthy").egfr is None
    assert PatientSpec().patient() == Patient()


def test_a_file_can_name_every_covariate_of_the_model():
    for table in (PatientTable, PopulationTable):
        assert set(COVARIATES) <= set(table.model_fields)


# ------------------------------------------------------------------------------- populations


def population(n: int, **limits: float) -> PopulationSpec:
    return PopulationSpec(
        {"egfr": Distribution("normal", 45.0, 10.0, **limits), "uacr": Distribution("lognormal", 800.0, 2.5)},
        n=n,
    )


def test_a_virtual_patient_is_the_same_however_many_there_are():
    few, many = population(3).patients(seed=1), population(30).patients(seed=1)
    assert few == many[:3]
    assert population(3).patients(seed=2) != few


def test_sex_does_not_depend_on_how_often_covariates_were_drawn_again():
    free, strict = population(40).patients(seed=1), population(40, low=50.0).patients(seed=1)
    assert [patient.sex for patient in free] == [patient.sex for patient in strict]
    assert all(patient.egfr >= 50 for patient in strict)


def test_limits_that_nobody_meets_say_which_limit_excludes_whom():
    with pytest.raises(ScenarioError, match=r"nobody qualifies \(egfr excludes 100"):
        population(1, low=140.0).patients(seed=1)


def test_the_typical_patient_is_the_middle_of_those_who_qualify():
    assert population(1).typical().egfr == pytest.approx(45.0)
    strict = population(500, low=50.0)
    drawn = sorted(patient.egfr for patient in strict.patients(seed=4))
    assert strict.typical().egfr == pytest.approx(drawn[250], abs=0.7)


def test_correlations_that_contradict_each_other_are_refused():
    three = {
        name: Distribution("normal", centre, 1.0)
        for name, centre in (("age", 60), ("egfr", 45), ("hba1c", 8))
    }
    pairs = (("age", "egfr", 0.9), ("egfr", "hba1c", 0.9), ("age", "hba1c", -0.9))
    with pytest.raises(ScenarioError, match="not positive definite"):
        PopulationSpec(three, correlations=tuple(Correlation(*pair) for pair in pairs))


# ------------------------------------------------------------------------------- anything at all

keys = st.sampled_from(
    ["title", "horizon", "patient", "arm", "name", "dose", "days", "population", "visits", "x"]
)
values = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-3, 100), st.floats(), st.sampled_from(["48w", "UC", "1e6/kg", "", "nan"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value)


@given(st.dictionaries(keys, values, max_size=6))
@settings(max_examples=200)
def test_whatever_a_file_holds_the_answer_is_a_scenario_or_a_scenario_error(content):
    text = "\n".join(f"{key} = {toml(value)}" for key, value in content.items())
    with contextlib.suppress(ScenarioError):
        assert read(text).arms


@given(st.text(max_size=200))
def test_whatever_text_a_file_holds_the_answer_is_a_scenario_error(text):
    with pytest.raises(ScenarioError):
        read(text)
