"""What an arrow rests on, and a patient without it: the arrow named is the one that is cut, and nothing else."""

from __future__ import annotations

import json
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from mscrenal.model import Dose, Patient, simulate
from mscrenal.model.cuts import Cut, cut_of, cuts, healthy_point
from mscrenal.model.declare import DeclarationError, Quantity
from mscrenal.model.definition import model
from mscrenal.model.initial import parameter_vector
from mscrenal.model.kernels import compiled
from mscrenal.model.network import directions, influences, nodes, sample_points
from mscrenal.model.picture import layout
from mscrenal.scenarios.gallery import load_scenario
from mscrenal.scenarios.mechanism import CutError, arrow, cut, math_ml, node, simulate_cut

WIRES = [(w.source, w.target) for w in layout("states").wires]
ALL = cuts()
POSSIBLE = [c for c in ALL if c.possible]
TIMES = np.linspace(0.0, 84.0, 7)


def named(c: Cut) -> str:
    return f"{c.source}-{c.target}"


def is_direct(c: Cut) -> bool:
    """Between states, and the source does not act through a box that is computed from states as well: the compiled rates
    see that way, too.
    """
    if c.at_once or c.source not in model().states:
        return False
    pending, seen = [t for s, t in WIRES if s == c.source and isinstance(nodes()[t], Quantity)], set()
    while pending:
        box = pending.pop()
        if (box, c.target) in WIRES:
            return False
        if box not in seen:
            seen.add(box)
            pending += [t for s, t in WIRES if s == box and isinstance(nodes()[t], Quantity)]
    return True


# ------------------------------------------------------------------ what cutting means


@pytest.mark.parametrize("c", POSSIBLE, ids=named)
def test_a_target_does_not_answer_to_a_source_whose_arrow_is_cut(c: Cut) -> None:
    """Along the formulas as they are declared, by finite differences, for the arrow and those cut with it."""
    boxes = list(nodes())
    for point in sample_points(model(), 3):
        full = point | {n: v for n, v in directions(model(), boxes, point).items() if n not in model().states}
        full |= dict.fromkeys(c.parameters, 0.0)
        for source, target in ((c.source, c.target), *c.also):
            above, below = (directions(model(), boxes, full | {source: full[source] * f}) for f in (1.3, 0.7))
            assert above[target] == pytest.approx(below[target], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("c", [c for c in POSSIBLE if is_direct(c)], ids=named)
def test_the_compiled_rates_do_not_answer_either(c: Cut) -> None:
    kernels = compiled(1)
    structure = kernels.model
    parameters = parameter_vector(structure, Patient(), ("UC",), {})
    for name in c.parameters:
        parameters[structure.parameter_index[name]] = 0.0
    point = sample_points(structure, 1)[0]
    state = np.array([point[n] for n in structure.states])
    inputs = np.zeros(len(structure.inputs))
    found = []
    for factor in (1.2, 0.8):
        moved, rate = state.copy(), np.empty(len(state))
        moved[structure.index[c.source]] *= factor
        kernels.rhs(moved, parameters, inputs, rate)
        found.append(rate[structure.index[c.target]])
    assert found[0] == pytest.approx(found[1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("c", POSSIBLE, ids=named)
def test_a_cut_leaves_every_other_arrow_alone(c: Cut) -> None:
    """With an arrow cut the target changes as if the source were at its value in health; nothing else changes, but the
    states between which matter no longer flows.
    """
    boxes, gone = list(nodes()), [(c.source, c.target), *c.also]
    flows = {(a.source, a.target) for a in influences() if a.transfer}
    between = {n for pair in gone if pair in flows for n in pair}
    # What dies or leaves goes there, from whichever organ.
    between |= {"apoptotic", "debris", "cleared"} if between else set()
    for point in sample_points(model(), 2):
        full = point | {n: v for n, v in directions(model(), boxes, point).items() if n not in model().states}
        after = directions(model(), boxes, full | dict.fromkeys(c.parameters, 0.0))
        for target in boxes:
            healthy = {s: healthy_point()[s] for s, t in gone if t == target}
            wanted = directions(model(), boxes, full | healthy)[target]
            if target not in between:
                assert after[target] == pytest.approx(wanted, rel=1e-9, abs=1e-9), target


@pytest.mark.parametrize("c", POSSIBLE, ids=named)
def test_health_stands_still_under_every_cut(c: Cut) -> None:
    assert c.still_in_health
    point = {**healthy_point(), **dict.fromkeys(c.parameters, 0.0)}
    found = directions(model(), list(nodes()), point)
    assert max(abs(found[s]) for s in model().states) < 1e-9


def test_every_arrow_is_cut_or_says_why_not() -> None:
    assert {(c.source, c.target) for c in ALL} >= set(WIRES)
    for c in ALL:
        assert bool(c.why_not) != c.possible
    assert len(POSSIBLE) > 0.8 * len(ALL)


@pytest.mark.parametrize(
    ("source", "target", "parameters"),
    [
        ("tgfb_kidney", "psmad", ("psmad_tgfb",)),
        ("nrf2", "ros", ("scavenging_nrf2",)),
        ("effect_antifibrotic", "matrix", ("antifibrotic_on_matrix_loss",)),
        ("lung", "liver", ("lung_release",)),
    ],
)
def test_an_arrow_is_cut_by_its_own_gain(source: str, target: str, parameters: tuple[str, ...]) -> None:
    assert cut_of(source, target).parameters == parameters


def test_an_arrow_in_the_form_of_the_equation_cannot_be_cut() -> None:
    assert "no parameter makes gfr independent of filtration" in cut_of("filtration", "gfr").why_not
    with pytest.raises(CutError, match="from filtration to gfr cannot be cut: no parameter"):
        cut("uc-dn-weekly", ("filtration", "gfr"))


def test_an_arrow_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(DeclarationError, match=r"No arrow from 'nrf2' to 'matrix'.*ros"):
        cut_of("nrf2", "matrix")


# ------------------------------------------------------------------ a patient without an arrow


@pytest.mark.parametrize(
    "patient",
    [Patient(egfr=45, uacr=900), Patient(species="rat", disease="stz", onset_days=28.0)],
    ids=["patient", "animal"],
)
def test_cutting_nothing_is_the_intact_model_to_the_last_bit(patient: Patient) -> None:
    doses = [Dose(0, 1.0, "UC")]
    intact = simulate(patient, doses, times=TIMES)
    same = simulate_cut(patient, doses, times=TIMES, arrow=None)
    assert np.array_equal(intact.states, same.states)
    assert np.array_equal(intact.observables, same.observables)


@pytest.mark.parametrize(
    "patient",
    [Patient(egfr=45, uacr=900), Patient(species="rat", disease="stz", onset_days=28.0)],
    ids=["patient", "animal"],
)
def test_both_courses_start_from_the_same_state(patient: Patient) -> None:
    times = np.concatenate([[-7.0], TIMES]) if patient.onset_days else TIMES
    intact = simulate(patient, times=times)
    without = simulate_cut(patient, times=times, arrow=("psmad", "myofibroblasts"))
    assert without.status == "ok"
    before = times <= 0
    assert np.allclose(intact.states[before], without.states[before], rtol=1e-4, atol=1e-7)
    assert without.observable("asma_kidney")[-1] < 0.9 * intact.observable("asma_kidney")[-1]


def test_a_healthy_subject_stands_still_without_an_arrow() -> None:
    rat = Patient(species="rat", disease="healthy")
    course = simulate_cut(rat, times=TIMES, arrow=("tgfb_kidney", "psmad"))
    assert np.allclose(course.states, course.states[0], rtol=1e-6, atol=1e-8)


def test_an_arm_without_its_arrows_gives_what_a_knock_out_gives() -> None:
    """Two ways to the same end: the potency of an arm at zero, and the arm's switch."""
    patient, doses = Patient(egfr=45, uacr=900), [Dose(0, 1.0, "UC")]
    knocked = simulate(patient, doses, times=TIMES, knock_out=("antifibrotic",))
    without = simulate_cut(patient, doses, times=TIMES, arrow=("secretome", "effect_antifibrotic"))
    assert np.allclose(knocked.observables, without.observables, rtol=1e-6, atol=1e-8)


def test_a_second_product_loses_the_arrow_too() -> None:
    patient = Patient(egfr=45, uacr=900)
    doses = [Dose(0, 1.0, "UC"), Dose(7, 1.0, "BM")]
    without = simulate_cut(patient, doses, times=TIMES, arrow=("secretome", "effect_antifibrotic"))
    knocked = simulate(patient, doses, times=TIMES, knock_out=("antifibrotic",))
    assert np.allclose(knocked.observables, without.observables, rtol=1e-6, atol=1e-8)


def test_a_patient_who_cannot_be_placed_is_a_status_in_both_courses() -> None:
    patient = Patient(egfr=45, uacr=900, hba1c=5.0, insulin_share=0.0)
    intact = simulate(patient, times=TIMES)
    without = simulate_cut(patient, times=TIMES, arrow=("ros", "mcp1"))
    assert (intact.status, intact.message) == (without.status, without.message)


def test_a_dose_before_the_cut_is_refused() -> None:
    rat = Patient(species="rat", disease="stz", onset_days=28.0)
    with pytest.raises(CutError, match="dose is given on day -7"):
        simulate_cut(rat, [Dose(-7, 1.0, "UC")], times=TIMES, arrow=("ros", "mcp1"))


# ------------------------------------------------------------------ a scenario without an arrow


def test_a_result_holds_both_courses_with_bands_and_where_they_come_from() -> None:
    result = cut("uc-dn-weekly", ("tgfb_kidney", "psmad"), draws=4, days=TIMES)
    band = result.band("fibrosis_area")
    assert band["unit"] == "percent"
    assert band["cut"]["q50"][0] == pytest.approx(band["intact"]["q50"][0], rel=1e-6)
    assert band["difference"]["q95"][-1] < 0
    assert result.provenance["cut"] == ["psmad_tgfb"]
    assert result.provenance["draws"] == 4
    json.dumps(result.to_json(), allow_nan=False)


def test_the_intact_course_is_that_of_the_scenario() -> None:
    from mscrenal.scenarios.run import run

    scenario = load_scenario("uc-dn-weekly")
    result = cut(scenario, ("ros", "mcp1"), draws=3, days=TIMES, observables=("egfr",))
    known = run(scenario, draws=3, days=TIMES, observables=("egfr",))
    expected = known.data["egfr"].sel(arm=result.arm).isel(patient=0).values
    assert np.allclose(result.intact[:, :, 0], expected, rtol=1e-9)


def test_a_draw_that_fails_is_listed_and_left_out_of_both_courses(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from mscrenal.scenarios import mechanism

    inner, calls = mechanism.simulate_subject, []

    def fails_second(*args, **more):  # type: ignore[no-untyped-def]
        run = inner(*args, **more)
        calls.append(run)
        if len(calls) != 2:
            return run
        return replace(
            run, status="budget", message="stopped", observables=np.full_like(run.observables, np.nan)
        )

    monkeypatch.setattr(mechanism, "simulate_subject", fails_second)
    result = cut("uc-dn-weekly", ("ros", "mcp1"), draws=3, days=TIMES, observables=("egfr",))
    assert [(f["course"], f["draw"], f["status"]) for f in result.failures] == [("cut", 0, "budget")]
    assert np.isnan(result.intact[0]).all()
    assert np.isfinite(result.without[1:]).all()
    assert "1 of 3 draws failed" in " ".join(result.notes)


def test_an_unknown_observable_names_those_there_are() -> None:
    with pytest.raises(CutError, match=r"No observable 'gfr'.*mgfr"):
        cut("uc-dn-weekly", ("ros", "mcp1"), observables=("gfr",))


# ------------------------------------------------------------------ what an arrow rests on


@pytest.mark.parametrize(("source", "target"), WIRES)
def test_an_arrow_shows_its_equations_and_every_number_in_them(source: str, target: str) -> None:
    note = arrow(source, target)
    assert note.steps
    latex = " ".join(s.latex for s in note.steps)
    for p in note.parameters:
        assert p.symbol in latex, p.name
        assert p.source
        assert p.verdict
    assert {p.name for p in note.parameters if p.cuts} <= set(note.cut.parameters)
    for step in note.steps:
        ElementTree.fromstring(step.mathml)
        assert "&amp;" not in step.mathml
    json.dumps(note.to_json(), allow_nan=False)


def test_a_number_has_prior_posterior_and_verdict_as_the_posterior_says() -> None:
    from mscrenal.scenarios import posterior

    known = {r["name"]: r for r in posterior().records}
    note = next(p for p in arrow("lung", "lung_injury").parameters if p.name == "crowding")
    assert note.posterior == known["crowding"]["posterior"]
    assert note.verdict == known["crowding"]["verdict"]
    assert {r.study_id for r in note.references} == {"kabat2020"}


def test_a_source_has_its_doi_where_the_evidence_has_one() -> None:
    found = [r for s, t in WIRES for p in arrow(s, t).parameters for r in p.references]
    assert all(r.citation for r in found)
    assert all(r.doi.startswith("10.") for r in found if r.doi)
    assert any(r.doi for r in found)


@pytest.mark.parametrize("name", [b.name for b in layout("states").boxes])
def test_a_box_says_what_it_is_and_who_acts_on_it(name: str) -> None:
    note = node(name)
    assert note.meaning
    assert note.equations
    assert set(note.arrows_in) == {s for s, t in WIRES if t == name}
    assert set(note.arrows_out) == {t for s, t in WIRES if s == name}
    json.dumps(note.to_json(), allow_nan=False)


def test_a_formula_in_lines_keeps_its_lines_and_words() -> None:
    text = math_ml(r"\begin{aligned} r_{\mathrm{ros}} &= a \\ &\quad b \end{aligned}")
    assert text.count("<mtr>") == 2
    assert "<mtext>ros</mtext>" in text


def test_an_arrow_once_seen_is_there_at_once() -> None:
    arrow("nrf2", "ros")
    start = time.perf_counter()
    arrow("nrf2", "ros")
    assert time.perf_counter() - start < 0.05
