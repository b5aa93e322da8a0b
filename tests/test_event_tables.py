"""Event tables: every combination of records is either honoured exactly or refused by row and column."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mscrenal.calibration import draws
from mscrenal.model import ROUTES, Dose, DrugCourse, RegimenError, model
from mscrenal.model.simulate import HELD, schedule_of
from mscrenal.scenarios.events_table import read_events, write_events
from mscrenal.scenarios.export import ExchangeError, export
from mscrenal.scenarios.gallery import gallery, gallery_names, load_scenario
from mscrenal.scenarios.run import run as run_scenario
from mscrenal.scenarios.scenario import Arm, Course, PatientSpec, Scenario, ScenarioError

HEADER = "ID,TIME,AMT,EVID,PRODUCT,ROUTE,UNIT,DUR,RATE,II,ADDL,SS,CMT"


def table(*rows: str, header: str = HEADER) -> str:
    """A table whose rows may leave trailing cells out."""
    width = header.count(",")
    return "\n".join([header, *(row + "," * (width - row.count(",")) for row in rows)]) + "\n"


def doses_of(text: str, weight_kg: float = 72.0):
    return [arm.doses(weight_kg) for arm in read_events(text).arms]


def one_dose(**cells: str) -> str:
    """A table of one good dose record, some cells changed."""
    row = dict.fromkeys(HEADER.split(","), "") | {
        "ID": "1",
        "TIME": "0",
        "AMT": "1e6",
        "EVID": "1",
        "PRODUCT": "UC",
        "ROUTE": "IV",
        "UNIT": "cells/kg",
    }
    return table(",".join((row | cells).values()))


# ------------------------------------------------------------------------------- reading


def test_a_dose_record_is_a_dose():
    (dose,) = doses_of(one_dose(TIME="3", DUR="0.5"))[0]
    assert (dose.day, dose.amount, dose.product, dose.route, dose.duration_days) == (
        3.0,
        1.0,
        "UC",
        "IV",
        0.5,
    )


def test_additional_doses_are_the_same_as_written_out():
    short = table("1,0,1e6,1,UC,IV,cells/kg,0.1,,7,2")
    long = table(*(f"1,{day},1e6,1,UC,IV,cells/kg,0.1" for day in (0, 7, 14)))
    assert doses_of(short) == doses_of(long)


def test_a_rate_is_an_amount_per_day_and_gives_the_duration():
    (dose,) = doses_of(one_dose(RATE="2e6"))[0]
    assert dose.duration_days == 0.5


def test_a_rate_and_a_duration_that_disagree_are_refused():
    assert doses_of(one_dose(RATE="2e6", DUR="0.5"))[0][0].duration_days == 0.5
    with pytest.raises(ScenarioError, match=r"column DUR.*AMT / RATE is 0.5"):
        read_events(one_dose(RATE="2e6", DUR="0.7"))


def test_an_interval_without_additional_doses_means_nothing():
    assert doses_of(one_dose(II="7")) == doses_of(one_dose())


@pytest.mark.parametrize("length", ["7", "7.5", "20"])
def test_an_infusion_may_last_as_long_as_its_interval_and_longer(length):
    doses = doses_of(one_dose(II="7", ADDL="2", DUR=length))[0]
    assert [(dose.day, dose.duration_days) for dose in doses] == [(day, float(length)) for day in (0, 7, 14)]


def test_infusions_of_separate_records_may_overlap_and_none_is_lost():
    doses = doses_of(
        table("1,0,1e6,1,UC,IV,cells/kg,2", "1,1,1e6,1,UC,IV,cells/kg,2", "1,1,1e6,1,UC,IV,cells/kg,2")
    )[0]
    assert [dose.day for dose in doses] == [0.0, 1.0, 1.0]


def test_each_subject_is_an_arm_in_the_order_of_its_number():
    text = table("10,0,1e6,1,UC,IV,cells/kg", "2,0,1e6,1,AD,IV,cells/kg", "1,0,,0")
    assert [arm.name for arm in read_events(text).arms] == ["ID 1", "ID 2", "ID 10"]


def test_the_untreated_subject_is_the_reference():
    text = table("1,0,1e6,1,UC,IV,cells/kg", "2,84,,0")
    assert read_events(text).reference == "ID 2"


def test_observations_become_visits_and_the_last_one_the_horizon():
    found = read_events(table("1,0,1e6,1,UC,IV,cells/kg", "1,84,,0", "1,28,,0", "2,28,,0"))
    assert found.visits == (28.0, 84.0)
    assert found.horizon_days == 84.0


def test_without_an_observation_after_the_doses_the_horizon_is_said_to_be_chosen():
    found = read_events(one_dose())
    assert found.horizon_days == 336.0
    assert any("horizon is 48w" in note for note in found.notes)


def test_headers_are_read_in_any_case_and_order_and_dots_are_missing():
    text = "amt,Id,time,dur,PRODUCT,Route,unit,evid\n1e6,1,0,.,UC,IV,cells/kg,1\n"
    assert doses_of(text) == doses_of(one_dose())


def test_without_evid_a_record_with_an_amount_is_a_dose_and_one_without_an_observation():
    found = read_events("ID,TIME,AMT,PRODUCT,ROUTE,UNIT\n1,0,1e6,UC,IV,cells/kg\n1,84,0,.,.,.\n")
    assert found.arms[0].n_doses == 1
    assert found.visits == (84.0,)


def test_a_compartment_is_a_route_by_number():
    for number, route in enumerate(ROUTES, 1):
        assert doses_of(one_dose(ROUTE="", CMT=str(number)))[0][0].route == route


def test_an_amount_without_a_unit_is_a_total_and_a_note_says_so():
    found = read_events(one_dose(AMT="72e6", UNIT=""))
    assert found.arms[0].doses(72.0)[0].amount == 1.0
    assert any("total per subject" in note for note in found.notes)


def test_vesicles_are_dosed_in_particles_or_protein():
    assert doses_of(one_dose(PRODUCT="EV-UC", AMT="1e10", UNIT="particles/kg"))[0][0].amount == 10.0
    assert doses_of(one_dose(PRODUCT="EV-UC", AMT="100", UNIT="ug/kg"))[0][0].amount > 0


def test_an_other_event_is_ignored_with_a_note():
    found = read_events(table("1,0,1e6,1,UC,IV,cells/kg", "1,3,,2"))
    assert found.arms[0].n_doses == 1
    assert "row 3: EVID 2 (other event) is ignored." in found.notes


def test_columns_that_mean_nothing_here_are_named_in_a_note():
    text = "ID,TIME,AMT,PRODUCT,ROUTE,UNIT,OCC,DV\n1,0,1e6,UC,IV,cells/kg,1,.\n"
    assert "columns not used: OCC." in read_events(text).notes


def test_covariates_describe_the_one_patient_of_all_arms():
    text = "ID,TIME,AMT,PRODUCT,ROUTE,UNIT,WT,EGFR,SEX,DRUGS\n1,0,72e6,UC,IV,cells,60,33,female,ras+sglt2i\n"
    scenario = read_events(text).scenario()
    assert scenario.patient.egfr == 33.0
    assert scenario.patient.sex == "female"
    assert scenario.patient.drugs == ("ras", "sglt2i")
    assert scenario.arms[0].doses(scenario.weight_kg)[0].amount == 1.2


# ------------------------------------------------------------------------------- resets and steady states


DAYS = (0.0, 1.0, 6.9, 7.0, 7.1, 14.0, 28.0)
WEEKLY = "1,0,1e6,1,UC,IV,cells/kg,0.5,,7,3"


def simulated(*rows: str, days=DAYS):
    """The one arm of a table, simulated."""
    (run,) = read_events(table(*rows, "1,84,,0")).simulate(times=days).values()
    assert (run.status, run.message) == ("ok", "")
    return run


def held(run, name: str = "UC"):
    """Cells in the body or cleared from it, in the order of the output days."""
    return sum(run.state(state) for state in HELD["cells"])


def test_a_reset_on_day_zero_changes_nothing():
    for text in (table("1,0,,3", "1,0,1e6,1,UC,IV,cells/kg"), one_dose(EVID="4")):
        assert read_events(text).arms == read_events(one_dose()).arms


def test_a_reset_in_mid_course_makes_the_patient_again_what_it_was_on_day_zero():
    run = simulated(WEEKLY, "1,10,,3", "1,12,1e6,1,UC,IV,cells/kg,0.5", days=(0.0, 10.0, 11.0, 12.5, 19.0))
    later = simulated("1,2,1e6,1,UC,IV,cells/kg,0.5", days=(0.0, 1.0, 2.5, 9.0))
    # What follows the reset is what would follow day 0, drugs and age included.
    np.testing.assert_allclose(run.states[2:], later.states[1:], rtol=1e-6, atol=1e-9)
    # An output on its day shows what was before it.
    assert held(run)[1] == pytest.approx(2.0, rel=1e-6)


def test_a_reset_and_dose_is_a_reset_and_then_a_dose():
    one = read_events(table(WEEKLY, "1,10,2e6,4,UC,IV,cells/kg"))
    two = read_events(table(WEEKLY, "1,10,2e6,1,UC,IV,cells/kg", "1,10,,3"))
    assert one.arms == two.arms
    assert one.arms[0].resets == (10.0,)


def test_a_reset_ends_infusions_in_progress_and_cancels_additional_doses():
    run = simulated("1,0,1e6,1,UC,IV,cells/kg,5,,7,3", "1,8,,3", days=(0.0, 8.0, 9.0, 40.0))
    assert held(run)[1] == pytest.approx(1.2, rel=1e-6)
    assert held(run)[2:].tolist() == [0.0, 0.0]


def test_a_dose_of_its_own_on_the_day_of_a_reset_is_given_and_an_additional_one_is_not():
    explicit = read_events(table("1,0,1e6,1,UC,IV,cells/kg", "1,7,1e6,1,UC,IV,cells/kg", "1,7,,3"))
    additional = read_events(table("1,0,1e6,1,UC,IV,cells/kg,,,7,1", "1,7,,3"))
    assert [dose.day for dose in explicit.arms[0].doses(72.0)] == [0.0, 7.0]
    assert [dose.day for dose in additional.arms[0].doses(72.0)] == [0.0]


def test_a_reset_of_an_animal_is_refused_because_it_would_put_it_back_in_health():
    text = "ID,TIME,AMT,EVID,SPECIES,DISEASE,START_WEEK\n1,0,,0,rat,stz,4\n1,7,,3,rat,stz,4\n"
    with pytest.raises(ScenarioError, match=r"row 3, column EVID: given 3 for a rat.*an ID of its own"):
        read_events(text)
    scenario = load_scenario("uc-dn-weekly")
    rat = PatientSpec("rat", "stz", start_week=4)
    with pytest.raises(ScenarioError, match=r"resets: given \[7\] for a rat"):
        Scenario("s", "s", 84.0, (Arm("a", resets=(7.0,)),), "a", rat)
    with pytest.raises(ScenarioError, match="not before the horizon"):
        scenario.replace(arms=(Arm("a", resets=(9999.0,)),), reference="a")


@pytest.mark.parametrize("resets", [(3.0, 2.0), (2.0, 2.0), (-1.0,), (float("nan"),)])
def test_days_of_resets_rise_from_day_zero(resets):
    with pytest.raises(ScenarioError, match=r"resets: given .*Allowed: days that rise"):
        Arm("a", resets=resets)


def test_at_steady_state_one_cycle_is_like_the_next_and_no_cell_is_lost():
    run = simulated("1,0,1e6,1,UC,IV,cells/kg,0.5,,1,9,1", days=tuple(0.001 + day for day in range(4)))
    for organ in ("lung", "liver", "apoptotic"):
        cells = run.state(organ)
        assert cells[0] > 0.1
        # The host, which was held, moves on: it becomes sensitised.
        np.testing.assert_allclose(cells, cells[0], rtol=0.01)
    assert run.mass_error < 1e-6


def test_a_steady_state_that_replaces_forgets_what_was_given_before_and_one_that_adds_does_not():
    before = "1,0,5e6,1,UC,IV,cells/kg,20"
    replaced, added = (
        simulated(before, f"1,2,1e6,1,UC,IV,cells/kg,,,1,,{ss}", days=(0.0, 2.0001, 30.0)) for ss in (1, 2)
    )
    alone = simulated("1,2,1e6,1,UC,IV,cells/kg,,,1,,1", days=(0.0, 2.0001, 30.0))
    assert held(replaced)[2] == pytest.approx(held(alone)[2], rel=1e-2)
    assert held(added)[2] == pytest.approx(held(alone)[2] + 5.0, rel=1e-2)


def test_an_infusion_longer_than_its_interval_goes_on_after_its_steady_state():
    run = simulated("1,0,1e6,1,UC,IV,cells/kg,3,,1,,1", days=(0.0, 1e-9, 1.0, 2.0, 3.0, 10.0))
    # Three bags run at first, then two, then one.
    given = np.diff(held(run)[1:])
    np.testing.assert_allclose(given, [1.0, 2 / 3, 1 / 3, 0.0], atol=1e-6)


def test_a_constant_infusion_at_steady_state_ends_with_its_record():
    run = simulated("1,0,0,1,UC,IV,cells/kg,,2e6,,,1", days=(0.0, 1e-9, 1.0, 5.0))
    assert held(run)[1] == pytest.approx(held(run)[3], rel=1e-6)
    assert run.state("lung")[1] > 10 * run.state("lung")[3]


@pytest.mark.parametrize(
    "rows", [(WEEKLY, "1,10,2e6,4,UC,IV,cells/kg"), ("1,5,1e6,1,UC,IV,cells/kg,0.5,,1,3,1",)]
)
def test_a_run_of_the_scenario_meets_resets_and_steady_states_as_the_simulation_does(rows):
    table_of = read_events(table(*rows, "2,0,,0", "1,84,,0", "1,14,,0"))
    scenario = table_of.scenario(endpoints=("egfr_change", "time_to_eskd"))
    median = draws(1, 1)
    result = run_scenario(scenario, draws=median, seed=1, workers=1)
    alone = table_of.simulate(median.at(0), times=result.data["time"].values)
    for arm, trajectory in alone.items():
        assert result.failures == []
        np.testing.assert_allclose(
            result.data["cells_lung"].sel(arm=arm).values[0, 0],
            trajectory.observable("cells_lung"),
            rtol=1e-4,
            atol=1.0,
        )
        np.testing.assert_allclose(
            result.data["egfr"].sel(arm=arm).values[0, 0], trajectory.observable("egfr"), rtol=1e-6
        )
    # One arm is followed beyond the horizon by other code than the other, and to much the same day.
    days = result.eskd_days.values[:, 0, 0]
    assert days[0] == pytest.approx(days[1], rel=0.2)
    assert days[0] > 84


def test_resets_and_steady_states_come_back_from_the_table_that_is_written():
    text = table(
        WEEKLY,
        "1,10,2e6,4,UC,IV,cells/kg,1,,3,2",
        "1,30,1e6,1,UC,IV,cells/kg,3,,1,4,1",
        "1,30,2e6,1,AD,IV,cells/kg,,,2,,2",
        "1,50,0,1,UC,IV,cells/kg,,2e6,,,2",
        "1,84,,0",
    )
    scenario = read_events(text).scenario()
    back = read_events(write_events(scenario)).scenario()
    assert back.arms[0].doses(72.0) == scenario.arms[0].doses(72.0)
    assert back.arms[0].resets == scenario.arms[0].resets == (10.0,)


def test_notes_say_what_resets_and_steady_states_do():
    notes = read_events(table(WEEKLY, "1,9,,3", "1,10,1e6,1,UC,IV,cells/kg,,,7,,1")).notes
    assert "row 3: on day 9 the patient is again as on day 0." in notes
    assert any(
        note.startswith("row 4: on day 10 the exposure becomes that of a steady state") for note in notes
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["1,0,1e6,1,UC,IV,cells/kg,,,,,3"], "row 2, column SS: given '3'. Allowed: 0, 1, 2"),
        (["1,0,1e6,1,UC,IV,cells/kg,,,,,1"], "row 2, column II: given '.' with SS 1. Allowed: the days"),
        (["1,0,0,1,UC,IV,cells/kg,,,7,,1"], "row 2, column AMT: .*a constant infusion"),
        (
            ["1,0,0,1,UC,IV,cells/kg,,2e6,,3,1"],
            "row 2, column ADDL: given '3' at the steady state of a constant",
        ),
        (["1,0,,0,,,,,,,,1"], "row 2, column SS: given '1' with EVID 0"),
        (["1,0,1e6,2"], "row 2, column AMT: given '1e6' with EVID 2"),
        (["1,0,1e6,3,UC,IV,cells/kg"], "row 2, column AMT: given '1e6' with EVID 3.*after a reset 4"),
        (
            ["1,0,1e6,1,UC,IV,cells/kg,,,7,,1", "1,0,1e6,1,AD,IV,cells/kg,,,7,,1"],
            "row 2, column SS: .*each would replace the others. Allowed: one; give the others 2",
        ),
    ],
)
def test_a_steady_state_or_reset_that_cannot_be_is_refused_by_row_and_column(rows, expected):
    with pytest.raises(ScenarioError, match=expected):
        read_events(table(*rows))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"steady_state": 3, "interval_days": 1.0}, "must be 0, 1 .replaces. or 2 .adds., got 3"),
        ({"interval_days": 7.0}, "belongs to a steady state"),
        ({"steady_state": 1, "duration_days": 0.0}, "needs an amount above zero and interval_days"),
        ({"steady_state": 1, "interval_days": 7.0, "amount": 0.0}, "needs an amount above zero"),
    ],
)
def test_a_dose_at_steady_state_that_cannot_be_is_refused(fields, expected):
    with pytest.raises(RegimenError, match=expected):
        Dose(**{"day": 0.0, "amount": 1.0, "product": "UC", **fields})


def test_what_holds_no_steady_state_refuses_it_and_says_where_it_belongs():
    dose = Dose(0.0, 1.0, "UC", steady_state=1, interval_days=7.0)
    with pytest.raises(RegimenError, match=r"has no place in a schedule. Use simulate or simulate_cohort"):
        schedule_of(model(), 0.0, np.zeros(len(model().inputs)), [dose], [])


@pytest.mark.parametrize("row", ["1,10,,3", "1,10,1e6,1,UC,IV,cells/kg,,,7,,1"])
def test_a_model_file_refuses_an_arm_that_it_cannot_say(row, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(table(WEEKLY, row, "1,84,,0"))
    with pytest.raises(ExchangeError, match="'ID 1' has a reset or a dose at steady state"):
        export("sbml", tmp_path / "mine.xml", scenario=path)


# ------------------------------------------------------------------------------- order


records = st.lists(
    st.tuples(
        st.sampled_from(["1", "2"]),
        st.integers(0, 20),
        st.sampled_from(["1e6", "2e6"]),
        st.sampled_from(["UC", "AD"]),
        st.sampled_from([0.0, 0.25, 3.0]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=8,
)


@given(records, st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(rows, rng: random.Random):
    lines = [
        f"{i},{day},{amount},1,{product},IV,cells/kg,{dur},,7,{addl}"
        for i, day, amount, product, dur, addl in rows
    ]
    lines.append("1,100,,0")
    shuffled = list(lines)
    rng.shuffle(shuffled)
    one, other = read_events(table(*lines)), read_events(table(*shuffled))
    assert one.arms == other.arms
    assert one.visits == other.visits


@given(records)
def test_no_dose_is_lost_or_made_up(rows):
    lines = [
        f"{i},{day},{amount},1,{product},IV,cells/kg,{dur},,7,{addl}"
        for i, day, amount, product, dur, addl in rows
    ]
    given_total = sum(float(amount) * (addl + 1) for _, _, amount, _, _, addl in rows)
    read_total = sum(arm.total_cells_per_kg(72.0) for arm in read_events(table(*lines)).arms)
    assert read_total == given_total


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("cells", "column", "expected"),
    [
        ({"TIME": "-1"}, "TIME", "zero or later"),
        ({"TIME": "soon"}, "TIME", "a number"),
        ({"TIME": ""}, "TIME", "empty"),
        ({"TIME": "nan"}, "TIME", "finite"),
        ({"AMT": "-5"}, "AMT", "above zero"),
        ({"AMT": "0"}, "AMT", "above zero"),
        ({"AMT": "lots"}, "AMT", "a number"),
        ({"EVID": "7"}, "EVID", "0, 1, 2, 3, 4"),
        ({"EVID": "0"}, "AMT", "a dose has EVID 1"),
        ({"PRODUCT": "UCC"}, "PRODUCT", "Did you mean 'UC'"),
        ({"PRODUCT": ""}, "PRODUCT", "empty"),
        ({"ROUTE": "oral"}, "ROUTE", "Allowed: IA-renal"),
        ({"CMT": "2"}, "CMT", "Leave one of them out"),
        ({"CMT": "9"}, "CMT", "Allowed: 0, 1"),
        ({"UNIT": "litres"}, "UNIT", "unknown unit 'litres'"),
        ({"UNIT": "particles/kg"}, "UNIT", "dosed as cells"),
        ({"DUR": "-1"}, "DUR", "zero"),
        ({"RATE": "-2"}, "RATE", "no modelled rate"),
        ({"ADDL": "2"}, "II", "above zero"),
        ({"ADDL": "1.5", "II": "7"}, "ADDL", "whole number"),
        ({"ADDL": "-1", "II": "7"}, "ADDL", "0 to 999"),
        ({"PRODUCT": "CM-UC", "UNIT": "", "ROUTE": "intraparenchymal"}, "ROUTE", "Allowed for this product"),
    ],
)
def test_a_bad_cell_is_refused_by_row_and_column(cells, column, expected):
    with pytest.raises(ScenarioError, match=expected) as error:
        read_events(one_dose(**cells), file="doses.csv")
    assert str(error.value).startswith(f"doses.csv:2: row 2, column {column}: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("ID,TIME,AMT\n", "is empty"),
        ("ID,TYME,AMT\n1,0,1\n", "column TIME is missing. Did you mean 'TYME'"),
        ("ID,TIME,AMT,amt\n1,0,1,1\n", "column AMT stands twice"),
        ("ID,TIME,AMT\n1,0\n", "row 2: given 2 cells, but the header has 3"),
        ("ID,TIME,AMT\n.,0,.\n", "row 2, column ID: empty"),
        ("ID,TIME,AMT,ARM\n1,0,.,a\n1,7,.,b\n", "column ARM: ID 1 is in 2 arms"),
        ("ID,TIME,AMT,EGFR\n1,0,.,45\n2,0,.,50\n", "row 3, column EGFR: .*share one patient"),
        ("ID,TIME,AMT,EGFR\n1,0,.,450\n", "row 2, column EGFR: .*outside 5 to 150"),
        ("ID,TIME,AMT,REFERENCE\n1,0,.,ID 3\n", "column REFERENCE: unknown arm 'ID 3'"),
    ],
)
def test_a_bad_table_is_refused(text, expected):
    with pytest.raises(ScenarioError, match=expected):
        read_events(text, file="doses.csv")


# ------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name", gallery_names())
def test_a_shipped_scenario_comes_back_from_its_event_table(name):
    scenario = load_scenario(name)
    back = read_events(write_events(scenario), name=name).scenario()
    weight = scenario.weight_kg
    assert [(arm.name, arm.product, arm.doses(weight)) for arm in back.arms] == [
        (arm.name, arm.product, arm.doses(weight)) for arm in scenario.arms
    ]
    assert (back.visits, back.horizon_days, back.reference) == (
        scenario.visits,
        scenario.horizon_days,
        scenario.reference,
    )
    assert back.patient == scenario.subject
    assert back.notes == ()


courses = st.builds(
    lambda product, dose, days, length: Course(product, "IV", dose, tuple(sorted(days)), length),
    st.sampled_from(["UC", "BM", "AD"]),
    st.sampled_from(["1e6/kg", "80e6", "3.3e6/kg"]),
    st.sets(st.floats(0, 300, allow_subnormal=False), min_size=1, max_size=5),
    st.just(0.0),
)


@given(st.lists(courses, min_size=1, max_size=3))
@settings(max_examples=50)
def test_any_regimen_comes_back_dose_by_dose(given_courses):
    arm = Arm("treated", tuple(given_courses))
    scenario = Scenario("s", "s", 336.0, (Arm("placebo"), arm), "placebo", PatientSpec())
    back = read_events(write_events(scenario)).scenario()
    assert back.arm("treated").doses(72.0) == arm.doses(72.0)


def test_a_regular_course_is_written_as_one_record_with_additional_doses():
    text = write_events(load_scenario("uc-dn-weekly"))
    doses = [line for line in text.splitlines() if ",UC weekly x3," in line and ",1000000.0," in line]
    assert len(doses) == 1


def test_what_a_table_cannot_say_is_refused_and_not_dropped():
    scenario = load_scenario("uc-dn-weekly")
    arm = scenario.arms[0].replace(drugs_added=(DrugCourse("finerenone", 0.0, None),))
    with pytest.raises(ScenarioError, match="adds drugs"):
        write_events(scenario.replace(arms=(arm, *scenario.arms[1:])))


def test_an_event_table_is_accepted_wherever_a_scenario_is(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(write_events(load_scenario("ev-uc")))
    assert [arm.name for arm in load_scenario(path).arms] == [arm.name for arm in load_scenario("ev-uc").arms]


def test_all_shipped_scenarios_can_be_written():
    assert all(write_events(scenario).startswith("ID,ARM,TIME,AMT") for scenario in gallery())
