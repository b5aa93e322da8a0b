"""SBML: files that every check of libsbml passes, and on which other simulators agree with the package."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence

import basico
import libsbml
import numpy as np
import pytest
import roadrunner
import sympy as sp

from mscrenal.calibration import prior_draws
from mscrenal.model import Dose, DrugCourse, InitialStateError, Patient, RegimenError, model, simulate
from mscrenal.model import sbml as writer
from mscrenal.model.reference import solve_reference
from mscrenal.model.sbml import (
    ExchangeError,
    observable_id,
    process_id,
    sbml_document,
    unit_parts,
    write_sbml,
)
from mscrenal.model.simulate import prepare, products_of, schedule_of
from mscrenal.model.units import parse, registry
from mscrenal.scenarios import load_scenario
from mscrenal.scenarios.gallery import gallery_names
from mscrenal.scenarios.run import output_days

HOUR = 1 / 24
# Loads in half the time of the default, which is for models that are simulated a thousand times.
roadrunner.Config.setValue(roadrunner.Config.LLVM_BACKEND, roadrunner.Config.LLJIT)

# How far a simulator may lie from the package: |difference| over the value, or over FLOOR where that is less
# (a thousandth of health, of a million cells per kg, of 1e9 vesicles per kg; CELLS_FLOOR is that in cells/kg).
LIMIT = 1e-6
FLOOR, CELLS_FLOOR = 1e-3, 1e3
RTOL, ATOL = 1e-10, 1e-13
# CVODE's error is some hundred times its tolerance over a year of doses, LSODA's (COPASI, the package) a few times.
CVODE_RTOL, CVODE_ATOL = 1e-11, 1e-14

MIXED = (
    Dose(0, 1.0, "UC", "IV", 0.0),
    Dose(0, 0.5, "UC", "IA-renal", HOUR),
    Dose(7, 2.0, "EV-UC", "IV", 0.0),
    Dose(7, 2.0, "EV-UC", "intraparenchymal", 0.0),
    Dose(7, 1.0, "UC", "IV", 10.0),  # under way while the next two are given
    Dose(9, 1.0, "UC", "IV", HOUR),
    Dose(9, 0.7, "UC", "SC", 0.0),
    Dose(30, 1.0, "UC", "IV", 0.5),
    Dose(30.5, 2.0, "UC", "IV", 0.5),  # begins where the one before ends
)
DRUGS_ADDED = (DrugCourse("sglt2i", 3, 40, 1.0), DrugCourse("pentoxifylline", 10.0, None, 0.5))
CASES = {
    "no dose": (Patient(), (), ()),
    "three infusions": (Patient(), tuple(Dose(day, 1.0, "UC") for day in (0, 7, 14)), ()),
    "two products, at once and slowly, with drugs": (Patient(), MIXED, DRUGS_ADDED),
    "a rat": (Patient(species="rat", disease="stz", onset_days=42), (Dose(0, 7.0, "UC"),), ()),
    "lupus": (Patient(disease="lupus", drugs=("immunosuppression",)), (Dose(0, 1.0, "CM-BM"),), ()),
}


def document(name: str, horizon_days: float = 84.0) -> str:
    patient, doses, courses = CASES[name]
    return sbml_document(patient, doses, courses, horizon_days=horizon_days, title=name)


def complaints(text: str) -> list[str]:
    """Everything that libsbml has to say, with every check on: units, identifiers, MathML, practice."""
    read = libsbml.readSBMLFromString(text)
    for category in range(libsbml.LIBSBML_CAT_SBML, libsbml.LIBSBML_CAT_MODELING_PRACTICE + 1):
        read.setConsistencyChecks(category, True)
    read.checkConsistency()
    return [
        f"{read.getError(k).getErrorId()}: {read.getError(k).getMessage()}"
        for k in range(read.getNumErrors())
    ]


def read(text: str) -> libsbml.Model:
    found = libsbml.readSBMLFromString(text)
    read.kept = found  # type: ignore[attr-defined]  # the document owns the model
    return found.getModel()


# --------------------------------------------------------------------------- simulators


def in_roadrunner(text: str, times: np.ndarray, names: Sequence[str], **values: float) -> np.ndarray:
    """The named values at `times` (SBML time), (n_times, n_names), by libRoadRunner's CVODE."""
    # Without room for a changed start a model loads in half the time, which counts over two hundred of them.
    roadrunner.Config.setValue(roadrunner.Config.LOADSBMLOPTIONS_MUTABLE_INITIAL_CONDITIONS, bool(values))
    runner = roadrunner.RoadRunner(text)
    for name, value in values.items():
        runner[name] = value
    if values:
        runner.reset()  # the start follows the changed values
    runner.integrator.relative_tolerance = CVODE_RTOL
    # One for each state: with a single number its first step after a dose vanishes where 1e-229 cells are left.
    runner.integrator.absolute_tolerance = [CVODE_ATOL] * runner.model.getNumFloatingSpecies()
    runner.integrator.maximum_num_steps = 1_000_000
    start = [] if times[0] == 0 else [0.0]
    found = np.asarray(runner.simulate(times=[*start, *times], selections=list(names)))
    return found[len(start) :]


def in_copasi(text: str, times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The same by COPASI's LSODA."""
    loaded = basico.load_model_from_string(text)
    try:
        start = [] if times[0] == 0 else [0.0]
        found = basico.run_time_course(
            model=loaded,
            values=[*start, *times],
            method="deterministic",
            r_tol=RTOL,
            a_tol=ATOL,
            max_steps=1_000_000,
            use_sbml_id=True,
        )
        assert len(found) == len(times) + len(start)
        return found[list(names)].to_numpy()[len(start) :]
    finally:
        basico.remove_datamodel(loaded)


SIMULATORS = {"libRoadRunner": in_roadrunner, "COPASI": in_copasi}


def distance(simulator, patient, doses, courses, theta, days, *, horizon_days: float) -> float:
    """Largest relative error of any state and observable on any day, against the package's reference solver."""
    kernels, subject = prepare(patient, products_of(doses), theta)
    structure, days = kernels.model, np.asarray(days, dtype=float)
    schedule = schedule_of(structure, subject.day, subject.inputs, doses, courses)
    ours = solve_reference(kernels, subject.parameters, subject.state, schedule, days, rtol=RTOL, atol=ATOL)
    assert ours.status == "ok", ours.message
    text = sbml_document(patient, doses, courses, theta, horizon_days=horizon_days)
    names = [*structure.state_names, *(observable_id(n) for n in structure.observable_names)]
    theirs = simulator(text, days - subject.day, names)
    units = [s.unit for s in structure.states.values()] + [o.unit for o, _ in structure.observables.values()]
    floor = np.array([CELLS_FLOOR if unit == "cell/kg" else FLOOR for unit in units])
    wanted = np.hstack([ours.states, ours.observables])
    return float(np.max(np.abs(theirs - wanted) / np.maximum(np.abs(wanted), floor)))


def of_arm(simulator, scenario, arm, theta=None) -> float:
    """`distance` of one arm of a scenario at all its output days; a population by its typical patient."""
    patient = scenario.subject.patient()
    return distance(
        simulator, patient, arm.doses(scenario.weight_kg), arm.drugs_added, theta or {},
        output_days(scenario), horizon_days=scenario.horizon_days,
    )  # fmt: skip


# --------------------------------------------------------------------------- the file


@pytest.mark.parametrize("name", CASES)
def test_libsbml_has_no_error_and_no_warning_with_every_check_on(name):
    assert complaints(document(name)) == []


def test_the_check_of_units_sees_a_unit_that_is_wrong():
    text = document("no dose")
    right = re.search(r'<parameter id="lung_release"[^>]*units="per_day"', text)
    assert right is not None
    wrong = text.replace(right[0], right[0].replace("per_day", "day"))
    assert any("units" in said for said in complaints(wrong))


def test_the_file_is_level_3_version_2_core_and_asks_for_no_package():
    root = re.search(r"<sbml ([^>]*)>", document("no dose"))
    assert root is not None
    core = 'xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"'
    assert root[1] == core


@pytest.mark.parametrize("name", ["no dose", "two products, at once and slowly, with drugs"])
def test_every_name_of_the_model_is_there_once_under_its_own_kind(name):
    doses = CASES[name][1]
    structure, found = model(max(1, len({d.product for d in doses}))), read(document(name))
    species = [s.getId() for s in found.getListOfSpecies()]
    assert species == list(structure.states)
    assert (
        sum(p.getConstant() for p in found.getListOfParameters())
        == len(structure.parameters) + len(doses) + 2
    )
    assert set(structure.inputs) < {p.getId() for p in found.getListOfParameters() if not p.getConstant()}
    ruled = {r.getVariable() for r in found.getListOfRules()}
    assert ruled == {*structure.quantities, *map(observable_id, structure.observables)}
    split = sum(isinstance(c, str) for r in structure.rates.values() for c in r.stoichiometry.values())
    assert len(found.getListOfReactions()) == len(structure.rates) + split
    assert {process_id(n) for n in structure.rates} <= {r.getId() for r in found.getListOfReactions()}


def test_reactions_change_what_the_processes_change():
    structure, found = model(1), read(document("no dose"))
    for name, rate in structure.rates.items():
        reaction = found.getReaction(process_id(name))
        changed = Counter({p.getSpecies(): p.getStoichiometry() for p in reaction.getListOfProducts()})
        changed.subtract({p.getSpecies(): p.getStoichiometry() for p in reaction.getListOfReactants()})
        assert dict(changed) == {s: c for s, c in rate.stoichiometry.items() if not isinstance(c, str)}


def test_the_initial_state_is_that_of_the_subject():
    patient = CASES["lupus"][0]
    ours, found = simulate(patient, (), (), {}, [0.0]), read(document("lupus"))
    starts = [s.getInitialAmount() for s in found.getListOfSpecies()]
    assert starts == pytest.approx(list(ours.states[0]), rel=1e-12)


def test_every_parameter_says_what_it_means_and_what_it_rests_on():
    found = read(document("a rat"))
    for name in model(1).parameters:
        parameter = found.getParameter(name)
        assert parameter.getName(), name
        assert "Source: " in parameter.getNotesString(), name
    # The value of the species, not of people, with the source of the species.
    assert found.getParameter("gfr_healthy").getValue() == 77.0
    assert "kasiske1985" in found.getParameter("gfr_healthy").getNotesString()


def test_a_drawn_value_is_said_to_be_drawn():
    theta = prior_draws(1, seed=5).at(0)
    found = read(sbml_document(Patient(), theta=theta, horizon_days=84))
    assert found.getParameter("death").getValue() == pytest.approx(theta["death"], rel=1e-12)
    assert "drawn from its prior" in found.getParameter("death").getNotesString()
    assert "drawn" not in read(document("no dose")).getParameter("death").getNotesString()


def test_the_notes_say_who_what_when_and_that_this_treats_nobody():
    notes = read(document("a rat")).getNotesString()
    for text in (
        "research and teaching tool",
        "rat",
        "stz",
        "UC by IV on day 0",
        "Written by mscrenal",
        "model ",
    ):
        assert text in notes
    # Time 0 of the file is the insult, six weeks before the cells.
    assert "Time 0 of this file is day -42; simulate to time 126" in notes


def test_markup_in_a_title_does_not_break_the_file():
    text = sbml_document(Patient(), horizon_days=7, title='UC & AD, eGFR < 45 "both" <p>')
    assert complaints(text) == []
    assert read(text).getName() == 'UC & AD, eGFR < 45 "both" <p>'


def test_the_same_input_gives_the_same_file_whatever_the_order_of_the_doses():
    patient, doses, courses = CASES["two products, at once and slowly, with drugs"]
    products = [doses[0], doses[2]]  # the order of the products is that of their first dose
    shuffled = [*products, *(d for d in reversed(doses) if d not in products)]
    again = sbml_document(patient, shuffled, courses, horizon_days=84.0, title="x")
    assert again == sbml_document(patient, doses, courses, horizon_days=84.0, title="x")


def test_a_knocked_out_arm_is_off_in_the_file():
    found = read(sbml_document(Patient(), knock_out=("metabolic",), horizon_days=7))
    assert found.getParameter("switch_metabolic").getValue() == 0.0
    assert found.getParameter("switch_antifibrotic").getValue() == 1.0
    assert "metabolic" in found.getNotesString()


def test_doses_on_or_after_the_horizon_are_left_out_and_keep_their_amounts():
    found = read(sbml_document(Patient(), [Dose(0, 1.0, "UC"), Dose(84, 1.0, "UC")], horizon_days=84))
    assert found.getNumEvents() == 2  # on and off
    assert found.getParameter("dose_2").getValue() == 1.0


UNITS = sorted(
    {
        item.unit
        for table in (model(1).states, model(1).parameters, model(1).inputs)
        for item in table.values()
    }
    | {o.unit for o, _ in model(1).observables.values()}
    | {q.unit for q, _, _ in model(1).quantities.values()}
)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_of_the_file_is_as_large_as_the_declared_one(unit):
    kinds = {"item": 1, "second": registry().second, "kilogram": registry().kilogram, "gram": registry().gram}
    kinds |= {"litre": registry().liter, "metre": registry().meter, "dimensionless": 1}
    size = math.prod(
        ((multiplier * 10.0**scale) * (1 * kinds[kind])) ** exponent
        for kind, exponent, scale, multiplier in unit_parts(unit)
    )
    wanted = (1 * parse(unit)).to_base_units().magnitude
    found = size.to_base_units().magnitude if hasattr(size, "to_base_units") else size
    assert found == pytest.approx(wanted, rel=1e-12)


# --------------------------------------------------------------------------- other simulators


@pytest.mark.parametrize("name", SIMULATORS)
def test_another_simulator_finds_the_same_trajectories_of_the_main_scenario(name):
    scenario = load_scenario("uc-dn-weekly")
    assert of_arm(SIMULATORS[name], scenario, scenario.arm("UC weekly x3")) < LIMIT


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_rat_is_simulated_from_its_insult(name):
    scenario = load_scenario("stz-rat-uc")
    assert of_arm(SIMULATORS[name], scenario, scenario.arm("UC once")) < LIMIT


@pytest.mark.parametrize("name", SIMULATORS)
def test_doses_at_once_overlapping_infusions_and_drugs_arrive(name):
    patient, doses, courses = CASES["two products, at once and slowly, with drugs"]
    # Between the edges: at the time of a dose at once the package says what was before it, others what is after.
    days = [0.01, 0.03, 1, 6.9, 7.01, 8.9, 9.02, 9.5, 12, 16.9, 17.1, 29, 30.2, 30.6, 31.5, 45, 84]
    assert distance(SIMULATORS[name], patient, doses, courses, {}, days, horizon_days=84) < LIMIT


@pytest.mark.parametrize("name", SIMULATORS)
def test_infusions_that_meet_up_to_a_rounding_error_are_both_given(name):
    # The second begins a rounding error before, or after, the end of the first.
    first = Dose(7, 1.0, "UC", "IV", 0.3)
    doses = [
        first,
        Dose(float(np.nextafter(7.3, 0)), 2.0, "UC", "IV", 0.2),
        Dose(float(np.nextafter(7.5, 8)), 1.0, "UC", "IV", 0.0),
    ]
    days = [6.5, 7.1, 7.35, 7.45, 7.6, 9.0]
    assert distance(SIMULATORS[name], Patient(), doses, (), {}, days, horizon_days=9) < LIMIT


@pytest.mark.parametrize("name", SIMULATORS)
def test_an_infusion_of_a_minute_after_a_quiet_year_is_not_missed(name):
    # Solvers step over weeks there; a trigger that is not looked for would be stepped over.
    doses = [Dose(365, 1.0, "UC", "IV", 1 / 1440)]
    text = sbml_document(Patient(), doses, horizon_days=400)
    held = ("blood", "lung", "liver", "kidney", "depot", "apoptotic", "debris", "cleared")
    assert SIMULATORS[name](text, np.array([0.0, 400.0]), held)[-1].sum() == pytest.approx(1.0, rel=1e-6)


def test_a_dose_or_parameter_that_is_changed_in_the_file_does_what_it_would_in_the_package():
    doses = [Dose(0, 1.0, "UC", "IV", 0.0), Dose(7, 1.0, "UC")]
    days = np.array([0.5, 8.0, 20.0])
    text = sbml_document(Patient(), doses, horizon_days=20)
    # Neither of the two enters the initial state.
    theirs = in_roadrunner(
        text, days, ["lung", "obs_cells_lung"], dose_1=2.0, dose_2=3.0, complement_loss=0.1
    )
    changed = [Dose(0, 2.0, "UC", "IV", 0.0), Dose(7, 3.0, "UC")]
    ours = simulate(Patient(), changed, (), {"complement_loss": 0.1}, days, rtol=1e-9, atol=1e-12)
    assert theirs[:, 0] == pytest.approx(ours.state("lung"), rel=1e-6)
    assert theirs[:, 1] == pytest.approx(ours.observable("cells_lung"), rel=1e-6)


def gallery_arms() -> list[tuple[str, str]]:
    return [(name, arm.name) for name in gallery_names() for arm in load_scenario(name).arms]


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("scenario", gallery_names())
def test_another_simulator_agrees_on_every_arm_of_the_gallery(scenario, simulator):
    loaded = load_scenario(scenario)
    errors = {arm.name: of_arm(SIMULATORS[simulator], loaded, arm) for arm in loaded.arms}
    print(f"{simulator}, {scenario}: {max(errors.values()):.1e}")
    assert {name: error for name, error in errors.items() if not error < LIMIT} == {}


@pytest.mark.slow
def test_libroadrunner_agrees_on_fifty_draws_of_the_parameters_in_random_arms():
    rng = np.random.default_rng(20)
    arms, drawn = gallery_arms(), prior_draws(80, seed=11)
    errors: list[float] = []
    for k in range(len(drawn)):
        name, arm = arms[rng.integers(len(arms))]
        scenario = load_scenario(name)
        try:
            errors.append(of_arm(in_roadrunner, scenario, scenario.arm(arm), drawn.at(k)))
        except InitialStateError:
            continue  # no state meets this patient under this draw: nothing to compare
        assert errors[-1] < LIMIT, f"draw {k}, {name}, {arm}"
        if len(errors) == 50:
            break
    print(f"largest of {len(errors)}: {max(errors):.1e}")
    assert len(errors) == 50


# --------------------------------------------------------------------------- what cannot be written


def test_without_libsbml_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "libsbml", None)
    with pytest.raises(ExchangeError, match=r"pip install 'mscrenal\[exchange\]'"):
        sbml_document(Patient(), horizon_days=7)


def test_a_horizon_before_the_start_is_refused():
    with pytest.raises(ExchangeError, match="must lie behind the start on day 0, got -1"):
        sbml_document(Patient(), horizon_days=-1)


def test_impossible_regimens_and_patients_are_refused_as_by_simulate():
    with pytest.raises(RegimenError, match="precedes the start"):
        sbml_document(Patient(), [Dose(-1, 1.0, "UC")], horizon_days=7)
    with pytest.raises(InitialStateError, match="egfr = 150"):
        sbml_document(Patient(egfr=150, uacr=12_000), horizon_days=7)


def test_a_unit_or_a_function_without_counterpart_says_where_to_teach_it():
    with pytest.raises(ExchangeError, match=r"'furlong/day': 'furlong' has no counterpart.*Add it to BASE"):
        unit_parts("furlong/day")
    with pytest.raises(ExchangeError, match="sin has no counterpart"):
        writer._Math(libsbml).of(sp.sin(sp.Symbol("x")))


def test_what_libsbml_refuses_is_an_error_and_not_a_file_without_it():
    made = writer._Document(libsbml, None)  # type: ignore[arg-type]
    with pytest.raises(ExchangeError, match="libsbml refuses id = '1 bad'"):
        made._set(made.model.createParameter(), id="1 bad")


def test_a_file_is_written_once_and_replaced_only_when_told(tmp_path):
    target = write_sbml(tmp_path / "a.xml", Patient(), horizon_days=7, title="one")
    assert complaints(target.read_text(encoding="utf-8")) == []
    with pytest.raises(ExchangeError, match="the file exists"):
        write_sbml(target, Patient(), horizon_days=7)
    write_sbml(target, Patient(), horizon_days=7, title="two", force=True)
    assert read(target.read_text(encoding="utf-8")).getName() == "two"
